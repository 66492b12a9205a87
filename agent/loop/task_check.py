"""What to know of a task before a run: its tokens, what the model cannot read, chance, twins, classes, time and memory.

A part of `python -m agent.doctor --task`.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.planners.probes import Finding

if TYPE_CHECKING:
    from tools.subjects import Subject
    from tools.tasks import Example, Task

EXAMPLES, TIMED, SCREEN = 128, 32, 72
RUNS = (
    72 * 12
)  # examples times conditions: what an experiment of a systematic run asks for, on average of the curated ones
EXPERIMENTS = 60
BATCH = 2048  # tokens of a batch, as a run has it


def task(spec: str, subject_name: str, device: str) -> Iterator[Finding]:
    """A built-in task or a file of examples, as the subject reads it."""
    from tools.methods.showing import task_lines
    from tools.methods.tool import ToolInputError
    from tools.ports import port_of
    from tools.subjects import SubjectError, load_subject
    from tools.tasks import TaskError

    try:
        subject = load_subject(subject_name, device=device, dtype="float32")
        found = _task(spec)
        drawn = found.examples("explore", EXAMPLES, 0)
        port_of(subject).check(subject, found, drawn)
        first, *more = task_lines(subject, found, 0, n=1)
        yield Finding("ok", "task", first)
        for line in more:
            yield Finding("ok", "task", line.strip())
        yield from _split(subject, drawn)
        yield from _twins(subject, drawn)
        yield from _cost(subject, found, drawn)
    except (TaskError, SubjectError, ToolInputError, OSError) as error:
        yield Finding("failed", "task", str(error) if spec in str(error) else f"{spec}: {error}")


def _task(spec: str) -> "Task":
    from tools.methods.offline import OfflineTasks

    file = Path(spec)
    return OfflineTasks([file]).get(file.stem) if file.is_file() else OfflineTasks([]).get(spec)


def _split(subject: "Subject", drawn: "Sequence[Example]") -> Iterator[Finding]:
    """Answers and roles that take several tokens: accuracy needs all of an answer's, an anchor means one of a role's."""
    from tools.methods.anchors import span_positions
    from tools.methods.tool import ToolInputError
    from tools.ports import port_of

    port = port_of(subject)
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
        sizes: list[int] = []
        for e in drawn:
            try:
                sizes += [len(span_positions(subject, e, role))] if role in e.spans else []
            except ToolInputError:
                continue
        if max(sizes, default=1) > 1:
            said = f"{role} takes {min(sizes)} to {max(sizes)} tokens"
            yield Finding("warning", "roles", said, f"name {role}.first, {role}.last or {role}.all")


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


def _cost(subject: "Subject", found: "Task", drawn: "Sequence[Example]") -> Iterator[Finding]:
    """How long a run will take, from how long some examples take now, and how much memory."""
    from tools.methods.effects import Condition
    from tools.methods.forecasting import Work, forecast, measure
    from tools.methods.layout import select_components
    from tools.methods.offline import Nothing, OfflineTasks
    from tools.methods.scoring import encoded_all, score
    from tools.methods.tool import Context

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
    context = Context(subject, OfflineTasks([]), Nothing())
    parts = [p for p in ("attn.out", "mlp.out") if p in subject.spec().kinds]
    changes = [Condition.of(c, "zero", control=k) for c in select_components(subject, parts) for k in (0, 1)]
    told = forecast(context, [Work(found, drawn[:SCREEN], changes)], measure(subject, drawn))
    yield Finding(
        "ok", "forecast", f"each attention and each MLP removed, on {len(drawn[:SCREEN])} examples: {told.text}"
    )
    yield Finding("ok", "memory", f"weights {weights / 1e6:.0f} MB, and about {states / 1e6:.0f} MB at work")
