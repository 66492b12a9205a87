"""How well scores rank positives above negatives, over independent groups."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tools.statistics import skewed
from tools.statistics.estimate import (
    MINIMUM,
    Array,
    Estimate,
    Groups,
    Labels,
    Number,
    TooFewGroups,
    Undefined,
    estimates,
    finite,
)


def auroc(scores: ArrayLike, labels: ArrayLike, groups: Labels, level: Number = 0.95) -> Estimate:
    """Probability that a positive scores above a negative; see `aurocs`."""
    return aurocs(np.asarray(scores, dtype=np.float64)[None], labels, groups, level)[0]


def aurocs(scores: ArrayLike, labels: ArrayLike, groups: Labels, level: Number = 0.95) -> list[Estimate]:
    """Probabilities that a positive scores above a negative (ties count one half), for rows of `scores` (k, n).

    The error is that of DeLong, DeLong and Clarke-Pearson (1988), summed within groups, which may hold both classes
    (Obuchowski 1997). The interval is Newcombe's score interval (2006, Statistics in Medicine 25:559, method 5) for as many
    examples as would have that error in his model, at most those that there are; it does not collapse where the classes are
    separated (each group then counts as one example).

    Raises:
        TooFewGroups: fewer than MINIMUM["auroc"] groups with a positive, or with a negative.
        Undefined: one class only.
    """
    g = Groups.of(groups)
    s, y = finite(scores, g, "scores"), np.asarray(labels, dtype=bool)
    if y.all() or not y.any():
        raise Undefined("AUROC needs positives and negatives")
    per_class = [len(np.unique(g.codes[y == side])) for side in (True, False)]
    if min(per_class) < MINIMUM["auroc"]:
        raise TooFewGroups("auroc (each class)", min(per_class), MINIMUM["auroc"])
    m, n = float(y.sum()), float((~y).sum())
    placed = _placements(s, y)
    value = placed[:, y].mean(-1)
    share = (placed - value[:, None]) / np.where(y, m, n)
    variance = np.sum(g.sums(share) ** 2, axis=-1) * g.count / (g.count - 1)
    fewer = _shrink(value, variance, m, n, min(per_class[0] / m, per_class[1] / n))
    q = skewed.quantile(level, min(per_class) - 1)
    low, high = (_limit(value, m * fewer, n * fewer, q, side) for side in (0.0, 1.0))
    return estimates(value, low, high, g, level, "DeLong and Newcombe's score interval")


def _placements(s: Array, y: NDArray[np.bool_]) -> Array:
    """For each positive the share of negatives below it, for each negative the share of positives above it."""
    from scipy.stats import rankdata

    m, n = y.sum(), (~y).sum()
    overall = rankdata(s, axis=-1)
    out = np.empty_like(overall)
    out[:, y] = (overall[:, y] - rankdata(s[:, y], axis=-1)) / n
    out[:, ~y] = 1 - (overall[:, ~y] - rankdata(s[:, ~y], axis=-1)) / m
    return out


def _model_variance(a: Array, m: Array | Number, n: Array | Number) -> Array:
    """Variance of the area for exponential scores (Hanley and McNeil 1982), in Newcombe's symmetric form."""
    half = (m + n) / 2 - 1
    return a * (1 - a) * (1 + half * ((1 - a) / (2 - a) + a / (1 + a))) / (m * n)


def _shrink(value: Array, variance: Array, m: float, n: float, alike: float) -> Array:
    """By what factor, at most 1, both classes shrink so that the model's variance is the one found; `alike` if that is 0."""
    low, high = np.full(len(value), 0.01 * alike), np.ones(len(value))
    for _ in range(30):
        middle = (low + high) / 2
        more = _model_variance(value, m * middle, n * middle) > variance
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return np.where(variance > 0, (low + high) / 2, alike)


def _limit(value: Array, m: Array, n: Array, q: float, side: float) -> Array:
    """The area towards `side` (0 or 1) that lies `q` of its own standard errors from the value."""
    inner, outer = value, np.full(len(value), side)
    for _ in range(40):
        middle = (inner + outer) / 2
        near = (value - middle) ** 2 <= q**2 * _model_variance(middle, m, n)
        inner, outer = np.where(near, middle, inner), np.where(near, outer, middle)
    return inner
