"""Arrays and short text tables from measurements."""

from collections.abc import Sequence

import numpy as np

from experiments_db.records import DERIVED, Array, Axis, Measurement


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
) -> tuple[list[str], list[str], np.ndarray]:
    """Rows, columns and values of one quantity laid out over two coordinates, in order of appearance.

    A coordinate is one of the key, or one of a single component: stack, block, part, unit_index, anchor.
    """

    def of(m: Measurement, coordinate: str) -> str | None:
        found = m.derived[coordinate] if coordinate in DERIVED else m.coordinates.get(coordinate)
        return None if found is None else str(found)

    picked = [m for m in measurements if m.name == name and of(m, row) is not None]
    rows, columns = (list(dict.fromkeys(of(m, c) or "" for m in picked)) for c in (row, column))
    values = np.full((len(rows), len(columns)), np.nan)
    for m in picked:
        values[rows.index(of(m, row) or ""), columns.index(of(m, column) or "")] = m.value
    return rows, columns, values


def by_component(measurements: Sequence[Measurement], names: Sequence[str]) -> tuple[list[str], list[str], np.ndarray]:
    """Rows: components, sets or paths; columns: the first quantity, its control, the others; NaN where there is none."""
    of = {(m.component, m.name): m for m in measurements if m.component is not None}
    rows = list(dict.fromkeys(c for c, _ in of))
    table: list[list[float]] = []
    for row in rows:
        found = [of.get((row, name)) for name in names]
        first = found[0]
        control = np.nan if first is None or first.control is None else first.control.value
        own = [np.nan if m is None else m.value for m in found]
        table.append([own[0], control, *own[1:]])
    return rows, [names[0], "control", *names[1:]], np.array(table).reshape(len(rows), len(names) + 1)


def place_text(measurements: Sequence[Measurement], names: Sequence[str]) -> str:
    """A table of quantities by component; where blocks vary with heads or with positions, and these alone, a grid of one."""
    mine = [m for m in measurements if m.name == names[0] and m.component is not None]
    vary = {c for c in DERIVED if len({m.derived[c] for m in mine}) > 1}
    for column in ("unit_index", "anchor"):
        if vary == {"block", column}:
            rows, columns, values = grid(mine, names[0], "block", column)
            fixed = str(mine[0].component).replace(f".{mine[0].derived['block']}.", ".BLOCK.", 1)
            what = {"unit_index": "units", "anchor": "positions"}[column]
            return f"{names[0]} of {fixed} and the like, blocks x {what}\n" + text_table(rows, columns, values)
    return text_table(*by_component(measurements, names))


def component_array(measurements: Sequence[Measurement], name: str) -> Array:
    """One quantity of each component, and of its control."""
    rows, _, values = by_component(measurements, [name])
    unit = next((m.unit for m in measurements if m.name == name and m.component is not None), "")
    return as_array(name, values.T, [("condition", ["own", "control"]), ("component", rows)], unit)


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
