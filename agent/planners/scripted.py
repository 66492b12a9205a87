"""A planner that reads its turns from a script: for tests and for reproducing a run turn by turn."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.planners.base import PlannerError, ToolCall, Turn, View


class Scripted:
    """Proposes the turns it was given, one after the other; which comes next depends on the record alone."""

    name = "scripted"
    knows_price = True
    delegates = True

    def __init__(self, turns: Sequence[Turn], children: Sequence[Sequence[Turn]] = ()) -> None:
        self.turns, self.children = tuple(turns), tuple(map(tuple, children))

    def child(self, number: int) -> "Scripted":
        """Who drives the child run of this number, from 0: the turns that the script marks with it."""
        return Scripted(self.children[number] if number < len(self.children) else ())

    @classmethod
    def from_file(cls, path: Path) -> "Scripted":
        """Turns from a JSONL file: {"text": "...", "calls": [{"name": "loss", "arguments": {...}}]} on each line.

        A line with "child": 0 is a turn of the first child run, and so on.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise PlannerError(f"script {path} cannot be read: {error}") from None
        turns: list[Turn] = []
        children: dict[int, list[Turn]] = {}
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    data = json.loads(line)
                    mine = children.setdefault(int(data["child"]), []) if "child" in data else turns
                    mine.append(_turn(number, data))
                except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
                    form = '{"text": "why", "calls": [{"name": "loss", "arguments": {"tasks": ["addition"]}}]}'
                    raise PlannerError(f"{path}, line {number}: {error!r}; a line looks like {form}") from None
        if not turns:
            raise PlannerError(f"script {path} has no turns")
        return cls(turns, [children.get(i, []) for i in range(1 + max(children, default=-1))])

    async def propose(self, view: View) -> Turn:
        """The next turn of the script, which begins after what a branch took over; PlannerError once it is over."""
        done = len(view.exchanges) - view.inherited
        if done >= len(self.turns):
            raise PlannerError(f"the script is over after {done} turns and did not call finish")
        return self.turns[done]


def _turn(number: int, data: dict[str, Any]) -> Turn:
    calls = tuple(
        ToolCall(
            f"t{number}.{i}",
            str(c["name"]),
            c["arguments"] if isinstance(c["arguments"], str) else json.dumps(c["arguments"]),
        )
        for i, c in enumerate(data["calls"])
    )
    return Turn(calls, str(data.get("text", "")))
