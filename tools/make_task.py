"""Make a task of your own: derived from another one by rule, or from prompt and answer pairs that you write.

By rule: `source` is the task it comes from. `among` takes one class of it, `sort_by` the first by a label or field. `change`
gives a span the text that it has in another example, one that shares the labels in `keep` and not those in `differ`; `swap`
exchanges two spans. The changed text becomes the example's twin (or with becomes=input the example itself). What is right for it
is what the source says where it has such an example; otherwise `answer` says: foil, same, or a span, whose text it is.
Explore examples come of explore examples, and what is kept to confirm of what was; groups stay.

Written examples are divided between explore and confirm by the content of their prompts, half and half; wordings of one
problem (groups) come to one side.
"""

import re
from functools import cache
from typing import Any, Literal

from pydantic import Field

from experiments_db.records import Outcome, TaskData
from tools.methods.deriving import Rule, derive
from tools.methods.fitness import check_fit
from tools.methods.pairing import has_aligned_twin
from tools.methods.showing import example_lines
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.ports import port_of
from tools.tasks import (
    SPLITS,
    Task,
    TaskError,
    chance_level,
    families,
    fitting,
    from_records,
    get_task,
    record_of,
    to_records,
)

LOOKED_FOR = 512  # groups of another task's confirm side, in the order in which they are drawn
LEAST = 8
WRITTEN = ("prompts", "answers", "foils", "twins", "groups", "classes")
DERIVED = ("among", "change", "swap", "keep", "differ", "answer", "becomes", "sort_by", "descending", "examples")
KIND: Literal["notebook"] = "notebook"
EXAMPLE = {
    "name": "other_subject",
    "description": "The verb, with twins that differ in the number of the subject.",
    "source": "agreement",
    "change": ["subject"],
    "keep": ["attractor_number"],
    "differ": ["subject_number"],
    "answer": "foil",
}


class Args(ToolArgs):
    """Arguments of make_task: a source with a rule, or lists that run in parallel."""

    name: str = Field(min_length=1, max_length=40, description="a new name: letters, digits and underscores")
    description: str = Field(min_length=1, max_length=300, description="one sentence on what it asks")
    source: str = Field(default="", description="the task to derive from; or give prompts and answers")
    among: str = Field(default="", description="only this class of it, as carry=1")
    change: list[str] = Field(default=[], max_length=8, description="spans that take the text of another example")
    swap: list[str] = Field(default=[], max_length=2, description="two spans that change places")
    keep: list[str] = Field(default=[], max_length=8, description="labels that both share")
    differ: list[str] = Field(default=[], max_length=8, description="labels in which it differs")
    answer: str = Field(default="", description="right after the change: foil, same, or a span; or looked up")
    becomes: Literal["twin", "input"] = Field(default="twin", description="what the changed text is")
    sort_by: str = Field(default="", description="take the first by this label or field")
    descending: bool = Field(default=False, description="the largest first")
    examples: int = Field(default=256, ge=LEAST, le=512, description="how many of each side, at most")
    prompts: list[str] = Field(default=[], max_length=2048, description="the prompts, each different; at least eight")
    answers: list[str] = Field(
        default=[], max_length=2048, description="one answer for each, with its leading space where the text has one"
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
    """Make or check the examples and keep them with the run."""
    if not re.fullmatch(r"[A-Za-z]\w*", args.name):
        raise ToolInputError(f"name {args.name!r}: use letters, digits and underscores, beginning with a letter")
    taken = {*families(), *(t.name for t in ctx.tasks.made())}
    if args.name in taken:
        raise ToolInputError(f"there is a task {args.name!r} already; choose a name that is none of {', '.join(taken)}")
    foreign = [f for f in (WRITTEN if args.source else DERIVED) if getattr(args, f) != Args.model_fields[f].default]
    if foreign:
        raise ToolInputError(
            f"{', '.join(foreign)}: a task is derived from a source ({', '.join(DERIVED)}) or written ({', '.join(WRITTEN)})"
        )
    records, said = _derived(args, ctx) if args.source else _written(args, ctx)
    task = from_records(args.name, args.description, records)
    counts = {s: len(task.examples(s, len(records))) for s in SPLITS}
    explore = task.examples("explore", len(records))
    check_fit(ctx.subject, task, explore)
    _check_sealed(ctx, task, len(records), own=not args.source)
    data = TaskData(name=args.name, description=args.description, examples=tuple(records), origin="planner")
    text = (
        f"task {args.name}: {counts['explore']} problems to explore, {counts['confirm']} to confirm, chance "
        f"{100 * chance_level(explore):.0f}%"
    )
    shown = ["e.g. " + "\n  ".join(example_lines(ctx.subject, explore[0]))] if args.source else []
    return Outcome(text="\n".join([text, *said, *shown]), entries=(data,))


def _derived(args: Args, ctx: Context) -> tuple[list[dict[str, Any]], list[str]]:
    """Records by rule, and what became of the source's examples."""
    try:
        source = ctx.tasks.get(args.source)
    except TaskError as error:
        raise ToolInputError(str(error)) from None
    rule = Rule(
        among=args.among, change=tuple(args.change), swap=tuple(args.swap), keep=tuple(args.keep), differ=tuple(args.differ),
        answer=args.answer, becomes=args.becomes, sort_by=args.sort_by, descending=args.descending, most=args.examples,
    )  # fmt: skip
    new = bool(rule.spans and rule.answer)  # else every text is one of the source's
    sealed = _confirm_texts(ctx) if new else set[str]()
    made = derive(source, rule, ctx.seed, lambda e: has_aligned_twin(ctx.subject, e), sealed)
    try:
        records = [record_of(e, side) for side, examples in made.sides.items() for e in examples]
    except TaskError as error:
        raise ToolInputError(str(error)) from None
    if source.choices:
        records = [{"choices": list(source.choices), **r} for r in records]
    said = [f"by one rule from each side of {source.name}, with its groups"]
    said += [f"left out: {'; '.join(f'{n} {why}' for why, n in made.left_out.items())}"] if made.left_out else []
    return records, said


def _written(args: Args, ctx: Context) -> tuple[list[dict[str, Any]], list[str]]:
    """Records of what was written."""
    if len(args.prompts) < LEAST:
        raise ToolInputError(
            f"prompts: {len(args.prompts)} given, at least {LEAST} are needed; or give a source and a rule, for example {EXAMPLE}"
        )
    for field in WRITTEN[1:]:
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
        return to_records(examples, args.name), []
    except TaskError as error:
        raise ToolInputError(str(error)) from None


def _check_sealed(ctx: Context, task: Task, n: int, *, own: bool) -> None:
    """ToolInputError where the subject cannot read what is kept to confirm; what another task seals is not named in it."""
    try:
        check_fit(ctx.subject, task, task.examples("confirm", n))
    except ToolInputError:
        if own:
            raise
        raise ToolInputError("this model cannot read some of the examples that are kept to confirm") from None


def _sealed(ctx: Context, args: Args) -> set[str]:
    """Prompts that are kept for confirming in another task, with all of their groups: they are not explored by another name."""
    found = set(args.prompts) & _confirm_texts(ctx)
    groups = {g for g, p in zip(args.groups, args.prompts, strict=False) if p in found}
    return found | {p for g, p in zip(args.groups, args.prompts, strict=False) if g in groups}


def _confirm_texts(ctx: Context) -> set[str]:
    """Prompts and twins that are kept for confirming in the tasks that this model can read."""
    read = fitting(port_of(ctx.subject).reads, ctx.subject.name)
    others = {t.name for t in ctx.tasks.made()}
    others |= {m.task for h in ctx.history.handles("E") for m in ctx.history.measurements_of(h) if m.task}
    found = {text for name in read for text in _kept(name)}
    for name in sorted(others - set(read)):
        try:
            found |= _texts(ctx.tasks.get(name))
        except (TaskError, ToolInputError):
            continue
    return found


@cache
def _kept(family: str) -> frozenset[str]:
    return frozenset(_texts(get_task(family)))


def _texts(task: Task) -> set[str]:
    """Prompts and twins of the confirm examples of a task, of as many as are looked for."""
    return {text for e in task.examples("confirm", LOOKED_FOR) for text in (e.prompt, e.twin) if text}
