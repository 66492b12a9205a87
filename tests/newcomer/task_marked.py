"""Say the value that is marked: two of the three features of a series are a value and a mark, at one of the first four times."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tools.tasks.example import Example, Signal
from tools.tasks.task import Family, Options, Split


def draw(split: Split, rng: Any) -> Iterator[Example]:
    while True:
        other = {"explore": 0.0, "confirm": 1e-3}[split]
        rows = np.array([[rng.uniform(-1, 1) + other, 0.0, rng.uniform(-1, 1)] for _ in range(6)], dtype=np.float32)
        at = rng.randrange(4)
        rows[at, 1] = 1.0
        wrong = rows.copy()
        wrong[at, 0] = -np.sign(rows[at, 0]) * rng.uniform(0.4, 1.0)
        yield Example(
            {"series": Signal(rows, f"marked at {at}")}, str(float(rows[at, 0])), str(float(wrong[at, 0])),
            {"series": Signal(wrong, "another value")}, labels={"at": at, "positive": bool(rows[at, 0] > 0)},
            spans={"marked": (at, at + 1)}, twin_spans={"marked": (at, at + 1)},
        )


FAMILIES = (Family("marked", "Say the value that is marked.", Options, lambda _: draw, reads=("series",), subject="tower"),)
