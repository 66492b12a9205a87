"""Trade-off curves: one quantity of an experiment against another one, along the doses of each way of changing the model."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.report.plots import Plot, Point
from experiments_db.records import Result

PAIRS = {"inference_time_intervention": ("true_and_informative", "kl")}  # by tool, what rises and what it costs
LEAST, LINES = 3, 6


@dataclass(frozen=True)
class Tradeoff(Plot):
    """A line for each row through its points, which lie across as another quantity says.

    across: that quantity for each point, rows by columns. across_name: what it is, with its unit.
    """

    across: tuple[tuple[float, ...], ...] = field(default=())
    across_name: str = ""


def tradeoffs(tool: str, results: Mapping[str, Result]) -> list[Plot]:
    """The trade-off curve of each result of a tool that has one; random directions, the control, are a line of their own."""
    if tool not in PAIRS:
        return []
    return [made for handle, r in results.items() if (made := _of(handle, r, *PAIRS[tool])) is not None]


def _of(handle: str, result: Result, rises: str, costs: str) -> Plot | None:
    numbered = list(enumerate(result.measurements, 1))
    cost = {(m.variant, m.dose): m for _, m in numbered if m.name == costs}
    lines: dict[str, list[tuple[Point, float]]] = {}
    for number, m in numbered:
        beside = cost.get((m.variant, m.dose))
        if m.name != rises or beside is None or m.dose is None or m.variant is None or "unseen" in m.variant:
            continue
        lines.setdefault(m.variant, []).append((Point(m, number, handle=handle), beside.value))
    lines = {name: points for name, points in lines.items() if len(points) >= LEAST}
    if not lines:
        return None
    random = [name for name in lines if "random" in name]
    order = [name for name in lines if name not in random] + random[::-1]  # of the controls the largest first
    kept = {name: lines[name] for name in order[:LINES]}
    width = max(map(len, kept.values()))
    first = next(iter(kept.values()))
    doses = max(kept.values(), key=len)
    return Tradeoff(
        kind="line",
        name=rises,
        unit=first[0][0].measurement.unit,
        title=f"against {costs}",
        row_name="variant",
        column_name="dose",
        rows=tuple(kept),
        columns=tuple(f"{p.measurement.dose:g}" for p, _ in doses),
        points=tuple(tuple([p for p, _ in row] + [None] * (width - len(row))) for row in kept.values()),
        limits=(0.0, 1.0),
        across=tuple(tuple([x for _, x in row] + [0.0] * (width - len(row))) for row in kept.values()),
        across_name=f"{costs} ({next(iter(cost.values())).unit})",
    )
