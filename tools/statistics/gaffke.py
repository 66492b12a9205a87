"""Means of values with known bounds, for any distribution within them and any number of groups.

Gaffke (2005): draw weights uniformly from the simplex for the observed units and for one more unit that lies at the bound;
the share of draws whose weighted mean is at most m is the p value of "the mean is at most m". For 0/1 data this is Clopper
and Pearson's, for signs at 0 it is McNemar's exact test, and no data were found for which it fails (Learned-Miller and
Thomas 2020, "A new confidence interval for the mean of a bounded random variable", who conjecture that there are none).
It does not collapse on constant data. Means of two independent samples are compared by melding their two distributions (Fay,
Proschan and Brittain 2015, "Combining one-sample confidence procedures for inference in the two-sample case").
"""

from functools import lru_cache

import numpy as np

from tools.statistics.estimate import Array, Bounds, Number

DRAWS, MELDED = 2000, 20_000  # for an interval; for a p value of two samples
NODES, REACH = 192, 9.0  # of the contour integral: relative error below 1e-9
BLOCK = 4_000_000  # numbers drawn at once


def ends(sums: Array, weights: Array, bounds: Bounds, level: Number) -> tuple[Array, Array]:
    """Interval of sum / weight for rows of group sums (k, G) and group weights, (k, G) or (1, G), values within `bounds`."""
    parts: list[tuple[Array, Array]] = []
    heaviest, groups = weights.max(-1, keepdims=True), sums.shape[-1]
    size = max(1, min(DRAWS, BLOCK // (groups + 1)))
    for start in range(0, DRAWS, size):
        drawn = _exponentials(groups + 1, start, min(size, DRAWS - start))
        extra, own = heaviest * drawn[0], drawn[1:]
        total, weight = sums @ own, weights @ own + extra
        parts.append(((total + extra * bounds[0]) / weight, (total + extra * bounds[1]) / weight))
    below, above = (np.concatenate(p, axis=-1) for p in zip(*parts))
    tail = (1 - level) / 2
    return np.quantile(below, tail, axis=-1), np.quantile(above, 1 - tail, axis=-1)


@lru_cache(maxsize=4)
def _exponentials(units: int, start: int, draws: int) -> Array:
    """Independent exponentials (units, draws): divided by a column's sum, a column is uniform on the simplex."""
    return np.random.default_rng((units, start)).standard_exponential((units, draws))


def p_above(sums: Array, weights: Array, bounds: Bounds, bound: Number) -> float:
    """P value of "sum / weight is at most `bound`" for group sums and weights (G,): an integral, without draws.

    It is the probability that the sum of independent exponentials, times (sum - bound * weight) of each group and of one
    more group at the lower bound, is not positive.
    """
    return _negative(np.append(sums - bound * weights, (bounds[0] - bound) * weights.max()))


def _negative(a: Array) -> float:
    """P(sum of a_i E_i <= 0) for independent standard exponentials E_i.

    The moment generating function is the product of 1 / (1 - a_i s); the probability is its integral over a line
    parallel to the imaginary axis, here through the saddlepoint, where nothing oscillates or cancels (Rice 1980).
    """
    a, repeats = np.unique(a[a != 0], return_counts=True)
    count = repeats.astype(np.float64)
    if not len(a) or a[-1] < 0:
        return 1.0
    if a[0] > 0:
        return 0.0
    a = a / np.abs(a).max()
    low, high = 1 / a[0], 1 / a[-1]  # the generating function lives between these
    s = _saddlepoint(a, count, low, high)
    if abs(s) < 1e-3 * min(-low, high):  # the pole at 0 is too near: pass it at a distance
        s = 0.05 * (low if a @ count >= 0 else high)
    scale = 1 / np.sqrt(np.sum(count * (a / (1 - a * s)) ** 2) + 1 / s**2)
    x = np.linspace(0, REACH, NODES)  # s + i scale sinh(x): the trapezoidal rule converges geometrically
    u = scale * np.sinh(x)
    across, along = 1 - a * s, -a * u[:, None]
    size, angle = np.log(across**2 + along**2) @ count / 2, np.arctan(along / across) @ count
    f = np.exp(-size) * (np.cos(angle) * s - np.sin(angle) * u) / (s**2 + u**2)
    integral = float(np.trapezoid(f * scale * np.cosh(x), x)) / np.pi
    return min(1.0, max(0.0, -integral if s < 0 else 1 - integral))  # to the right of the pole it is the other tail


def _saddlepoint(a: Array, count: Array, low: float, high: float) -> float:
    """Where the cumulant generating function -sum log(1 - a s) is least: its increasing slope passes 0."""
    for _ in range(5):
        s = np.linspace(low, high, 34)[1:-1]
        k = int(np.searchsorted((a / (1 - a * s[:, None])) @ count, 0.0))
        low, high = s[k - 1] if k > 0 else low, s[k] if k < len(s) else high
    return (low + high) / 2


def p_difference_above(a: tuple[Array, Array], b: tuple[Array, Array], bounds: Bounds, bound: Number) -> float:
    """P value of "the mean of a exceeds that of b by at most `bound`", each given as group sums and group weights (G,).

    By MELDED draws from a fixed seed, so that it is at least 1 / (MELDED + 1).
    """
    rng = np.random.default_rng(0)
    low, high = (_drawn_means(rng, *side, end) for side, end in ((a, bounds[0]), (b, bounds[1])))
    return float(np.sum(low - high <= bound) + 1) / (MELDED + 1)


def _drawn_means(rng: np.random.Generator, sums: Array, weights: Array, end: Number) -> Array:
    """Drawn means (MELDED,) with the extra unit at `end`; equal units share one gamma variable."""
    heaviest = weights.max()
    units = np.stack([np.append(sums, end * heaviest), np.append(weights, heaviest)], axis=1)
    kept, count = np.unique(units, axis=0, return_counts=True)
    drawn = rng.standard_gamma(count.astype(np.float64), (MELDED, len(kept)))
    return (drawn @ kept[:, 0]) / (drawn @ kept[:, 1])
