"""How likely a test is to show what a planner expects, said before it is run."""

import numpy as np
from scipy import stats

from tools.statistics.estimate import MINIMUM, Array


def power(effect: float, spread: float | Array, groups: int, bound: float = 0.0, alpha: float = 0.05) -> float:
    """Chance that `test_exceeds` gives p <= alpha with `groups` groups, if the mean is `effect`.

    Args:
        effect: The expected mean, in the data's unit.
        spread: The standard deviation between groups, or a pilot's group means, from which it is taken.
        groups: How many independent groups will be measured. Fewer than the test accepts give 0.
        bound: The smallest effect that counts.
        alpha: The error rate that this test may spend (in round r, with k hypotheses: alpha 2^-r / k at worst).

    The power of the one-sided t test, by the noncentral t distribution.
    """
    if groups < MINIMUM["test of bounded"]:
        return 0.0
    sd = float(np.std(spread, ddof=1)) if isinstance(spread, np.ndarray) else spread
    if not np.isfinite([effect, sd, bound]).all() or sd < 0:
        raise ValueError("effect, spread and bound are finite, the spread at least 0")
    if sd == 0:
        return 1.0 if effect > bound else 0.0
    critical = stats.t.isf(alpha, groups - 1)
    return float(stats.nct.sf(critical, groups - 1, (effect - bound) / sd * np.sqrt(groups)))


def smallest_n_for(
    power: float = 0.8, *, effect: float, spread: float | Array, bound: float = 0.0, alpha: float = 0.05,
    most: int = 1_000_000,
) -> int | None:  # fmt: skip
    """The fewest groups with which `power` is reached, or None where `most` do not suffice."""
    return _search(power, effect, spread, bound, alpha, most)


def _search(wanted: float, effect: float, spread: float | Array, bound: float, alpha: float, most: int) -> int | None:
    def enough(n: int) -> bool:
        return power(effect, spread, n, bound, alpha) >= wanted

    low, high = MINIMUM["test of bounded"] - 1, MINIMUM["test of bounded"]
    while not enough(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
