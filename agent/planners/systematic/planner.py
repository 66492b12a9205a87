"""The built-in planner: no language model, one method, the same every time.

Capability first; then where the answer becomes readable, where the information lies, and what is necessary under two
kinds of ablation; then predictions from what was seen, confirmed on examples nobody has looked at; then claims that say
no more than that. It is a generator over answers, run again from the start on every turn: what it does next depends only
on what is on record, so a resumed run goes on as if nothing had happened.
"""

import json
from collections.abc import Generator, Sequence

from agent.loop.goal import understand
from agent.planners.base import Answer, PlannerError, ToolCall, Turn, View
from agent.planners.systematic.evidence import measurement, reference, value
from agent.planners.systematic.locating import locate
from agent.planners.systematic.plan import Plan, Step, finish

CONTROLS = ("agreement", "indirect_object", "subtraction", "addition", "copying", "facts")
EXAMPLES = 128


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
            yield from finish(f"{main} could not be measured on this model: {gate.text}", "unclear")
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
            yield from finish(
                f"Whether the model can do {main} stays open: accuracy is {seen}, and unseen ones differ.", "unclear"
            )
            return
        if not able:
            yield from self._cannot(main, gate, confirmed)
            return
        yield from locate(main, controls, gate, confirmed, self.examples)

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
        yield from finish(text, "cannot")


def _able(answer: Answer) -> bool:
    """Above chance: the lower end of the accuracy's interval is."""
    m = measurement(answer, "accuracy")
    return (m.low if m.low is not None else m.value) > value(answer, "chance")


def _name(answer: Answer) -> str:
    return str(measurement(answer, "accuracy").task)


def _same(step: Step, turn: Turn) -> bool:
    """Whether a turn on record is what this plan would have done there: the same calls with the same arguments."""
    try:
        planned = [(name, json.loads(json.dumps(arguments))) for name, arguments in step.calls]
        return planned == [(c.name, json.loads(c.arguments)) for c in turn.calls]
    except ValueError:
        return False
