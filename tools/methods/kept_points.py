"""What a result keeps of a map of queries and keys, so that a person can look at it: `agent.review.points` reads it.

- `shown:points` (head, point, coordinate): queries of the kept positions, then their keys, in the plane;
- `shown:at` (position): where each kept position stands among all tokens of all sequences;
- `shown:tokens` (token): the sequence of each token, its axis the tokens themselves; of images the patches;
- `shown:label:NAME` (point): the label of every point, a number for each distinct one, its axis the labels;
- `shown:attention` (head, position, key): where each kept query looks in its own sequence, zero beyond its end;
- `shown:images` (sequence, row, column, channel), of images.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from experiments_db.records import Array, Axis
from tools.methods.point_labels import Labels
from tools.methods.query_keys import Attending
from tools.ports import port_of
from tools.ports.image import resized
from tools.subjects import Subject
from tools.tasks import Example, Signal

Rows = NDArray[np.float64]
Indices = NDArray[np.int64]
SEEN = 1_000_000  # weights of attention that are kept at most


def looks_of(found: Sequence[Attending], head: int, kept: Indices) -> Rows:
    """Where the kept queries of a head look in their own sequences, (kept, longest sequence)."""
    lengths = np.array([x.keys.shape[1] for x in found])
    starts = np.cumsum(lengths) - lengths
    out = np.zeros((len(kept), int(lengths.max())))
    for row, at in enumerate(kept):
        i = int(np.searchsorted(starts, at, side="right")) - 1
        out[row, : lengths[i]] = found[i].weights[head][at - starts[i]]
    return out


def kept_points(
    subject: Subject, examples: Sequence[Example], stack: str, lengths: Sequence[int], kept: Indices,
    heads: Mapping[str, tuple[Rows, Rows]], labels: Mapping[str, Labels],
) -> tuple[Array, ...]:  # fmt: skip
    """All heads' points and what stands at them. heads: of each its points, (2 x kept, 2), and where its kept queries look."""
    names = Axis(name="head", labels=tuple(heads))
    points = np.stack([p for p, _ in heads.values()]).astype("<f4")
    looks = np.stack([w for _, w in heads.values()]).astype("<f4")
    image = port_of(subject).name == "image"
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    if image:
        tokens = [f"patch {i - 1}" if i else "class" for n in lengths for i in range(n)]
    else:
        told = (port_of(subject).labels(subject, e, stack=stack) for e in examples)
        tokens = [t for said, n in zip(told, lengths, strict=True) for t in [*said, *[""] * n][:n]]
    kinds = Axis(name="point", labels=("query",) * len(kept) + ("key",) * len(kept))
    plane = Axis(name="coordinate", labels=("x", "y"))
    out = [
        Array(name="shown:points", dtype="float32", shape=points.shape, data=points.tobytes(), axes=(names, kinds, plane)),
        _whole("shown:at", kept),
        _whole("shown:tokens", sequence, Axis(name="token", labels=tuple(tokens))),
    ]  # fmt: skip
    for name, given in labels.items():
        both = given if given.ndim == 2 else np.stack([given, given], 1)
        values = [str(v) for v in (*both[kept, 0], *both[kept, 1])]
        numbers = {v: i for i, v in enumerate(dict.fromkeys(values))}
        codes = np.array([numbers[v] for v in values])
        out.append(_whole(f"shown:label:{name}", codes, Axis(name="point", labels=tuple(values))))
    if looks.size <= SEEN:
        out.append(Array(name="shown:attention", dtype="float32", shape=looks.shape, data=looks.tobytes()))
    if image:
        pixels = np.stack(
            [resized(subject, e.inputs["image"]) for e in examples if isinstance(e.inputs["image"], Signal)]
        )
        out.append(_whole("shown:images", pixels))
    return tuple(out)


def _whole(name: str, values: NDArray[np.integer], *axes: Axis) -> Array:
    return Array(name=name, dtype="int32", shape=values.shape, data=values.astype("<i4").tobytes(), axes=axes)
