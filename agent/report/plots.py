"""What can be plotted of a result, found from the coordinates of its measurements: one description for print and screen.

A tool need not say how it is drawn. Of each measured quantity, the coordinates that vary decide: depth alone is a line, two
of them are a heat map, one that has no order is a row of bars; tokens that the model put on top are written into the cells.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agent.report.text import inert
from experiments_db.records import COORDINATES, Measurement, Result

# Which quantities of a tool come first; a tool that is not here shows the first one it measured.
FIRST = {
    "ablate": ("accuracy",),
    "attribute": ("attribution", "exact"),
    "layer_program": ("accuracy",),
    "lens": ("accuracy", "rank", "top1"),
    "loss": ("accuracy",),
    "patch": ("recovered",),
    "path_patch": ("recovered",),
    "steer": ("probability",),
    "tuned_lens": ("accuracy", "kl", "top1"),
}
DEPTH = ("lens", "tuned_lens", "trajectory_anomaly")  # their layers count blocks passed
ALONG = (*DEPTH, "probe")  # their layers are states of one stream, joined by a line; others act on parts, drawn as bars
ROWS = ("layer", "program", "site", "head", "variant", "task", "split", "position", "token")
LINES = 6  # at most this many lines in one plot; more are a heat map
CELLS = 3000

Kind = Literal["heat", "line", "bars"]


@dataclass(frozen=True)
class Point:
    """One measurement of a plot and its number, from 1, in the result's table; `text` is the token written into the cell."""

    measurement: Measurement
    number: int
    text: str | None = None


@dataclass(frozen=True)
class Plot:
    """Points on a grid of rows and columns: cells of a heat map, or one line or set of bars for each row.

    limits: of the colour or value axis. reference: the same quantity with nothing done to the model.
    """

    kind: Kind
    name: str
    unit: str
    title: str
    row_name: str
    column_name: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    points: tuple[tuple[Point | None, ...], ...]
    limits: tuple[float, float]
    log: bool = False
    reference: Point | None = None
    hidden: int = field(default=0)

    @property
    def n(self) -> tuple[int, int]:
        """Smallest and largest number of independent examples behind its points."""
        numbers = [p.measurement.n for row in self.points for p in row if p is not None]
        return min(numbers), max(numbers)

    @property
    def controls(self) -> list[str]:
        """The kinds of control its points stand beside."""
        measured = [p.measurement for row in self.points for p in row if p is not None]
        return sorted({m.control.kind for m in measured if m.control is not None})


def plots(tool: str, result: Result) -> list[Plot]:
    """All plots of a result, the tool's main quantities first; none for single numbers."""
    if result.status != "ok":
        return []
    quantities: dict[tuple[str, str], list[Point]] = {}
    for number, m in enumerate(result.measurements, 1):
        quantities.setdefault((m.name, m.unit), []).append(Point(m, number))
    order = {name: i for i, name in enumerate(FIRST.get(tool, ()))}
    ranked = sorted(quantities.items(), key=lambda item: order.get(item[0][0], len(order)))
    return [p for (name, unit), points in ranked for p in _plots(tool, name, unit, points, _labels(result))]


def main_plots(tool: str, found: Sequence[Plot]) -> list[Plot]:
    """Of all plots of a result, those that a report shows."""
    first = FIRST.get(tool) or tuple(p.name for p in found[:1])
    return [p for p in found if p.name in first][:6]


def _labels(result: Result) -> dict[str, tuple[str, ...]]:
    """Labels of axes that measurements give by number only: the tokens of the one example that a lens grid shows."""
    return {a.axes[1].name: a.axes[1].labels for a in result.arrays if a.name == "top_token" and len(a.axes) > 1}


def _plots(tool: str, name: str, unit: str, points: list[Point], labels: dict[str, tuple[str, ...]]) -> list[Plot]:
    points, reference = _apart(points)
    spelled = _spelled(points)
    if spelled:
        points = [Point(p.measurement, p.number, p.measurement.token) for p in points]
    varying = _varying([p.measurement for p in points], without=("token",) if spelled else ())
    only = points[0].measurement
    if len(points) == 1 and only.site is not None and (only.control is not None or reference is not None):
        varying = ["site"]  # one place beside its control or the intact model is worth a bar
    if not varying:
        return []
    varying.sort(key=ROWS.index)
    while len(varying) > 2:  # small multiples over what has the fewest values
        by = min(varying, key=lambda c: len(_values(points, c)))
        if len(_values(points, by)) > 12:
            return []
        parts = {v: [p for p in points if _coordinate(p, by) == v] for v in _values(points, by)}
        found = [
            _plot(tool, name, unit, part, rest, reference, labels, f"{by} {value}")
            for value, part in parts.items()
            if len(rest := _varying([p.measurement for p in part], without=("token",) if part[0].text else ()))
            in (1, 2)
        ]
        return [p for p in found if p is not None]
    made = _plot(tool, name, unit, points, varying, reference, labels, "")
    return [made] if made else []


def _apart(points: list[Point]) -> tuple[list[Point], Point | None]:
    """Points, and the one that was taken on the intact model beside points that say where they were taken."""
    sited = [p for p in points if p.measurement.site is not None or p.measurement.layer is not None]
    others = [p for p in points if p.measurement.site is None and p.measurement.layer is None]
    if not sited or not others:
        return points, None
    return sited, others[0] if len(others) == 1 else None


def _coordinate(point: Point, name: str) -> str:
    return str(getattr(point.measurement, name))


def _values(points: Iterable[Point], name: str) -> list[str]:
    """Distinct values of a coordinate in order of appearance, numbers in order of size."""
    seen = list(dict.fromkeys(_coordinate(p, name) for p in points))
    try:
        return sorted(seen, key=float)
    except ValueError:
        return seen


def _unique(points: Sequence[Point], names: Sequence[str]) -> bool:
    return len({tuple(_coordinate(p, n) for n in names) for p in points}) == len(points)


def _spelled(points: Sequence[Point]) -> bool:
    """Whether the token is what was found at a place, not a part of the place."""
    others = [c for c in COORDINATES if c != "token"]
    return len(_values(points, "token")) > 1 and _unique(points, others)


def _varying(of: Sequence[Measurement], without: Sequence[str] = ()) -> list[str]:
    """Coordinates with more than one value, less those that say what the others say already (a head's site, its layer)."""
    found = [c for c in COORDINATES if c not in without and len({getattr(m, c) for m in of}) > 1]
    points = [Point(m, 0) for m in of]
    for spare in ("site", "program", "variant", "layer", "split", "task"):
        rest = [c for c in found if c != spare]
        if spare in found and rest and _unique(points, rest):
            found = rest
    return found


def _plot(
    tool: str,
    name: str,
    unit: str,
    points: list[Point],
    varying: list[str],
    reference: Point | None,
    labels: dict[str, tuple[str, ...]],
    title: str,
) -> Plot | None:
    row, column = (varying[0], varying[1]) if len(varying) == 2 else ("", varying[0])
    rows, columns = _values(points, row) if row else [""], _values(points, column)
    text = any(p.text is not None for p in points)
    few = column not in ("head", "position", "site") and len(columns) <= LINES
    if row == "layer" and tool in ALONG and few and not text:
        row, column, rows, columns = column, row, columns, rows  # depth runs along a line for each of a few things
    if not row and tool not in ALONG and column in ("layer", "head") and _unique(points, ["site"]):
        column = "site"  # the one that a person would name
        columns = _values(points, column)
    at = {(_coordinate(p, row) if row else "", _coordinate(p, column)): p for p in points}
    grid = tuple(tuple(at.get((r, c)) for c in columns) for r in rows)
    ordered = column == "layer" and tool in ALONG
    kind: Kind = "heat" if row and (text or not ordered or len(rows) > LINES) else "line" if ordered else "bars"
    if kind == "bars" and len(columns) > 40:
        return None
    kept = max(1, CELLS // len(columns))
    hidden = max(0, len(rows) - kept) * len(columns)
    spelled = labels.get(column, ()) if len(labels.get(column, ())) == len(columns) else ()
    return Plot(
        kind=kind,
        name=name,
        unit=unit,
        title=title,
        row_name=_axis(tool, row),
        column_name=_axis(tool, column) + (" and its token" if spelled else ""),
        rows=tuple(rows[:kept]),
        columns=tuple(spelled) or tuple(columns),
        points=grid[:kept],
        limits=_limits(name, unit, [*points, *([reference] if reference else [])]),
        log=name == "rank",
        reference=reference,
        hidden=hidden,
    )


def _axis(tool: str, coordinate: str) -> str:
    """A coordinate's name on an axis."""
    if coordinate == "layer":
        return "depth (blocks passed)" if tool in DEPTH else "block"
    return {"position": "position, from the prompt's end", "program": "layer program"}.get(coordinate, coordinate)


def _limits(name: str, unit: str, points: Sequence[Point]) -> tuple[float, float]:
    """Limits that mean something where the quantity has them, else those of the data; even about zero if both signs occur."""
    values: list[float] = []
    for p in points:
        m = p.measurement
        of = (m.value, m.low, m.high, *((m.control.value, m.control.low, m.control.high) if m.control else ()))
        values += [v for v in of if v is not None]
    low, high = min(values), max(values)
    if name.endswith(".delta") or (low < 0 < high and min(-low, high) > 0.15 * max(-low, high)):
        reach = max(-low, high) or 1.0
        return -reach, reach
    if name == "recovered" or unit in ("probability", "share of examples") or unit.startswith("share of"):
        return 0.0, max(1.0, high) if name == "recovered" else 1.0
    if name == "rank":
        return 1.0, max(2.0, high)
    low = low if low < -1e-3 * high else 0.0
    return (min(low, 0.0), high) if high > min(low, 0.0) else (low - 0.5, low + 0.5)


def as_json(plot: Plot, link: Callable[[int], str] = lambda _: "") -> dict[str, Any]:
    """A plot for the browser: plain JSON, every text made inert. link: where a measurement's number, from 1, leads."""

    def of(p: Point | None) -> dict[str, Any] | None:
        if p is None:
            return None
        m, c = p.measurement, p.measurement.control
        made: dict[str, Any] = {"v": m.value, "n": m.n, "k": inert(m.key), "i": p.number, "h": link(p.number)}
        if m.low is not None and m.high is not None:
            made |= {"lo": m.low, "hi": m.high}
        if c is not None:
            made |= {"cv": c.value, "ck": inert(c.kind)}
            made |= {"clo": c.low, "chi": c.high} if c.low is not None else {}
        if p.text is not None:
            made["t"] = shown(p.text)
        return made

    low_n, high_n = plot.n
    return {
        "kind": plot.kind,
        "name": plot.name,
        "unit": plot.unit,
        "title": inert(plot.title),
        "rowName": plot.row_name,
        "columnName": plot.column_name,
        "rows": [shown(r) for r in plot.rows],
        "columns": [shown(c) for c in plot.columns],
        "points": [[of(p) for p in row] for row in plot.points],
        "limits": list(plot.limits),
        "log": plot.log,
        "reference": of(plot.reference),
        "n": [low_n, high_n],
        "interval": any(p is not None and p.measurement.low is not None for row in plot.points for p in row),
        "controls": [inert(kind) for kind in plot.controls],
        "hidden": plot.hidden,
    }


def shown(text: str) -> str:
    """A label or token for a figure: whitespace visible, control characters as escapes, the empty one as a sign."""
    seen = inert(text).replace("\n", "↵")
    words = seen.strip(" ")
    before = len(seen) - len(seen.lstrip(" ")) if words else len(seen)
    return "␣" * before + words + "␣" * (len(seen) - before - len(words)) or "∅"
