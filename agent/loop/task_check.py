"""What to know of a task before a run: its size, tokens, what the model cannot read, chance, twins, classes, time and memory.

A part of `python -m agent.doctor --task`, and of the workbench's page.
"""

import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.planners.probes import Finding

if TYPE_CHECKING:
    from tools.methods.tool import Context
    from tools.subjects import Subject
    from tools.tasks import Example, Split, Task

EXAMPLES, TIMED, SCREEN, SHOWN = 128, 32, 72, 2
RUNS = (
    72 * 12
)  # examples times conditions: what an experiment of a systematic run asks for, on average of the curated ones
EXPERIMENTS = 60
BATCH = 2048  # tokens of a batch, as a run has it
WHOLE_PARTS = ("attn.out", "cross.out", "mlp.out")
_WORD = re.compile(r"\w+")


def task(spec: str, subject_name: str, device: str) -> Iterator[Finding]:
    """A built-in task or a file of examples, as a subject that is yet to be loaded reads it."""
    from tools.methods.offline import Nothing, OfflineTasks
    from tools.methods.tool import Context
    from tools.subjects import SubjectError, load_subject
    from tools.tasks import TaskError

    file = Path(spec)
    try:
        subject = load_subject(subject_name, device=device, dtype="float32")
        tasks = OfflineTasks([file] if file.is_file() else [])
    except (TaskError, SubjectError, OSError) as error:
        yield Finding("failed", "task", str(error) if spec in str(error) else f"{spec}: {error}")
        return
    yield from check(Context(subject, tasks, Nothing()), file.stem if file.is_file() else spec)


def check(ctx: "Context", spec: str) -> Iterator[Finding]:
    """A task as the context's subject reads it: a line for each thing to know, and one that failed where it cannot be read."""
    from tools.methods.fitness import check_fit
    from tools.methods.showing import example_lines, label_values, task_lines
    from tools.methods.tool import ToolInputError
    from tools.subjects import SubjectError
    from tools.tasks import TaskError

    subject = ctx.subject
    try:
        found = ctx.tasks.get(spec)
        drawn = found.examples("explore", EXAMPLES, ctx.seed)
        check_fit(subject, found, drawn)
        yield Finding("ok", "task", task_lines(subject, found, ctx.seed, n=0)[0])
        yield Finding("ok", "problems", f"{_problems(found, 'explore', ctx)}; {_problems(found, 'confirm', ctx)}")
        if classes := label_values(drawn):
            yield Finding("ok", "classes", f"of {len(drawn)} examples: {classes}")
        for e in drawn[:SHOWN]:
            for line in example_lines(subject, e):
                yield Finding("ok", "example", line)
        yield from _split(subject, drawn)
        yield from _twins(subject, drawn)
        yield from _cost(ctx, found, spec, drawn)
    except (TaskError, SubjectError, ToolInputError, OSError) as error:
        yield Finding("failed", "task", str(error) if spec in str(error) else f"{spec}: {error}")


def _problems(found: "Task", split: "Split", ctx: "Context") -> str:
    """How many independent problems a split holds, and of a task that ends how many wordings they have."""
    from tools.methods.showing import LOOKED_AT

    if found.source != "user":
        n = len(found.examples(split, LOOKED_AT, ctx.seed))
        return f"{n}{' or more' if n == LOOKED_AT else ''} to {split}"
    sizes = Counter(e.group for e in found.draw(split, random.Random(ctx.seed)))
    few, many = min(sizes.values()), max(sizes.values())
    each = "" if many == 1 else f" in {sizes.total()} examples, {few if few == many else f'{few} to {many}'} of each"
    return f"{len(sizes)} to {split}{each}"


def _split(subject: "Subject", drawn: "Sequence[Example]") -> Iterator[Finding]:
    """Words, answers and roles that take several tokens: accuracy needs all of an answer's, an anchor means one of a role's."""
    from tools.methods.anchors import span_positions
    from tools.methods.tool import ToolInputError
    from tools.ports import port_of

    port = port_of(subject)
    if sizes := _word_sizes(subject, drawn):
        split = {word: n for word, n in sizes.items() if n > 1}
        shown = ", ".join(f"{word!r} ({n})" for word, n in list(split.items())[:8])
        of = f"{len(sizes)} words of {len(drawn)} examples"
        yield Finding(
            "ok",
            "words",
            f"of the {of} {len(split)} take several tokens: {shown}" if split else f"each of the {of} is one token",
        )
    long = [e.target for e in drawn if len(port.encode(subject, e).targets) > 1]
    if long:
        shown = ", ".join(map(repr, dict.fromkeys(long[:4])))
        yield Finding(
            "warning",
            "answers",
            f"{len(long)} of {len(drawn)} take several tokens: {shown}",
            "all of them have to be right",
        )
    for role in dict.fromkeys(r for e in drawn for r in e.spans):
        sizes_of: list[int] = []
        for e in drawn:
            try:
                sizes_of += [len(span_positions(subject, e, role))] if role in e.spans else []
            except ToolInputError:
                continue
        if max(sizes_of, default=1) > 1:
            said = f"{role} takes {min(sizes_of)} to {max(sizes_of)} tokens"
            yield Finding("warning", "roles", said, f"name {role}.first, {role}.last or {role}.all")


def _word_sizes(subject: "Subject", drawn: "Sequence[Example]") -> dict[str, int]:
    """How many tokens each word of the texts takes, where it is texts that are read; the split ones first."""
    from tools.methods.anchors import span_positions

    places: dict[str, tuple[Example, tuple[int, int]]] = {}
    for e in drawn:
        first = next(iter(e.inputs.values()))
        for m in _WORD.finditer(first) if isinstance(first, str) else ():
            places.setdefault(m[0], (e, m.span()))
    sizes = {
        word: len(span_positions(subject, replace(e, spans={"word": span}, span_labels={}), "word"))
        for word, (e, span) in places.items()
    }
    return dict(sorted(sizes.items(), key=lambda found: -found[1]))


def _twins(subject: "Subject", drawn: "Sequence[Example]") -> Iterator[Finding]:
    """Twins that are as long as what they are the twin of, and those that are not."""
    from tools.ports import port_of

    port = port_of(subject)
    twins = [e for e in drawn if e.twin is not None]
    if not twins:
        yield Finding("ok", "twins", "there are none: examples of one length and format serve as each other's")
        return
    other = [
        e
        for e in twins
        if port.encode(subject, e).lengths != port.encode(subject, e.as_twin(e.foil or e.target)).lengths
    ]
    if other:
        e = other[0]
        both = f"{e.prompt[-40:]!r} and {str(e.twin)[-40:]!r}"
        says = f"{len(other)} of {len(twins)} are of another length than their example: {both}"
        yield Finding(
            "warning",
            "twins",
            says,
            "a patch needs both to have the same tokens at the same places; these are left out",
        )
    else:
        yield Finding("ok", "twins", f"all {len(twins)} are as long as their example")


def _cost(ctx: "Context", found: "Task", spec: str, drawn: "Sequence[Example]") -> Iterator[Finding]:
    """How long a run will take, from how long some examples take now, and how much memory."""
    from tools.methods.scoring import encoded_all, score

    subject = ctx.subject
    timed = drawn[:TIMED]
    variants = [subject.variant(), subject.variant()]
    score(subject, timed, lambda _: variants, choices=found.choices)  # the first call is slower
    started = time.perf_counter()
    score(subject, timed, lambda _: variants, choices=found.choices)
    each = (time.perf_counter() - started) / len(timed)
    minutes = each * RUNS * EXPERIMENTS / 60
    weights = sum(p.numel() * p.element_size() for p in subject.model.parameters())
    longest = max(e.size for e in encoded_all(subject, drawn))
    blocks = sum(len(s.blocks) for s in subject.stacks.values())
    states = max(BATCH, longest) * subject.spec().width * blocks * 4 * 4
    yield Finding(
        "ok",
        "time",
        f"{1e3 * each:.2g} ms an example: about {max(1, round(minutes))} min for {EXPERIMENTS} experiments",
    )
    yield from _forecasts(ctx, spec, drawn)
    yield Finding("ok", "memory", f"weights {weights / 1e6:.0f} MB, and about {states / 1e6:.0f} MB at work")


def _forecasts(ctx: "Context", spec: str, drawn: "Sequence[Example]") -> Iterator[Finding]:
    """What the experiments take with which a run usually begins; why one of them cannot be done, where that is so."""
    from agent.loop.offering import usable
    from tools.methods.forecasting import forecast, measure
    from tools.methods.tool import ToolInputError, discover

    parts = [p for p in WHOLE_PARTS if any(p in s.kinds for s in ctx.subject.stacks.values())]
    first: list[tuple[str, str, Mapping[str, Any]]] = [
        ("how well it is done", "loss", {"tasks": [spec]}),
        ("each attention and each MLP removed", "ablate", {"task": spec, "components": parts, "intervention": "zero"}),
        ("the twin's residual stream at each depth and place", "patch", {"task": spec, "components": ["resid_pre@each"]}),
    ]  # fmt: skip
    able = usable(discover(), ctx.subject, ctx.tasks, by_hand=True)
    pace = measure(ctx.subject, drawn)
    for words, name, args in first:
        tool = able.get(name)
        if tool is None or tool.work is None or not args.get("components", True):
            continue
        try:
            works = tool.work(tool.parse({**args, "examples": SCREEN}), ctx)
        except ToolInputError as error:
            yield Finding("warning", "forecast", f"{words} ({name}) cannot be done: {error}")
            continue
        n = len(works[0].examples)
        yield Finding("ok", "forecast", f"{words} ({name}), on {n} examples: {forecast(ctx, works, pace).text}")
