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
from tools.findings.contrast import Contrast
from tools.statistics import Calibration

FILE = Path(__file__).parent / "calibration.json"
NAMES = ("power", "slack", "evidence")


@dataclass(frozen=True)
class Features:
    """What explore examples say of a statement.

    power: chance that every contrast passes on as many unseen groups, taking the effects seen as true (the smallest one's).
    slack: how far the nearest estimate lies beyond its bound, in half-widths of its interval, at most 3 either way.
    evidence: minus the decimal logarithm of the largest p value, at most 6.
    """

    power: float
    slack: float
    evidence: float

    @property
    def row(self) -> list[float]:
        """As a row for the calibration, in the order of NAMES."""
        return [self.power, self.slack, self.evidence]


def features(contrasts: Sequence[Contrast], alpha: float) -> Features:
    """Read from contrasts on explore examples; alpha: what a test may spend."""
    return Features(
        min(_power(c, alpha) for c in contrasts),
        min(_slack(c) for c in contrasts),
        min(6.0, -float(np.log10(max(1e-6, max(c.p() for c in contrasts))))),
    )


def probability(seen: Features) -> float:
    """Calibrated probability that the statement is confirmed."""
    return float(np.clip(_shipped().probability([seen.row])[0], 0.01, 0.99))


@cache
def _shipped() -> Calibration:
    return Calibration.from_json(json.loads(FILE.read_text(encoding="utf-8"))["calibration"])


def _spare(c: Contrast, values: np.ndarray) -> float:
    """How far a mean lies on the right side of its bound."""
    mean = float(values.mean()) if c.against is None else float(values.mean() - c.against[0].values.mean())
    return {"exceed": mean - c.bound, "below": c.bound - mean, "stay": c.bound - abs(mean)}[c.must]


def _power(c: Contrast, alpha: float) -> float:
    best = 0.0
    for q in c.quantities:
        groups = statistics.Groups.of(list(c.groups))
        units = groups.sums(q.values) / groups.sizes
        if groups.count > 1:
            best = max(best, statistics.power(_spare(c, q.values), units, groups.count, 0.0, alpha / len(c.quantities)))
    return best


def _slack(c: Contrast) -> float:
    found: list[float] = []
    for i, q in enumerate(c.quantities):
        e = c.estimate(i)
        half = np.inf if e is None else (e.high - e.low) / 2
        found.append(_spare(c, q.values) / max(float(half), 1e-6))
    return float(np.clip(max(found), -3, 3))
