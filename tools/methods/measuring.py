"""From scores to measurements: the same names, units, groups and intervals in every tool.

All estimates pass through here: the unit is the independent problem (an example's group). Where the data allow no interval,
for too few groups say, the value stands without one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments_db.records import Control, Measurement
from tools import statistics
from tools.methods.fitness import check_fit, merged
from tools.methods.tool import Context, ToolInputError
from tools.ports import Scores
from tools.statistics import Estimate, Groups, Undefined
from tools.tasks import Example, Split, Task, TaskError

MAX_EXAMPLES = 4096
Rows = NDArray[np.float64]
Where = Mapping[str, Any]


def load_examples(
    ctx: Context, spec: str, n: int, among: str = "", *, split: Split | None = None
) -> tuple[Task, list[Example]]:
    """A task and `n` of its examples under the run's seed, each of another group, fewer where there are fewer groups.

    They come from the context's split, and to confirm from its draw. among: the class of examples, `carry=1`; all of them
    by default. split: for what is fitted, which is never done on what is confirmed. ToolInputError if there is no such
    task or class, or if the subject's tokenizer cannot read it.
    """
    side = split or ctx.split
    try:
        task = ctx.tasks.get(spec).among(among)
        sample = task.sample(side, n, ctx.seed, ctx.draw if side == "confirm" else 0)
    except TaskError as error:
        raise ToolInputError(str(error)) from None
    if not sample.examples:
        raise ToolInputError(f"task {spec!r} has no examples in its {side} split")
    reader = ctx.subject.identity
    if reader not in sample.read:
        check_fit(ctx.subject, task, sample.examples)
        sample.read[reader] = tuple(merged(ctx.subject, sample.examples))
    return task, list(sample.read[reader])


def fit_and_score(
    ctx: Context, spec: str, n: int, share: float = 0.5, among: str = ""
) -> tuple[Task, list[Example], list[Example]]:
    """A task with examples to fit on, and others to score on.

    To explore, the explore examples are parted, `share` of them to fit on; to confirm, it is fitted on all of those and
    scored on confirm ones.
    """
    task, explore = load_examples(ctx, spec, n, among, split="explore")
    if ctx.split == "confirm":
        return task, explore, load_examples(ctx, spec, n, among)[1]
    order = np.random.default_rng(ctx.seed).permutation(len(explore))
    cut = int(share * len(explore))
    return task, [explore[i] for i in order[:cut]], [explore[i] for i in order[cut:]]


def groups_of(examples: Sequence[Example]) -> Groups:
    """The independent problems behind examples, as every estimator takes them."""
    return Groups.of([e.group for e in examples])


def where_of(ctx: Context, task: Task, among: str = "") -> dict[str, Any]:
    """The coordinates that say which examples a number is about."""
    return {"task": task.name, "split": ctx.split, "among": among or None}


# -- estimates: k quantities of the same n examples at once, (k, n) ------------------------------------------------------


def _or_bare(estimate: Callable[[], list[Estimate]], values: Callable[[], Rows], groups: Groups) -> list[Estimate]:
    """Estimates, or values without an interval where the data have none."""
    try:
        return estimate()
    except Undefined:
        return [Estimate(float(v), -np.inf, np.inf, groups.n, groups.count) for v in values()]


def shares(rows: Any, groups: Groups) -> list[Estimate]:
    """Shares of examples, for rows of 0 and 1."""
    x = np.atleast_2d(np.asarray(rows, dtype=np.float64))
    return _or_bare(lambda: statistics.proportions(x, groups), lambda: x.mean(-1), groups)


def averages(rows: Any, groups: Groups, bounds: tuple[float, float] | None = None) -> list[Estimate]:
    """Means over examples. bounds: what a value can be at least and at most, if that is known."""
    x = np.atleast_2d(np.asarray(rows, dtype=np.float64))
    inside = x if bounds is None else np.clip(x, *bounds)  # rounding may carry a probability past 1
    return _or_bare(lambda: statistics.means(inside, groups, bounds=bounds), lambda: inside.mean(-1), groups)


def average(values: Any, groups: Groups, bounds: tuple[float, float] | None = None) -> Estimate:
    """The mean over examples."""
    return averages(values, groups, bounds)[0]


def differences(a: Any, b: Any, groups: Groups, bounds: tuple[float, float] | None = None) -> list[Estimate]:
    """Means of `a - b` on the same examples, each row of `a` with its own of `b`, or with the one row of it."""
    x, y = (np.atleast_2d(np.asarray(v, dtype=np.float64)) for v in (a, b))
    y = np.broadcast_to(y, x.shape)
    return _or_bare(
        lambda: statistics.paired_differences(x, y, groups, bounds=bounds), lambda: (x - y).mean(-1), groups
    )


def recoveries(moved: Any, gap: Any, groups: Groups) -> list[Estimate]:
    """Shares of a gap: means of `moved` over the mean of `gap`, both uncertain, resampled together (Fieller)."""
    x = np.atleast_2d(np.asarray(moved, dtype=np.float64))
    whole = np.asarray(gap, dtype=np.float64)
    return _or_bare(lambda: statistics.ratios(x, whole, groups), lambda: x.mean(-1) / whole.mean(), groups)


def measured(name: str, unit: str, estimate: Estimate, **where: Any) -> Measurement:
    """A measurement from an estimate; an end that the data say nothing about is left out."""
    low, high = (b if np.isfinite(b) else None for b in (estimate.low, estimate.high))
    return Measurement(
        name=name, unit=unit, value=estimate.value, low=low, high=high, n=estimate.n, groups=estimate.groups, **where
    )


def control_of(kind: str, estimate: Estimate, difference: Estimate | None = None) -> Control:
    """A control from its estimate, and that of own minus control on the same examples."""

    def ends(e: Estimate | None) -> list[float | None]:
        return [None, None] if e is None else [b if np.isfinite(b) else None for b in (e.low, e.high)]

    (low, high), (less, more) = ends(estimate), ends(difference)
    return Control(
        kind=kind, value=estimate.value, low=low, high=high, n=estimate.n,
        difference=None if difference is None else difference.value, difference_low=less, difference_high=more,
    )  # fmt: skip


# -- scores -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quantity:
    """One value an example of how a model answers. bounds: of a value; binary: it is 0 or 1."""

    name: str
    unit: str
    of: Callable[[Scores], Rows]
    bounds: tuple[float, float] | None = None
    binary: bool = False

    def estimates(self, rows: Any, groups: Groups) -> list[Estimate]:
        """One for each row of values."""
        return shares(rows, groups) if self.binary else averages(rows, groups, self.bounds)

    def changes(self, a: Any, b: Any, groups: Groups) -> list[Estimate]:
        """Paired differences, one for each row."""
        return differences(a, b, groups, None if self.binary else self.reach)

    @property
    def reach(self) -> tuple[float, float] | None:
        """What a difference of two values can be at least and at most, if known."""
        return None if self.bounds is None else (self.bounds[0] - self.bounds[1], self.bounds[1] - self.bounds[0])


def _mean_token_logit(scores: Scores) -> Rows:
    return np.bincount(scores.token_owner, weights=scores.token_logits) / scores.tokens


ACCURACY = Quantity("accuracy", "share of examples", lambda s: s.correct.astype(np.float64), (0.0, 1.0), binary=True)
NLL = Quantity("nll", "nats per answer", lambda s: s.nll)
LOGIT = Quantity("answer_logit", "logits per answer token", _mean_token_logit)
PROBABILITY = Quantity("probability", "of the prompt's own answer", lambda s: np.exp(-s.nll), (0.0, 1.0))
MARGIN = Quantity("logit_margin", "logits, answer minus foil", lambda s: s.foil_margin)
SCORED = (
    ACCURACY,
    NLL,
    Quantity("nll_per_token", "nats per token", lambda s: s.nll / s.tokens),
    Quantity("rank", "rank, 1 is top", lambda s: s.rank.astype(np.float64)),
    MARGIN,
)
CHANGED = (ACCURACY, NLL, LOGIT)


def score_measurements(scores: Scores, groups: Groups, **where: Any) -> list[Measurement]:
    """Accuracy, NLL of the answer and per token, rank and, where there are foils, the logit margin."""
    return [m for rows in _scored([scores], [], [where], groups, "") for m in rows]


def effect_measurements(
    intact: Scores,
    own: Sequence[Scores],
    wheres: Sequence[Where],
    groups: Groups,
    controls: Sequence[Scores] = (),
    kinds: Sequence[str] | str = "",
) -> list[Measurement]:
    """How the model answers under each condition, and what changes against the intact one on the same examples.

    controls: the same number of conditions as `own`, or none; every quantity then stands beside its control, with the
    paired difference of the two. kinds: what each control is.
    """
    scored = _scored(own, controls, wheres, groups, kinds)
    changing = (*(q for q in CHANGED if q.name not in intact.lacks), *others_of(intact))
    changed = [_changed(q, intact, own, controls, wheres, groups, kinds) for q in changing]
    return [m for i, rows in enumerate(scored) for m in (*rows, *(c[i] for c in changed))]


def _scored(
    own: Sequence[Scores],
    controls: Sequence[Scores],
    wheres: Sequence[Where],
    groups: Groups,
    kinds: Sequence[str] | str,
) -> list[list[Measurement]]:
    """Every scored quantity of each condition."""
    out: list[list[Measurement]] = [[] for _ in own]
    for q in (*(q for q in SCORED if q.name not in own[0].lacks), *others_of(own[0])):
        mine, other = np.stack([q.of(s) for s in own]), np.stack([q.of(s) for s in controls]) if controls else None
        known = ~np.isnan(mine[0])
        if not known.any():
            continue
        there = groups if known.all() else Groups.of(groups.codes[known])
        rows = _beside(q, mine[:, known], None if other is None else other[:, known], there, kinds)
        for place, where, (estimate, control) in zip(out, wheres, rows, strict=True):
            place.append(measured(q.name, own[0].units.get(q.name, q.unit), estimate, control=control, **where))
    return out


def others_of(scores: Scores) -> list[Quantity]:
    """What only this port's models are scored by."""

    def of(name: str) -> Callable[[Scores], Rows]:
        return lambda s: s.others[name]

    return [Quantity(name, scores.units.get(name, ""), of(name)) for name in scores.others]


def _beside(
    q: Quantity, mine: Rows, other: Rows | None, groups: Groups, kinds: Sequence[str] | str
) -> list[tuple[Estimate, Control | None]]:
    estimates = q.estimates(mine, groups)
    if other is None:
        return [(e, None) for e in estimates]
    names = [kinds] * len(mine) if isinstance(kinds, str) else kinds
    pairs = zip(names, q.estimates(other, groups), q.changes(mine, other, groups), strict=True)
    return [(e, control_of(*pair)) for e, pair in zip(estimates, pairs, strict=True)]


def _changed(
    q: Quantity,
    intact: Scores,
    own: Sequence[Scores],
    controls: Sequence[Scores],
    wheres: Sequence[Where],
    groups: Groups,
    kinds: Sequence[str] | str,
) -> list[Measurement]:
    """Changes of one quantity against the intact model, and what sets them apart from the controls' changes."""
    base, mine = q.of(intact), np.stack([q.of(s) for s in own])
    estimates = q.changes(mine, base, groups)
    beside: list[Control | None] = [None] * len(own)
    if controls:
        other = np.stack([q.of(s) for s in controls])
        names = [kinds] * len(own) if isinstance(kinds, str) else kinds
        both = zip(names, q.changes(other, base, groups), q.changes(mine, other, groups), strict=True)
        beside = [control_of(*pair) for pair in both]
    name = f"{q.name}.delta"
    rows = zip(estimates, beside, wheres, strict=True)
    return [measured(name, q.unit, e, control=c, **where) for e, c, where in rows]


def over_draws(draws: Rows, groups: Groups, bounds: tuple[float, float] | None = None) -> Estimate:
    """The mean of a control that was drawn several times, (draws, n): its interval holds the variation between draws too.

    The half-widths for examples and for draws (Student's t over the draws' means) are added in quadrature. For a
    difference, give the draws of that difference. bounds: of one value.
    """
    return _widened(average(draws.mean(0), groups, bounds), draws.mean(1), bounds)


def _widened(estimate: Estimate, means: Rows, bounds: tuple[float, float] | None) -> Estimate:
    from scipy import stats

    k = len(means)
    between = np.inf if k < 2 else stats.t.ppf(0.975, k - 1) * float(means.std(ddof=1)) / np.sqrt(k)
    low, high = (
        estimate.value + side * float(np.hypot(abs(end - estimate.value), between))
        for side, end in ((-1, estimate.low), (1, estimate.high))
    )
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Estimate(estimate.value, low, high, estimate.n, estimate.groups)


def percent(estimate: Measurement) -> str:
    """'97% [93, 99]' for a share."""
    low, high = estimate.low, estimate.high
    inside = f" [{100 * low:.0f}, {100 * high:.0f}]" if low is not None and high is not None else ""
    return f"{100 * estimate.value:.0f}%{inside}"
