"""The rows of an answer as text: a table to look at, CSV, or JSON."""

import csv
import json
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, TextIO

SHOWN, WIDEST = 1000, 60

Rows = Iterable[Sequence[Any]]


def write_table(columns: Sequence[str], rows: Rows, out: TextIO) -> None:
    """Aligned columns; the first thousand rows, and long texts cut: the other forms have all of it."""
    left = iter(rows)
    some = [[_cell(v) for v in row] for row in islice(left, SHOWN)]
    number = [bool(some) and all(_is_number(r[i]) for r in some) for i in range(len(columns))]
    widths = [max(map(len, [c, *(r[i] for r in some)])) for i, c in enumerate(columns)]
    for row in (columns, ["-" * w for w in widths], *some):
        cells = (f"{c:>{w}}" if right else f"{c:<{w}}" for c, w, right in zip(row, widths, number, strict=True))
        out.write("  ".join(cells).rstrip() + "\n")
    if more := sum(1 for _ in left):
        out.write(f"... and {more} more rows: --format csv or json writes them all\n")


def write_csv(columns: Sequence[str], rows: Rows, out: TextIO) -> None:
    """CSV with a line of names; nothing in a cell that has no value."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


def write_json(columns: Sequence[str], rows: Rows, out: TextIO) -> None:
    """A list of objects, one a line. What JSON has no form for, infinite numbers among it, is a text."""
    names = _distinct(columns)
    before = "[\n"
    for row in rows:
        value = {n: _plain(v) for n, v in zip(names, row, strict=True)}
        out.write(before + json.dumps(value, ensure_ascii=False, allow_nan=False, default=str))
        before = ",\n"
    out.write("\n]\n" if before[0] == "," else "[]\n")


WRITERS: dict[str, Callable[[Sequence[str], Rows, TextIO], None]] = {
    "table": write_table, "csv": write_csv, "json": write_json,
}  # fmt: skip


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    plain = "".join(c if c.isprintable() else " " for c in text[: WIDEST + 1])
    return plain if len(plain) <= WIDEST else plain[: WIDEST - 3] + "..."


def _is_number(cell: str) -> bool:
    try:
        float(cell or "0")
    except ValueError:
        return False
    return True


def _plain(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {str(k): _plain(v) for k, v in value.items()}
        case list() | tuple():
            return [_plain(v) for v in value]
        case bytes():
            return value.hex()
        case _:
            return value


def _distinct(columns: Sequence[str]) -> list[str]:
    """Names of which none hides another of the same."""
    made: list[str] = []
    for c in columns:
        made.append(c if c not in made else f"{c}_{sum(x == c for x in columns[: len(made)]) + 1}")
    return made
