# ruff: noqa: PT028 (these are tests of hypotheses, not of this program)
"""One-sided tests of findings: is a mean over independent groups above a bound, below it, or within it?

Each gives the p value of its opposite, so that a small one says that the finding holds. Bounds are strict, set in advance
and in the data's unit.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from tools.statistics import gaffke, skewed
from tools.statistics.estimate import Array, Groups, Test, finite
from tools.statistics.means import Bounds, linearised, summed, within


def test_exceeds(
    differences: ArrayLike, groups: ArrayLike | Groups, bound: float = 0.0, weights: ArrayLike | None = None,
    bounds: Bounds | None = None,
) -> Test:  # fmt: skip
    """Evidence that the mean is above `bound`: p value of "it is at most `bound`".

    `differences` has one value an example (paired: with minus without). Where they are -1, 0 or 1 throughout (or where
    `bounds` say what they can be) the test is Gaffke's, exact for any distribution within them; otherwise Student's t
    joined with Hall's (see `skewed`).

    Raises:
        TooFewGroups: fewer than MINIMUM["test"], or MINIMUM["test of bounded"] for bounded values.
        Undefined: a value is not finite.
    """
    g = Groups.of(groups)
    x = finite(differences, g, "differences")
    if bounds is None and bool(np.isin(x, (-1.0, 0.0, 1.0)).all()):
        bounds = (-1.0, 1.0)
    g.require("test" if bounds is None else "test of bounded")
    sums, weight = (v[0] for v in summed(x[None], g, weights))
    value = float(sums.sum() / weight.sum())
    if bounds is not None:
        within(x, bounds)
        return Test(gaffke.p_above(sums, weight, bounds, bound), value - bound, g.n, g.count, "Gaffke")
    p = skewed.p_above(np.asarray(value - bound), linearised(sums[None], weight[None])[1][0])
    return Test(float(p), value - bound, g.n, g.count, "t and Hall's t")


def test_less(
    differences: ArrayLike, groups: ArrayLike | Groups, bound: float = 0.0, weights: ArrayLike | None = None,
    bounds: Bounds | None = None,
) -> Test:  # fmt: skip
    """Evidence that the mean is below `bound`: p value of "it is at least `bound`". See `test_exceeds`."""
    turned = None if bounds is None else (-bounds[1], -bounds[0])
    found = test_exceeds(-np.asarray(differences, dtype=np.float64), groups, -bound, weights, turned)
    return Test(found.p, found.statistic, found.n, found.groups, found.method)


def test_equivalent(
    differences: ArrayLike, groups: ArrayLike | Groups, bound: float, weights: ArrayLike | None = None,
    bounds: Bounds | None = None,
) -> Test:  # fmt: skip
    """Evidence that the mean lies within -bound and bound: the larger p value of two one-sided tests (Schuirmann 1987)."""
    if bound <= 0:
        raise ValueError("equivalence needs a bound above 0")
    sides = (
        test_less(differences, groups, bound, weights, bounds),
        test_exceeds(differences, groups, -bound, weights, bounds),
    )
    return max(sides, key=lambda t: t.p)


def test_difference_between(
    a: ArrayLike, groups_a: ArrayLike | Groups, b: ArrayLike, groups_b: ArrayLike | Groups, bound: float = 0.0
) -> Test:
    """Evidence that the mean of `a` exceeds that of `b`, on other examples, by more than `bound`.

    Welch's t on the groups' residuals joined with Hall's transformation of it; exact bounds are not used.

    Raises:
        TooFewGroups: fewer than MINIMUM["test"] on either side.
    """
    parts = [(Groups.of(g), np.asarray(v, dtype=np.float64)) for v, g in ((a, groups_a), (b, groups_b))]
    values, units, n, count = [], [], 0, []
    for g, v in parts:
        g.require("test")
        sums, weight = summed(v[None], g, None)
        centre, u = linearised(sums, weight)
        values.append(float(centre[0]))
        units.append(u[0])
        n += g.n
        count.append(g.count)
    beyond = values[0] - values[1] - bound
    return Test(_welch(beyond, units[0], units[1]), beyond, n, sum(count), "Welch's t and Hall's")


def _welch(beyond: float, a: Array, b: Array) -> float:
    (error_a, skew_a), (error_b, skew_b) = skewed.moments(a), skewed.moments(b)
    va, vb = float(error_a) ** 2, float(error_b) ** 2
    if va + vb == 0:
        return 1.0
    degrees = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    t = beyond / np.sqrt(va + vb)
    # third moment of the difference's estimate, over its standard error cubed
    third = (float(skew_a) * va**1.5 / np.sqrt(len(a)) - float(skew_b) * vb**1.5 / np.sqrt(len(b))) / (va + vb) ** 1.5
    hall = skewed.forth(np.asarray(t), np.asarray(third), 1)
    return float(max(stats.t.sf(t, degrees), stats.t.sf(hall, degrees)))
