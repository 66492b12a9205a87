"""Records as rows of the database, and rows as records."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments_db.records import COORDINATES, Control, Experiment, Measurement, Result, tagged_hash


@dataclass(frozen=True)
class ExperimentRow:
    """One experiment as a run refers to it: its handle (E7), what was asked, and which result answers it."""

    handle: str
    experiment: Experiment
    result_id: int
    cached: bool
    seq: int
    why: str


MEASUREMENT_COLUMNS = (
    "result", "name", "value", "unit", "n", "low", "high", "control_kind", "control_value", "control_low",
    "control_high", "control_n", *COORDINATES, "key",
)  # fmt: skip


def result_sha(result: Result, arrays: Sequence[tuple[str, str]]) -> str:
    """Hash of what a result says: status, text, measurements and the contents of its arrays; not time or place."""
    said = [m.model_dump() for m in result.measurements]
    return tagged_hash("result", [result.status, result.text, said, [list(a) for a in arrays]])


def measurement_row(result: int, m: Measurement) -> tuple[Any, ...]:
    """A measurement as a row of its table."""
    c = m.control
    control = (c.kind, c.value, c.low, c.high, c.n) if c else (None,) * 5
    coordinates = tuple(getattr(m, name) for name in COORDINATES)
    return (result, m.name, m.value, m.unit, m.n, m.low, m.high, *control, *coordinates, m.key)


_PLAIN = ("name", "value", "unit", "n", "low", "high", *COORDINATES)
_CONTROL = ("kind", "value", "low", "high", "n")
MEASUREMENT_FIELDS = ", ".join((*_PLAIN, *(f"control_{c}" for c in _CONTROL)))


def measurement_from(row: Sequence[Any]) -> Measurement:
    """A measurement from the columns `MEASUREMENT_FIELDS`, in their order."""
    split = len(_PLAIN)
    control = None if row[split] is None else Control(**dict(zip(_CONTROL, row[split:], strict=True)))
    return Measurement(**dict(zip(_PLAIN, row[:split], strict=True)), control=control)


def measurement_of(r: Mapping[str, Any]) -> Measurement:
    """A measurement from a row with all columns by name."""
    return measurement_from([r[c] for c in _PLAIN] + [r[f"control_{c}"] for c in _CONTROL])


def experiment_of(r: Mapping[str, Any]) -> Experiment:
    """An experiment from its row."""
    return Experiment(
        tool=r["tool"], args=json.loads(r["args"]), subject=r["subject"], tasks=json.loads(r["tasks"]), seed=r["seed"],
        dtype=r["dtype"], code=r["code"],
    )  # fmt: skip


def lists_of(r: Mapping[str, Any], *columns: str) -> dict[str, Any]:
    """A row with its JSON columns read."""
    return {**r, **{c: json.loads(r[c]) for c in columns}}
