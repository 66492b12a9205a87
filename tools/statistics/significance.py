# ruff: noqa: PT028 (these are tests of hypotheses, not of this program)
"""One-sided tests of findings: is a mean over independent groups above a bound, below it, or within it?

Each gives the p value of its opposite, so that a small one says that the finding holds. Bounds are set in advance, in the
data's unit. Of values with known bounds, tests are exact (`gaffke`), whatever their distribution. Of others they are t tests
for skewed data (`skewed`), and p is never below (1 - RARE) ** groups: that is how often groups of a kind that makes up RARE of
all are missing from the sample, and nothing can be said about what was not seen.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from tools.statistics import gaffke, skewed
from tools.statistics.estimate import RARE, Array, Bounds, Groups, Labels, Number, Test, finite
from tools.statistics.means import linearised, summed, within

SIGNS: Bounds = (-1.0, 1.0)


def test_exceeds(
    differences: ArrayLike, groups: Labels, bound: Number = 0.0, weights: ArrayLike | None = None,
    bounds: Bounds | None = None,
) -> Test:  # fmt: skip
    """Evidence that the mean is above `bound`: p value of "it is at most `bound`".

    `differences` has one value an example (paired: with minus without), `weights` as in `means`. Where values are -1, 0 or 1
    throughout, they are taken as differences of 0/1 data with those bounds.

    Raises:
        TooFewGroups: fewer than MINIMUM["test"], or MINIMUM["test of bounded"] for bounded values.
        Undefined: a value is not finite.
        ValueError: a value lies outside the bounds.
    """
    g = Groups.of(groups)
    x = finite(differences, g, "differences")
    bounds = _bounds(x, bounds)
    g.require("test" if bounds is None else "test of bounded")
    sums, weight = (v[0] for v in summed(x[None], g, weights))
    beyond = float(sums.sum() / weight.sum()) - bound
    if bounds is not None:
        return Test(gaffke.p_above(sums, weight, bounds, bound), beyond, g.n, g.count, "Gaffke")
    p = skewed.p_above(np.asarray([beyond]), linearised(sums[None], weight[None])[1])
    return Test(max(float(p[0]), unseen(g.count)), beyond, g.n, g.count, "t and Hall's t")


def _bounds(values: Array, bounds: Bounds | None) -> Bounds | None:
    if bounds is not None:
        within(values, bounds)
    elif bool(np.isin(values, (-1.0, 0.0, 1.0)).all()):
        return SIGNS
    return bounds


def unseen(groups: int) -> float:
    """Probability that groups of a kind that makes up RARE of all are missing from so many: no p value falls below it."""
    return (1 - RARE) ** groups


def test_less(
    differences: ArrayLike, groups: Labels, bound: Number = 0.0, weights: ArrayLike | None = None,
    bounds: Bounds | None = None,
) -> Test:  # fmt: skip
    """Evidence that the mean is below `bound`: p value of "it is at least `bound`". See `test_exceeds`."""
    turned = None if bounds is None else (-bounds[1], -bounds[0])
    return test_exceeds(-np.asarray(differences, dtype=np.float64), groups, -bound, weights, turned)


def test_equivalent(
    differences: ArrayLike, groups: Labels, bound: Number, weights: ArrayLike | None = None,
    bounds: Bounds | None = None,
) -> Test:  # fmt: skip
    """Evidence that the mean lies within -bound and bound: the larger p value of two one-sided tests (Schuirmann 1987).

    ValueError where the bound is not above 0.
    """
    if bound <= 0:
        raise ValueError("equivalence needs a bound above 0")
    sides = (
        test_less(differences, groups, bound, weights, bounds),
        test_exceeds(differences, groups, -bound, weights, bounds),
    )
    return max(sides, key=lambda t: t.p)


def test_difference_between(
    a: ArrayLike, groups_a: Labels, b: ArrayLike, groups_b: Labels, bound: Number = 0.0,
    bounds: Bounds | None = None,
) -> Test:  # fmt: skip
    """Evidence that the mean of `a` exceeds that of `b`, on other examples, by more than `bound`.

    `bounds` are those of single values; -1, 0 and 1 are known by themselves. Without them it is Welch's t joined with Hall's
    transformation of it.

    Raises:
        TooFewGroups: fewer than MINIMUM["test"] on either side, or MINIMUM["test of bounded"] for bounded values.
    """
    ga, gb = Groups.of(groups_a), Groups.of(groups_b)
    x, y = finite(a, ga, "a"), finite(b, gb, "b")
    bounds = _bounds(np.concatenate([x, y]), bounds)
    for g in (ga, gb):
        g.require("test" if bounds is None else "test of bounded")
    left, right = summed(x[None], ga, None), summed(y[None], gb, None)
    (value_a, units_a), (value_b, units_b) = linearised(*left), linearised(*right)
    beyond = float(value_a[0] - value_b[0]) - bound
    if bounds is not None:
        p = gaffke.p_difference_above((left[0][0], left[1][0]), (right[0][0], right[1][0]), bounds, bound)
        return Test(p, beyond, ga.n + gb.n, ga.count + gb.count, "Gaffke, melded")
    p = max(_welch(beyond, units_a, units_b), unseen(min(ga.count, gb.count)))
    return Test(p, beyond, ga.n + gb.n, ga.count + gb.count, "Welch's t and Hall's")


def _welch(beyond: float, a: Array, b: Array) -> float:
    """P value of "the difference of means is at most its bound", for centred units (1, G) of each side."""
    (error_a, skew_a), (error_b, skew_b) = (skewed.moments(u) for u in (a, b))
    ga, gb = a.shape[-1], b.shape[-1]
    error = np.hypot(error_a, error_b)
    if error[0] == 0:
        return 1.0
    degrees = error**4 / (error_a**4 / (ga - 1) + error_b**4 / (gb - 1))
    # the skewness of the difference's own distribution: of one unit, as Hall's cubic counts them
    skew = (skew_a * error_a**3 / np.sqrt(ga) - skew_b * error_b**3 / np.sqrt(gb)) / error**3
    return float(special.stdtr(degrees, -skewed.lesser(np.asarray([beyond]), error, skew, 1))[0])
