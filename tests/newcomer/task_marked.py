"""Say the value that is marked: two of the three features of a series are a value and a mark, at one of the first four times.

The third means nothing; `filled=mirrored` gives the same problems with it the other way round. In `starred` all times depend on the
marked one.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np

from tools.tasks.example import Example, Signal
from tools.tasks.task import Family, Options, Split


class Filled(Options):
    filled: Literal["plain", "mirrored"] = "plain"


def draw(options: Filled, split: Split, rng: Any) -> Iterator[Example]:
    while True:
        other = {"explore": 0.0, "confirm": 1e-3}[split]
        rows = np.array([[rng.uniform(-1, 1) + other, 0.0, rng.uniform(-1, 1)] for _ in range(6)], dtype=np.float32)
        at = rng.randrange(4)
        rows[at, 1] = 1.0
        group = str(rows.tolist())
        if options.filled == "mirrored":
            rows[:, 2] = rows[::-1, 2]
        wrong = rows.copy()
        wrong[at, 0] = -np.sign(rows[at, 0]) * rng.uniform(0.4, 1.0)
        yield Example(
            {"series": Signal(rows, f"marked at {at}")}, str(float(rows[at, 0])), str(float(wrong[at, 0])),
            {"series": Signal(wrong, "another value")}, group=group, labels={"at": at, "positive": bool(rows[at, 0] > 0)},
            spans={"marked": (at, at + 1)}, twin_spans={"marked": (at, at + 1)},
        )


def starred(split: Split, rng: Any) -> Iterator[Example]:
    for e in draw(Filled(), split, rng):
        at = e.labels["at"]
        heads = {f"t{i}": "" if i == at else f"t{at}" for i in range(6)}
        known = {role: {"head": head, "relation": "before" if role < head else "after"} for role, head in heads.items()}
        spans = {f"t{i}": (i, i + 1) for i in range(6)}
        yield replace(e, spans=spans, twin_spans=spans, span_labels=known)


FAMILIES = (
    Family("marked", "Say the value that is marked.", Filled, lambda o: partial(draw, o), reads=("series",), subject="tower"),
    Family("starred", "The same, with a tree.", Options, lambda _: starred, reads=("series",), subject="tower"),
)
