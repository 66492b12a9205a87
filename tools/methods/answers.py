"""What a model answered to each example of an experiment, before and under each condition: kept for a reader, never measured.

Two arrays a sample. `answers:TASK`, (conditions, 2, examples): which text was said, and whether it is right; the first condition
is the right answer itself. `said:TASK`, (texts,): how often each text was said, with the texts as labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from experiments_db.records import ANSWERS, ANSWERS_KEPT, SAID, Array, Axis, Outcome
from tools.methods.tool import Context, Tool, ToolArgs
from tools.ports import Scores, port_of
from tools.subjects import Subject
from tools.tasks import Example, Task

PROMPT = 160  # characters of an input that are kept, its last ones
RIGHT, INTACT = "right answer", "intact"


@dataclass
class _Sample:
    """What was said to one sample of a task, by condition; the first one is the intact model."""

    task: str
    examples: Sequence[Example]
    subject: Subject
    scores: dict[str, Scores] = field(default_factory=dict[str, Scores])


@dataclass
class Answers:
    """Collects what was said while a tool computes."""

    samples: dict[tuple[str, tuple[str, ...]], _Sample] = field(
        default_factory=dict[tuple[str, tuple[str, ...]], _Sample]
    )

    def keep(self, subject: Subject, task: Task, examples: Sequence[Example], scores: Mapping[str, Scores]) -> None:
        """Keep what was said under each condition, by its name."""
        key = task.name, tuple(e.shown + e.target for e in examples)
        sample = self.samples.setdefault(key, _Sample(task.name, examples, subject))
        for condition, s in scores.items():
            if s.said:
                sample.scores.setdefault(condition, s)

    def arrays(self) -> tuple[Array, ...]:
        """Everything that was kept; of samples that were only measured intact none where another one was changed."""
        found = [s for s in self.samples.values() if s.scores]
        changed = [s for s in found if len(s.scores) > 1]
        names: dict[str, int] = {}
        out: list[Array] = []
        for sample in changed or found:
            names[sample.task] = names.get(sample.task, 0) + 1
            again = f" ({names[sample.task]})" if names[sample.task] > 1 else ""
            out += _arrays(sample, f"{sample.task}{again}")
        return tuple(out)


def with_answers(tool: Tool, args: ToolArgs, ctx: Context) -> Outcome:
    """What a tool returns, with what was said to each example among its arrays."""
    answers = Answers()
    outcome = tool.run(args, replace(ctx, answers=answers))
    return outcome.model_copy(update={"arrays": (*outcome.arrays, *answers.arrays())})


def keep(ctx: Context, task: Task, examples: Sequence[Example], scores: Mapping[str, Scores]) -> None:
    """Keep what was said under each condition, by its name, the intact model first, where somebody wants to know."""
    if ctx.answers is not None:
        ctx.answers.keep(ctx.subject, task, examples, scores)


def _arrays(sample: _Sample, name: str) -> list[Array]:
    told = partial(port_of(sample.subject).answer_label, sample.subject)
    intact, *others = sample.scores.items()
    room = max(1, ANSWERS_KEPT // max(1, len(sample.examples)))
    broken = sorted(others, key=lambda c: -int((intact[1].correct & ~c[1].correct).sum()))
    kept = {condition for condition, _ in broken[:room]}
    shown = [intact, *(c for c in others if c[0] in kept)]
    texts: dict[str, int] = {}
    cached: dict[tuple[int, ...], str] = {}

    def number(text: str) -> int:
        return texts.setdefault(text, len(texts))

    def words(ids: tuple[int, ...], tokens: int) -> str:
        if ids not in cached:
            cached[ids] = "".join(map(told, ids)).strip()
        return cached[ids] + ("…" if len(ids) < tokens else "")

    targets = [e.target.strip() for e in sample.examples]
    table = np.empty((len(shown) + 1, 2, len(targets)), dtype="<i4")
    table[0] = [[number(t) for t in targets], [1] * len(targets)]
    for row, (_, s) in enumerate(shown, 1):
        right, tokens = s.correct.tolist(), s.tokens.tolist()
        known = (ok and not e.accepted for ok, e in zip(right, sample.examples, strict=True))
        said = (t if ok else words(i, k) for t, ok, i, k in zip(targets, known, s.said, tokens, strict=True))
        table[row] = [[number(t) for t in said], right]
    labels = tuple(e.shown if len(e.shown) <= PROMPT else f"…{e.shown[1 - PROMPT :]}" for e in sample.examples)
    axes = (
        Axis(name="condition", labels=(RIGHT, *(c for c, _ in shown))),
        Axis(name="what", labels=("said", "right")),
        Axis(name="example", labels=labels),
    )
    counts = np.bincount(table[1:, 0].ravel(), minlength=len(texts)).astype("<i4")
    return [
        Array(name=f"{ANSWERS}{name}", dtype="int32", shape=table.shape, data=table.tobytes(), axes=axes),
        Array(
            name=f"{SAID}{name}", dtype="int32", shape=counts.shape, data=counts.tobytes(),
            axes=(Axis(name="text", labels=tuple(texts)),), unit="answers",
        ),
    ]  # fmt: skip
