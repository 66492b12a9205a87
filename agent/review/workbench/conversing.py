"""A conversation as the workbench's page draws it: what is said, and what is read of who speaks, with how far it is believed."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from tools.methods.conversing import Dashboard, parsed_pins, prompt_of, say
from tools.methods.measuring import load_examples
from tools.methods.tool import Context, ToolArgs
from tools.tasks.task import SPEAKERS

KEPT = 8  # dashboards
Data = dict[str, Any]


class Conversing:
    """Dashboards that were fitted, by what they were fitted on."""

    def __init__(self) -> None:
        self._boards: OrderedDict[tuple[Any, ...], Dashboard] = OrderedDict()

    def board(self, ctx: Context, run: str | None, task: str, at: str) -> Dashboard:
        """The dashboard for a task's attributes, fitted once."""
        key = (run, task, at)
        if key not in self._boards:
            self._boards[key] = Dashboard.fit(ctx, task, at)
            if len(self._boards) > KEPT:
                self._boards.popitem(last=False)
        return self._boards[key]

    def opened(self, ctx: Context, run: str | None, task: str, at: str) -> Data:
        """The attributes before anything is said, and how a conversation may begin."""
        return {**_data(self.board(ctx, run, task, at), {}), "begins": begins(ctx, task)}

    def turn(self, ctx: Context, run: str | None, args: ToolArgs) -> Data:
        """One turn. args: those of the tool converse."""
        given = args.model_dump()
        board = self.board(ctx, run, given["task"], given["at"])
        prompt = prompt_of(given["so_far"], given["says"], given["turn"])
        found = say(ctx, board, prompt, parsed_pins(given["pins"]), given["strength"], given["max_new_tokens"])
        said = {"reply": found.reply, "plain": found.plain, "so_far": f"{found.prompt} {found.reply}".strip()}
        return {**_data(board, found.chances), **said, "kept": run is not None}


def begins(ctx: Context, task: str) -> str:
    """What stands before the user's first words in the task's first example."""
    first = load_examples(ctx, task, 1)[1][0].prompt
    head, found, _ = first.partition("user :")
    return head.strip() if found else ""


def has_attributes(ctx: Context, spec: str) -> bool:
    """Whether a task's examples say something of who speaks."""
    examples = ctx.tasks.get(spec).examples("explore", 1, ctx.seed)
    return bool(examples) and any(n.startswith(SPEAKERS) for n in examples[0].values)


def _data(board: Dashboard, chances: Mapping[str, Mapping[str, float]]) -> Data:
    rows: list[Data] = []
    for label, how in board.believed.items():
        mine = chances.get(label, {})
        classes = board.probes[label].classes
        rows.append(
            {
                "label": label, "values": [{"value": c, "chance": mine.get(c, 1 / len(classes))} for c in classes],
                "read": max(mine, key=lambda c: mine[c]) if mine else None, "right": how.own.value, "bag": how.bag.value,
                "last": how.last.value, "chance": how.chance, "there": how.there, "words": how.words, "n": how.own.n,
            }
        )  # fmt: skip
    return {"attributes": rows, "place": str(board.place)}
