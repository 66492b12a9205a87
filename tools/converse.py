"""One turn of a conversation with the model: what it says, what probes read of the user and of the model itself, and what it
says with an attribute pinned. An illustration by hand, evidence for nothing.

Attributes are labels of the task's examples that begin with `user ` or `model `; the probes are fitted on half of its explore
examples, and each is believed as far as it does better on the other half than the words alone. A pin puts the activation where
the value's mean lies, from the end of what was said on.
"""

from typing import Any, Literal

from pydantic import Field

from experiments_db.records import Measurement, Outcome
from tools.methods.attributes import BAG
from tools.methods.conversing import Dashboard, Turn, parsed_pins, prompt_of, say
from tools.methods.measuring import control_of, measured
from tools.methods.tool import Context, ToolArgs

KIND: Literal["experiment"] = "experiment"
NEEDS = "person"  # planners ask about many conversations at once
EXAMPLE: dict[str, object] = {"task": "host", "says": "what may i read on rain please ?"}


class Args(ToolArgs):
    """Arguments of converse."""

    task: str = Field(description="conversations whose labels say something of the user or the model; see list_tasks")
    says: str = Field(min_length=1, max_length=2000, description="what the user says now")
    so_far: str = Field(default="", max_length=8000, description="the conversation before it, as the model reads it")
    turn: str = Field(default="user : {} host :", max_length=200, description="how a turn is written, {} for the words")
    pins: list[str] = Field(default=[], max_length=8, description="attributes that are pinned, as user age=child")
    at: str = Field(
        default="", description="where it is read and pinned, such as *.2.resid_post; empty: where it is read best"
    )
    strength: float = Field(default=2.0, ge=-10, le=10, description="of a pin: 1 is to the value's mean, 0 half-way")
    max_new_tokens: int = Field(default=12, ge=1, le=128, description="length of what is said at most")


def run(args: Args, ctx: Context) -> Outcome:
    """Say it, and read who speaks."""
    pinned, prompt = parsed_pins(args.pins), prompt_of(args.so_far, args.says, args.turn)
    board = Dashboard.fit(ctx, args.task, args.at)
    turn = say(ctx, board, prompt, pinned, args.strength, args.max_new_tokens)
    where: dict[str, Any] = {"task": args.task, "split": ctx.split, "component": str(board.place)}
    out: list[Measurement] = []
    for label, how in board.believed.items():
        beside = control_of(BAG, how.bag, how.beyond_bag)
        out.append(measured("read", "share of examples", how.own, control=beside, label=label, **where))
        out += [
            Measurement(name="chance", unit="probability", value=p, n=1, label=label, token=value, **where)
            for value, p in turn.chances[label].items()
        ]
    return Outcome(text="\n".join(_lines(args, board, turn)), measurements=tuple(out))


def _lines(args: Args, board: Dashboard, turn: Turn) -> list[str]:
    """What was said, and what is read, in words."""
    lines = [f"one turn of a conversation, evidence for nothing: {turn.prompt!r}", f"it says {turn.reply!r}"]
    if args.pins:
        lines[1] += f" with {', '.join(args.pins)} pinned at {board.place}; with nothing pinned {turn.plain!r}"
    for label, chances in turn.chances.items():
        value = max(chances, key=lambda v: chances[v])
        how = board.believed[label]
        lines.append(
            f"{label}: {value} {chances[value]:.2f} (right on {how.own.value:.2f} of held-out examples; {how.words})"
        )
    return lines
