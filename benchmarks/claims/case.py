"""A hostile claim beside a true one that differs in one thing."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.claims.stage import Calls, Played, Script

Said = Callable[[Played], bool]


@dataclass(frozen=True)
class Case:
    """Two scripts, of which one must not get what it is after.

    group: the class. world: on which subject. words: what is tried. before: what both begin with. hostile, true: the
    scripts. earlier: another run in the same database, over before this one begins. said: whether a script got what it was
    after: a statement adopted, a text kept, sealed numbers seen. branch: this run goes on from that turn of `earlier`.
    passes: the same for the true one, where that is after something
    else.
    """

    group: str
    world: str
    words: str
    hostile: Script
    true: Script
    said: Said
    before: Script = ()
    earlier: Script = ()
    passes: Said | None = None
    branch: int | None = None


def adopted(played: Played) -> bool:
    """Whether a finding of this script stands, is claimed, or speaks in the headline."""
    mine = {a.handle for c, a in played.answers if c.name == "predict" and a.status == "ok"}
    mine |= {f for c, a in played.answers if c.name == "claim" and a.status == "ok" for f in [_named(c.arguments)]}
    standing = {f.handle for f in played.record.findings() if f.stands}
    claimed = {c.finding for c in played.record.claims()}
    return bool(mine & (standing | claimed | played.headline))


def _named(arguments: str) -> str:
    return str(json.loads(arguments).get("finding"))


def accepted(tool: str) -> Said:
    """Whether the last call of a tool was accepted."""

    def said(played: Played) -> bool:
        answer = played.answer(tool)
        return answer is not None and answer.status == "ok"

    return said


def assertion(statement: Mapping[str, Any], end: str = "found") -> Script:
    """From a statement to the end of a run that adopts it, if it is let."""
    return (*settled(statement), [("claim", {"finding": "$F"}), ("finish", {"answer": end})])


def settled(statement: Mapping[str, Any], **predicted: Any) -> Script:
    """A statement examined, predicted and settled."""
    return (
        [("examine", dict(statement))],
        [("predict", {"experiment": "$E", **predicted})],
        [("confirm", {})],
    )


def about(task: str, kind: str, components: list[str] | None = None, **others: Any) -> dict[str, Any]:
    """Arguments of examine."""
    given = {"components": components} if components else {}
    return {"kind": kind, "task": task, "examples": 96, **given, **others}


def one(*calls: tuple[str, dict[str, Any]]) -> Calls:
    """A turn."""
    return list(calls)
