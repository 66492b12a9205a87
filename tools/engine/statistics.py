"""Intervals for means of independent examples. The unit is the example, never the token.

Proportions get Wilson's score interval (Wilson 1927), which does not collapse to a point when all examples agree; other
means get a percentile bootstrap over examples (Efron 1979); differences on the same examples are bootstrapped paired.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float

RESAMPLES = 2000
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval over `n` independent examples."""

    value: float
    low: float
    high: float
    n: int


def proportion(successes: Bool[np.ndarray, " n"]) -> Estimate:
    """Share of successes with Wilson's 95% interval."""
    n = len(successes)
    if n == 0:
        raise ValueError("a proportion of no examples")
    p = float(np.mean(successes))
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    return Estimate(p, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)), n)


def mean(values: Float[np.ndarray, " n"], seed: int = 0) -> Estimate:
    """Mean with a percentile bootstrap 95% interval over examples."""
    low, high = bootstrap(np.asarray(values, dtype=np.float64)[:, None], seed)
    return Estimate(float(np.mean(values)), float(low[0]), float(high[0]), len(values))


def bootstrap(
    values: Float[np.ndarray, "n k"], seed: int = 0
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """2.5% and 97.5% points of the bootstrap distribution of `k` means over the same resampled examples."""
    n = values.shape[0]
    if n == 0:
        raise ValueError("a mean of no examples")
    means = _resample_counts(n, seed) @ np.asarray(values, dtype=np.float64) / n
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return low, high


@lru_cache(maxsize=8)
def _resample_counts(n: int, seed: int) -> Float[np.ndarray, "resamples n"]:
    """How often each example is drawn in each resample: all means are then one matrix product.

    Counts and not shares, so that a constant has a mean, and an interval, without a rounding error.
    """
    return np.random.default_rng(seed).multinomial(n, [1 / n] * n, size=RESAMPLES).astype(np.float64)


def paired_difference(values: Float[np.ndarray, " n"], baseline: Float[np.ndarray, " n"], seed: int = 0) -> Estimate:
    """Mean of `values - baseline` on the same examples, with a paired bootstrap interval."""
    return mean(np.asarray(values, dtype=np.float64) - np.asarray(baseline, dtype=np.float64), seed)
