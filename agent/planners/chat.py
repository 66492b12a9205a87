"""A view as chat messages: stable prefix, notebook, the last turns in full, older answers folded to a line."""

import json
from collections.abc import Sequence
from typing import Any

from agent.loop.prompts import marked, render
from agent.loop.strongest import beside, in_a_line
from agent.planners.base import Answer, Exchange, View
from experiments_db.reading import read_json

FULL_TURNS = 8
ANSWER_CHARACTERS = 6000
FOLDED_CHARACTERS = 220
FOLDED_TURNS = 12
NOTEBOOK_CHARACTERS = 8000

Message = dict[str, Any]


def instructions(view: View) -> str:
    """What every planner is told of its work, with places of this model for examples."""
    named = [f"{name} (blocks 0 to {n - 1})" for name, n in view.stacks.items()]
    said = f"the stack{'s' if len(named) > 1 else ''} {' and '.join(named)}"
    return render("system", stacks=said, stack=view.readout, first=next(iter(view.stacks)))


def opening(view: View) -> list[Message]:
    """What a run's planner is told before anything was done: its instructions, the goal, the user's notes, an earlier run's."""
    out: list[Message] = [
        {"role": "system", "content": instructions(view)},
        {
            "role": "user",
            "content": render(
                "goal",
                goal=view.goal,
                questions=view.questions or "none",
                subject=view.subject,
                tasks=", ".join(view.tasks) or "none",
                examples=marked("examples", view.shown),
            ).strip(),
        },
    ]
    if view.literature:
        out.append({"role": "user", "content": view.literature})
    if view.earlier:
        said = "What an earlier run on this model left behind (not tested here; its handles do not exist in this run):"
        out.append({"role": "user", "content": f"{said}\n{marked('earlier', view.earlier)}"})
    return out


def messages(view: View) -> list[Message]:
    """Chat messages for a view; every call id is answered by exactly one tool message."""
    out = opening(view)
    recent = view.exchanges[-FULL_TURNS:]
    older = len(view.exchanges) - len(recent)
    if older:
        folded = view.exchanges[max(0, older - FOLDED_TURNS) : older]
        out.append({"role": "user", "content": _folded(folded, older - len(folded), view.notebook)})
    for exchange in recent:
        out += _exchange(exchange)
    if view.exchanges and not view.exchanges[-1].turn.calls:
        out.append(
            {"role": "user", "content": "Nothing was run: answer with a tool call. `finish` ends the investigation."}
        )
    out.append({"role": "user", "content": f"Spent so far: {view.budget}. Choose the next step with a tool call."})
    return out


def _folded(older: Sequence[Exchange], before: int, notebook: str) -> str:
    lines = ["Earlier in this investigation (recall HANDLE shows any of it in full):"]
    if before:
        lines.append(f"({before} turns before these are in the notebook only)")
    for exchange in older:
        for call, answer in zip(exchange.turn.calls, exchange.answers, strict=True):
            line = in_a_line(answer.measurements) if answer.measurements else ""
            said = f"{answer.handle} {line}" if line else " ".join(answer.text.split())
            lines.append(f"- {call.name}: {_cut(said, FOLDED_CHARACTERS)}")
    said, told = lines[0], "\n".join(lines[1:]) + "\n\nNotebook:\n" + _cut(notebook, NOTEBOOK_CHARACTERS, from_end=True)
    return f"{said}\n{marked('record', told)}"


def _exchange(exchange: Exchange) -> list[Message]:
    turn = exchange.turn
    if not turn.calls:
        return [{"role": "assistant", "content": turn.text or "(no answer)"}]
    calls = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": sanitised(c.arguments)}}
        for c in turn.calls
    ]
    out: list[Message] = [{"role": "assistant", "content": turn.text or None, "tool_calls": calls}]
    out += [{"role": "tool", "tool_call_id": a.call_id, "content": told(a) or "(empty)"} for a in exchange.answers]
    return out


def told(answer: Answer) -> str:
    """An answer, and below its table the strongest effects with what the table leaves out of them."""
    text, of = _cut(answer.text, ANSWER_CHARACTERS), answer.handle if answer.measurements else None
    text += f": recall {of} shows it whole" if of and len(answer.text) > ANSWER_CHARACTERS else ""
    more = beside(answer.measurements, handle=of) if answer.measurements else ""
    return f"{text}\n{more}" if more else text


def sanitised(arguments: str) -> str:
    """Arguments that are JSON for certain: some servers answer 500 to a history with malformed ones."""
    try:
        value = read_json(arguments or "{}")
    except ValueError:
        return json.dumps({"unparsable": arguments[:500]})
    return json.dumps(value if isinstance(value, dict) else {"value": value})


def _cut(text: str, length: int, *, from_end: bool = False) -> str:
    if len(text) <= length:
        return text
    return "… " + text[-length:] if from_end else text[:length] + f" … ({len(text) - length} characters more)"
