"""Many hypotheses: families, and rounds of hypotheses that are made after earlier ones were settled."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from statsmodels.stats.multitest import multipletests

from tools.statistics.estimate import Array

ALPHA = 0.05


@dataclass(frozen=True)
class Decision:
    """One hypothesis in its round: its own p value, what it had to fall to, and whether it did."""

    p: float
    threshold: float
    rejected: bool


def holm(p_values: ArrayLike) -> Array:
    """P values adjusted by Holm's step-down method (1979): holds for any dependence. Not finite counts as 1."""
    return _adjusted(p_values, "holm")


def hommel(p_values: ArrayLike) -> Array:
    """P values adjusted by Hommel's method (1988): sharper than Holm's, for independent or positively dependent tests."""
    return _adjusted(p_values, "hommel")


def _adjusted(p_values: ArrayLike, method: str) -> Array:
    p = np.asarray(p_values, dtype=np.float64)
    p = np.where(np.isfinite(p), p, 1.0)
    return np.asarray(multipletests(p, method=method)[1], dtype=np.float64) if len(p) else p


def share(number: int, alpha: float = ALPHA) -> float:
    """The error rate that round `number` (1, 2, ...) may spend: alpha 2^-number, so that all rounds spend alpha at most."""
    if number < 1:
        raise ValueError("rounds are counted from 1")
    return alpha * 2.0**-number


def adjusted_in_round(p_values: Sequence[float], number: int, alpha: float = ALPHA) -> list[Decision]:
    """Which hypotheses of round `number` hold: Holm's method within the round, at the round's own share of alpha.

    A round's hypotheses may depend on everything that earlier rounds showed; they must be fixed before their own data.
    `threshold` is what Holm asks of a p value at its rank; one that reaches it is still not rejected where a smaller one
    of its round was not.
    """
    spent = share(number, alpha)
    p = np.asarray(p_values, dtype=np.float64)
    p = np.where(np.isfinite(p), p, 1.0)
    rank = np.empty(len(p), dtype=int)
    rank[np.argsort(p, kind="stable")] = np.arange(len(p))
    passed = holm(p) <= spent
    return [Decision(float(q), float(spent / (len(p) - r)), bool(ok)) for q, r, ok in zip(p, rank, passed)]
