"""Arrays and short text tables from measurements."""

from collections.abc import Sequence

import numpy as np

from experiments_db.records import Array, Axis, Measurement


def as_array(name: str, values: np.ndarray, axes: Sequence[tuple[str, Sequence[object]]], unit: str = "") -> Array:
    """A float or integer array with a label for every index of every axis."""
    kinds = {"f": ("float64", "<f8"), "i": ("int64", "<i8"), "b": ("bool", "|b1")}
    dtype, code = kinds[values.dtype.kind]
    labelled = tuple(Axis(name=n, labels=tuple(map(str, labels))) for n, labels in axes)
    if tuple(len(a.labels) for a in labelled) != values.shape:
        raise ValueError(f"axes of {name} have lengths {[len(a.labels) for a in labelled]}, not {values.shape}")
    data = np.ascontiguousarray(values, dtype=code).tobytes()
    return Array(name=name, dtype=dtype, shape=values.shape, data=data, axes=labelled, unit=unit)  # type: ignore[arg-type]


def grid(
    measurements: Sequence[Measurement], name: str, row: str, column: str
) -> tuple[list[str | int], list[str | int], np.ndarray]:
    """Rows, columns and values of one quantity laid out over two coordinates, in order of appearance."""
    picked = [m for m in measurements if m.name == name and getattr(m, row) is not None]
    rows = list(dict.fromkeys(getattr(m, row) for m in picked))
    columns = list(dict.fromkeys(getattr(m, column) for m in picked))
    values = np.full((len(rows), len(columns)), np.nan)
    for m in picked:
        values[rows.index(getattr(m, row)), columns.index(getattr(m, column))] = m.value
    return rows, columns, values


def text_table(rows: Sequence[object], columns: Sequence[object], values: np.ndarray, digits: int = 2) -> str:
    """A plain text table with row labels on the left."""
    cells = [["", *map(str, columns)]]
    cells += [
        [str(r), *("" if np.isnan(v) else f"{v:.{digits}f}" for v in line)]
        for r, line in zip(rows, values, strict=True)
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in cells
    )
