"""A map of queries and keys as data of the page: points to colour, to search and to follow to where they look.

The arrays are those that `tools.methods.kept_points` names. A record from elsewhere may hold anything: what does not fit together
is not shown.
"""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from agent.report.text import inert
from experiments_db.records import Array, Result

PREFIX, LABEL = "shown:", "shown:label:"
FINE = 1000  # steps of a coordinate
LETTERS = 40  # of a label


def points_of(result: Result) -> dict[str, Any] | None:
    """What the page draws; None where a result keeps no such map, or none that can be read.

    heads, kinds (of each point), xy (head, 2 x point) in thousandths, labels (name -> of each point), at (position ->
    sequence, place), tokens (of each sequence), attention (head, position, key) as bytes in base64, images as PNG of so
    many columns of patches.
    """
    arrays = {a.name: a for a in result.arrays if a.name.startswith(PREFIX)}
    try:
        return _read(arrays)
    except (KeyError, ValueError, IndexError, TypeError):
        return None


def _read(arrays: dict[str, Array]) -> dict[str, Any] | None:
    points, at, whose = (arrays[f"{PREFIX}{n}"] for n in ("points", "at", "tokens"))
    xy, kept, sequence = _values(points), _values(at), _values(whose)
    heads, kinds, tokens = points.axes[0].labels, points.axes[1].labels, whose.axes[0].labels
    fits = (
        xy.shape == (len(heads), len(kinds), 2)
        and kept.shape == (len(kinds) // 2,)
        and sequence.shape == (len(tokens),)
    )
    if not fits or not xy.size or (np.diff(sequence) < 0).any() or kept.min() < 0 or kept.max() >= len(tokens):
        return None
    sequence, kept = sequence.astype(int), kept.astype(int)
    starts = {int(s): int(np.searchsorted(sequence, s)) for s in sequence[kept]}
    low, span = xy.min(1, keepdims=True), np.maximum(np.ptp(xy, axis=1).max(-1), 1e-9)[:, None, None]
    labels = {n.removeprefix(LABEL): a.axes[0].labels for n, a in arrays.items() if n.startswith(LABEL)}
    return {
        "heads": heads, "kinds": kinds,
        "xy": np.round((xy - low) / span * FINE).astype(int).reshape(len(heads), -1).tolist(),
        "labels": {n: [_short(v) for v in values] for n, values in labels.items() if len(values) == len(kinds)},
        "at": [(int(sequence[i]), int(i) - starts[int(sequence[i])]) for i in kept],
        "tokens": {s: [_short(t) for t, own in zip(tokens, sequence, strict=True) if own == s] for s in starts},
        "attention": _attention(arrays, len(heads), len(kept)),
        "images": _images(arrays, starts),
        "columns": max([int(v) for v in labels.get("column", ()) if v.isdecimal()], default=0) + 1,
    }  # fmt: skip


def _attention(arrays: dict[str, Array], heads: int, kept: int) -> dict[str, Any] | None:
    found = arrays.get(f"{PREFIX}attention")
    if found is None:
        return None
    w = _values(found)
    if w.ndim != 3 or w.shape[:2] != (heads, kept):
        return None
    said = np.round(np.clip(w, 0, 1) * 255).astype(np.uint8).tobytes()
    return {"keys": w.shape[2], "weights": base64.b64encode(said).decode()}


def _images(arrays: dict[str, Array], wanted: dict[int, int]) -> dict[int, str]:
    found = arrays.get(f"{PREFIX}images")
    if found is None:
        return {}
    pixels = _values(found).clip(0, 255).astype(np.uint8)
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or max(wanted) >= len(pixels):
        return {}
    out: dict[int, str] = {}
    for i in wanted:
        data, one = io.BytesIO(), pixels[i]
        Image.fromarray(one[..., 0] if one.shape[-1] == 1 else one).save(data, "PNG")
        out[i] = base64.b64encode(data.getvalue()).decode()
    return out


def _values(a: Array) -> NDArray[np.float64]:
    found = np.frombuffer(a.data, {"int32": "<i4", "float32": "<f4"}[a.dtype]).reshape(a.shape).astype(np.float64)
    return np.nan_to_num(found)


def _short(text: str) -> str:
    return inert(text if len(text) <= LETTERS else text[: LETTERS - 1] + "…")
