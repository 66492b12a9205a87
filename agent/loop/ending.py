"""When an investigation ends: by a planner's `finish`, by a budget, or since nothing comes of it any more."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.loop.budget import Limits, Spent
from agent.loop.record import RunRecord
from agent.planners.base import Answer, Exchange, ToolCall

USELESS_TURNS = 5
CLOSING_TURNS = 5  # turns without an experiment, a finding or a claim, once no experiment is left
DECIDING = ("hypothesis", "predict", "confirm", "claim", "retract")  # what the conclusion is made of
HELD = "not yet"


@dataclass(frozen=True)
class Ending:
    """How a run ended: finished | stopped, and why."""

    status: str
    reason: str


def finished(calls: Sequence[ToolCall], answers: Sequence[Answer]) -> bool:
    """Whether one of the calls answered so far has ended the investigation; nothing is run or written after it."""
    return any(c.name == "finish" and a.status == "ok" for c, a in zip(calls, answers, strict=False))


def refused_with(calls: Sequence[ToolCall], answers: Sequence[Answer]) -> str:
    """What was refused of a turn so far that findings and what is claimed of them depend on: 'claim (call 2)'; '' for nothing."""
    named = enumerate(zip(calls, answers, strict=False), 1)
    return ", ".join(f"{c.name} (call {i})" for i, (c, a) in named if c.name in DECIDING and a.status == "rejected")


def stop(
    record: RunRecord, exchanges: Sequence[Exchange], spent: Spent, limits: Limits, *, patient: bool = False
) -> Ending | None:
    """Whether the run has to end before another turn. patient: not for calls in vain, which a person may make."""
    if exchanges and finished(exchanges[-1].turn.calls, exchanges[-1].answers):
        return Ending("finished", verdict(record))
    over = spent.stopped(limits)
    if over:
        return Ending("stopped", over)
    over = spent.used_up(limits)
    if over and exchanges and (_asks_in_vain(exchanges[-1]) or _brought_nothing(exchanges[-CLOSING_TURNS:])):
        return Ending("stopped", over)
    recent = exchanges[-USELESS_TURNS:]
    if not patient and len(recent) == USELESS_TURNS and not any(a.status == "ok" for e in recent for a in e.answers):
        return Ending("stopped", f"{USELESS_TURNS} turns in a row brought no result")
    return None


def held(refused: str) -> str:
    """What a `finish` is answered with that stands beside calls which were refused."""
    return f"{HELD}: {refused} was refused in this turn; mend it or leave it, then finish again"


def held_back(exchange: Exchange) -> ToolCall | None:
    """The `finish` of a turn that waited for its planner to read a refusal; it counts where no other turn comes."""
    pairs = zip(exchange.turn.calls, exchange.answers, strict=False)
    return next((c for c, a in pairs if c.name == "finish" and a.text.startswith(f"{HELD}: ")), None)


def _asks_in_vain(exchange: Exchange) -> bool:
    """Whether a turn asked for nothing but what the budget refuses."""
    return bool(exchange.answers) and all(a.status == "budget" for a in exchange.answers)


def _brought_nothing(exchanges: Sequence[Exchange]) -> bool:
    """Whether turns enough have passed without an experiment, a finding or a claim: what is free can be written for ever."""
    brought = any(a.status == "ok" and (a.handle or " ")[0] in "EFC" for e in exchanges for a in e.answers)
    return len(exchanges) == CLOSING_TURNS and not brought


def verdict(record: RunRecord) -> str:
    """The word of the conclusion on record."""
    conclusion = record.store.conclusion(record.run)
    return conclusion.answer if conclusion else ""
