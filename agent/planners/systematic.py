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
from agent.planners._evidence import Candidate, candidates, measurement, reference, value

CONTROLS = ("agreement", "indirect_object", "subtraction", "addition", "copying", "facts")
EXAMPLES = 128
DROP = 0.1  # an ablation matters if the upper end of the accuracy change lies below minus this
CONFIRMED_SITES = 4


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
        if not able or confirmed.status != "ok":
            yield from self._cannot(main, gate, confirmed)
            return
        yield from self._locate(main, controls, gate, confirmed)

    def _confirm_capability(self, main: str, gate: Answer, able: bool) -> Generator[Step, Sequence[Answer], list[Answer]]:
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
                ("claim", {"kind": "absence", "text": text, "experiments": [a.handle for a in cites], "confidence": 0.95}),
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
        skip, drop, lens = sweeps
        (where,) = yield Step(
            "Where does the information lie that decides the answer? Patch the residual stream position by position.",
            (("patch", {"task": main, "site": "resid_pre", "positions": "each", "depth": 6, "examples": few}),),
        )
        kinds = [(c, a) for c in ("attn", "mlp") for a in ("resample", "zero")]
        ablations = yield Step(
            "What is necessary at the position that predicts the answer? Two ablation types, because they disagree.",
            tuple(
                ("ablate", {"task": main, "component": c, "ablation": a, "examples": self.examples}) for c, a in kinds
            ),
        )
        found = candidates(dict(zip(kinds, ablations, strict=True)), DROP)
        if not found:
            yield from self._not_found(main, gate, [skip, *ablations])
            return
        yield from self._confirm(main, gate, confirmed, found, skip, drop, lens, where, ablations)

    def _not_found(self, main: str, gate: Answer, looked: Sequence[Answer]) -> Plan:
        cites = [a.handle for a in looked if a.handle]
        text = (
            f"The model does {main} (accuracy {reference(gate, 'accuracy')}), but no single attention or MLP at the "
            f"answer's position is necessary under both resample and zero ablation: nothing was localised."
        )
        yield Step(
            "No site passes both ablations: say so.",
            (("claim", {"kind": "absence", "text": text, "experiments": cites, "confidence": 0.7}),),
        )
        yield from _finish(text, "not_found")

    def _confirm(
        self,
        main: str,
        gate: Answer,
        confirmed: Answer,
        found: list[Candidate],
        skip: Answer,
        drop: Answer,
        lens: Answer,
        where: Answer,
        ablations: Sequence[Answer],
    ) -> Plan:
        """One hypothesis per site: predict, measure on unseen examples, keep what comes true."""
        chosen = found[:CONFIRMED_SITES]
        yield Step(
            "One hypothesis for each site that passed both ablations; being spared would refute it.",
            tuple(
                (
                    "hypothesis",
                    {"statement": f"{c.words} at the answer's position is necessary for {main}.", "evidence_for": c.seen_in},
                )
                for c in chosen
            ),
        )
        task = _name(gate)
        yield Step(
            "Predict each site's effect on unseen examples, half-way between what was seen and the intact model.",
            tuple(
                (
                    "predict",
                    {
                        "hypothesis": f"H{i}",
                        "metric": f"accuracy[task={task}, split=confirm, site={c.site}, layer={c.layer}, "
                        "position=last, variant=resample]",
                        "comparison": "<=",
                        "threshold": round((c.accuracy + value(gate, "accuracy")) / 2, 3),
                        "probability": 0.9,
                    },
                )
                for i, c in enumerate(chosen, 2)
            ),
        )
        parts = sorted({c.component for c in chosen})
        tested = yield Step(
            "Confirm on examples that nobody has looked at.",
            tuple(
                (
                    "ablate",
                    {"task": main, "component": p, "ablation": "resample", "split": "confirm", "examples": self.examples},
                )
                for p in parts
            ),
        )
        by_part = dict(zip(parts, tested, strict=True))
        held = [c for c in chosen if c.holds_in(by_part[c.component], DROP)]
        top = next((c for c in held if c.component == "attn"), None)
        kept = sorted({c.layer for c in held if c.component == "mlp"})
        more: list[tuple[str, dict[str, Any]]] = []
        if top is not None:
            more.append(
                ("ablate", {"task": main, "component": "head", "ablation": "resample", "layers": [top.layer], "examples": self.examples})
            )
        rest = [x for x in _layers(ablations[2]) if x not in kept]
        if kept and rest:
            more.append(
                ("ablate", {"task": main, "component": "mlp", "ablation": "resample", "layers": rest, "together": True, "examples": self.examples})
            )
        detail: Sequence[Answer] = ()
        if more:
            detail = yield Step(
                "Look closer: single heads, and whether the MLPs found are enough when all others are resampled together.",
                tuple(more),
            )
        yield Step(
            "Settle the hypotheses by what the unseen examples said.",
            (
                ("hypothesis", {"handle": "H1", "status": "supported", "evidence_for": [gate.handle, confirmed.handle]}),
                *(
                    (
                        "hypothesis",
                        {
                            "handle": f"H{i}",
                            "status": "supported" if c in held else "refuted",
                            "evidence_for" if c in held else "evidence_against": [by_part[c.component].handle],
                        },
                    )
                    for i, c in enumerate(chosen, 2)
                ),
            ),
        )
        yield from self._conclude(main, gate, confirmed, held, by_part, skip, lens, where, detail, ablations)

    def _conclude(
        self,
        main: str,
        gate: Answer,
        confirmed: Answer,
        held: list[Candidate],
        by_part: dict[str, Answer],
        skip: Answer,
        lens: Answer,
        where: Answer,
        detail: Sequence[Answer],
        ablations: Sequence[Answer],
    ) -> Plan:
        claims: list[tuple[str, dict[str, Any]]] = []
        behaviour = (
            f"The intact model does {main}: accuracy {reference(confirmed, 'accuracy')} on unseen examples, chance "
            f"{reference(confirmed, 'chance')}."
        )
        claims.append(
            ("claim", {"kind": "behaviour", "text": behaviour, "experiments": [gate.handle, confirmed.handle], "confidence": 0.95})
        )
        for c in held:
            tested = by_part[c.component]
            text = (
                f"{c.words} at the answer's position is necessary for {main}: with its output there resampled, accuracy on "
                f"unseen examples is {reference(tested, 'accuracy', site=c.site)}; a random vector of the same norm leaves "
                f"{reference(tested, 'accuracy', 'control', site=c.site)}."
            )
            claims.append(
                (
                    "claim",
                    {
                        "kind": "localisation",
                        "text": text,
                        "sites": [f"decoder.{c.layer}.{c.component}.out"],
                        "experiments": [tested.handle, *c.seen_in],
                        "confidence": 0.9,
                    },
                )
            )
        claims += _readout_claims(main, lens, skip)
        yield Step("Write down what holds.", tuple(claims))
        if held:
            names = _listed([c.words for c in held])
            conclusion = (
                f"The model does {main} (accuracy {reference(confirmed, 'accuracy')} on unseen examples). Necessary at the "
                f"position that predicts the answer, under resample and zero ablation and confirmed on unseen examples: "
                f"{names}."
            )
            conclusion += _sufficiency(detail)
            yield from _finish(conclusion, "found", _limits(where))
        else:
            yield from _finish(
                f"The model does {main}, but no site that looked necessary stayed so on unseen examples.", "not_found"
            )


def _readout_claims(main: str, lens: Answer, skip: Answer) -> list[tuple[str, dict[str, Any]]]:
    """Where the answer becomes readable, and which block the task needs most as a whole."""
    out: list[tuple[str, dict[str, Any]]] = []
    if lens.status == "ok":
        curve = [m for m in lens.measurements if m.name == "accuracy" and m.layer is not None]
        first = next((m for m in curve if m.value >= 0.5), None)
        if first is not None:
            text = (
                f"Read with the logit lens, the answer to {main} is on top for "
                f"{reference(lens, 'accuracy', layer=first.layer)} of examples after {first.layer} blocks and for "
                f"{reference(lens, 'accuracy', layer=(first.layer or 1) - 1)} one block earlier; the lens can miss "
                "what is there in another form."
            )
            out.append(("claim", {"kind": "effect", "text": text, "experiments": [lens.handle], "confidence": 0.9}))
    return out


def _sufficiency(detail: Sequence[Answer]) -> str:
    together = next(
        (a for a in detail if a.status == "ok" and any(m.site and "+" in m.site for m in a.measurements)), None
    )
    single = next(
        (a for a in detail if a.status == "ok" and any(m.layer is None and m.site for m in a.measurements)), together
    )
    if single is None:
        return ""
    site = next(m.site for m in single.measurements if m.site and m.layer is None)
    return (
        f" With all other MLPs resampled together at that position, accuracy is "
        f"{reference(single, 'accuracy', site=site)}: that is how far the MLPs found are sufficient beside them."
    )


def _limits(where: Answer) -> str | None:
    if where.status != "ok":
        return None
    return (
        f"Limits: sites at earlier positions were mapped by patching ({where.handle}) but not confirmed; one prompt format "
        "family; necessity at the answer's position only."
    )


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


def _layers(answer: Answer) -> list[int]:
    return sorted({m.layer for m in answer.measurements if m.layer is not None})


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _same(step: Step, turn: Turn) -> bool:
    return [n for n, _ in step.calls] == [c.name for c in turn.calls]
