"""Many hypotheses: families, and rounds of hypotheses that are made after earlier ones were settled."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tools.statistics.estimate import Array, Number

ALPHA = 0.05


@dataclass(frozen=True)
class Decision:
    """One hypothesis in its round: its own p value, what it had to fall to, and whether it did."""

    p: float
    threshold: float
    rejected: bool


def holm(p_values: ArrayLike) -> Array:
    """P values adjusted by Holm's step-down method (1979): holds for any dependence. Not finite counts as 1."""
    p = _finite(p_values)
    order = np.argsort(p, kind="stable")
    out = np.empty_like(p)
    out[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return out  # here and not statsmodels', which collects the garbage of the whole process at each call (0.1 s)


def hommel(p_values: ArrayLike) -> Array:
    """P values adjusted by Hommel's method (1988): sharper than Holm's, for independent or positively dependent tests."""
    from statsmodels.stats.multitest import multipletests

    p = _finite(p_values)
    return np.asarray(multipletests(p, method="hommel")[1], dtype=np.float64) if len(p) else p


def _finite(p_values: ArrayLike) -> Array:
    p = np.asarray(p_values, dtype=np.float64)
    return np.where(np.isfinite(p), p, 1.0)


def share(number: int, alpha: Number = ALPHA) -> float:
    """The error rate that round `number` (1, 2, ...) may spend: alpha 2^-number, so that all rounds spend alpha at most."""
    if number < 1:
        raise ValueError("rounds are counted from 1")
    return alpha * 2.0**-number


def adjusted_in_round(p_values: Sequence[float], number: int, alpha: Number = ALPHA) -> list[Decision]:
    """Which hypotheses of round `number` hold: Holm's method within the round, at the round's own share of alpha.

    A round's hypotheses may depend on everything that earlier rounds showed; they must be fixed before their own data.
    `threshold` is what Holm asks of a p value at its rank; one that reaches it is still not rejected where a smaller one
    of its round was not.
    """
    spent = share(number, alpha)
    p = _finite(p_values)
    rank = np.empty(len(p), dtype=int)
    rank[np.argsort(p, kind="stable")] = np.arange(len(p))
    passed = holm(p) <= spent
    return [Decision(float(q), float(spent / (len(p) - r)), bool(ok)) for q, r, ok in zip(p, rank, passed)]
