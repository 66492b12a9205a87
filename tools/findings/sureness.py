"""How sure the evidence makes one that unseen examples will confirm a finding: power, and a calibrated probability.

The calibration is fitted on models with planted mechanisms (benchmarks.planted --calibrate) and shipped; it is scored on
others.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tools import statistics
from tools.findings.contrast import Contrast, Quantity
from tools.statistics import Calibration

FILE = Path(__file__).parent / "calibration.json"
NAMES = ("power", "slack", "evidence", "replication", "stays")


@dataclass(frozen=True)
class Features:
    """What explore examples say of a statement.

    power: chance that every contrast passes on as many unseen groups, taking the effects seen as true (the smallest one's).
    slack: how far the nearest estimate lies beyond its bound, in half-widths of its interval, at most 3 either way.
    evidence: minus the decimal logarithm of the largest p value, at most 6.
    replication: chance that as many unseen groups give a p value as small as is asked, where what is seen is itself uncertain
    (Goodman 1992): by that p value, so by the test that decides, which power is not. A small share of examples that changes
    is skewed: there power, by the t distribution, is too sure.
    stays: 1 where the effect has to stay small, else 0.
    """

    power: float
    slack: float
    evidence: float
    replication: float
    stays: float

    @property
    def row(self) -> list[float]:
        """As a row for the calibration, in the order of NAMES."""
        return [self.power, self.slack, self.evidence, self.replication, self.stays]


def features(contrasts: Sequence[Contrast], alpha: float) -> Features:
    """Read from contrasts on explore examples; alpha: what a test may spend."""
    from scipy import stats

    largest = max(c.p() for c in contrasts)
    beyond = stats.norm.isf(np.clip(largest, 1e-12, 1 - 1e-12)) - stats.norm.isf(alpha)
    return Features(
        min(_power(c, alpha) for c in contrasts),
        min(_slack(c) for c in contrasts),
        min(6.0, -float(np.log10(max(1e-6, largest)))),
        float(stats.norm.cdf(beyond / np.sqrt(2))),
        float(any(c.must != "exceed" for c in contrasts if c.role == "effect")),
    )


def probability(seen: Features) -> float:
    """Calibrated probability that the statement is confirmed."""
    return float(np.clip(_shipped().probability([seen.row])[0], 0.01, 0.99))


@cache
def _shipped() -> Calibration:
    return Calibration.from_json(json.loads(FILE.read_text(encoding="utf-8"))["calibration"])


def _mean(c: Contrast, values: np.ndarray) -> float:
    return float(values.mean()) if c.against is None else float(values.mean() - c.against[0].values.mean())


def _sides(c: Contrast) -> list[tuple[float, float]]:
    """(sign, bound) of each one-sided test: sign times the mean has to exceed the bound."""
    return {"exceed": [(1.0, c.bound)], "below": [(-1.0, -c.bound)], "stay": [(-1.0, -c.bound), (1.0, -c.bound)]}[
        c.must
    ]


def _power(c: Contrast, alpha: float) -> float:
    """Of the quantity that shows it best; where two sides have to hold, of the harder one."""
    return max(
        min(_one_power(c, q, sign, bound, alpha / len(c.quantities)) for sign, bound in _sides(c)) for q in c.quantities
    )


def _one_power(c: Contrast, q: Quantity, sign: float, bound: float, alpha: float) -> float:
    """Of the one-sided t test, by the noncentral t distribution: quick, and close to the exact test's where both exist."""
    from scipy import stats

    groups = statistics.Groups.of(list(c.groups))
    units = sign * groups.sums(q.values) / groups.sizes
    mean = float(units.mean()) if c.against is None else sign * _mean(c, q.values)
    spread = float(units.std(ddof=1)) if groups.count > 1 else 0.0
    if spread < 1e-9:
        return float(mean > bound)
    critical = stats.t.isf(alpha, groups.count - 1)
    return float(stats.nct.sf(critical, groups.count - 1, (mean - bound) / spread * np.sqrt(groups.count)))


def _slack(c: Contrast) -> float:
    found: list[float] = []
    for i, q in enumerate(c.quantities):
        e, mean = c.estimate(i), _mean(c, q.values)
        half = np.inf if e is None else (e.high - e.low) / 2
        found.append(min(sign * mean - bound for sign, bound in _sides(c)) / max(float(half), 1e-6))
    return float(np.clip(max(found), -3, 3))
