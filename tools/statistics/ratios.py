"""Ratios of means, correlation, and explained variance over independent groups: what is divided is not taken as known."""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

from tools.statistics import skewed
from tools.statistics.estimate import Array, Estimate, Groups, Labels, Number, Undefined, estimates, finite

TAILS = 5.0
"""The kurtosis (normal: 3) beyond which no interval is given for squares: with lognormal values or 5% outliers those that
could be given hold .65 to .90 of the time, at 256 groups too."""


def ratio(numerator: ArrayLike, denominator: ArrayLike, groups: Labels, level: Number = 0.95) -> Estimate:
    """Sum of `numerator` over sum of `denominator`, one of each an example: see `ratios`."""
    return ratios(np.asarray(numerator, dtype=np.float64)[None], denominator, groups, level)[0]


def ratios(numerators: ArrayLike, denominators: ArrayLike, groups: Labels, level: Number = 0.95) -> list[Estimate]:
    """Ratios of sums for the rows of `numerators` (k, n) over `denominators`, (k, n) or (n,): the share recovered, say.

    The interval holds every ratio r for which `numerator - r * denominator` may have mean 0 (Fieller 1954), by the t test
    joined with Hall's for skewed data (see `skewed`); its ends are found by bisection.

    Raises:
        TooFewGroups: fewer than MINIMUM["ratio"].
        Undefined: the interval of each denominator contains 0, so that hardly a ratio is excluded. Where that is so of some
            rows only, theirs are unknown.
    """
    g = Groups.of(groups)
    g.require("ratio")
    top = g.sums(np.atleast_2d(finite(numerators, g, "numerators")))
    bottom = np.broadcast_to(g.sums(finite(denominators, g, "denominators")), top.shape)
    centre, below, above = _denominators(bottom, level)
    unknown = (below <= 0) & (above >= 0)
    if unknown.all():
        raise Undefined(f"a ratio to {centre[0]:.3g} ({below[0]:.3g} to {above[0]:.3g}), which may be 0")
    bottom = np.where(unknown[:, None], 1.0, bottom)
    value = top.sum(-1) / bottom.sum(-1)
    low, high = (np.where(unknown, side * np.inf, _limit(top, bottom, value, side, level)) for side in (-1, 1))
    value = np.where(unknown & (centre != 0), top.mean(-1) / np.where(centre != 0, centre, 1.0), value)
    return estimates(value, low, high, g, level, "Fieller with t and Hall's t")


def _denominators(bottom: Array, level: Number) -> tuple[Array, Array, Array]:
    """Each row's mean with its interval; a constant is known for certain here."""
    centre = bottom.mean(-1)
    units = bottom - centre[:, None]
    constant = np.abs(units).max(-1) <= skewed.TINY * np.abs(bottom).max(-1)
    below, above = (np.where(constant, 0.0, x) for x in skewed.reach(units, level))
    return centre, centre - below, centre + above


def _limit(top: Array, bottom: Array, value: Array, side: int, level: Number) -> Array:
    """The end of each row's interval on one side: where the p value falls to (1 - level) / 2; infinite where it does not."""
    g = top.shape[-1]
    e, mean = top - value[:, None] * bottom, bottom.mean(-1)
    e = np.where(np.abs(e).max(-1, keepdims=True) > skewed.TINY * np.abs(top).max(-1, keepdims=True), e, 0.0)
    b = bottom - mean[:, None]
    ee, eb, bb = (np.mean(v, axis=-1) for v in (e * e, e * b, b * b))
    eee, eeb, ebb, bbb = (np.mean(v, axis=-1) for v in (e * e * e, e * e * b, e * b * b, b * b * b))
    critical, sign = skewed.quantile(level, g - 1), side * np.sign(mean)

    def kept(h: Array) -> Bool[np.ndarray, " k"]:
        """Whether the interval holds `value + h`, by the moments of h * bottom - e, whose mean is 0 if that is the ratio."""
        second = h * h * bb - 2 * h * eb + ee
        third = h**3 * bbb - 3 * h * h * ebb + 3 * h * eeb - eee
        error, skew = skewed.from_moments(second, sign * third, g)
        return skewed.lesser(sign * h * mean, error, skew, g) < critical

    inner, outer = np.zeros_like(value), side * 4 * np.sqrt(ee / max(g - 1, 1)) / np.abs(mean)
    far = kept(outer)
    for _ in range(40):
        if not far.any():
            break
        inner, outer = np.where(far, outer, inner), np.where(far, 2 * outer, outer)
        far = kept(outer)
    for _ in range(40):
        middle = (inner + outer) / 2
        inside = kept(middle)
        inner, outer = np.where(inside, middle, inner), np.where(inside, outer, middle)
    return np.where(far | (ee == 0), side * np.inf, value + outer)


def correlation(x: ArrayLike, y: ArrayLike, groups: Labels, level: Number = 0.95) -> Estimate:
    """Pearson's correlation of two values an example; see `correlations`."""
    return correlations(np.asarray(x, dtype=np.float64)[None], y, groups, level)[0]


def correlations(x: ArrayLike, y: ArrayLike, groups: Labels, level: Number = 0.95) -> list[Estimate]:
    """Pearson's correlations of the rows of `x` (k, n) with `y`, (k, n) or (n,).

    The interval is taken on the scale of Fisher's z, with the error and the skewness of the groups' influence on it; it is
    -1 to 1 where x or y has heavy tails (see TAILS), or all points lie on a line.

    Raises:
        TooFewGroups: fewer than MINIMUM["correlation"].
        Undefined: a row of x or y is constant.
    """
    g = Groups.of(groups)
    g.require("correlation")
    a, b = _standard(np.atleast_2d(finite(x, g, "x")), "x"), _standard(np.atleast_2d(finite(y, g, "y")), "y")
    product = a * b
    r = np.clip(product.mean(-1), -1, 1)
    unknown = (1 - np.abs(r) < skewed.TINY) | (np.maximum(_kurtosis(a), _kurtosis(b)) > TAILS)
    curve = np.where(unknown, 1.0, 1 - r**2)[:, None]
    influence = g.sums((product - r[:, None] * (a**2 + b**2) / 2) / curve) * g.count / g.n
    below, above = skewed.reach(np.where(unknown[:, None], 0.0, influence), level)
    z = np.arctanh(np.where(unknown, 0.0, r))
    found = estimates(r, z - below, z + above, g, level, "Fisher's z with Hall's t")
    return [dataclasses.replace(e, low=math.tanh(e.low), high=math.tanh(e.high)) for e in found]


def _standard(v: Array, name: str) -> Array:
    d = v - v.mean(-1, keepdims=True)
    if (np.abs(d).max(-1) <= skewed.TINY * np.abs(v).max(-1)).any():
        raise Undefined(f"{name} is constant: nothing to explain or to correlate with")
    return d / np.sqrt(np.mean(d**2, axis=-1, keepdims=True))


def r_squared(truth: ArrayLike, predicted: ArrayLike, groups: Labels, level: Number = 0.95) -> Estimate:
    """Share of the variance of `truth` that fixed predictions explain; see `r_squareds`."""
    return r_squareds(truth, np.asarray(predicted, dtype=np.float64)[None], groups, level)[0]


def r_squareds(truth: ArrayLike, predicted: ArrayLike, groups: Labels, level: Number = 0.95) -> list[Estimate]:
    """1 - SSE / SST for the rows of `predicted` (k, n) of `truth`, (k, n) or (n,); below 0 where the mean does better.

    The interval is taken on the scale of log(SSE / SST), with the error and the skewness of the groups' influence on it; it
    is unknown where truth or errors have heavy tails (see TAILS), or there are no errors.

    Raises:
        TooFewGroups: fewer than MINIMUM["r_squared"].
        Undefined: the truth is constant.
    """
    g = Groups.of(groups)
    g.require("r_squared")
    y, guess = np.atleast_2d(finite(truth, g, "truth")), np.atleast_2d(finite(predicted, g, "predicted"))
    standard, error = _standard(y, "truth"), (y - guess) / np.std(y, axis=-1, keepdims=True)
    left = np.mean(error**2, axis=-1)
    perfect = left <= skewed.TINY
    some = np.where(perfect, 1.0, left)
    tails = np.maximum(_kurtosis(standard), _kurtosis(error / np.sqrt(some)[:, None]))
    influence = g.sums(error**2 / some[:, None] - standard**2) * g.count / g.n
    below, above = skewed.reach(np.where((perfect | (tails > TAILS))[:, None], 0.0, influence), level)
    low, high = 1 - some * np.exp(above), 1 - some * np.exp(-below)
    return estimates(
        1 - left, low, np.where(perfect, 1.0, high), g, level, "log of the unexplained share with Hall's t"
    )


def _kurtosis(standard: Array) -> Array:
    """Fourth moment of rows of mean square 1."""
    return np.mean(standard**4, axis=-1)
