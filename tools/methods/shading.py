"""Tokens with an activation each, kept with a result so that they can be drawn: one column a corpus, one row an example."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from experiments_db.records import Array, Axis

WINDOW = 28  # tokens of a long example that are kept, around its largest activation
SHADED, TOKENS = "shown:shaded", "shown:tokens"


@dataclass(frozen=True)
class Shown:
    """One example of a corpus under one unit."""

    unit: str
    corpus: str
    tokens: tuple[str, ...]
    values: Float[np.ndarray, " tokens"]


def shaded(shown: Sequence[Shown]) -> tuple[Array, ...]:
    """The examples as two arrays, (unit, corpus, example, token): activations, NaN where there is none, and the tokens in the
    labels of the second's one axis; nothing where none are shown.
    """
    units, corpora = (list(dict.fromkeys(getattr(s, of) for s in shown)) for of in ("unit", "corpus"))
    cells: dict[tuple[int, int], list[Shown]] = {}
    for s in shown:
        cells.setdefault((units.index(s.unit), corpora.index(s.corpus)), []).append(s)
    if not cells:
        return ()
    rows, wide = max(map(len, cells.values())), max(min(len(s.tokens), WINDOW) for s in shown)
    values = np.full((len(units), len(corpora), rows, wide), np.nan, dtype="<f4")
    tokens = np.full(values.shape, "", dtype=object)
    for (u, c), found in cells.items():
        for r, s in enumerate(found):
            start = max(0, min(int(s.values.argmax()) - WINDOW * 2 // 3, len(s.tokens) - WINDOW))
            part = slice(start, start + WINDOW)
            values[u, c, r, : len(s.tokens[part])] = s.values[part]
            tokens[u, c, r, : len(s.tokens[part])] = s.tokens[part]
    names = (("unit", units), ("corpus", corpora), ("example", range(rows)), ("token", range(wide)))
    axes = tuple(Axis(name=n, labels=tuple(map(str, labels))) for n, labels in names)
    there = np.array([bool(t) for t in tokens.ravel()])
    said = Axis(name="token", labels=tuple(map(str, tokens.ravel())))
    return (
        Array(name=SHADED, dtype="float32", shape=values.shape, data=values.tobytes(), axes=axes),
        Array(name=TOKENS, dtype="bool", shape=there.shape, data=there.tobytes(), axes=(said,)),
    )
