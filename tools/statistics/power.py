"""How likely a test is to show what a planner expects, said before it is run."""

import numpy as np

from tools.statistics import gaffke
from tools.statistics.estimate import MINIMUM, Array, Bounds, Number
from tools.statistics.significance import SIGNS, unseen

SIMULATIONS = 400


def power(
    effect: Number, spread: Number | Array, groups: int, bound: Number = 0.0, alpha: Number = 0.05,
    bounds: Bounds | None = None,
) -> float:  # fmt: skip
    """Chance that `test_exceeds` gives p <= alpha with `groups` groups, if the mean is `effect`.

    Args:
        effect: The expected mean, in the data's unit.
        spread: The standard deviation between groups, or a pilot's values, one a group.
        groups: How many independent groups will be measured.
        bound: The smallest effect that counts.
        alpha: The error rate that this test may spend (of k hypotheses in round r, the least of them: alpha 2^-r / k).
        bounds: What the values can be, as given to the test; (-1, 1) for differences of 0/1 data.

    Without bounds it is the power of the one-sided t test (noncentral t), and 0 where the test refuses or its p value cannot
    fall to alpha. With bounds the exact test is simulated: on the pilot, moved to the effect; without one on differences of
    0/1 data for (-1, 1), and on Beta values otherwise. The simulation's own standard error is at most .025.
    """
    from scipy import stats

    if groups < MINIMUM["test" if bounds is None else "test of bounded"]:
        return 0.0
    sd = float(np.std(spread, ddof=1)) if isinstance(spread, np.ndarray) else spread
    if not np.isfinite([effect, sd, bound]).all() or sd < 0:
        raise ValueError("effect, spread and bound are finite, the spread at least 0")
    if bounds is not None:
        return _simulated(effect, spread, groups, bound, alpha, bounds)
    if sd == 0 or unseen(groups) > alpha:
        return 0.0
    critical = stats.t.isf(alpha, groups - 1)
    return float(stats.nct.sf(critical, groups - 1, (effect - bound) / sd * np.sqrt(groups)))


def _simulated(
    effect: Number, spread: Number | Array, groups: int, bound: Number, alpha: Number, bounds: Bounds
) -> float:
    rng = np.random.default_rng(0)
    shape = (SIMULATIONS, groups)
    low, high = bounds
    if not low <= effect <= high:
        raise ValueError(f"an effect of {effect:g} outside its bounds {low:g} to {high:g}")
    if isinstance(spread, np.ndarray):
        values = np.clip(rng.choice(spread, shape) - spread.mean() + effect, low, high)
    elif bounds == SIGNS:
        changed = np.clip(spread**2 + effect**2, abs(effect), 1.0)
        values = rng.choice([1.0, -1.0, 0.0], shape, p=[(changed + effect) / 2, (changed - effect) / 2, 1 - changed])
    else:
        share = (effect - low) / (high - low)
        size = share * (1 - share) * ((high - low) / max(spread, 1e-9)) ** 2 - 1
        size = max(size, 1e-6)  # a spread that is too large for the bounds: all values at their ends
        values = low + (high - low) * rng.beta(max(share * size, 1e-9), max((1 - share) * size, 1e-9), shape)
    ones = np.ones(groups)
    return float(np.mean([gaffke.p_above(row, ones, bounds, bound) <= alpha for row in values]))


def smallest_n_for(
    wanted: Number = 0.8, *, effect: Number, spread: Number | Array, bound: Number = 0.0, alpha: Number = 0.05,
    bounds: Bounds | None = None, most: int = 4096,
) -> int | None:  # fmt: skip
    """The fewest groups with which `power` reaches `wanted` (by bisection), or None where `most` do not suffice."""

    def enough(n: int) -> bool:
        return power(effect, spread, n, bound, alpha, bounds) >= wanted

    high = MINIMUM["test" if bounds is None else "test of bounded"]
    low = high - 1
    while not enough(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
