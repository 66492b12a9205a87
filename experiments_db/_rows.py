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
    c = m.control
    control = (c.kind, c.value, c.low, c.high, c.n) if c else (None,) * 5
    coordinates = tuple(getattr(m, name) for name in COORDINATES)
    return (result, m.name, m.value, m.unit, m.n, m.low, m.high, *control, *coordinates, m.key)


def measurement_of(r: Mapping[str, Any]) -> Measurement:
    control = None
    if r["control_kind"] is not None:
        control = Control(
            kind=r["control_kind"],
            value=r["control_value"],
            low=r["control_low"],
            high=r["control_high"],
            n=r["control_n"],
        )
    plain = {k: r[k] for k in ("name", "value", "unit", "n", "low", "high", *COORDINATES)}
    return Measurement(**plain, control=control)


def experiment_of(r: Mapping[str, Any]) -> Experiment:
    return Experiment(
        tool=r["tool"], args=json.loads(r["args"]), subject=r["subject"], tasks=json.loads(r["tasks"]), seed=r["seed"],
        dtype=r["dtype"], code=r["code"],
    )  # fmt: skip


def lists_of(r: Mapping[str, Any], *columns: str) -> dict[str, Any]:
    return {**r, **{c: json.loads(r[c]) for c in columns}}
