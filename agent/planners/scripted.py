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

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.turns = tuple(turns)

    @classmethod
    def from_file(cls, path: Path) -> "Scripted":
        """Turns from a JSONL file: {"text": "...", "calls": [{"name": "loss", "arguments": {...}}]} on each line."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise PlannerError(f"script {path} cannot be read: {error}") from None
        turns: list[Turn] = []
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    turns.append(_turn(number, json.loads(line)))
                except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
                    form = '{"text": "why", "calls": [{"name": "loss", "arguments": {"tasks": ["addition"]}}]}'
                    raise PlannerError(f"{path}, line {number}: {error!r}; a line looks like {form}") from None
        if not turns:
            raise PlannerError(f"script {path} has no turns")
        return cls(turns)

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
