"""The behaviours that can be studied: built-in task families with their options, and the tasks made for this run."""

from typing import Literal, get_args

from experiments_db.records import Outcome
from tools.methods.showing import task_lines
from tools.methods.tool import Context, ToolArgs
from tools.ports import port_of
from tools.tasks import Example, fitting, get_task

KIND: Literal["notebook"] = "notebook"
EXAMPLE: dict[str, object] = {}


class Args(ToolArgs):
    """list_tasks takes no arguments."""


def run(_: Args, ctx: Context) -> Outcome:
    """List families, options and an example of each."""
    lines: list[str] = []
    for name, family in fitting(port_of(ctx.subject).reads, ctx.subject.name).items():
        example = get_task(name).examples("explore", 1, ctx.seed)[0]
        lines.append(f"{name}: {family.description} e.g. {example.shown!r} -> {example.answer!r}")
        lines.append(f"    {_known(example)}")
        for option, field in family.options.model_fields.items():
            values = "|".join(map(str, get_args(field.annotation)))
            lines.append(f"    {option}={values} (default {field.default}): {field.description}")
    for made in ctx.tasks.made():
        lines.append(f"{made.name}: {made.description} ({len(made.examples)} examples, from {made.origin})")
        lines += [f"    {line}" for line in task_lines(ctx.subject, ctx.tasks.get(made.name), ctx.seed, n=1)]
    lines.append(
        "Write options after a colon: addition:digits=2x2,format=compact. Spans are anchors of places: @operand1.last. "
        "Labels can be probed for and divide the examples into classes: carry=1. show_examples shows them token by token"
    )
    return Outcome(text="\n".join(lines))


def _known(example: Example) -> str:
    """The roles and labels of a task's examples, in words."""
    return f"spans: {', '.join(example.spans) or 'none'}; labels: {', '.join(example.values) or 'none'}"
