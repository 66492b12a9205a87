"""Probabilities that are earned: how well they were calibrated, and the fit that makes them from evidence."""

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tools.statistics.estimate import Array, Number, Undefined


def brier(probabilities: ArrayLike, outcomes: ArrayLike) -> float:
    """Mean squared distance of probabilities from outcomes, 0 or 1 (Brier 1950): 0 is best."""
    p, y = _pairs(probabilities, outcomes)
    return float(np.mean((p - y) ** 2))


def brier_skill(probabilities: ArrayLike, outcomes: ArrayLike, base_rate: Number | None = None) -> float:
    """1 - Brier / Brier of always saying the base rate (the outcomes' own where none is given): above 0 is better than that.

    Undefined where the reference makes no error.
    """
    p, y = _pairs(probabilities, outcomes)
    reference = brier(np.full(len(y), float(y.mean()) if base_rate is None else base_rate), y)
    if reference == 0:
        raise Undefined("a skill against a base rate that makes no error")
    return 1 - brier(p, y) / reference


@dataclass(frozen=True)
class Bin:
    """Predictions of similar probability: how many, their mean probability, and the share that came true."""

    n: int
    predicted: float
    observed: float


def reliability(probabilities: ArrayLike, outcomes: ArrayLike, bins: int = 10) -> list[Bin]:
    """Bins of equal mass, in order of probability; equal probabilities are never parted, so bins may be fewer."""
    p, y = _pairs(probabilities, outcomes)
    order = np.argsort(p, kind="stable")
    p, y = p[order], y[order]
    edges = [0]
    for k in range(1, bins + 1):
        end = round(k * len(p) / bins)
        while 0 < end < len(p) and p[end] == p[end - 1]:
            end += 1
        if end > edges[-1]:
            edges.append(end)
    return [Bin(b - a, float(p[a:b].mean()), float(y[a:b].mean())) for a, b in itertools.pairwise(edges)]


def expected_calibration_error(probabilities: ArrayLike, outcomes: ArrayLike, bins: int = 10) -> float:
    """Mean distance of stated from observed frequency over bins of equal mass, each weighted by its size."""
    found = reliability(probabilities, outcomes, bins)
    return sum(b.n * abs(b.predicted - b.observed) for b in found) / sum(b.n for b in found)


@dataclass(frozen=True)
class Calibration:
    """A probability from features of the evidence: sigmoid(bias + sum of coefficients times features). Plain numbers."""

    names: tuple[str, ...]
    coefficients: tuple[float, ...]
    bias: float

    def probability(self, features: ArrayLike) -> Array:
        """Probabilities (n,) of rows of features (n, k)."""
        x = np.asarray(features, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.coefficients):
            raise ValueError(f"{len(self.coefficients)} features a row, not an array of shape {x.shape}")
        z = x @ np.asarray(self.coefficients) + self.bias
        return 0.5 * (1 + np.tanh(z / 2))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self) | {"names": list(self.names), "coefficients": list(self.coefficients)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Calibration":
        """Inverse of `to_json`."""
        return cls(tuple(data["names"]), tuple(float(c) for c in data["coefficients"]), float(data["bias"]))


def fit(features: ArrayLike, outcomes: ArrayLike, names: tuple[str, ...], penalty: Number = 1.0) -> Calibration:
    """Logistic regression of outcomes on features (n, k), with half `penalty` times the squares of standardised slopes.

    Undefined where all outcomes are the same.
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if x.shape != (len(y), len(names)):
        raise ValueError(f"features of shape {x.shape} for {len(y)} outcomes and {len(names)} names")
    _both(y)
    return _calibration(names, x, y, penalty)


def fit_platt(scores: ArrayLike, outcomes: ArrayLike) -> Calibration:
    """Platt's sigmoid (1999) of one score, with his smoothed targets in place of 0 and 1, so that it cannot run off."""
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    positive, negative = _both(y)
    targets = np.where(y > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
    return _calibration(("score",), s[:, None], targets, 0.0)


def _both(outcomes: Array) -> tuple[float, float]:
    """How many outcomes are 1 and how many 0; Undefined where there is none of either."""
    positive = float(np.sum(outcomes == 1))
    if not 0 < positive < len(outcomes):
        raise Undefined("a calibration needs outcomes of both kinds")
    return positive, len(outcomes) - positive


def _calibration(names: tuple[str, ...], x: Array, targets: Array, penalty: Number) -> Calibration:
    centre, scale = x.mean(0), np.where(x.std(0) > 0, x.std(0), 1.0)
    theta = _newton(np.column_stack([(x - centre) / scale, np.ones(len(x))]), targets, penalty)
    slopes = theta[:-1] / scale
    return Calibration(names, tuple(float(s) for s in slopes), float(theta[-1] - slopes @ centre))


def _newton(x: Array, targets: Array, penalty: Number) -> Array:
    """The logistic fit of targets from 0 to 1, by damped Newton steps (the loss is convex); the last column is free."""
    ridge = np.full(x.shape[1], penalty)
    ridge[-1] = 0.0
    theta = np.zeros(x.shape[1])

    def loss(t: Array) -> float:
        z = x @ t
        return float(np.sum(np.logaddexp(0, z) - targets * z) + np.sum(ridge * t**2) / 2)

    for _ in range(100):
        p = 0.5 * (1 + np.tanh(x @ theta / 2))
        slope = x.T @ (p - targets) + ridge * theta
        if np.abs(slope).max() < 1e-10 * len(x):
            break
        curve = (x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge + 1e-12)
        step, size = np.linalg.solve(curve, slope), 1.0
        while loss(theta - size * step) > loss(theta) and size > 1e-8:
            size /= 2
        theta = theta - size * step
    return theta


def _pairs(probabilities: ArrayLike, outcomes: ArrayLike) -> tuple[Array, Array]:
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if p.shape != y.shape or p.ndim != 1 or not len(p):
        raise ValueError("probabilities and outcomes are two lists of one length, not empty")
    if not ((p >= 0) & (p <= 1)).all() or not np.isin(y, (0.0, 1.0)).all():
        raise ValueError("probabilities lie from 0 to 1, outcomes are 0 or 1")
    return p, y
