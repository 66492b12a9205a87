"""What every estimate and every test says, the groups they count, and when they refuse."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Labels: TypeAlias = "ArrayLike | Sequence[Any] | Groups"
"""One label an example, numbers or texts, or the partition made of them."""
Number = float | int  # what a caller may write for a float
Bounds = tuple[Number, Number]

UNKNOWN = ": unknown"  # how the method ends of an estimate without an interval
MINIMUM: dict[str, int] = {
    "mean": 64,
    "bounded mean": 5,
    "proportion": 5,
    "paired_difference": 64,
    "paired_difference of 0/1": 5,
    "ratio": 64,
    "correlation": 32,
    "auroc": 5,
    "r_squared": 24,
    "test": 64,
    "test of bounded": 5,
}
"""The fewest groups each estimator and test accepts: where `python -m benchmarks.statistics` finds that it still keeps its
promise on every named distribution. `auroc` counts the groups of each class."""


RARE = 0.05
"""What share of all groups may behave unlike any that were seen, where values have no known bounds."""


class Undefined(ValueError):
    """These data have no such estimate: a denominator that may be 0, one class only, a value that is not finite."""


class TooFewGroups(Undefined):
    """Fewer groups than the estimator's minimum; says both."""

    def __init__(self, estimator: str, groups: int, minimum: int) -> None:
        super().__init__(f"{estimator} needs at least {minimum} groups of examples, not {groups}")
        self.estimator, self.groups, self.minimum = estimator, groups, minimum


@dataclass(frozen=True)
class Estimate:
    """A value with its interval. `n` counts examples, `groups` the independent problems behind them.

    An end is infinite (of a correlation, -1 or 1) where the data say nothing about it: all values equal and no bounds known,
    or tails too heavy for what is asked. `method` then ends in "unknown".
    """

    value: float
    low: float
    high: float
    n: int
    groups: int
    level: float = 0.95
    method: str = ""


@dataclass(frozen=True)
class Test:
    """The p value of a one-sided test. `statistic` is in the data's unit: how far the estimate lies beyond the bound."""

    __test__ = False  # no test for pytest

    p: float
    statistic: float
    n: int
    groups: int
    method: str


@dataclass(frozen=True)
class Groups:
    """A partition of `n` examples into `count` independent groups: `codes[i]` in 0..count-1 is example i's group."""

    codes: NDArray[np.intp]
    count: int
    _order: NDArray[np.intp] | None = field(repr=False, compare=False)
    _starts: NDArray[np.intp] | None = field(repr=False, compare=False)

    @classmethod
    def of(cls, labels: "Labels") -> "Groups":
        """The partition by equal labels (numbers or texts, one an example). Reuse it where many calls share one."""
        if isinstance(labels, Groups):
            return labels
        found = np.asarray(labels)
        if found.ndim != 1:
            raise ValueError(f"groups are one label an example, not an array of shape {found.shape}")
        kept, codes = np.unique(found, return_inverse=True)
        codes = codes.reshape(-1)
        if len(kept) == len(codes):  # each example by itself: sums are the values
            return cls(codes, len(kept), None, None)
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(kept)))
        return cls(codes, len(kept), order, starts)

    @property
    def n(self) -> int:
        """How many examples."""
        return len(self.codes)

    @property
    def sizes(self) -> Array:
        """How many examples each group has, in the order of `sums`."""
        return self.sums(np.ones(self.n))

    def sums(self, values: Array) -> Array:
        """Sums within groups along the last axis: (..., n) to (..., count)."""
        if self._order is None or self._starts is None:
            return values
        return np.add.reduceat(values[..., self._order], self._starts, axis=-1)

    def require(self, estimator: str) -> None:
        """TooFewGroups below the estimator's minimum."""
        if self.count < MINIMUM[estimator]:
            raise TooFewGroups(estimator, self.count, MINIMUM[estimator])


def finite(values: ArrayLike, groups: Groups, what: str = "values") -> Array:
    """`values` as float64, one per example along the last axis; Undefined where one is not finite."""
    out = np.asarray(values, dtype=np.float64)
    if out.ndim == 0 or out.shape[-1] != groups.n:
        raise ValueError(f"{what} of shape {out.shape} for {groups.n} examples")
    if not np.isfinite(out).all():
        raise Undefined(f"{what} that are not finite")
    return out


def estimates(value: Array, low: Array, high: Array, groups: Groups, level: Number, method: str) -> list[Estimate]:
    """One Estimate for each of the values (k,) with their ends; an end that is not finite is unknown, and the method says so."""
    named = {False: method, True: method + UNKNOWN}
    return [
        Estimate(float(v), float(a), float(b), groups.n, groups.count, float(level), named[math.isinf(b - a)])
        for v, a, b in zip(value, low, high)
    ]
