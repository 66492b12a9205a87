"""What can be plotted of a result, found from the coordinates of its measurements: one description for print and screen.

A tool need not say how it is drawn. Of each measured quantity, the coordinates that vary decide, and of its components
their fields: depth alone is a line, two of them are a heat map (blocks by heads, blocks by anchors), one that has no order
is a row of dots for each of a few sets; tokens that the model put on top are written into the cells.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from agent.report.numbers import value_text
from agent.report.text import inert
from experiments_db.places import PARTS, Component, ComponentSet, Path
from experiments_db.records import COORDINATES, Measurement, Place, Result

# Which quantities of a tool come first; a tool that is not here shows the first one it measured.
FIRST = {
    "ablate": ("accuracy",), "attribute": ("attribution", "exact"), "attribute_regions": ("sic", "aic", "hit", "decides"),
    "examine": ("effect",), "layer_program": ("accuracy", "cer", "wer", "repeated", "not_there"),
    "lens": ("accuracy", "rank", "top1"), "loss": ("accuracy",), "minimal_set": ("accuracy",), "patch": ("recovered",),
    "path_patch": ("recovered",), "probe": ("accuracy", "r2", "code_length", "erased.delta"), "rewrite": ("set_errors",),
    "steer": ("probability",), "tuned_lens": ("accuracy", "kl", "top1"),
}  # fmt: skip
INSTEAD = {"patch": ("flipped",)}  # where none of the first was measured: a sequential sweep has no other
UNITS = tuple(sorted({p.unit for p in PARTS.values() if p.unit}))
# States of one stream, steps along one direction, blocks left out at the end: joined by a line; parts are drawn as dots.
ALONG = ("depth", "dose", "missing")
ROWS = (
    "stack", "depth", "block", "missing", "program", "component", "part", *UNITS, "pass", "feature", "intervention", "variant",
    "label", "dose", "among", "task", "split", "anchor", "key", "token",
)  # fmt: skip
OWN = "answers that repeat words"
LINES = 6  # at most this many lines in one plot; more are a heat map
CELLS, LEAST = 3000, 3  # with fewer points a figure says no more than its numbers
SETS, FEW = ("intervention", "among", "task", "split"), 4  # few of these are drawn beside each other, not as a heat map

DROPPED = re.compile(r"(?P<stack>\w+: )?drop last (?P<count>\d+)")
Kind = Literal["heat", "line", "dots"]


@dataclass(frozen=True)
class Point:
    """One measurement of a plot: its number, from 1, in the table of an experiment; `text` is the token written into the cell."""

    measurement: Measurement
    number: int
    text: str | None = None
    handle: str = ""


@dataclass(frozen=True)
class Plot:
    """Points on a grid of rows and columns: cells of a heat map, or one line or set of dots for each row.

    limits: of the colour or value axis. reference: the same quantity with nothing done to the model. chance: what a guesser gets.
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
    chance: float | None = None
    hidden: int = field(default=0)

    @property
    def n(self) -> tuple[int, int]:
        """Smallest and largest number of independent examples behind its points."""
        numbers = [p.measurement.n for row in self.points for p in row if p is not None]
        return min(numbers), max(numbers)

    @property
    def size(self) -> int:
        """How many points it has."""
        return sum(p is not None for row in self.points for p in row)

    @property
    def controls(self) -> list[str]:
        """The kinds of control its points stand beside."""
        measured = [p.measurement for row in self.points for p in row if p is not None]
        return sorted({m.control.kind for m in measured if m.control is not None})


def plots(tool: str, result: Result, chance: float | None = None) -> list[Plot]:
    """All plots of a result, the tool's main quantities first; none for a few numbers. chance: where the result does not say."""
    return plots_beside(tool, {"": result}, chance)


def plots_beside(tool: str, results: Mapping[str, Result], chance: float | None = None) -> list[Plot]:
    """The same of several results of one tool, by their handles, drawn into one plot where they have the same quantity."""
    quantities: dict[tuple[str, str], list[Point]] = {}
    labels: dict[str, tuple[str, ...]] = {}
    for handle, result in results.items():
        labels |= _labels(result)
        for number, m in enumerate(result.measurements if result.status == "ok" else (), 1):
            quantities.setdefault((m.name, m.unit), []).append(Point(m, number, handle=handle))
    order = {name: i for i, name in enumerate(FIRST.get(tool, ()))}
    ranked = sorted(quantities.items(), key=lambda item: order.get(item[0][0], len(order)))
    found = [p for (name, unit), points in ranked for p in _plots(name, unit, points, labels)]
    own = {p.measurement.value for (name, _), points in quantities.items() if name == "chance" for p in points}
    level = chance if not own else own.pop() if len(own) == 1 else None
    of_task = ("accuracy", "share of examples")
    return [replace(p, chance=level) if (p.name, p.unit) == of_task else p for p in found if p.size >= LEAST]


def main_plots(tool: str, found: Sequence[Plot]) -> list[Plot]:
    """Of all plots of a result, those that a report shows: of attention to answers of the model's own its entropy."""
    if tool == "attention" and (
        spread := [p for p in found if p.name == "entropy" and OWN in (p.title, *p.rows, *p.columns)]
    ):
        return spread
    first = FIRST.get(tool) or tuple(p.name for p in found[:1])
    shown = [p for p in found if p.name in first] or [p for p in found if p.name in INSTEAD.get(tool, ())]
    return shown[:6]


def _labels(result: Result) -> dict[str, tuple[str, ...]]:
    """Labels of axes that measurements give by number only: the tokens of the one example that a lens grid shows."""
    return {a.axes[1].name: a.axes[1].labels for a in result.arrays if a.name == "top_token" and len(a.axes) > 1}


Where = dict[str, str]  # of one point: its coordinates, with the fields of its component in that one's place


def _plots(name: str, unit: str, points: list[Point], labels: dict[str, tuple[str, ...]]) -> list[Plot]:
    points, reference = _apart(points)
    if _spelled(points):
        points = [replace(p, text=p.measurement.token) for p in points]
    wheres = _wheres(points)
    varying = _varying(wheres)
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
    return sited, others[0] if len({p.measurement.value for p in others}) == 1 else None


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
    if column in SETS and row not in (*SETS, *ALONG) and len(columns) <= FEW and not text:
        row, column, rows, columns = column, row, columns, rows  # dots of each of a few sets beside each other
    if column in ("block", *UNITS) and (not row or row in SETS):
        shorts = _short([p.measurement.place for p in points])
        if len(set(shorts)) == len(columns):  # what a person would call them
            at = {(w.get(column, "")): s for w, s in zip(wheres, shorts, strict=True)}
            wheres, columns, column = (
                [{**w, "component": at[w.get(column, "")]} for w in wheres],
                [at[c] for c in columns],
                "component",
            )
    placed = {(w.get(row, ""), w.get(column, "")): p for p, w in zip(points, wheres, strict=True)}
    grid = tuple(tuple(placed.get((r, c)) for c in columns) for r in rows)
    ordered = column in ALONG
    few = row in SETS and len(rows) <= FEW and not text
    flat = row and (text or not (ordered or few) or len(rows) > LINES)
    kind: Kind = "heat" if flat else "line" if ordered else "dots"
    if kind == "dots" and len(columns) > 40:
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
    if name.endswith((".delta", ".difference")) or (low < 0 < high and min(-low, high) > 0.15 * max(-low, high)):
        reach = max(-low, high) or 1.0
        return -reach, reach
    if name == "recovered" or unit in ("probability", "share of examples") or unit.startswith("share of"):
        return 0.0, max(1.0, high) if name == "recovered" else 1.0
    if name == "rank":
        return 1.0, max(2.0, high)
    low = low if low < -1e-3 * high else 0.0
    return (min(low, 0.0), high) if high > min(low, 0.0) else (low - 0.5, low + 0.5)


def describe(plot: Plot, p: Point, i: int, j: int) -> str:
    """What a point says: where, value with interval and n, control."""
    m, c = p.measurement, p.measurement.control
    place = [
        f"{name} {shown(text)}"
        for name, text in ((plot.row_name, plot.rows[i]), (plot.column_name, plot.columns[j]))
        if text
    ]
    token = [f"top token “{shown(p.text)}”"] if p.text is not None else []
    value = f"{plot.name} {value_text(m.value, m.unit)}"
    if m.low is not None and m.high is not None:
        value += f" (95% interval {value_text(m.low, m.unit)} to {value_text(m.high, m.unit)}, n={m.n})"
    else:
        value += f" (n={m.n})"
    said = [", ".join(place), *token, value, *([] if m.unit == "share of examples" else [m.unit])]
    if c is not None:
        said.append(f"control {value_text(c.value, m.unit)}{_range(c.low, c.high, m.unit)}: {c.kind}")
    return inert(" · ".join(said))


def _range(low: float | None, high: float | None, unit: str) -> str:
    return "" if low is None or high is None else f" [{value_text(low, unit)}, {value_text(high, unit)}]"


def shown(text: str) -> str:
    """A label or token for a figure: whitespace visible, control characters as escapes, the empty one as a sign."""
    seen = inert(text).replace("\n", "↵")
    words = seen.strip(" ")
    before = len(seen) - len(seen.lstrip(" ")) if words else len(seen)
    return "␣" * before + words + "␣" * (len(seen) - before - len(words)) or "∅"
