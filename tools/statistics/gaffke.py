"""Means of values with known bounds, for any distribution within them and any number of groups.

Gaffke (2005): draw weights uniformly from the simplex for the observed units and for one more unit that lies at the bound;
the share of draws whose weighted mean exceeds m is the p value of "the mean is at least m". For 0/1 data it is Clopper and
Pearson's, and no data were found for which it fails (Learned-Miller and Thomas 2020, "A new confidence interval for the
mean of a bounded random variable", who conjecture that there are none). It does not collapse on constant data.
"""

from functools import lru_cache

import numpy as np

from tools.statistics.estimate import Array

DRAWS = 4000
NODES = 512


def ends(sums: Array, weights: Array, bounds: tuple[float, float], level: float) -> tuple[Array, Array]:
    """Interval of sum / weight for rows of group sums and group weights (k, G), values within `bounds`."""
    drawn = _draws(sums.shape[-1])
    heaviest = weights.max(-1)
    extra, own = drawn[:, :1], drawn[:, 1:]
    total = own @ sums.T
    weight = own @ weights.T + extra * heaviest
    tail = (1 - level) / 2
    low = np.quantile((total + extra * heaviest * bounds[0]) / weight, tail, axis=0)
    high = np.quantile((total + extra * heaviest * bounds[1]) / weight, 1 - tail, axis=0)
    return low, high


@lru_cache(maxsize=8)
def _draws(groups: int) -> Array:
    """Independent exponentials, (draws, 1 + groups): divided by their sum, they are uniform on the simplex."""
    return np.random.default_rng(groups).standard_exponential((DRAWS, groups + 1))


def p_above(sums: Array, weights: Array, bounds: tuple[float, float], bound: float) -> float:
    """P value of "sum / weight is at most `bound`" for group sums and weights (G,): exact integral, no draws.

    It is the probability that a sum of independent exponentials times (sum - bound * weight) of each group, and of a group
    at the lower bound, is negative: a contour integral of the moment generating function through its saddlepoint.
    """
    terms = np.append(sums - bound * weights, (bounds[0] - bound) * weights.max())
    return _below_zero(terms)


def _below_zero(a: Array) -> float:
    """P(sum of a_i E_i <= 0) for independent standard exponentials E_i."""
    a = a[a != 0]
    if not (a > 0).any():
        return 1.0
    if not (a < 0).any():
        return 0.0
    a = a / np.abs(a).max()
    low, high = 1 / a.min(), 1 / a.max()  # the moment generating function prod 1 / (1 - a s) lives between these
    mean = a.sum()
    s = _saddlepoint(a, low, high)
    if abs(s) < 1e-3 * min(-low, high):  # the pole at 0 is too near: pass it at a distance, on the side of the tail
        s = 0.05 * (low if mean >= 0 else high)
    scale = 1 / np.sqrt(np.sum((a / (1 - a * s)) ** 2) + 1 / s**2)
    # s + i u with u = scale * sinh(x): the trapezoidal rule converges geometrically
    x = np.linspace(0, 9, NODES)
    u = scale * np.sinh(x)
    z = s + 1j * u
    f = np.exp(-np.sum(np.log(1 - a[None] * z[:, None]), axis=1)) / z
    integral = float(np.trapezoid(f.real * scale * np.cosh(x), x)) / np.pi
    p = -integral if s < 0 else 1 - integral  # left tail for s < 0; the pole at 0 is crossed otherwise
    return min(1.0, max(0.0, p))


def _saddlepoint(a: Array, low: float, high: float) -> float:
    """Where the cumulant generating function -sum log(1 - a s) is least, by bisection of its increasing slope."""
    for _ in range(80):
        s = (low + high) / 2
        if np.sum(a / (1 - a * s)) < 0:
            low = s
        else:
            high = s
    return (low + high) / 2
