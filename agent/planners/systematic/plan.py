"""A plan is a generator over answers: it yields what to do next and is sent what came of it."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from agent.planners.base import Answer

Call = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Step:
    """One turn: what is done and why."""

    why: str
    calls: tuple[Call, ...]


Plan = Generator[Step, Sequence[Answer], None]


def finish(conclusion: str, answer: str, note: str | None = None) -> Plan:
    """The last step."""
    calls: list[Call] = [("note", {"text": note})] if note else []
    calls.append(("finish", {"answer": answer, "conclusion": conclusion}))
    yield Step("Finish.", tuple(calls))
