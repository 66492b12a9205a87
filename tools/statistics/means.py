"""Means, shares and paired differences over independent groups. The unit is the group, never the example or the token.

An example counts by its weight, and all examples of a group vary together: a mean is a ratio of sums over groups, and its
error is that of the groups' residuals (Taylor linearisation; Cochran 1977, Sampling Techniques, chapter 6).
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from tools.statistics import gaffke, skewed
from tools.statistics.estimate import Array, Bounds, Estimate, Groups, Labels, Number, Undefined, estimates, finite

TINY = skewed.TINY
FEW = 12


def mean(
    values: ArrayLike, groups: Labels, weights: ArrayLike | None = None, level: Number = 0.95,
    bounds: Bounds | None = None,
) -> Estimate:  # fmt: skip
    """Mean of `values` (one an example) with its interval; see `means`."""
    rows = np.asarray(values, dtype=np.float64)[None]
    return means(rows, groups, weights, level, bounds)[0]


def means(
    values: ArrayLike, groups: Labels, weights: ArrayLike | None = None, level: Number = 0.95,
    bounds: Bounds | None = None,
) -> list[Estimate]:  # fmt: skip
    """Means of the rows of `values` (k, n) over the same examples, in one call.

    Args:
        values: One value an example. Where a metric is a ratio of sums (errors over words), give the ratio per example
            here and what it is over (words) as `weights`.
        groups: One label an example, or a `Groups`: examples of one label are one independent unit.
        weights: (n,) or (k, n), at least 0; 1 each where left out.
        level: Coverage of the interval.
        bounds: What values can be at all, where that is known (a probability: (0, 1)). Fewer groups are accepted then,
            and the interval holds for any distribution within them (see `gaffke`). Without them it is Student's t joined
            with Hall's (see `skewed`), and infinite where all groups are equal.

    Raises:
        TooFewGroups: fewer than MINIMUM["mean"], or MINIMUM["bounded mean"] where bounds are given.
        Undefined: a value is not finite, or all weights are 0.
        ValueError: a value lies outside the bounds.
    """
    g = Groups.of(groups)
    g.require("mean" if bounds is None else "bounded mean")
    sums, weight = summed(values, g, weights)
    centre, units = linearised(sums, weight)
    if bounds is None:
        below, above = skewed.reach(units, level)
        low, high, method = centre - below, centre + above, "t and Hall's t"
    else:
        within(values, bounds)
        low, high = gaffke.ends(sums, weight, bounds, level)
        low, high, method = np.minimum(low, centre), np.maximum(high, centre), "Gaffke"
    return estimates(centre, low, high, g, level, method)


def within(values: ArrayLike, bounds: Bounds) -> None:
    """ValueError where a value lies outside its bounds."""
    x = np.asarray(values, dtype=np.float64)
    if x.size and (x.min() < bounds[0] or x.max() > bounds[1]):
        raise ValueError(f"values from {x.min():g} to {x.max():g} outside their bounds {bounds[0]:g} to {bounds[1]:g}")


def summed(values: ArrayLike, groups: Groups, weights: ArrayLike | None) -> tuple[Array, Array]:
    """Weighted sums (k, G) and sums of weights within groups for values (k, n); (1, G) where all rows have the same."""
    x = finite(values, groups)
    if weights is None:
        return groups.sums(x), groups.sizes[None]
    w = np.atleast_2d(finite(weights, groups, "weights"))
    if w.size and (w.min() < 0 or (w.sum(-1) <= 0).any()):
        raise Undefined("weights that are below 0, or all 0")
    return groups.sums(x * w), groups.sums(w)


def linearised(sums: Array, weight: Array) -> tuple[Array, Array]:
    """Sum / weight of each row, and each group's residual: units of mean 0 whose mean has the estimate's error."""
    total = weight.sum(-1, keepdims=True)
    centre = sums.sum(-1, keepdims=True) / total
    units = (sums - centre * weight) * (sums.shape[-1] / total)
    spread = np.abs(sums).max(-1, keepdims=True) * (sums.shape[-1] / total)
    return centre[..., 0], np.where(np.abs(units) > skewed.TINY * spread, units, 0.0)


def proportion(successes: ArrayLike, groups: Labels, level: Number = 0.95) -> Estimate:
    """Share of successes (0 or 1, one an example); see `proportions`."""
    return proportions(np.asarray(successes, dtype=np.float64)[None], groups, level)[0]


def proportions(successes: ArrayLike, groups: Labels, level: Number = 0.95) -> list[Estimate]:
    """Shares of successes in the rows of a (k, n) array of 0 and 1, with Clopper and Pearson's exact interval (1934).

    (Wilson's is .03 narrower at 64 and holds .84 where successes or failures are rare.) Where examples share groups, the
    formula gets the number of independent examples that would have the same error (Korn and Graubard 1998): between the
    number that holds if groups were all alike inside (which is taken where all examples agree) and n.

    Raises:
        TooFewGroups: fewer than MINIMUM["proportion"].
        ValueError: a value other than 0 and 1.
    """
    g = Groups.of(groups)
    g.require("proportion")
    x = finite(successes, g)
    if not binary(x):
        raise ValueError("successes are 0 or 1")
    p = x.mean(-1)
    n, method = effective(p * (1 - p), *summed(x, g, None), level)
    hits, tail = p * n, (1 - level) / 2
    low = np.where(p > 0, special.betaincinv(np.maximum(hits, TINY), n - hits + 1, tail), 0.0)
    high = np.where(p < 1, special.betaincinv(hits + 1, np.maximum(n - hits, TINY), 1 - tail), 1.0)
    method = "Clopper-Pearson" + method
    return estimates(p, low, high, g, level, method)


def effective(variance: Array, sums: Array, sizes: Array, level: Number) -> tuple[Array, str]:
    """How many independent examples have the error of these groups' mean, and a word for the method's name.

    `variance` (k,) is that of single examples; `sums` (k, G) and `sizes` (1, G). The error is not relied on where FEW groups
    make it up: groups then count as alike inside. What is found is lessened by how much wider Student's interval for so few
    groups is than for so many examples.
    """
    g, n = sums.shape[-1], float(sizes.sum())
    if n == g:
        return np.full(len(sums), n), ""
    squares = linearised(sums, sizes)[1] ** 2
    total = squares.sum(-1)
    known = total**2 >= FEW * (squares**2).sum(-1)  # 1 / (sum of squared shares) is how many groups make up the error
    alike = n**2 / float(np.sum(sizes**2))  # Kish 1965
    found = np.where(known & (total > 0), variance * g * (g - 1) / np.where(total > 0, total, 1.0), alike)
    wider = skewed.quantile(level, n - 1) / skewed.quantile(level, g - 1)
    return np.clip(found * wider**2, alike * wider**2, n), ", clustered"


def paired_difference(
    a: ArrayLike, b: ArrayLike, groups: Labels, weights: ArrayLike | None = None, level: Number = 0.95,
    bounds: Bounds | None = None,
) -> Estimate:  # fmt: skip
    """Mean of `a - b` on the same examples; see `paired_differences`."""
    first, second = (np.asarray(x, dtype=np.float64)[None] for x in (a, b))
    return paired_differences(first, second, groups, weights, level, bounds)[0]


def paired_differences(
    a: ArrayLike, b: ArrayLike, groups: Labels, weights: ArrayLike | None = None, level: Number = 0.95,
    bounds: Bounds | None = None,
) -> list[Estimate]:  # fmt: skip
    """Means of the rows of `a - b`, (k, n) each, or one row for all; the examples are the same on both sides.

    Where both sides are 0 or 1 throughout (and not weighted), the interval is Bonett and Price's (2012, "Adjusted Wald
    confidence interval for a difference of binomial proportions based on paired data") with Student's quantile, clustered as
    `proportions`; otherwise that of `means`. `bounds` are those of the difference.

    Raises:
        TooFewGroups: fewer than MINIMUM["paired_difference"], or MINIMUM["paired_difference of 0/1"] for 0/1 data.
    """
    g = Groups.of(groups)
    x, y = finite(a, g, "a"), finite(b, g, "b")
    d = np.atleast_2d(x - y)
    if weights is not None or not binary(x) or not binary(y):
        if bounds is None:
            g.require("paired_difference")
        return means(d, g, weights, level, bounds)
    g.require("paired_difference of 0/1")
    value = d.mean(-1)
    n, method = effective((d**2).mean(-1) - value**2, *summed(d, g, None), level)
    q = skewed.quantile(level, g.count - 1)
    up, down = ((s * (d == s).mean(-1) * n + s) / (n + 2) * s for s in (1, -1))
    middle, half = up - down, q * np.sqrt((up + down - (up - down) ** 2) / (n + 2))
    low, high = np.clip(middle - half, -1, value), np.clip(middle + half, value, 1)
    method = "Bonett-Price" + method
    return estimates(value, low, high, g, level, method)


def binary(values: Array) -> bool:
    """Whether all values are 0 or 1."""
    return bool(((values == 0) | (values == 1)).all())
