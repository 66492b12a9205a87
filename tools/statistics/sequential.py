"""Intervals that hold at every look: whoever measures on until one of them decides errs no more often than it says.

A gambler bets that the mean is above m, the share c of what can be lost on each group: the capital, averaged over several
shares, is multiplied by 1 + c ((x - low) / (m - low) - 1), so that if the mean is at most m it reaches 1 / a with
probability a at most, over all times together (Ville 1939). The interval is every m at which neither this gambler nor the
opposite one has 2 / (1 - level); it holds at all numbers of groups at once, for any distribution within the bounds
(Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B 86; there too capital is
averaged over a grid of bets). The capital falls as m rises, so that its inverse is found by bisection, and it does not depend
on the order of the groups.
"""

import numpy as np
from numpy.typing import ArrayLike

from tools.statistics.estimate import Array, Bounds, Estimate, Groups, Labels, Number, estimates, finite
from tools.statistics.means import within

STAKES = np.array(
    [0.98, 0.6, 0.3, 0.1, 0.03]
)  # shares of what can be lost; large ones decide clear cases in few groups
WEIGHTS = np.array([0.35, 0.25, 0.2, 0.15, 0.05])
STEPS = 34  # of the bisection: the ends are exact to 1e-10 of the range


def anytime(values: ArrayLike, groups: Labels, bounds: Bounds, level: Number = 0.95) -> list[Estimate]:
    """Means of the rows of `values` (k, n), with intervals that hold whenever one stops.

    A group counts once, as the mean of its examples, so that its value lies within the bounds too.

    Raises:
        Undefined: a value is not finite.
        ValueError: a value lies outside the bounds.
    """
    g = Groups.of(groups)
    x = np.atleast_2d(finite(values, g))
    within(x, bounds)
    units = g.sums(x) / g.sizes
    low, high = bounds
    size = float(high - low)
    below, above = _least((units - low) / size, level) * size + low, high - _least((high - units) / size, level) * size
    centre = units.mean(-1)
    return estimates(centre, np.minimum(below, centre), np.maximum(above, centre), g, level, "betting, at any look")


def _least(units: Array, level: Number) -> Array:
    """The largest m in each row of (k, G) values in [0, 1] for which the bets that the mean is above m have won enough."""
    kept, codes = np.unique(units, return_inverse=True)
    if len(kept) < units.shape[1]:  # few values, as of 0/1 data: how often each came
        counts = np.zeros((len(units), len(kept)))
        np.add.at(counts, (np.arange(len(units))[:, None], codes.reshape(units.shape)), 1.0)
    else:
        kept, counts = units, np.ones_like(units)
    enough = np.log(2 / (1 - level))
    low, high = np.zeros(len(units)), np.ones(len(units))
    for _ in range(STEPS):
        m = (low + high) / 2
        won = _log_capital(kept, counts, m) >= enough
        low, high = np.where(won, m, low), np.where(won, high, m)
    return low


def _log_capital(kept: Array, counts: Array, m: Array) -> Array:
    """Logarithm of the capital (k,) after values `kept`, (V,) or (k, V), came `counts` (k, V) times, betting on more than m."""
    gains = kept / np.maximum(m, 1e-300)[:, None] - 1
    by_stake = np.einsum("kv,ckv->ck", counts, np.log1p(STAKES[:, None, None] * gains))
    return np.logaddexp.reduce(by_stake + np.log(WEIGHTS)[:, None], axis=0)
