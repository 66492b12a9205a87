"""The built-in planner: no language model, one method, the same every time.

Capability first; then where the answer becomes readable, where the information lies, and what is necessary under two
kinds of ablation; then predictions from what was seen, confirmed on examples nobody has looked at; then claims that say
no more than that. It is a generator over answers, run again from the start on every turn: what it does next depends only
on what is on record, so a resumed run goes on as if nothing had happened.
"""

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from agent.goal import understand
from agent.planners._base import Answer, PlannerError, ToolCall, Turn, View
from agent.planners._conclusions import closer, disagreements, limits, readout_claims
from agent.planners._evidence import (
    Arrival,
    Expectation,
    candidates,
    further,
    listed,
    measurement,
    reference,
    value,
)

CONTROLS = ("agreement", "indirect_object", "subtraction", "addition", "copying", "facts")
EXAMPLES = 128
DROP = 0.1  # an ablation matters if the upper end of the accuracy change lies below minus this
SITES = 4


@dataclass(frozen=True)
class Step:
    """One turn: what is done and why."""

    why: str
    calls: tuple[tuple[str, dict[str, Any]], ...]


Plan = Generator[Step, Sequence[Answer], None]


class Systematic:
    """Deterministic planner for goals about a known task or the user's own."""

    name = "systematic"
    knows_price = True

    def __init__(self, examples: int = EXAMPLES) -> None:
        self.examples = examples

    async def propose(self, view: View) -> Turn:
        """The next step of the plan, given everything answered so far."""
        goal = understand(view.goal, view.tasks)
        plan = self._plan(goal.tasks)
        step = next(plan)
        number = 1
        for exchange in view.exchanges:
            if not _same(step, exchange.turn):
                raise PlannerError("the record is not one that the systematic planner made; continue it with another")
            try:
                step = plan.send(exchange.answers)
            except StopIteration:
                raise PlannerError("the plan is at its end") from None
            number += 1
        calls = tuple(ToolCall(f"s{number}.{i}", n, json.dumps(a)) for i, (n, a) in enumerate(step.calls))
        return Turn(calls, step.why)

    # -- the method ---------------------------------------------------------------------------------------------------

    def _plan(self, tasks: Sequence[str]) -> Plan:
        main = tasks[0]
        yield Step("What is the model made of?", (("describe_subject", {}),))
        own = [*tasks, *(c for c in CONTROLS if c.partition(":")[0] not in {t.partition(":")[0] for t in tasks})][:6]
        # Controls come one call each, so that a task which this subject's tokenizer cannot take stops no other.
        (gate, *others) = yield Step(
            f"Capability first: can the intact model do {main} at all, beside other tasks as controls?",
            tuple(("loss", {"tasks": [t], "examples": self.examples}) for t in own),
        )
        if gate.status != "ok":
            yield from _finish(f"{main} could not be measured on this model: {gate.text}", "unclear")
            return
        able = _able(gate)
        controls = [t for t, a in zip(own[1:], others, strict=True) if a.status == "ok" and _able(a)][:3]
        statement = (
            f"The intact model can do {main}: accuracy above chance." if able else f"The intact model cannot do {main}."
        )
        yield Step("State what the first look suggests.", (("hypothesis", {"statement": statement}),))
        (confirmed,) = yield from self._confirm_capability(main, gate, able)
        if confirmed.status != "ok" or able != _able(confirmed):
            seen = f"{reference(gate, 'accuracy')} on explore examples"
            yield from _finish(
                f"Whether the model can do {main} stays open: accuracy is {seen}, and unseen ones differ.", "unclear"
            )
            return
        if not able:
            yield from self._cannot(main, gate, confirmed)
            return
        yield from self._locate(main, controls, gate, confirmed)

    def _confirm_capability(
        self, main: str, gate: Answer, able: bool
    ) -> Generator[Step, Sequence[Answer], list[Answer]]:
        """Predict on unseen examples what the explore split showed, and measure it once."""
        seen, chance = value(gate, "accuracy"), value(gate, "chance")
        threshold = max(chance, seen - 0.1) if able else min(1.0, max(chance, seen) + 0.1)
        yield Step(
            "Predict the same for unseen examples before looking at them.",
            (
                (
                    "predict",
                    {
                        "hypothesis": "H1",
                        "metric": f"accuracy[task={_name(gate)}, split=confirm, program=intact]",
                        "comparison": ">" if able else "<=",
                        "threshold": round(threshold, 3),
                        "probability": 0.9,
                    },
                ),
            ),
        )
        answers = yield Step(
            "Measure the capability once on the confirm split.",
            (("loss", {"tasks": [main], "split": "confirm", "examples": self.examples}),),
        )
        return list(answers)

    def _cannot(self, main: str, gate: Answer, confirmed: Answer) -> Plan:
        """The finding is that the model can't: say so, and look for nothing inside it."""
        yield Step(
            "See what the model does instead.",
            (("lens", {"task": main, "examples": self.examples}),),
        )
        cites = [a for a in (gate, confirmed) if a.handle]
        parts = " and ".join(
            f"{reference(a, 'accuracy')} on {s} examples (chance {reference(a, 'chance')})"
            for a, s in zip(cites, ("explore", "unseen confirm"), strict=False)
        )
        text = f"The model cannot do {main}: accuracy is {parts}. There is no mechanism to locate."
        yield Step(
            "The capability is not there: that is the finding.",
            (
                ("hypothesis", {"handle": "H1", "status": "supported", "evidence_for": [a.handle for a in cites]}),
                (
                    "claim",
                    {"kind": "absence", "text": text, "experiments": [a.handle for a in cites], "confidence": 0.95},
                ),
            ),
        )
        yield from _finish(text, "cannot")

    def _locate(self, main: str, controls: list[str], gate: Answer, confirmed: Answer) -> Plan:
        tasks = [main, *controls]
        few = min(self.examples, 64)
        sweeps = yield Step(
            "Which blocks does the task need, and do other tasks need the same ones? A block that everything needs says "
            "little.",
            (
                ("layer_program", {"tasks": tasks, "sweep": "skip_each", "examples": few}),
                ("layer_program", {"tasks": tasks, "sweep": "drop_last", "examples": few}),
                ("lens", {"task": main, "examples": self.examples}),
            ),
        )
        skip, _, lens = sweeps
        (where,) = yield Step(
            "Where does the information lie that decides the answer? Patch the residual stream position by position.",
            (("patch", {"task": main, "site": "resid_pre", "positions": "each", "depth": 6, "examples": few}),),
        )
        arrival = yield from self._arrival(main, where, few)
        kinds = [(c, a) for c in ("attn", "mlp") for a in ("resample", "zero")]
        ablations = yield Step(
            "What is necessary at the position that predicts the answer? Two ablation types, because they disagree.",
            tuple(
                ("ablate", {"task": main, "component": c, "ablation": a, "examples": self.examples}) for c, a in kinds
            ),
        )
        found = candidates(dict(zip(kinds, ablations, strict=True)), DROP)
        if not found:
            yield from self._no_single_site(main, gate, [skip, *ablations], arrival)
            return
        expected = [Expectation.single(c, gate) for c in found[:SITES]]
        calls = closer(main, found, ablations, self.examples)
        if calls:
            looked = yield Step(
                "Look closer: single heads where attention matters, and all the other sites of a kind resampled together, "
                "because several that are spared one by one may still be needed together.",
                tuple(calls),
            )
            expected += further(looked, gate, DROP)
        yield from self._confirm(main, gate, confirmed, expected, lens, where, ablations, arrival)

    def _arrival(self, main: str, where: Answer, examples: int) -> Generator[Step, Sequence[Answer], Arrival | None]:
        """In which block what decides the answer reaches the position that predicts it, confirmed on unseen examples."""
        seen = Arrival.find(where)
        if seen is None:
            return None
        statement = (
            f"Most of what decides the answer to {main} reaches the position that predicts it in block {seen.block}."
        )
        yield Step(
            "The patching map shows a block in which the information arrives; a jump elsewhere on unseen examples would refute it.",
            (("hypothesis", {"statement": statement, "evidence_for": [where.handle]}),),
        )
        yield Step(
            "Predict both sides of the jump on unseen examples.",
            tuple(
                ("predict", {"hypothesis": "H2", "metric": m, "comparison": c, "threshold": 0.5, "probability": 0.9})
                for m, c in seen.predictions()
            ),
        )
        arguments = {"task": main, "site": "resid_pre", "positions": "each", "depth": 1, "split": "confirm"}
        (tested,) = yield Step(
            "Patch the same place on unseen examples.",
            (("patch", {**arguments, "layers": seen.layers, "examples": examples}),),
        )
        held = seen.holds_in(tested)
        cites = [str(tested.handle)]
        settled = {"handle": "H2", "status": "supported" if held else "refuted"}
        calls: list[tuple[str, dict[str, Any]]] = [
            ("hypothesis", {**settled, "evidence_for" if held else "evidence_against": cites})
        ]
        if held:
            calls.append(("claim", seen.claim(main, tested, str(where.handle))))
        yield Step("Settle it.", tuple(calls))
        return seen if held else None

    def _no_single_site(self, main: str, gate: Answer, looked: Sequence[Answer], arrival: Arrival | None) -> Plan:
        """Nothing is necessary alone: say so, with what is known of where the information goes."""
        cites = [a.handle for a in looked if a.handle]
        text = (
            f"No single attention or MLP at the answer's position is necessary for {main} under both resample and zero "
            "ablation: either it is spread, or a backup takes over, or it is done at earlier positions."
        )
        yield Step(
            "No site passes both ablations: say so.",
            (("claim", {"kind": "absence", "text": text, "experiments": cites, "confidence": 0.7}),),
        )
        does = f"The model does {main} (accuracy {reference(gate, 'accuracy')})."
        if arrival is None:
            yield from _finish(f"{does} {text}", "not_found")
        else:
            yield from _finish(f"{does} {arrival.words} {text}", "found")

    def _confirm(
        self,
        main: str,
        gate: Answer,
        confirmed: Answer,
        expected: list[Expectation],
        lens: Answer,
        where: Answer,
        ablations: Sequence[Answer],
        arrival: Arrival | None,
    ) -> Plan:
        """One hypothesis for each expectation: predict, measure on unseen examples, keep what comes true."""
        first = 2 if Arrival.find(where) is None else 3
        yield Step(
            "One hypothesis for each thing seen, each with what would refute it: the opposite on unseen examples.",
            tuple(
                ("hypothesis", {"statement": f"{e.statement} {main}.", "evidence_for": list(e.seen_in)})
                for e in expected
            ),
        )
        yield Step(
            "Predict each on unseen examples before looking at them.",
            tuple(
                (
                    "predict",
                    {
                        "hypothesis": f"H{i}",
                        "metric": e.metric,
                        "comparison": e.comparison,
                        "threshold": e.threshold,
                        "probability": 0.9,
                    },
                )
                for i, e in enumerate(expected, first)
            ),
        )
        experiments = list(
            {json.dumps(e.arguments(main, self.examples)): e.arguments(main, self.examples) for e in expected}.values()
        )
        tested = yield Step(
            "Confirm on examples that nobody has looked at, each experiment once.",
            tuple(("ablate", a) for a in experiments),
        )
        answers = [tested[experiments.index(e.arguments(main, self.examples))] for e in expected]
        pairs = list(zip(expected, answers, strict=True))
        held = [(e, a) for e, a in pairs if e.holds_in(a, DROP)]
        yield Step(
            "Settle the hypotheses by what the unseen examples said.",
            (
                (
                    "hypothesis",
                    {"handle": "H1", "status": "supported", "evidence_for": [gate.handle, confirmed.handle]},
                ),
                *(
                    (
                        "hypothesis",
                        {
                            "handle": f"H{i}",
                            "status": "supported" if (e, a) in held else "refuted",
                            "evidence_for" if (e, a) in held else "evidence_against": [a.handle],
                        },
                    )
                    for i, (e, a) in enumerate(pairs, first)
                    if a.status == "ok"
                ),
            ),
        )
        behaviour = (
            f"The intact model does {main}: accuracy {reference(confirmed, 'accuracy')} on unseen examples, chance "
            f"{reference(confirmed, 'chance')}."
        )
        yield Step(
            "Write down what holds.",
            (
                (
                    "claim",
                    {
                        "kind": "behaviour",
                        "text": behaviour,
                        "experiments": [gate.handle, confirmed.handle],
                        "confidence": 0.95,
                    },
                ),
                *(("claim", e.claim(main, a)) for e, a in held),
                *readout_claims(main, lens),
                *disagreements(main, ablations, DROP),
            ),
        )
        needed = [e.words for e, _ in held if e.comparison == "<="]
        spared = [e.words for e, _ in held if e.comparison == ">="]
        if not needed:
            text = f"The model does {main}, but no site that looked necessary stayed so on unseen examples."
            yield from _finish(text, "not_found")
            return
        text = (
            f"The model does {main} (accuracy {reference(confirmed, 'accuracy')} on unseen examples). Necessary at the position "
            f"that predicts the answer, under resample and zero ablation and confirmed on unseen examples: {listed(needed)}."
        )
        if arrival is not None:
            text += f" {arrival.words}"
        if spared:
            text += f" Not needed there: {listed(spared)}."
        yield from _finish(text, "found", limits(where))


def _finish(conclusion: str, answer: str, note: str | None = None) -> Plan:
    calls: list[tuple[str, dict[str, Any]]] = []
    if note:
        calls.append(("note", {"text": note}))
    calls.append(("finish", {"answer": answer, "conclusion": conclusion}))
    yield Step("Finish.", tuple(calls))


def _able(answer: Answer) -> bool:
    """Above chance: the lower end of the accuracy's interval is."""
    m = measurement(answer, "accuracy")
    return (m.low if m.low is not None else m.value) > value(answer, "chance")


def _name(answer: Answer) -> str:
    return str(measurement(answer, "accuracy").task)


def _same(step: Step, turn: Turn) -> bool:
    return [n for n, _ in step.calls] == [c.name for c in turn.calls]
