"""How often 95% intervals hold the truth: one cell for each estimator, distribution and number of groups."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.statistics import draws as d
from tools import statistics as st

GRID = (8, 12, 16, 24, 32, 64, 128, 256)
Sample = Callable[[d.Rng, int, int], tuple[list[st.Estimate], float]]


@dataclass(frozen=True)
class Cell:
    """Intervals of `repeats` samples with `groups` groups and the value they should hold: `sample(rng, repeats, groups)`."""

    estimator: str
    distribution: str
    groups: int
    sample: Sample


def cells() -> Iterator[Cell]:
    """Every estimator on every distribution, from the fewest groups that it accepts."""
    for estimator, cases in CASES.items():
        least = st.MINIMUM[estimator]
        for groups in sorted({least, *(g for g in GRID if g > least)}):
            for distribution, sample in cases.items():
                yield Cell(estimator, distribution, groups, sample)


def _mean(
    draw: d.Draw, *, clustered: bool = False, bounds: tuple[float, float] | None = None, truth: float = 0.0
) -> Sample:
    def sample(rng: d.Rng, repeats: int, groups: int) -> tuple[list[st.Estimate], float]:
        return st.means(draw(rng, (repeats, groups)), d.labels(groups, clustered), bounds=bounds), truth

    return sample


def _error_rate(rng: d.Rng, repeats: int, groups: int) -> tuple[list[st.Estimate], float]:
    """Errors over words, as word error rates are: longer texts have more errors in a word."""
    code = d.labels(groups, clustered=True)
    words = rng.integers(4, 21, (repeats, len(code)))
    hard = rng.beta(1, 4, (repeats, groups))[:, code]
    errors = rng.binomial(words, hard * words / 20)
    squares = np.mean(np.arange(4, 21) ** 2) / 20
    return st.means(errors / words, code, words), 0.2 * squares / np.mean(np.arange(4, 21))


def _share(rate: float, share: float | None = None) -> Sample:
    def sample(rng: d.Rng, repeats: int, groups: int) -> tuple[list[st.Estimate], float]:
        return st.proportions(
            d.successes(rate, share)(rng, (repeats, groups)), d.labels(groups, share is not None)
        ), rate

    return sample


def _paired(gained: float, lost: float, share: float | None = None) -> Sample:
    def sample(rng: d.Rng, repeats: int, groups: int) -> tuple[list[st.Estimate], float]:
        change = d.signs(gained, lost, share)(rng, (repeats, groups))
        after, before = (change > 0).astype(float), (change < 0).astype(float)
        return st.paired_differences(after, before, d.labels(groups, share is not None)), gained - lost

    return sample


def _paired_values(effect: d.Draw, *, clustered: bool = False) -> Sample:
    def sample(rng: d.Rng, repeats: int, groups: int) -> tuple[list[st.Estimate], float]:
        change = effect(rng, (repeats, groups)) + 0.3
        before = 5 * rng.standard_normal(change.shape)
        return st.paired_differences(before + change, before, d.labels(groups, clustered)), 0.3

    return sample


def _ratio(gap: d.Draw, noise: d.Draw, mean: float, *, clustered: bool = False) -> Sample:
    """A share of .6 recovered of a gap with this mean; what is recovered varies by itself too."""

    def sample(rng: d.Rng, repeats: int, groups: int) -> tuple[list[st.Estimate], float]:
        below = gap(rng, (repeats, groups)) + mean
        return st.ratios(0.6 * below + noise(rng, (repeats, groups)), below, d.labels(groups, clustered)), 0.6

    return sample


def _mixed(rng: d.Rng, shape: tuple[int, int], rho: float, draw: d.Draw) -> tuple[np.ndarray, np.ndarray]:
    x, other = draw(rng, shape), draw(rng, shape)
    return x, rho * x + np.sqrt(1 - rho**2) * other


def _correlation(rho: float, draw: d.Draw, *, clustered: bool = False) -> Sample:
    def sample(rng: d.Rng, repeats: int, groups: int) -> tuple[list[st.Estimate], float]:
        x, y = _mixed(rng, (repeats, groups), rho, draw)
        return st.correlations(x, y, d.labels(groups, clustered)), rho

    return sample


def _explained(share: float, draw: d.Draw, *, clustered: bool = False) -> Sample:
    def sample(rng: d.Rng, repeats: int, groups: int) -> tuple[list[st.Estimate], float]:
        guess, y = _mixed(rng, (repeats, groups), np.sqrt(share), draw)
        return st.r_squareds(y, np.sqrt(share) * guess, d.labels(groups, clustered)), share

    return sample


def _area(
    shift: float, truth: float, draw: Callable[[np.ndarray], np.ndarray], *, negatives: int = 1, spread: float = 1.0
) -> Sample:
    def sample(rng: d.Rng, repeats: int, groups: int) -> tuple[list[st.Estimate], float]:
        label = np.arange(groups * (1 + negatives)) < groups
        scores = draw(rng.standard_normal((repeats, len(label))) * np.where(label, spread, 1.0) + shift * label)
        return st.aurocs(scores, label, np.arange(len(label))), truth

    return sample


def _area_in_groups(rng: d.Rng, repeats: int, groups: int) -> tuple[list[st.Estimate], float]:
    """Each group has examples of both classes, and half of the variance in common."""
    code = np.repeat(np.arange(groups), 1 + d.sizes(groups))
    first = np.r_[True, np.diff(code) > 0]
    label = np.where(first, True, np.arange(len(code)) % 2 == 0)
    label[np.r_[first[1:], True] & ~first] = False
    own = rng.standard_normal((repeats, len(code))) + rng.standard_normal((repeats, groups))[:, code]
    return st.aurocs(own + 2 * 0.67449 * label, label, code), 0.75


RATES = (0.5, 0.8, 0.95, 0.99, 0.998)
CHANGES = ((0.0, 0.0), (0.02, 0.0), (0.1, 0.0), (0.1, 0.02), (0.3, 0.1), (0.4, 0.4), (0.8, 0.01), (0.97, 0.0))
SHIFTS = ((0.0, 0.5), (0.9539, 0.75), (2.3262, 0.95), (3.6428, 0.995))

CASES: dict[str, dict[str, Sample]] = {
    "mean": {
        "normal": _mean(d.normal),
        "lognormal": _mean(d.lognormal),
        "5% outliers": _mean(d.outliers),
        "5% outliers, one-sided": _mean(d.one_sided),
        "normal, 1 to 4 a group": _mean(d.within_groups(d.normal, 0.5), clustered=True),
        "lognormal, 1 to 4 a group": _mean(d.within_groups(d.lognormal, 0.5), clustered=True),
        "errors over words, 1 to 4 a group": _error_rate,
    },
    "bounded mean": {
        "uniform": _mean(lambda r, s: r.random(s), bounds=(0, 1), truth=0.5),
        "Beta(.1, .9)": _mean(lambda r, s: r.beta(0.1, 0.9, s), bounds=(0, 1), truth=0.1),
        "Beta(.02, .98)": _mean(lambda r, s: r.beta(0.02, 0.98, s), bounds=(0, 1), truth=0.02),
        "narrow": _mean(lambda r, s: 0.3 + 0.02 * r.random(s), bounds=(0, 1), truth=0.31),
        "one value": _mean(lambda _, s: np.full(s, 0.25), bounds=(0, 1), truth=0.25),
        "signs .1 and .02": _mean(d.signs(0.1, 0.02), bounds=(-1, 1), truth=0.08),
        "Beta(.1, .9), copies of 1 to 4": _mean(
            lambda r, s: r.beta(0.1, 0.9, s)[:, d.labels(s[1], clustered=True)],
            clustered=True,
            bounds=(0, 1),
            truth=0.1,
        ),
    },
    "proportion": {f"rate {p}": _share(p) for p in RATES}
    | {f"rate {p}, copies of 1 to 4": _share(p, 1.0) for p in RATES}
    | {f"rate {p}, 1 to 4 a group": _share(p, 0.5) for p in RATES},
    "paired_difference of 0/1": {f"gained {a}, lost {b}": _paired(a, b) for a, b in CHANGES}
    | {f"gained {a}, lost {b}, copies of 1 to 4": _paired(a, b, 1.0) for a, b in CHANGES}
    | {f"gained {a}, lost {b}, 1 to 4 a group": _paired(a, b, 0.5) for a, b in CHANGES},
    "paired_difference": {
        "normal": _paired_values(d.normal),
        "lognormal": _paired_values(d.lognormal),
        "5% outliers": _paired_values(d.outliers),
        "5% outliers, one-sided": _paired_values(d.one_sided),
        "normal, 1 to 4 a group": _paired_values(d.within_groups(d.normal, 0.5), clustered=True),
    },
    "ratio": {
        "normal gap of three times its spread": _ratio(d.normal, d.normal, 3.0),
        "lognormal gap": _ratio(d.lognormal, d.normal, 3.0),
        "lognormal noise": _ratio(d.normal, d.lognormal, 3.0),
        "5% outliers": _ratio(d.outliers, d.outliers, 6.0),
        "5% outliers, one-sided": _ratio(d.normal, d.one_sided, 3.0),
        "normal, 1 to 4 a group": _ratio(
            d.within_groups(d.normal, 0.5), d.within_groups(d.normal, 0.5), 3.0, clustered=True
        ),
    },
    "correlation": {f"normal, {rho}": _correlation(rho, d.normal) for rho in (0.0, 0.5, 0.9, 0.99)}
    | {
        "lognormal, .5": _correlation(0.5, d.lognormal),
        "lognormal, .9": _correlation(0.9, d.lognormal),
        "5% outliers, .5": _correlation(0.5, d.outliers),
        "normal, .5, 1 to 4 a group": _correlation(0.5, d.within_groups(d.normal, 0.5), clustered=True),
    },
    "r_squared": {f"normal, {share}": _explained(share, d.normal) for share in (0.0, 0.5, 0.9, 0.99)}
    | {
        "lognormal, .5": _explained(0.5, d.lognormal),
        "5% outliers, .5": _explained(0.5, d.outliers),
        "normal, .5, 1 to 4 a group": _explained(0.5, d.within_groups(d.normal, 0.5), clustered=True),
    },
    "auroc": {f"normal, {truth}": _area(shift, truth, lambda x: x) for shift, truth in SHIFTS}
    | {f"lognormal, {truth}": _area(shift, truth, np.exp) for shift, truth in SHIFTS[1:2]}
    | {f"four times the negatives, {truth}": _area(shift, truth, lambda x: x, negatives=4) for shift, truth in SHIFTS}
    | {"positives of three times the spread, .75": _area(2.1329, 0.75, lambda x: x, spread=3.0)}
    | {"both classes in a group, .75": _area_in_groups},
}
