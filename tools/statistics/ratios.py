"""Ratios of means, correlation, and explained variance over independent groups: what is divided is not taken as known."""

import numpy as np
from numpy.typing import ArrayLike

from tools.statistics import skewed
from tools.statistics.estimate import Array, Estimate, Groups, Undefined, finite


def ratio(numerator: ArrayLike, denominator: ArrayLike, groups: ArrayLike | Groups, level: float = 0.95) -> Estimate:
    """Sum of `numerator` over sum of `denominator`, one of each an example: see `ratios`."""
    top = np.asarray(numerator, dtype=np.float64)[None]
    return ratios(top, denominator, groups, level)[0]


def ratios(
    numerators: ArrayLike, denominator: ArrayLike, groups: ArrayLike | Groups, level: float = 0.95
) -> list[Estimate]:
    """Ratios of sums for the rows of `numerators` (k, n) over `denominator` (n,): the share recovered, for instance.

    The interval holds every ratio r for which `numerator - r * denominator` may have mean 0 (Fieller 1954), by the t test
    joined with Hall's for skewed data (see `skewed`).

    Raises:
        TooFewGroups: fewer than MINIMUM["ratio"].
        Undefined: the denominator's own interval contains 0, so that no ratio is excluded.
    """
    g = Groups.of(groups)
    g.require("ratio")
    top = g.sums(np.atleast_2d(finite(numerators, g, "numerators")))
    bottom = g.sums(finite(denominator, g, "denominator"))
    centre = bottom.mean()
    below, above = (float(x) for x in skewed.reach(bottom - centre, level))
    if np.ptp(bottom) > skewed.TINY * np.abs(bottom).max() and centre - below <= 0 <= centre + above:
        raise Undefined(f"a ratio to {centre:.3g} ({centre - below:.3g} to {centre + above:.3g}), which may be 0")
    if centre == 0:
        raise Undefined("a ratio to 0")
    value = top.sum(-1) / bottom.sum()
    low, high = (_limit(top, bottom, value, side, level) for side in (-1, 1))
    return [Estimate(float(c), float(a), float(b), g.n, g.count, level, "Fieller with t and Hall's t")
            for c, a, b in zip(value, low, high)]  # fmt: skip


def _limit(top: Array, bottom: Array, value: Array, side: int, level: float) -> Array:
    """The end of each row's interval on one side: where the p value falls to (1 - level) / 2, by bisection."""
    units = top - value[:, None] * bottom
    error = skewed.moments(units / abs(bottom.mean()))[0]
    tail = (1 - level) / 2
    sign = side * np.sign(bottom.mean())

    def kept(r: Array) -> np.ndarray:
        d = sign * (r[:, None] * bottom - top)  # its mean is 0 if r is the ratio; positive means r is too far out
        centre = d.mean(-1)
        return skewed.p_above(centre, d - centre[:, None]) > tail

    inner, outer = value.copy(), value + side * 4 * error
    far = np.ones(len(value), dtype=bool)
    for _ in range(60):
        far = kept(outer)
        if not far.any():
            break
        inner = np.where(far, outer, inner)
        outer = np.where(far, value + 2 * (outer - value), outer)
    else:
        outer = np.where(far, side * np.inf, outer)
    for _ in range(40):
        middle = (inner + outer) / 2
        inside = kept(middle)
        inner, outer = np.where(inside, middle, inner), np.where(inside, outer, middle)
    return np.where(error > 0, outer, side * np.inf)


def correlation(x: ArrayLike, y: ArrayLike, groups: ArrayLike | Groups, level: float = 0.95) -> Estimate:
    """Pearson's correlation of two values an example, the interval by Fisher's z with the error of the groups' influence.

    Raises:
        TooFewGroups: fewer than MINIMUM["correlation"].
        Undefined: x or y is constant.
    """
    g = Groups.of(groups)
    g.require("correlation")
    a, b = (_standard(finite(v, g, n), n) for v, n in ((x, "x"), (y, "y")))
    r = float(np.clip(np.mean(a * b), -1, 1))
    if 1 - abs(r) < skewed.TINY:
        return Estimate(r, r, r, g.n, g.count, level, "Fisher's z")
    influence = g.sums(a * b - r * (a**2 + b**2) / 2) / (1 - r**2) * g.count / g.n
    below, above = skewed.reach(influence, level)
    z = np.arctanh(r)
    low, high = np.tanh([z - float(below), z + float(above)])
    return Estimate(r, float(low), float(high), g.n, g.count, level, "Fisher's z")


def _standard(v: Array, name: str) -> Array:
    d = v - v.mean()
    if np.abs(d).max() <= skewed.TINY * np.abs(v).max():
        raise Undefined(f"a correlation with a constant {name}")
    return d / np.sqrt(np.mean(d**2))


def r_squared(truth: ArrayLike, predicted: ArrayLike, groups: ArrayLike | Groups, level: float = 0.95) -> Estimate:
    """Share of the variance of `truth` that fixed predictions explain, 1 - SSE / SST; below 0 where the mean does better.

    The interval is taken on the scale of log(SSE / SST), with the error of the groups' influence.

    Raises:
        TooFewGroups: fewer than MINIMUM["r_squared"].
        Undefined: the truth is constant.
    """
    g = Groups.of(groups)
    g.require("r_squared")
    y, guess = finite(truth, g, "truth"), finite(predicted, g, "predicted")
    spread = _standard(y, "truth") ** 2
    missed = (y - guess) ** 2 / np.var(y)
    left = float(missed.mean())
    if left <= skewed.TINY:
        return Estimate(1.0, 1.0, 1.0, g.n, g.count, level, "log of the unexplained share")
    influence = g.sums(missed / left - spread) * g.count / g.n
    below, above = (float(v) for v in skewed.reach(influence, level))
    low, high = 1 - left * np.exp(above), 1 - left * np.exp(-below)
    return Estimate(1 - left, float(low), float(high), g.n, g.count, level, "log of the unexplained share")
