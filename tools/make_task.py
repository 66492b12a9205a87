"""Make a task of your own from prompt and answer pairs, to test an idea that no built-in task covers.

The examples are divided between explore and confirm by the content of their prompts, half and half; wordings of one
problem (groups) come to one side.
"""

import re
from typing import Literal

from pydantic import Field

from experiments_db.records import Outcome, TaskData
from tools.methods.fitness import check_fit
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.tasks import SPLITS, TaskError, chance_level, families, from_records, to_records

LOOKED_FOR = 512  # groups of another task's confirm side, in the order in which they are drawn
KIND: Literal["notebook"] = "notebook"
EXAMPLE = {
    "name": "successor",
    "description": "Which number comes next.",
    "prompts": ["1, 2, 3,", "4, 5, 6,", "7, 8, 9,", "2, 3, 4,", "5, 6, 7,", "11, 12, 13,", "3, 4, 5,", "6, 7, 8,"],
    "answers": [" 4", " 7", " 10", " 5", " 8", " 14", " 6", " 9"],
}


class Args(ToolArgs):
    """Arguments of make_task; the lists run in parallel."""

    name: str = Field(min_length=1, max_length=40, description="a new name: letters, digits and underscores")
    description: str = Field(min_length=1, max_length=300, description="one sentence on what it asks")
    prompts: list[str] = Field(min_length=8, max_length=2048, description="the prompts, each different")
    answers: list[str] = Field(
        min_length=8, max_length=2048, description="one answer for each, with its leading space where the text has one"
    )
    foils: list[str] = Field(default=[], description="one wrong answer for each, or empty")
    twins: list[str] = Field(
        default=[],
        description="one corrupted prompt for each, of the same length, whose right answer is the foil; or empty: examples "
        "of one format then serve as each other's",
    )
    groups: list[str] = Field(
        default=[],
        description="one name for each of the independent problem it poses, shared by its wordings; or empty",
    )
    classes: list[str] = Field(
        default=[], description="one class for each, by which to divide the examples as NAME:class=a; or empty"
    )


def run(args: Args, ctx: Context) -> Outcome:
    """Check the examples and keep them with the run."""
    if not re.fullmatch(r"[A-Za-z]\w*", args.name):
        raise ToolInputError(f"name {args.name!r}: use letters, digits and underscores, beginning with a letter")
    taken = {*families(), *(t.name for t in ctx.tasks.made())}
    if args.name in taken:
        raise ToolInputError(f"there is a task {args.name!r} already; choose a name that is none of {', '.join(taken)}")
    for field in ("answers", "foils", "twins", "groups", "classes"):
        given: list[str] = getattr(args, field)
        if len(given) != len(args.prompts) and (given or field == "answers"):
            raise ToolInputError(f"{field}: {len(given)} given for {len(args.prompts)} prompts; there must be as many")
    sealed = _sealed(ctx, args)
    examples = [
        {
            "prompt": p,
            "split": "confirm" if p in sealed else None,
            "answer": args.answers[i],
            "foil": args.foils[i] if args.foils else None,
            "twin": args.twins[i] if args.twins else None,
            "group": args.groups[i] if args.groups else None,
            "class": args.classes[i] if args.classes else None,
        }
        for i, p in enumerate(args.prompts)
    ]
    try:
        records = to_records(examples, args.name)
    except TaskError as error:
        raise ToolInputError(str(error)) from None
    task = from_records(args.name, args.description, records)
    counts = {s: len(task.examples(s, len(records))) for s in SPLITS}
    explore = task.examples("explore", len(records))
    check_fit(ctx.subject, task, [*explore, *task.examples("confirm", len(records))])
    chance = chance_level(explore)
    data = TaskData(name=args.name, description=args.description, examples=tuple(records), origin="planner")
    text = (
        f"task {args.name}: {counts['explore']} problems to explore, {counts['confirm']} to confirm, chance "
        f"{100 * chance:.0f}%"
    )
    return Outcome(text=text, entries=(data,))


def _sealed(ctx: Context, args: Args) -> set[str]:
    """Prompts that are kept for confirming in another task, with all of their groups: they are not explored by another name."""
    others = {*families(), *(t.name for t in ctx.tasks.made())}
    others |= {m.task for h in ctx.history.handles("E") for m in ctx.history.measurements_of(h) if m.task}
    wanted, found = set(args.prompts), set[str]()
    for name in sorted(others):
        try:
            examples = ctx.tasks.get(name).examples("confirm", LOOKED_FOR)
        except (TaskError, ToolInputError):
            continue
        found |= wanted & {text for e in examples for text in (e.prompt, e.twin) if text}
    groups = {g for g, p in zip(args.groups, args.prompts, strict=False) if p in found}
    return found | {p for g, p in zip(args.groups, args.prompts, strict=False) if g in groups}
