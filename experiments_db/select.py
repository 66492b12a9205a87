"""Build a query over measurements from names and values; names are checked against a list, values are bound."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments_db.records import COORDINATES, DERIVED

COLUMNS = (
    "run", "experiment", "tool", "name", "value", "low", "high", "n", "groups", "unit", *COORDINATES, *DERIVED,
    "control_value", "difference", "difference_low", "difference_high", "key",
)  # fmt: skip
SHOWN = tuple(c for c in COLUMNS if c not in ("run", "key", *DERIVED))
OPERATORS = {"=": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
AGGREGATES = {"mean": "avg(value)", "min": "min(value)", "max": "max(value)", "sum": "sum(value)", "count": "count(*)"}


class SelectError(ValueError):
    """A query that cannot be made; the message lists valid names."""


def build(
    where: Mapping[str, Mapping[str, Any]],
    group_by: Sequence[str],
    aggregate: str,
    order_by: str | None,
    descending: bool,
    limit: int,
    run: str | None,
) -> tuple[str, list[Any]]:
    """(SQL, bound values) for a selection."""
    if aggregate not in AGGREGATES:
        raise SelectError(f"aggregate {aggregate!r} is unknown: use {', '.join(AGGREGATES)}")
    for column in [*where, *group_by]:
        _known(column, COLUMNS)
    values: list[Any] = []
    conditions: list[str] = []
    tests = [(column, operator, value) for column, of in where.items() for operator, value in of.items()]
    for column, operator, value in [*([("run", "=", run)] if run else []), *tests]:
        if operator not in OPERATORS:
            raise SelectError(f"operator {operator!r} is unknown: use {', '.join(OPERATORS)}")
        conditions.append(f"{column} {OPERATORS[operator]} ?")
        values.append(value)
    if group_by:
        beside = [
            "min(value) AS least",
            "max(value) AS largest",
            "avg(control_value) AS control",
        ]  # a mean alone hides both
        shown = [*group_by, f"{AGGREGATES[aggregate]} AS value", *beside, "count(*) AS measurements"]
        names: Sequence[str] = (*group_by, "value", "least", "largest", "control", "measurements")
    else:
        shown = list(SHOWN)
        names = (*SHOWN, "key")
    sql = f"SELECT {', '.join(shown)} FROM measurements_view"
    if conditions:
        sql += " WHERE " + " AND ".join(conditions)
    if group_by:
        sql += f" GROUP BY {', '.join(group_by)}"
    if order_by is not None:
        _known(order_by, names)
        sql += f" ORDER BY {order_by} {'DESC' if descending else 'ASC'}"
    elif not group_by:
        sql += " ORDER BY id"
    return f"{sql} LIMIT ?", [*values, limit]


def _known(column: str, names: Sequence[str]) -> None:
    if column not in names:
        raise SelectError(f"there is no column {column!r}; columns are {', '.join(names)}")
