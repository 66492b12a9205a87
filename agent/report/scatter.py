"""Queries and keys of every head in the plane, as one picture of small multiples.

A result keeps them as an array `shown:points`, (head, point, coordinate), whose axes name the heads and say which points are
queries and which are keys.
"""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from experiments_db.records import Array, Result

POINTS = "shown:points"
CELL, GAP, TOP, ACROSS = 168, 14, 40, 4
COLOURS = {"query": (37, 99, 235), "key": (234, 88, 12)}
INK, FRAME, PAPER = (31, 41, 55), (203, 213, 225), (255, 255, 255)
MOST = 400  # heads


def scatter_of(result: Result) -> bytes | None:
    """The picture as PNG; None where the result keeps no points, or none that can be read."""
    found = next((a for a in result.arrays if a.name == POINTS and _sound(a)), None)
    if found is None:
        return None
    heads, kinds = found.axes[0].labels, found.axes[1].labels
    points = np.nan_to_num(np.frombuffer(found.data, "<f4").reshape(found.shape).astype(np.float64))
    rows = -(-len(heads) // ACROSS)
    made = Image.new("RGB", (ACROSS * (CELL + GAP) + GAP, TOP + rows * (CELL + 18 + GAP)), PAPER)
    pen, font = ImageDraw.Draw(made), ImageFont.load_default(12)
    for i, (kind, colour) in enumerate(COLOURS.items()):
        pen.ellipse((GAP + 90 * i, 14, GAP + 90 * i + 8, 22), fill=colour)
        pen.text((GAP + 90 * i + 14, 11), {"query": "queries", "key": "keys"}[kind], fill=INK, font=font)
    for i, (head, at) in enumerate(zip(heads, points, strict=True)):
        left, top = GAP + (i % ACROSS) * (CELL + GAP), TOP + (i // ACROSS) * (CELL + 18 + GAP)
        pen.text((left, top), f"head {head}", fill=INK, font=font)
        top += 18
        pen.rectangle((left, top, left + CELL, top + CELL), outline=FRAME)
        low, span = at.min(0), np.maximum(at.max(0) - at.min(0), 1e-9).max()
        placed = (at - low - (at.max(0) - low) / 2) / span * (CELL - 12) + CELL / 2
        order = np.random.default_rng(0).permutation(len(placed))  # neither kind lies on top of the other
        for p in order:
            x, y = left + placed[p, 0], top + CELL - placed[p, 1]
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=COLOURS.get(kinds[p], INK))
    out = io.BytesIO()
    made.save(out, "PNG")
    return out.getvalue()


def scatter_words(result: Result) -> str:
    """What the picture shows, for those who do not see it."""
    found = next(a for a in result.arrays if a.name == POINTS)
    return f"queries and keys of {len(found.axes[0].labels)} heads, each head's in one plane"


def _sound(a: Array) -> bool:
    """Whether it is what was written: a record from elsewhere may hold anything."""
    whole = a.dtype == "float32" and len(a.shape) == 3 and a.shape[2] == 2 and 0 < a.shape[0] <= MOST and a.shape[1] > 0
    return whole and a.shape == tuple(len(x.labels) for x in a.axes) and len(a.data) == 4 * int(np.prod(a.shape))
