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


def r_squared(truth: Float[np.ndarray, " n"], predicted: Float[np.ndarray, " n"], seed: int = 0) -> Estimate:
    """Share of the variance explained, 1 - SSE / SST, with a percentile bootstrap interval over examples.

    Below 0 where the mean would have predicted better.
    """
    y, e = np.asarray(truth, dtype=np.float64), (np.asarray(truth) - np.asarray(predicted)).astype(np.float64) ** 2
    n = len(y)
    counts = _resample_counts(n, seed)
    total = counts @ y**2 / n - (counts @ y / n) ** 2
    spread = np.maximum(total, 1e-12)
    low, high = np.quantile(1 - counts @ e / n / spread, [0.025, 0.975])
    value = float(1 - e.mean() / max(float(y.var()), 1e-12))
    return Estimate(value, min(value, float(low)), max(value, float(high)), n)


def holm(p_values: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """P values adjusted for a family of tests by Holm's step-down method (Holm 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(1.0, stepped)
    return out


def p_from_interval(estimate: Estimate, null: float = 0.0) -> float:
    """Two-sided p value of `null` from a 95% interval, taking the estimate as normal (Altman and Bland 2011).

    An interval of no width gives 0 off the null and 1 on it.
    """
    half = (estimate.high - estimate.low) / (2 * Z95)
    if half <= 0:
        return 1.0 if estimate.value == null else 0.0
    return math.erfc(abs(estimate.value - null) / half / math.sqrt(2))


def auroc(scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"], seed: int = 0) -> Estimate:
    """Probability that a positive scores above a negative (ties count one half), with a bootstrap interval over examples."""
    y = np.asarray(labels, dtype=bool)
    if y.all() or not y.any():
        raise ValueError("AUROC needs positives and negatives")
    wins = (scores[y][:, None] > scores[~y][None]) + 0.5 * (scores[y][:, None] == scores[~y][None])
    positives, negatives = (_resample_counts(n, seed) for n in wins.shape)
    resampled = np.einsum("rp,pn,rn->r", positives, wins, negatives, optimize=True) / wins.size
    low, high = np.quantile(resampled, [0.025, 0.975])
    value = float(wins.mean())
    return Estimate(value, min(value, float(low)), max(value, float(high)), len(y))
