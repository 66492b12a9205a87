"""A place matters more for one task, or one class of examples, than for another: removing it costs more in the first than in
the second, by more than the smallest effect, and beyond what a random vector of the same norm costs more there.

Where the two share problems (two formats of one), their effects are compared problem by problem; else as two samples.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind
from tools.findings.phrases import is_or_are, place
from tools.methods.effects import RANDOM_VECTOR, Condition
from tools.methods.tool import ToolInputError
from tools.tasks import TaskError


def _check(s: Statement) -> None:
    if not s.other_task and not s.other_among:
        raise ToolInputError("differs needs other_task, or other_among: what the first is compared with")
    if s.other_task in ("", s.task) and (not s.among or not s.other_among or s.among == s.other_among):
        raise ToolInputError("differs within a task is between two classes of its examples: give among and other_among")


def compared(s: Statement, bench: Bench) -> Bench:
    """The bench of what the first is compared with. ToolInputError where there is no such task or class."""
    try:
        task = bench.ctx.tasks.get(s.other_task or s.task)
        chosen = task.among(s.other_among) if s.other_among else task
        sample = chosen.sample(bench.ctx.split, s.examples, bench.ctx.seed, bench.ctx.draw)
    except TaskError as error:
        raise ToolInputError(str(error)) from None
    return Bench(bench.ctx, s, chosen, list(sample.examples))


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    assert s.set is not None
    other = compared(s, bench)
    if other.gap <= 0:
        raise ToolInputError(
            f"the intact model does not do {_second(s)} better than chance: there is nothing to compare with"
        )
    out: list[Contrast] = []
    own = [Condition.of(s.set, how, control=c) for how in s.done for c in (0, 1)]
    for b in (bench, other):
        b.scores(own)
    for how in s.done:
        mine, noise = (Condition.of(s.set, how, control=c) for c in (0, 1))
        lost, beyond = [], []
        for b in (bench, other):
            without, control = b.scores([mine, noise])
            lost.append(b.difference(b.intact, without))
            beyond.append(b.difference(control, without))
        out.append(_apart("effect", bench, other, lost, bench.smallest, "", str(s.set), str(how)))
        out.append(_apart("control", bench, other, beyond, 0.0, f"a {RANDOM_VECTOR}", str(s.set), str(how)))
    return out


def _apart(
    role: str,
    bench: Bench,
    other: Bench,
    values: Sequence[Quantity],
    bound: float,
    control: str,
    place: str,
    how: str,
) -> Contrast:
    """The first must exceed the second."""
    mine, theirs = values
    shared = sorted(set(bench.groups) & set(other.groups))
    kind = "control" if role == "control" else "effect"
    if shared:
        a, b = (_by_group(x.groups, q, shared) for x, q in ((bench, mine), (other, theirs)))
        bounds = None if mine.bounds is None else (mine.bounds[0] - mine.bounds[1], mine.bounds[1] - mine.bounds[0])
        paired = Quantity(mine.name, mine.unit, a - b, bounds)
        return Contrast(kind, "exceed", bound, (paired,), shared, how, place, control)
    return Contrast(kind, "exceed", bound, (mine,), bench.groups, how, place, control, (theirs, other.groups))


def _by_group(groups: Sequence[str], q: Quantity, wanted: Sequence[str]) -> np.ndarray:
    """The mean over each group's examples."""
    of = np.array(groups)
    return np.array([q.values[of == g].mean() for g in wanted])


def _first(s: Statement) -> str:
    return f"{s.task}{f' among {s.among}' if s.among else ''}"


def _second(s: Statement) -> str:
    return f"{s.other_task or s.task}{f' among {s.other_among}' if s.other_among else ''}"


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    one = len(s.members) == 1
    return (
        f"{place(s, roles)} {'matter' if is_or_are(s) == 'are' else 'matters'} more for {_first(s)} than for {_second(s)}: without "
        f"{'it' if one else 'all of them at once'} {{falls}} by {{effect}} more{{control}}."
    )


KIND = Kind(
    "differs", "removing the components costs more on task and among than on other_task and other_among", _measure, _sentence,
    needs=("components",), allows=("other_task", "other_among"), interventions=("resample(donor)", "zero"), check=_check,
)  # fmt: skip
