"""Records as rows of the database, and rows as records."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments_db.records import COORDINATES, DERIVED, Control, Experiment, Measurement, Result, tagged_hash


@dataclass(frozen=True)
class ExperimentRow:
    """One experiment as a run refers to it: its handle (E7), what was asked, and which result answers it."""

    handle: str
    experiment: Experiment
    result_id: int
    cached: bool
    seq: int
    why: str


_PLAIN = ("name", "value", "unit", "n", "groups", "low", "high", *COORDINATES)
_CONTROL = ("kind", "value", "low", "high", "n", "difference", "difference_low", "difference_high")
_CONTROL_COLUMNS = tuple(f"control_{c}" if not c.startswith("difference") else c for c in _CONTROL)
MEASUREMENT_FIELDS = ", ".join((*_PLAIN, *_CONTROL_COLUMNS))
MEASUREMENT_COLUMNS = ("result", *_PLAIN, *_CONTROL_COLUMNS, *DERIVED, "key")


def result_sha(result: Result, arrays: Sequence[tuple[str, str]]) -> str:
    """Hash of what a result says: status, text, measurements and the contents of its arrays; not time or place."""
    said = [m.model_dump(exclude_none=True) for m in result.measurements]
    return tagged_hash("result", [result.status, result.text, said, [list(a) for a in arrays]])


def measurement_row(result: int, m: Measurement) -> tuple[Any, ...]:
    """A measurement as a row of its table, in the order of `MEASUREMENT_COLUMNS`."""
    control = (None,) * len(_CONTROL) if m.control is None else tuple(getattr(m.control, name) for name in _CONTROL)
    return (result, *(getattr(m, name) for name in _PLAIN), *control, *m.derived.values(), m.key)


def measurement_from(row: Sequence[Any]) -> Measurement:
    """A measurement from the columns `MEASUREMENT_FIELDS`, in their order."""
    plain = len(_PLAIN)
    control = None if row[plain] is None else Control(**dict(zip(_CONTROL, row[plain:], strict=True)))
    return Measurement(**dict(zip(_PLAIN, row[:plain], strict=True)), control=control)


def measurement_of(r: Mapping[str, Any]) -> Measurement:
    """A measurement from a row with all columns by name."""
    return measurement_from([r[c] for c in (*_PLAIN, *_CONTROL_COLUMNS)])


def is_sound(r: Mapping[str, Any]) -> bool:
    """Whether key and derived columns of a measurement's row are what its other columns say."""
    return measurement_row(r["result"], measurement_of(r)) == tuple(r[c] for c in MEASUREMENT_COLUMNS)


def experiment_of(r: Mapping[str, Any]) -> Experiment:
    """An experiment from its row."""
    return Experiment(
        tool=r["tool"], args=json.loads(r["args"]), subject=r["subject"], tasks=json.loads(r["tasks"]), seed=r["seed"],
        dtype=r["dtype"], code=r["code"],
    )  # fmt: skip


def lists_of(r: Mapping[str, Any], *columns: str) -> dict[str, Any]:
    """A row with its JSON columns read."""
    return {**r, **{c: json.loads(r[c]) for c in columns}}
