"""How often tests find what is not there: true means at their bounds, and streams of hypotheses made one after another."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.statistics import draws as d
from benchmarks.statistics.coverage import GRID
from tools import statistics as st

LEVELS = (0.05, 0.01)
SLOW = {"exceeds, bounded": 1000, "difference between, 0/1": 1000}
PValues = Callable[[d.Rng, int, int], np.ndarray]


@dataclass(frozen=True)
class Null:
    """P values of `repeats` samples in which the tested finding is false, by the least margin: `sample(rng, repeats, groups)`."""

    test: str
    distribution: str
    groups: int
    sample: PValues
    most: int


def nulls() -> Iterator[Null]:
    """Every test on every distribution, from the fewest groups that it accepts; `most` repeats where one takes long."""
    for test, (minimum, cases) in CASES.items():
        least = st.MINIMUM[minimum]
        for groups in sorted({least, *(g for g in GRID if g > least)}):
            for distribution, sample in cases.items():
                yield Null(test, distribution, groups, sample, SLOW.get(test, 1_000_000))


def _rows(values: np.ndarray, test: Callable[[np.ndarray], st.Test]) -> np.ndarray:
    """The test's p value for each row; rows that are permutations of one another (0/1 data) are tested once."""
    kept, which = np.unique(np.sort(values, axis=1), axis=0, return_inverse=True)
    return np.array([test(row).p for row in kept])[which.reshape(-1)]


def _exceeds(draw: d.Draw, bound: float = 0.0, bounds: tuple[float, float] | None = None) -> PValues:
    def sample(rng: d.Rng, repeats: int, groups: int) -> np.ndarray:
        own = st.Groups.of(np.arange(groups))
        return _rows(draw(rng, (repeats, groups)), lambda row: st.test_exceeds(row, own, bound, bounds=bounds))

    return sample


def _exceeds_in_groups(draw: d.Draw, bound: float = 0.0) -> PValues:
    def sample(rng: d.Rng, repeats: int, groups: int) -> np.ndarray:
        code = st.Groups.of(d.labels(groups, clustered=True))
        return np.array([st.test_exceeds(row, code, bound).p for row in draw(rng, (repeats, groups))])

    return sample


def _equivalent(draw: d.Draw, bound: float, sign: int) -> PValues:
    """The mean is exactly `bound` above 0 or below it."""

    def sample(rng: d.Rng, repeats: int, groups: int) -> np.ndarray:
        own = st.Groups.of(np.arange(groups))
        return _rows(sign * draw(rng, (repeats, groups)), lambda row: st.test_equivalent(row, own, bound))

    return sample


def _between(first: d.Draw, second: d.Draw, bound: float = 0.0, bounds: tuple[float, float] | None = None) -> PValues:
    def sample(rng: d.Rng, repeats: int, groups: int) -> np.ndarray:
        a, b = first(rng, (repeats, groups)), second(rng, (repeats, 2 * groups))
        own, others = st.Groups.of(np.arange(groups)), st.Groups.of(np.arange(2 * groups))
        joined = np.concatenate([np.sort(a, axis=1), np.sort(b, axis=1)], axis=1)
        kept, which = np.unique(joined, axis=0, return_inverse=True)
        p = [st.test_difference_between(r[:groups], own, r[groups:], others, bound, bounds).p for r in kept]
        return np.array(p)[which.reshape(-1)]

    return sample


def _moved(draw: d.Draw, by: float) -> d.Draw:
    return lambda rng, shape: draw(rng, shape) + by


CASES: dict[str, tuple[str, dict[str, PValues]]] = {
    "exceeds": (
        "test",
        {
            "normal": _exceeds(d.normal),
            "lognormal": _exceeds(d.lognormal),
            "lognormal, mirrored": _exceeds(d.mirrored),
            "5% outliers": _exceeds(d.outliers),
            "5% outliers, high": _exceeds(d.one_sided),
            "5% outliers, low": _exceeds(d.one_sided_low),
            "normal, 1 to 4 a group": _exceeds_in_groups(d.within_groups(d.normal, 0.5)),
            "mirrored, 1 to 4 a group": _exceeds_in_groups(d.within_groups(d.mirrored, 0.5)),
        },
    ),
    "exceeds, 0/1": (
        "test of bounded",
        {
            "signs .1 and .1, bound 0": _exceeds(d.signs(0.1, 0.1)),
            "signs .4 and .4, bound 0": _exceeds(d.signs(0.4, 0.4)),
            "signs .02 and .02, bound 0": _exceeds(d.signs(0.02, 0.02)),
            "signs .1 and 0, bound .1": _exceeds(d.signs(0.1, 0.0), 0.1),
            "signs .5 and .1, bound .4": _exceeds(d.signs(0.5, 0.1), 0.4),
            "signs .05 and .15, bound -.1": _exceeds(d.signs(0.05, 0.15), -0.1),
            "signs .1 and .1, copies of 1 to 4": _exceeds_in_groups(d.signs(0.1, 0.1, 1.0)),
        },
    ),
    "exceeds, bounded": (
        "test of bounded",
        {
            "Beta(.1, .9)": _exceeds(lambda r, s: r.beta(0.1, 0.9, s), 0.1, (0, 1)),
            "Beta(.9, .1)": _exceeds(lambda r, s: r.beta(0.9, 0.1, s), 0.9, (0, 1)),
            "uniform": _exceeds(lambda r, s: r.random(s), 0.5, (0, 1)),
        },
    ),
    "equivalent": (
        "test",
        {
            "normal, above": _equivalent(_moved(d.normal, 0.5), 0.5, 1),
            "lognormal, above": _equivalent(_moved(d.lognormal, 1.0), 1.0, 1),
            "lognormal, below": _equivalent(_moved(d.lognormal, 1.0), 1.0, -1),
            "5% outliers": _equivalent(_moved(d.outliers, 1.0), 1.0, 1),
            "5% outliers, high": _equivalent(_moved(d.one_sided, 1.0), 1.0, 1),
        },
    ),
    "equivalent, 0/1": (
        "test of bounded",
        {
            "signs .1 and 0, bound .1": _equivalent(d.signs(0.1, 0.0), 0.1, 1),
            "signs .2 and .1, bound .1": _equivalent(d.signs(0.2, 0.1), 0.1, -1),
        },
    ),
    "difference between": (
        "test",
        {
            "normal and normal of three times its spread": _between(d.normal, lambda r, s: 3 * d.normal(r, s)),
            "lognormal and normal": _between(d.lognormal, d.normal),
            "normal and lognormal": _between(d.normal, d.lognormal),
            "mirrored and lognormal": _between(d.mirrored, d.lognormal),
            "5% outliers, low, and high": _between(d.one_sided_low, d.one_sided),
        },
    ),
    "difference between, 0/1": (
        "test of bounded",
        {
            "rates .5 and .5": _between(d.successes(0.5), d.successes(0.5), 0.0, (0, 1)),
            "rates .95 and .95": _between(d.successes(0.95), d.successes(0.95), 0.0, (0, 1)),
            "rates .9 and .7, bound .2": _between(d.successes(0.9), d.successes(0.7), 0.2, (0, 1)),
        },
    ),
}
