"""A plan is a generator over answers: it yields what to do next and is sent what came of it.

A step that may be left out says how many experiments must remain after it; the planner, which knows what is left, then sends
no answers, and the plan goes on without them. So a plan never asks what the budget is, and a run that is resumed under
another budget still retraces its own record.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from agent.planners.base import Answer

Call = tuple[str, dict[str, Any]]
NOTEBOOK = frozenset({"hypothesis", "note", "predict", "confirm", "claim", "retract", "finish"})
SKIPPED = Answer("", "not asked: the budget is kept for confirming", "budget")
T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """One turn: what is done and why. reserve: experiments that must remain after it; None for a step that has to be done."""

    why: str
    calls: tuple[Call, ...]
    reserve: int | None = None

    @property
    def cost(self) -> int:
        """How many experiments it takes at most."""
        return sum(name not in NOTEBOOK for name, _ in self.calls)


Part = Generator[Step, Sequence[Answer], T]
Plan = Part[None]


def ask(why: str, calls: Sequence[Call], reserve: int | None = None) -> Part[list[Answer]]:
    """One step with one answer for each call, those of a step left out saying so; no step where there is no call."""
    if not calls:
        return []
    answers = yield Step(why, tuple(calls), reserve)
    return list(answers) or [SKIPPED] * len(calls)
