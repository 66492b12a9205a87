"""What can be plotted of a result, found from the coordinates of its measurements: one description for print and screen.

A tool need not say how it is drawn. Of each measured quantity, the coordinates that vary decide, and of its components
their fields: depth alone is a line, two of them are a heat map (blocks by heads, blocks by anchors), one that has no order
is a row of bars; tokens that the model put on top are written into the cells.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agent.report.text import inert
from experiments_db.places import PARTS, Component, ComponentSet, Path
from experiments_db.records import COORDINATES, Measurement, Place, Result

# Which quantities of a tool come first; a tool that is not here shows the first one it measured.
FIRST = {
    "ablate": ("accuracy",),
    "attribute": ("attribution", "exact"),
    "layer_program": ("accuracy", "cer", "wer", "repeated", "not_there"),
    "lens": ("accuracy", "rank", "top1"),
    "loss": ("accuracy",),
    "patch": ("recovered",),
    "path_patch": ("recovered",),
    "steer": ("probability",),
    "tuned_lens": ("accuracy", "kl", "top1"),
}
UNITS = tuple(sorted({p.unit for p in PARTS.values() if p.unit}))
# States of one stream, steps along one direction, blocks left out at the end: joined by a line; parts are drawn as bars.
ALONG = ("depth", "dose", "missing")
ROWS = (
    "stack", "depth", "block", "missing", "program", "component", "part", *UNITS, "pass", "feature", "intervention", "variant",
    "label", "dose", "among", "task", "split", "anchor", "key", "token",
)  # fmt: skip
OWN = "answers that repeat words"
LINES = 6  # at most this many lines in one plot; more are a heat map
CELLS = 3000

DROPPED = re.compile(r"(?P<stack>\w+: )?drop last (?P<count>\d+)")
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
    return [p for (name, unit), points in ranked for p in _plots(name, unit, points, _labels(result))]


def main_plots(tool: str, found: Sequence[Plot]) -> list[Plot]:
    """Of all plots of a result, those that a report shows: of attention to answers of the model's own its entropy."""
    if tool == "attention" and (
        spread := [p for p in found if p.name == "entropy" and OWN in (p.title, *p.rows, *p.columns)]
    ):
        return spread
    first = FIRST.get(tool) or tuple(p.name for p in found[:1])
    return [p for p in found if p.name in first][:6]


def _labels(result: Result) -> dict[str, tuple[str, ...]]:
    """Labels of axes that measurements give by number only: the tokens of the one example that a lens grid shows."""
    return {a.axes[1].name: a.axes[1].labels for a in result.arrays if a.name == "top_token" and len(a.axes) > 1}


Where = dict[str, str]  # of one point: its coordinates, with the fields of its component in that one's place


def _plots(name: str, unit: str, points: list[Point], labels: dict[str, tuple[str, ...]]) -> list[Plot]:
    points, reference = _apart(points)
    if _spelled(points):
        points = [Point(p.measurement, p.number, p.measurement.token) for p in points]
    wheres = _wheres(points)
    varying = _varying(wheres)
    only = points[0].measurement
    if len(points) == 1 and only.component is not None and (only.control is not None or reference is not None):
        wheres = [{**w, "component": str(only.place)} for w in wheres]
        varying = ["component"]  # one place beside its control or the intact model is worth a bar
    if not varying:
        return []
    varying.sort(key=ROWS.index)
    while len(varying) > 2:  # small multiples over what has the fewest values
        by = min(varying, key=lambda c: len(_values(wheres, c)))
        if len(_values(wheres, by)) > 12:
            return []
        found: list[Plot | None] = []
        for value in _values(wheres, by):
            part = [(p, w) for p, w in zip(points, wheres, strict=True) if w.get(by, "") == value]
            rest = _varying([w for _, w in part])
            if len(rest) in (1, 2):
                found.append(_plot(name, unit, *_unzip(part), rest, reference, labels, f"{by} {value}"))
        return [p for p in found if p is not None]
    made = _plot(name, unit, points, wheres, varying, reference, labels, "")
    return [made] if made else []


def _unzip(pairs: Sequence[tuple[Point, Where]]) -> tuple[list[Point], list[Where]]:
    return [p for p, _ in pairs], [w for _, w in pairs]


def _apart(points: list[Point]) -> tuple[list[Point], Point | None]:
    """Points, and the one that was taken on the intact model beside points that say where they were taken."""
    sited = [p for p in points if p.measurement.component is not None]
    others = [p for p in points if p.measurement.component is None]
    if not sited or not others:
        return points, None
    return sited, others[0] if len(others) == 1 else None


def _wheres(points: Sequence[Point]) -> list[Where]:
    """For each point its coordinates as text; components by their fields, or by a short text where they have not the same."""
    places = [p.measurement.place for p in points]
    fields = _fields(places)
    plain = [{k: v for k, v in p.measurement.coordinates.items() if k != "component"} for p in points]
    text = any(p.text is not None for p in points)
    plain = _missing(plain)
    return [
        {k: v for k, v in (w | f).items() if not (text and k == "token")} for w, f in zip(plain, fields, strict=True)
    ]


def _missing(wheres: list[Where]) -> list[Where]:
    """Where all programs leave out the last blocks of one stack, how many in their place."""
    programs = [w.get("program", "") for w in wheres]
    found = {p: DROPPED.fullmatch(p) for p in programs if p != "intact"}
    if len(found) < 2 or not all(found.values()):
        return wheres
    if len({m["stack"] for m in found.values() if m}) > 1:
        return wheres
    sizes = {p: m["count"] for p, m in found.items() if m}
    return [
        {**{k: v for k, v in w.items() if k != "program"}, "missing": sizes.get(p, "0")}
        for w, p in zip(wheres, programs, strict=True)
    ]


def _fields(places: Sequence[Place | None]) -> list[Where]:
    if all(isinstance(p, Component) for p in places):
        return _component_fields([p for p in places if isinstance(p, Component)])
    if paths := [p for p in places if isinstance(p, Path)]:
        senders, ends = [p.nodes[0] for p in paths], {(p.nodes[1:], p.frozen) for p in paths}
        if len(paths) == len(places) and len(ends) == 1 and len(set(senders)) == len(senders):
            return _component_fields(senders)
    return [{} if p is None else {"component": t} for p, t in zip(places, _short(places), strict=True)]


def _component_fields(components: Sequence[Component]) -> list[Where]:
    """Depth of states of the stream; block and part, or a short text in their place where both vary, of all others."""
    parts = {c.part for c in components}
    is_stream = parts <= {"embed", "resid_post"} or parts == {"resid_pre"}
    apart = len(parts) > 1 and len({c.block for c in components}) > 1 and not any(c.units for c in components)
    shorts = _short([c.but(anchor="") for c in components]) if apart and not is_stream else []
    out: list[Where] = []
    for i, c in enumerate(components):
        unit = PARTS[c.part].unit or "unit"
        where = {"stack": c.stack, "anchor": c.anchor, "key": c.key, "feature": c.feature}
        where |= {"pass": "" if c.passes is None else str(c.passes), unit: ",".join(map(str, c.units))}
        if is_stream:
            where["depth"] = str(0 if c.block is None else c.block + (c.part == "resid_post"))
        elif shorts:
            where["component"] = shorts[i]
        else:
            where |= {"block": "" if c.block is None else str(c.block), "part": c.part}
        out.append({k: v for k, v in where.items() if v})
    return out


def _short(places: Sequence[Place | None]) -> list[str]:
    """Places as text, without the stack and the anchor that all their components share."""
    members = [c for p in places if p is not None for c in _members(p)]
    one_stack, one_anchor = len({c.stack for c in members}) == 1, len({c.anchor for c in members}) == 1

    def text(c: Component) -> str:
        short = str(c.but(anchor="") if one_anchor and not c.key else c)
        return short.removeprefix(f"{c.stack}.") if one_stack else short

    return [(" -> " if isinstance(p, Path) else " + ").join(map(text, _members(p))) if p else "" for p in places]


def _members(place: Place) -> Sequence[Component]:
    match place:
        case Component():
            return (place,)
        case ComponentSet():
            return place.members
        case Path():
            return place.nodes


def _values(wheres: Iterable[Where], name: str) -> list[str]:
    """Distinct values of a coordinate in order of appearance, numbers in order of size."""
    seen = list(dict.fromkeys(w.get(name, "") for w in wheres))
    try:
        return sorted(seen, key=float)
    except ValueError:
        return seen


def _unique(wheres: Sequence[Where], names: Sequence[str]) -> bool:
    return len({tuple(w.get(n) for n in names) for w in wheres}) == len(wheres)


def _spelled(points: Sequence[Point]) -> bool:
    """Whether the token is what was found at a place, not a part of the place."""
    found = [p.measurement.coordinates for p in points]
    return len(_values(found, "token")) > 1 and _unique(found, [c for c in COORDINATES if c != "token"])


def _varying(wheres: Sequence[Where]) -> list[str]:
    """Coordinates with more than one value, less those that say what the others say already (an intervention, its dose)."""
    found = [c for c in ROWS if len({w.get(c) for w in wheres}) > 1]
    for spare in ("intervention", "part", "program", "variant", "block", "split", "task"):
        rest = [c for c in found if c != spare]
        if spare in found and rest and _unique(wheres, rest):
            found = rest
    return found


def _plot(
    name: str,
    unit: str,
    points: list[Point],
    wheres: list[Where],
    varying: list[str],
    reference: Point | None,
    labels: dict[str, tuple[str, ...]],
    title: str,
) -> Plot | None:
    row, column = (varying[0], varying[1]) if len(varying) == 2 else ("", varying[0])
    rows, columns = _values(wheres, row) if row else [""], _values(wheres, column)
    text = any(p.text is not None for p in points)
    few = column not in (*UNITS, "anchor", "component", "key") and len(columns) <= LINES
    if row in ALONG and column not in ALONG and few and not text:
        row, column, rows, columns = column, row, columns, rows  # depth runs along a line for each of a few things
    if column in ("block", *UNITS) and not row:
        shorts = _short([p.measurement.place for p in points])
        if len(set(shorts)) == len(points):  # what a person would call them
            at = {(w.get(column, "")): s for w, s in zip(wheres, shorts, strict=True)}
            wheres, columns, column = (
                [{"component": at[w.get(column, "")]} for w in wheres],
                [at[c] for c in columns],
                "component",
            )
    placed = {(w.get(row, ""), w.get(column, "")): p for p, w in zip(points, wheres, strict=True)}
    grid = tuple(tuple(placed.get((r, c)) for c in columns) for r in rows)
    ordered = column in ALONG
    kind: Kind = "heat" if row and (text or not ordered or len(rows) > LINES) else "line" if ordered else "bars"
    if kind == "bars" and len(columns) > 40:
        return None
    kept = max(1, CELLS // len(columns))
    hidden = max(0, len(rows) - kept) * len(columns)
    tokens = labels.get("position", ()) if column == "anchor" else ()
    spelled = tokens if len(tokens) == len(columns) else ()
    return Plot(
        kind=kind,
        name=name,
        unit=unit,
        title=title,
        row_name=_axis(row),
        column_name=_axis(column) + (" and its token" if spelled else ""),
        rows=tuple(rows[:kept]),
        columns=tuple(spelled) or tuple(columns),
        points=grid[:kept],
        limits=_limits(name, unit, [*points, *([reference] if reference else [])]),
        log=name == "rank",
        reference=reference,
        hidden=hidden,
    )


def _axis(coordinate: str) -> str:
    """A coordinate's name on an axis."""
    names = {
        "depth": "depth (blocks passed)",
        "anchor": "position",
        "key": "position looked at",
        "missing": "last blocks left out",
        "program": "layer program",
    }
    return names.get(coordinate, coordinate)


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
