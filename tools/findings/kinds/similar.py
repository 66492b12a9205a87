"""A component represents a problem alike in two wordings of it: of two languages, say, or two formats.

By the cosine of centred states a problem's partner in the other task is the nearest among candidates of the same lengths, more
often than chance, one over the candidates, and than in models of the same kind with weights drawn anew, where only what the
wordings have in common is alike. What is alike need not be used.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments_db.findings import Statement
from experiments_db.places import Component
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind, Nulls, mean_of, tenth_of_examples
from tools.findings.null_twins import null_twin
from tools.findings.phrases import capital, is_or_are, place
from tools.methods.features import collect
from tools.methods.parallel import Parallel, parallel
from tools.methods.similarity import Retrieved, retrieve, same_cell
from tools.methods.tool import Context, ToolInputError
from tools.subjects import Subject
from tools.tasks import Example, Task, TaskError

TWINS = 3  # models with random weights


def _check(s: Statement) -> None:
    if len(s.set or ()) != 1:
        raise ToolInputError("similar is about one component (heads of one part may be named together)")
    if s.other_task == s.task:
        raise ToolInputError("similar is between two tasks that pose the same problems: name another one as other_task")


def other_of(s: Statement, ctx: Context) -> tuple[Task, Sequence[Example]]:
    """The other task, and the examples that stand where the statement's own do. ToolInputError where there is none."""
    try:
        task = ctx.tasks.get(s.other_task).among(s.among)
        return task, task.examples(ctx.split, s.examples, ctx.seed, ctx.draw)
    except TaskError as error:
        raise ToolInputError(str(error)) from None


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    assert s.set is not None
    ctx, component = bench.ctx, s.set.one
    found = parallel(ctx.subject, [(bench.task, bench.examples), other_of(s, ctx)])
    own = _retrieved(ctx, ctx.subject, found, component)
    if not len(own.pairs):
        raise ToolInputError(
            "similar: no two of these problems take as many positions in both tasks: use more examples"
        )
    twins = [null_twin(ctx.subject, seed=ctx.seed + i) for i in range(TWINS)]
    drawn = mean_of([_retrieved(ctx, twin, found, component).both for twin in twins])
    groups, where = tuple(map(str, found.groups[own.pairs])), str(component)

    def beyond(other: np.ndarray) -> Quantity:
        return Quantity("retrieval", "share of queries", own.both - other, (-1.0, 1.0))

    # Models with random weights differ from one another: beyond their mean by as much as counts, not by anything at all.
    control = f"the mean of {TWINS} models with random weights"
    return [
        bench.effect(beyond(own.chance), bench.smallest, groups, component=where),
        bench.beyond((beyond(drawn),), control, bench.smallest, groups, component=where),
    ]


def _retrieved(ctx: Context, subject: Subject, found: Parallel, component: Component) -> Retrieved:
    first, second = (collect(subject, e, [component], ctx.max_tokens)[component] for e in found.examples)
    return retrieve(first, second, same_cell(found.cells((0, 1), component.stack)))


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    among = f" among {s.among}" if s.among else ""
    return (
        f"{capital(place(s, roles))} {is_or_are(s)} alike for the same problem in {s.task} and {s.other_task}{among}: it is the "
        "nearest among others of its length in {effect} of queries more than by chance{control}."
    )


KIND = Kind(
    "similar", "a problem's states in task and in other_task are nearest to each other, beyond chance and a random model",
    _measure, _sentence, needs=("components", "other_task"), check=_check, capable=False, least=tenth_of_examples,
    unit="share of queries", nulls=Nulls({"shuffled_answers": "problems and activations are there what they were"}),
)  # fmt: skip
