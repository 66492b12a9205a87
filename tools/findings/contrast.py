"""From per-example differences to a fate: the one test behind every kind of finding.

A kind says what has to hold as contrasts: paired differences, one value an example, each of which must exceed a bound, or
stay within or below it. A finding holds only if all of its contrasts do, so its p value is the largest of theirs (an
intersection-union test, Berger 1982). Where a control can be told apart by any of several quantities, the smallest of their
p values counts, times their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tools import statistics
from tools.statistics import Estimate

Values = NDArray[np.float64]
Must = Literal["exceed", "stay", "below"]


@dataclass(frozen=True)
class Quantity:
    """One value an example: a difference in some unit. bounds: what a single value can be at least and at most, if known."""

    name: str
    unit: str
    values: Values
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True)
class Contrast:
    """One thing that has to hold.

    role `effect`: what the finding is about; `control`: that it differs from its control. must: the mean must exceed
    `bound`, stay within it on both sides, or stay below it. quantities: of an effect one, of a control any of which
    decides. groups: the independent problem of each example. against: for effects between other examples, the second
    sample and its groups, whose mean is subtracted. intervention, component: what was done and where, canonical texts.
    control: what it is compared with, in words.
    """

    role: Literal["effect", "control"]
    must: Must
    bound: float
    quantities: tuple[Quantity, ...]
    groups: Sequence[str]
    intervention: str = ""
    component: str = ""
    control: str = ""
    against: tuple[Quantity, Sequence[str]] | None = None

    @property
    def words(self) -> str:
        """What is compared, for a reason."""
        where = f" at {self.component}" if self.component else ""
        under = f" under {self.intervention}" if self.intervention else ""
        return f"{'the effect' if self.role == 'effect' else f'the difference from {self.control}'}{under}{where}"

    def p(self) -> float:
        """P value of its opposite; 1 where it cannot be tested."""
        tests = [_p(self, q) for q in self.quantities]
        return min(1.0, min(tests) * len(tests))

    def p_contradicted(self) -> float:
        """P value for the opposite of what must hold being true: an effect the other way, or one beyond the bound."""
        (q,) = self.quantities[:1]
        match self.must:
            case "exceed":
                return _one(self, q, -self.bound if self.bound > 0 else 0.0, above=False)
            case "below":
                return _one(self, q, self.bound, above=True)
            case "stay":
                return min(1.0, 2 * min(_one(self, q, self.bound, above=True), _one(self, q, -self.bound, above=False)))

    def p_absent(self) -> float:
        """P value for there being no effect of the size that counts; 1 for what must stay small anyway."""
        if self.must != "exceed" or self.bound <= 0:
            return 1.0
        (q,) = self.quantities[:1]
        return max(_one(self, q, self.bound, above=False), _one(self, q, -self.bound, above=True))

    def estimate(self, number: int = 0) -> Estimate | None:
        """The mean with its interval; None where there are too few groups for one."""
        q = self.quantities[number]
        try:
            if self.against is None:
                return statistics.mean(q.values, self.groups, bounds=q.bounds)
            mine = statistics.mean(q.values, self.groups, bounds=q.bounds)
            other = statistics.mean(self.against[0].values, self.against[1], bounds=self.against[0].bounds)
        except statistics.Undefined:
            return None
        # Newcombe 1998: each side's own distance to its limit, joined by their root sum of squares
        value = mine.value - other.value
        down = float(np.hypot(mine.value - mine.low, other.high - other.value))
        up = float(np.hypot(mine.high - mine.value, other.value - other.low))
        return Estimate(
            value, value - down, value + up, mine.n + other.n, mine.groups + other.groups, method="Newcombe"
        )


def _p(c: Contrast, q: Quantity) -> float:
    match c.must:
        case "exceed":
            return _one(c, q, c.bound, above=True)
        case "below":
            return _one(c, q, c.bound, above=False)
        case "stay":
            return max(_one(c, q, c.bound, above=False), _one(c, q, -c.bound, above=True))


def _one(c: Contrast, q: Quantity, bound: float, *, above: bool) -> float:
    """P value against `mean <= bound` (above) or `mean >= bound`; 1 where it cannot be tested."""
    sign = 1.0 if above else -1.0
    turned = None if q.bounds is None else (q.bounds if above else (-q.bounds[1], -q.bounds[0]))
    try:
        if c.against is None:
            return statistics.test_exceeds(sign * q.values, c.groups, sign * bound, bounds=turned).p
        other, groups = c.against
        pair = (q.values, c.groups, other.values, groups) if above else (other.values, groups, q.values, c.groups)
        return statistics.test_difference_between(*pair, sign * bound, bounds=q.bounds).p
    except statistics.Undefined:
        return 1.0


def p_contradicted(contrasts: Sequence[Contrast]) -> float:
    """P value for one of the effects being the other way than what must hold (Bonferroni over them)."""
    found = [c.p_contradicted() for c in contrasts if c.role == "effect"]
    return min(1.0, len(found) * min(found)) if found else 1.0


def p_absent(contrasts: Sequence[Contrast]) -> float:
    """P value for one of the effects, or differences from a control, being smaller than what counts (Bonferroni over them)."""
    found = [c.p_absent() for c in contrasts if c.must == "exceed" and c.bound > 0]
    return min(1.0, len(found) * min(found)) if found else 1.0
