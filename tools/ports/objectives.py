"""What is scored: one value an example, with its unit, its bounds, which way is better, and what a guesser gets."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.ports.scores import Scores


@dataclass(frozen=True)
class Objective:
    """A quantity of each example's answer, turned so that higher is better.

    sign: -1 where the quantity as it is named is better when lower. chance: what a guesser gets, from the chance level
    of accuracy. Every example counts the same; counts over counts, such as errors over words, are a port's `judge`.
    """

    name: str
    unit: str
    read: Callable[[Scores], NDArray[np.float64]]
    chance: Callable[[float], float]
    bounds: tuple[float, float] | None = None
    sign: int = 1

    def of(self, scores: Scores) -> NDArray[np.float64]:
        """One value an example, higher is better; NaN where an example cannot be scored."""
        return self.sign * self.read(scores)

    @property
    def difference_bounds(self) -> tuple[float, float] | None:
        """What a difference of two values can be at least and at most, if known."""
        return None if self.bounds is None else (self.bounds[0] - self.bounds[1], self.bounds[1] - self.bounds[0])


ANSWERS = {
    o.name: o
    for o in (
        Objective("accuracy", "share of examples", lambda s: s.correct.astype(np.float64), lambda c: c, (0.0, 1.0)),
        Objective("probability", "of the right answer", lambda s: np.exp(-s.nll), lambda c: c, (0.0, 1.0)),
        Objective("margin", "logits, answer minus foil", lambda s: s.foil_margin, lambda _: 0.0),
        Objective("nll", "nats per answer", lambda s: s.nll, lambda c: math.log(max(c, 1e-6)), sign=-1),
    )
}  # of every model that chooses among tokens or classes


def flipped(scores: Scores) -> NDArray[np.float64]:
    """Whether the foil (the twin's answer) beats the example's own, 0 or 1 an example."""
    return (scores.foil_margin < 0).astype(np.float64)
