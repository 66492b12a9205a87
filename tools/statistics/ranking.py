"""How well scores rank positives above negatives, over independent groups."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from tools.statistics.estimate import MINIMUM, Array, Estimate, Groups, TooFewGroups, Undefined, finite


def auroc(scores: ArrayLike, labels: ArrayLike, groups: ArrayLike | Groups, level: float = 0.95) -> Estimate:
    """Probability that a positive scores above a negative, ties counting one half.

    The error is that of DeLong, DeLong and Clarke-Pearson (1988), summed within groups, which may hold both classes
    (Obuchowski 1997); the interval is the score interval of Newcombe (2006, Statistics in Medicine 25:559, method 5) for
    that many effective examples, which does not collapse where the classes are separated.

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
    above, below = _placements(s[y], s[~y])
    value = float(above.mean())
    share = np.empty(g.n)
    share[y], share[~y] = (above - value) / y.sum(), (below - value) / (~y).sum()
    variance = float(np.sum(g.sums(share) ** 2)) * g.count / (g.count - 1)
    m, n = y.sum(), (~y).sum()
    fewer = _deflation(value, variance, float(m), float(n), per_class)
    q = float(stats.norm.ppf((1 + level) / 2))
    low, high = (_score_limit(value, m * fewer, n * fewer, q, side) for side in (-1, 1))
    return Estimate(value, low, high, g.n, g.count, level, "DeLong and Newcombe's score interval")


def _placements(positive: Array, negative: Array) -> tuple[Array, Array]:
    """Share of negatives below each positive, and of positives above each negative; ties count one half."""
    p, n = np.sort(positive), np.sort(negative)
    above = (np.searchsorted(n, positive, "left") + np.searchsorted(n, positive, "right")) / (2 * len(n))
    below = (np.searchsorted(p, negative, "left") + np.searchsorted(p, negative, "right")) / (2 * len(p))
    return above, 1 - below


def _null_variance(a: float, m: float, n: float) -> float:
    """Variance of the area for exponential scores (Hanley and McNeil 1982), in Newcombe's symmetric form."""
    half = (m + n) / 2 - 1
    return a * (1 - a) * (1 + half * ((1 - a) / (2 - a) + a / (1 + a))) / (m * n)


def _deflation(value: float, variance: float, m: float, n: float, groups: list[int]) -> float:
    """By what factor both classes shrink so that the model's variance is the one that was found; between groups and 1."""
    least = min(groups[0] / m, groups[1] / n)
    if variance <= 0:
        return least
    low, high = least, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if _null_variance(value, m * middle, n * middle) > variance:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _score_limit(value: float, m: float, n: float, q: float, side: int) -> float:
    """The area, on one side, that lies `q` of its own standard errors from the value."""
    inner, outer = value, 0.0 if side < 0 else 1.0
    for _ in range(60):
        middle = (inner + outer) / 2
        if (value - middle) ** 2 <= q**2 * _null_variance(middle, m, n):
            inner = middle
        else:
            outer = middle
    return inner
