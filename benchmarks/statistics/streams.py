"""Planners that go on predicting, in rounds, until something is confirmed, where nothing is there to find.

A world has COMPONENTS whose effects on an example are noise around 0, in part common to all of them; an explore split and a
confirm split of it are drawn. Each round the planner predicts for PREDICTIONS sets of components that their effect exceeds 0;
the round is settled by `adjusted_in_round`. It ends at its first confirmation, which is false, or after ROUNDS.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.statistics import draws as d
from tools import statistics as st

COMPONENTS, PREDICTIONS, ROUNDS = 40, 5, 8


@dataclass(frozen=True)
class Stream:
    """A planner and its world; `promised` says whether the error rate is to hold: see `streams`."""

    planner: str
    distribution: str
    groups: int
    promised: bool
    draw: d.Draw
    shown: bool
    fresh: bool

    def errs(self, rng: d.Rng) -> bool:
        """Whether one such planner confirms anything."""
        own = st.Groups.of(np.arange(self.groups))
        explore, confirm = self._split(rng), self._split(rng)
        scores = explore.mean(1)
        tried: list[frozenset[int]] = []
        measured: list[float] = []
        for number in range(1, ROUNDS + 1):
            if self.fresh and number > 1:
                confirm = self._split(rng)
            sets = _proposed(scores, tried, rng)
            tried += sets
            values = [self._joint(confirm[sorted(s)]) for s in sets]
            p = [st.test_exceeds(v, own).p for v in values]
            if any(x.rejected for x in st.adjusted_in_round(p, number)):
                return True
            measured += [float(v.mean()) for v in values]
            if self.shown:  # solve for the components' effects in the confirm split, as far as it was measured
                members = np.array([[c in s for c in range(COMPONENTS)] for s in tried], dtype=float)
                scores = np.linalg.lstsq(members, np.array(measured), rcond=None)[0]
        return False

    def _split(self, rng: d.Rng) -> np.ndarray:
        own = self.draw(rng, (COMPONENTS, self.groups))
        if self.distribution.startswith("signs"):
            return own
        return own + 0.1 * rng.standard_normal(self.groups)

    def _joint(self, rows: np.ndarray) -> np.ndarray:
        return np.sign(rows.sum(0)) if self.distribution.startswith("signs") else rows.sum(0)


def _proposed(scores: np.ndarray, tried: list[frozenset[int]], rng: d.Rng) -> list[frozenset[int]]:
    """The best-looking sets that were not tried: all that look good, the top ten, and random halves of all components."""
    order = np.argsort(-scores)
    wanted = [frozenset(order[: max(1, int(np.sum(scores > 0)))].tolist()), frozenset(order[:10].tolist())]
    out = [s for s in wanted if s not in tried]
    while len(out) < PREDICTIONS:
        mixed = frozenset(rng.choice(order, size=COMPONENTS // 2, replace=False).tolist())
        if mixed not in tried and mixed not in out:
            out.append(mixed)
    return out


def streams() -> Iterator[Stream]:
    """Planners that see only the explore split and the fates, and planners that see what was measured for earlier rounds.

    For the latter the rate is promised if each round has examples of its own, and not if all rounds share theirs.
    """
    worlds: dict[str, tuple[int, d.Draw]] = {
        "normal": (256, d.normal),
        "lognormal, mirrored": (256, d.mirrored),
        "5% outliers, low": (256, d.one_sided_low),
        "signs .1 and .1": (64, d.signs(0.1, 0.1)),
    }
    for name, (groups, draw) in worlds.items():
        yield Stream("sees the fates, same examples each round", name, groups, True, draw, False, False)
        yield Stream("sees what was measured, new examples each round", name, groups, True, draw, True, True)
        yield Stream("sees what was measured, same examples each round", name, groups, False, draw, True, False)


def rate(stream: Stream, rng: d.Rng, repeats: int) -> float:
    """Share of `repeats` planners that confirm something."""
    return float(np.mean([stream.errs(rng) for _ in range(repeats)]))
