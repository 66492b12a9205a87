"""Look across everything measured: filter by columns, group, aggregate and sort the measurements on record.

Columns: experiment, tool, name, value, low, high, n, groups, unit, task, split, among, program, component, intervention,
label, dose, token, variant, control_value, difference (own minus control), difference_low, difference_high; and of a
single component its stack, block, part, unit_index (a head, a neuron) and anchor.
"""

from typing import Literal

from pydantic import Field

from experiments_db.records import Outcome
from tools.methods.tool import Context, ToolArgs, ToolInputError

KIND: Literal["notebook"] = "notebook"
EXAMPLE = {"where": ["name=accuracy", "task=addition", "block>=2", "value<0.5"], "order_by": "value", "limit": 10}
OPERATORS = (">=", "<=", "!=", "=", ">", "<")


class Args(ToolArgs):
    """Arguments of query."""

    where: list[str] = Field(
        default=[], description="conditions such as name=accuracy, block>=2, value<0.5; all must hold"
    )
    group_by: list[str] = Field(default=[], description="columns to group by; empty lists single measurements")
    aggregate: Literal["mean", "min", "max", "count", "sum"] = Field(
        default="mean", description="what to do with value within a group"
    )
    order_by: str | None = Field(default=None, description="a column to sort by; null keeps the order of measuring")
    descending: bool = Field(default=False, description="sort the largest first")
    limit: int = Field(default=20, ge=1, le=200, description="at most this many rows")
    this_run: bool = Field(default=True, description="only this run; false: every run in the database")


def run(args: Args, ctx: Context) -> Outcome:
    """Select measurements and print them as a table."""
    conditions = [_condition(c) for c in args.where]
    where: dict[str, dict[str, str | float]] = {}
    for column, operator, value in conditions:
        where.setdefault(column, {})[operator] = value
    try:
        rows = ctx.history.select(
            where, args.group_by, args.aggregate, args.order_by, args.descending, args.limit, args.this_run
        )
    except ValueError as error:
        raise ToolInputError(str(error)) from None
    if not rows:
        return Outcome(text="no measurement fits")
    columns = [c for c in rows[0] if any(r[c] is not None for r in rows)]
    lines = [" | ".join(columns)]
    lines += [
        " | ".join("" if r[c] is None else f"{r[c]:.4g}" if isinstance(r[c], float) else str(r[c]) for c in columns)
        for r in rows
    ]
    return Outcome(text="\n".join(lines))


def _condition(text: str) -> tuple[str, str, str | float]:
    for operator in OPERATORS:
        column, found, value = text.partition(operator)
        if found:
            value = value.strip()
            try:
                number = float(value)
                return column.strip(), operator, int(number) if number.is_integer() else number
            except ValueError:
                return column.strip(), operator, value
    raise ToolInputError(f"{text!r} is no condition: write column, operator and value, for example block>=2")
