"""Boards: of labels that are squares (`side.c4`), what each one is, is read as, or is worth, drawn where the square lies."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.report.plots import Plot, Point
from experiments_db.records import Array, Measurement, Result

SQUARE = re.compile(r"([a-z])(\d+)")
BETWEEN = " | "  # between the values of labels that are drawn as colours
MOST = 6  # boards of one kind


@dataclass(frozen=True)
class Board(Plot):
    """A heat map of squares. values: what the cells' numbers stand for, where they are no quantity."""

    values: tuple[str, ...] = field(default=())


def boards(tool: str, results: Mapping[str, Result]) -> list[Plot]:
    """What a result has of squares: probes' accuracy on each, an example's board as it is, as it is read and as it is changed, the
    probability of its moves, and how much each square is worth to its answer.
    """
    if tool not in ("probe", "rewrite"):
        return []
    return [b for handle, r in results.items() for a in r.arrays for b in _of(handle, r, a)]


def _of(handle: str, result: Result, array: Array) -> Sequence[Plot]:
    if array.name not in ("by_label", "example_labels", "example_answers", "saliency") or len(array.axes) != 2:
        return []
    rows, squares = array.axes[0].labels, array.axes[1].labels
    if not squares or not all(SQUARE.fullmatch(s) for s in squares):
        return []
    table: NDArray[Any] = np.frombuffer(array.data, dtype=array.dtype).reshape(array.shape)
    values = tuple(array.unit.split(BETWEEN)) if array.name == "example_labels" else ()
    n = result.measurements[0].n if array.name == "by_label" and result.measurements else 1
    made = [_board(handle, array, name, squares, line, values, n) for name, line in zip(rows, table, strict=True)]
    if array.name != "by_label" or len(made) <= MOST:
        return made[:MOST]
    best = np.argsort(-table.mean(1), kind="stable")[:MOST]
    return [made[i] for i in sorted(best.tolist())]


def _board(
    handle: str, array: Array, title: str, squares: Sequence[str], line: NDArray[Any], values: tuple[str, ...], n: int
) -> Board:
    names = {"by_label": "read right", "example_labels": "squares", "example_answers": "moves", "saliency": "saliency"}
    name, unit = names[array.name], "" if values else array.unit
    places = [SQUARE.fullmatch(s) for s in squares]
    columns = sorted({m[1] for m in places if m})
    rows = sorted({m[2] for m in places if m}, key=int)
    if array.name == "example_answers":  # a move is drawn on the whole board
        columns = [chr(c) for c in range(ord("a"), ord(max(columns)) + 1)]
        rows = [str(i + 1) for i in range(max(map(int, rows)))]
    grid: list[list[Point | None]] = [[None] * len(columns) for _ in rows]
    for m, v in zip(places, line.tolist(), strict=True):
        if m is not None and not np.isnan(v):
            text = values[int(v)] if values else None
            measured = Measurement(name=name, unit=unit or "value", value=float(v), n=n)
            grid[rows.index(m[2])][columns.index(m[1])] = Point(measured, 0, text, handle)
    finite = line[~np.isnan(line)]
    reach = float(np.abs(finite).max()) if finite.size else 1.0
    if array.name == "saliency":
        limits = (-max(reach, 1e-6), max(reach, 1e-6))
    elif values:
        limits = (0.0, float(max(1, len(values) - 1)))
    else:
        limits = (0.0, 1.0) if array.name == "by_label" else (0.0, max(reach, 1e-6))
    return Board(
        kind="heat",
        name=name,
        unit=unit or "by colour",
        title=title,
        row_name="",
        column_name="",
        rows=tuple(rows),
        columns=tuple(columns),
        points=tuple(map(tuple, grid)),
        limits=limits,
        values=values,
    )
