"""Looking again and again, and stopping at the first decision: how often an interval excludes the truth at any of the looks.

A sample grows from 8 groups to 512 in LOOKS, and each time both intervals are looked at: the one made for that, and the one for a
number of groups that was fixed beforehand. Who stops when it suits him cannot do worse than to err where any look errs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.statistics import draws as d
from tools import statistics as st

SMALLEST = 0.1
LOOKS = (*range(8, 128, 8), *range(128, 513, 32))
MOST = LOOKS[-1]


@dataclass(frozen=True)
class Sequence:
    """Values within bounds with a true mean; clustered: the draw has groups of 1 to 4 examples."""

    distribution: str
    draw: d.Draw
    truth: float
    bounds: tuple[float, float] = (-1.0, 1.0)
    clustered: bool = False

    def errs(self, rng: d.Rng, repeats: int) -> list[float]:
        """Of samples looked at at LOOKS: share of those in which the truth is ever outside, share of those that
        decide wrongly whether the mean is beyond SMALLEST, mean groups until then, and the first share for fixed intervals.
        """
        values = self.draw(rng, (repeats, MOST))
        code = d.labels(MOST, clustered=self.clustered)
        ever, fixed = np.zeros(repeats, dtype=bool), np.zeros(repeats, dtype=bool)
        stopped, wrong = np.full(repeats, MOST), np.zeros(repeats, dtype=bool)
        open_ = np.ones(repeats, dtype=bool)
        for n in LOOKS:
            upto = code < n
            groups = st.Groups.of(code[upto])
            low, high = _ends(st.anytime(values[:, upto], groups, self.bounds))
            ever |= (low > self.truth) | (high < self.truth)
            beyond, within = (low > SMALLEST) | (high < -SMALLEST), (low > -SMALLEST) & (high < SMALLEST)
            new = open_ & (beyond | within)
            stopped[new] = n
            wrong |= new & np.where(
                abs(self.truth) > SMALLEST, within, beyond | (within & (abs(self.truth) == SMALLEST))
            )
            open_ &= ~new
            if not self.clustered and self.bounds == (-1.0, 1.0):
                below, above = _ends(st.paired_differences(values[:, upto], np.zeros_like(values[:, upto]), groups,
                                                           bounds=self.bounds))  # fmt: skip
                fixed |= (below > self.truth) | (above < self.truth)
        return [float(x) for x in (ever.mean(), wrong.mean(), stopped.mean(), fixed.mean())]


def _ends(found: list[st.Estimate]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([e.low for e in found]), np.array([e.high for e in found])


def sequences() -> Iterator[Sequence]:
    """Effects at the smallest that counts, where a decision is wrong whatever it says, and others."""
    yield Sequence("signs .1 and 0", d.signs(0.1, 0.0), 0.1)
    yield Sequence("signs .2 and .1", d.signs(0.2, 0.1), 0.1)
    yield Sequence("signs .5 and .4", d.signs(0.5, 0.4), 0.1)
    yield Sequence("signs .02 and .12", d.signs(0.02, 0.12), -0.1)
    yield Sequence("signs .02 and .02", d.signs(0.02, 0.02), 0.0)
    yield Sequence("signs .2 and .2", d.signs(0.2, 0.2), 0.0)
    yield Sequence("signs .2 and 0", d.signs(0.2, 0.0), 0.2)
    yield Sequence("signs .5 and 0", d.signs(0.5, 0.0), 0.5)
    yield Sequence("signs .97 and 0", d.signs(0.97, 0.0), 0.97)
    yield Sequence("signs .2 and .1, copies of 1 to 4", d.signs(0.2, 0.1, 1.0), 0.1, clustered=True)
    yield Sequence("Beta(.1, .9)", lambda r, s: r.beta(0.1, 0.9, s), 0.1, (0.0, 1.0))
    yield Sequence("Beta(2, 18)", lambda r, s: r.beta(2, 18, s), 0.1, (0.0, 1.0))
    yield Sequence("uniform", lambda r, s: r.random(s), 0.5, (0.0, 1.0))
