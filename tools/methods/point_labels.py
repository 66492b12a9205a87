"""What stands at each position of many sequences, by kinds of label: for clusters of positions to be held against."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tools.methods.anchors import span_positions
from tools.methods.tool import ToolInputError
from tools.ports import port_of
from tools.ports.image import grid, resized
from tools.subjects import Subject
from tools.tasks import Example, Signal

Labels = NDArray[np.object_]
COLOURS = ("red", "green", "blue")


def point_labels(
    subject: Subject, examples: Sequence[Example], stack: str, lengths: Sequence[int]
) -> dict[str, Labels]:
    """By name of label one value a position, all sequences after one another, (points); where a query is to be held against another
    value than a key's own, (points, 2): `position before` of a query is the position of the key before it.

    lengths: how many positions each sequence has.
    """
    image = port_of(subject).name == "image"
    rows: dict[str, list[object]] = {}

    def put(name: str, values: Sequence[object]) -> None:
        rows.setdefault(name, []).extend(values)

    for e, n in zip(examples, lengths, strict=True):
        put("position", range(n))
        put("role", _roles(subject, e, n))
        if image:
            columns = grid(subject)[1]
            put("row", ["class", *((i // columns) for i in range(n - 1))])
            put("column", ["class", *((i % columns) for i in range(n - 1))])
            put("colour", _colours(subject, e, n))
        else:
            tokens = [*port_of(subject).labels(subject, e, stack=stack), *[""] * n][:n]
            put("token", tokens)
            put("kind", [kind_of(t) for t in tokens])
    out = {name: np.array([str(v) for v in values], dtype=object) for name, values in rows.items()}
    if not image:
        position = np.concatenate([np.arange(n) for n in lengths])
        both = np.stack([position - 1, position], 1).astype(str)
        out["position before"] = both.astype(object)
    return out


def kind_of(token: str) -> str:
    """Word, number, mark or blank, by a token's first character that is no blank."""
    text = token.strip(" _▁Ġ")
    if not text:
        return "blank"
    return "number" if text[0].isdigit() else "word" if text[0].isalpha() else "mark"


def _roles(subject: Subject, e: Example, n: int) -> list[str]:
    found = [""] * n
    for role in sorted(e.spans, key=lambda r: -abs(e.spans[r][-1] - e.spans[r][0])):
        try:
            for at in span_positions(subject, e, role):
                if at < n:
                    found[at] = role
        except ToolInputError:
            continue
    return found


def _colours(subject: Subject, e: Example, n: int) -> list[str]:
    """Of each patch the strongest channel and whether it is light, of the class position its own."""
    image = e.inputs["image"]
    assert isinstance(image, Signal)
    pixels, (rows, columns) = resized(subject, image).astype(float), grid(subject)
    tall, wide = pixels.shape[0] // rows, pixels.shape[1] // columns
    patches = (
        pixels[: rows * tall, : columns * wide]
        .reshape(rows, tall, columns, wide, -1)
        .mean((1, 3))
        .reshape(rows * columns, -1)
    )
    said = [f"{COLOURS[int(p.argmax()) % 3]}{' light' if p.max() > 127 else ''}" for p in patches]
    return ["class", *said][:n]
