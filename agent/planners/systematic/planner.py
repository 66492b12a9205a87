"""The built-in planner: no language model, one method, the same every time.

Capability first; then where what decides the answer lies, and what is missed there under two kinds of removal, down to heads
and sets; then each candidate examined, those that promise to hold predicted, all confirmed in one round on unseen examples.
It is a generator over answers, run again from the start on every turn: what it does next depends only on what is on record,
so a resumed run goes on as if nothing had happened.
"""

import json

from agent.loop.goal import questions, understand
from agent.planners.base import PlannerError, ToolCall, Turn, View
from agent.planners.systematic.asking import investigate
from agent.planners.systematic.candidates import Desk
from agent.planners.systematic.plan import Plan, Step
from agent.planners.systematic.reading import Judged
from tools.findings.kind import kinds
from tools.tasks import families

CONTROLS = ("agreement", "indirect_object", "subtraction", "addition", "copying", "facts")
EXAMPLES = 128
SCREEN = 9 / 16  # of them for a first look


class Systematic:
    """Deterministic planner for goals about known tasks or the user's own."""

    name = "systematic"
    knows_price = True

    def __init__(self, examples: int = EXAMPLES) -> None:
        self.examples = examples

    async def propose(self, view: View) -> Turn:
        """The next step of the plan, given everything answered so far."""
        plan = self.plan(view)
        step = next(plan)
        for exchange in view.exchanges:
            step = _matching(plan, step, exchange.turn)
            try:
                step = plan.send(exchange.answers)
            except StopIteration:
                raise PlannerError("the plan is at its end") from None
        while step.reserve is not None and view.left is not None and view.left - step.cost < step.reserve:
            step = plan.send(())
        number = len(view.exchanges) + 1
        calls = tuple(ToolCall(f"s{number}.{i}", n, json.dumps(a)) for i, (n, a) in enumerate(step.calls))
        return Turn(calls, step.why)

    def plan(self, view: View) -> Plan:
        """The whole plan for a goal."""
        goal = understand(view.goal, view.tasks, view.reads)
        asked = questions(view.goal, view.tasks, view.reads)
        desk = Desk(view.known, frozenset(kinds()), view.findings, round(SCREEN * self.examples), self.examples)
        desk.judged = Judged(view.objective, view.better)
        desk.looks = "image" in view.reads
        known = families()
        private = any(f.private for t in goal.tasks if (f := known.get(t.partition(":")[0])) is not None)
        controls = CONTROLS if view.reads == ("text",) and not private else ()
        return investigate(desk, view.goal, goal.tasks, view.tasks, asked, controls)


def _matching(plan: Plan, step: Step, turn: Turn) -> Step:
    """The plan's step that a turn on record is, past those that were left out for want of budget."""
    while not _same(step, turn):
        if step.reserve is None:
            raise PlannerError("the record is not one that the systematic planner made; continue it with another")
        step = plan.send(())
    return step


def _same(step: Step, turn: Turn) -> bool:
    """Whether a turn on record is what this plan would have done there: the same calls with the same arguments."""
    try:
        planned = [(name, json.loads(json.dumps(arguments))) for name, arguments in step.calls]
        return planned == [(c.name, json.loads(c.arguments)) for c in turn.calls]
    except ValueError:
        return False
