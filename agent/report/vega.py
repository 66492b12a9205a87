"""A plot as a Vega-Lite specification: dots with intervals, lines with bands, heat maps.

Coordinates are indices, and labels are looked up by them, so that two places with one label stay apart. Each mark's description
is `mark|link|words`; `figures` turns it into data of the drawing's element.
"""

import json
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from agent.report.boards import Board
from agent.report.plots import Plot, Point, describe, shown
from agent.report.tradeoff import Tradeoff

# Okabe and Ito 2008; each is also a variable of the page's style sheet (`figures.THEME`)
INK, QUIET, GRID, GROUND, CONTROL = "#1d1d1b", "#5c5a55", "#e4e1da", "#ffffff", "#7a7a7a"
SERIES = ("#0072b2", "#b35c00", "#009e73", "#cc79a7", "#d55e00", "#7f7fff")
DASHES = ([1, 0], [6, 3], [2, 3], [8, 3, 2, 3], [10, 4], [4, 2])
LONG, LAST, WRITTEN = 44, 14, 400  # characters of a label; positions of a grid of tokens; cells that are written out
TENS = tuple(k * 10**e for e in range(6) for k in (1, 3))  # ticks of a logarithmic axis
WIDE, BESIDE = 60, 26  # characters of a line of a title, and of a board's, which has others beside it
Spec = dict[str, Any]
Link = Callable[[Point], str]


def spec_of(found: Sequence[Plot], title: str, subtitle: str, link: Link) -> Spec:
    """One figure of one or several plots, small heat maps beside each other, all else below each other."""
    squares = [_panel(p, link, alone=False) for p in found if isinstance(p, Board)]
    panels = [{"concat": squares, "columns": 3, "resolve": _APART}] if squares else []
    panels += [_panel(p, link, alone=len(found) == 1) for p in found if not isinstance(p, Board)]
    flat = all(p.kind == "heat" for p in found) and sum(min(len(p.columns), LAST) for p in found) <= LAST
    longest = max((len(label(r)) for p in found for r in (*p.columns, *p.rows)), default=0)
    head, under = textwrap.wrap(title, WIDE), textwrap.wrap(subtitle, WIDE + 8)
    written = max(map(len, [*head, *under]))
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "background": GROUND,  # the reader's font may be wider than the one that was measured
        "padding": {"left": 10 + 1.1 * longest, "right": max(26, 1.2 * written, 1.2 * longest), "top": 10, "bottom": 12},
        "title": {
            "text": head, "subtitle": under, "anchor": "start",
            "frame": "bounds", "offset": 12, "fontSize": 13, "subtitleFontSize": 11, "color": INK, "subtitleColor": QUIET,
            "subtitlePadding": 4,
        },
        **(panels[0] if len(panels) == 1 else {"concat": panels, "columns": 2 if flat else 1, "resolve": _APART}),
        "config": _CONFIG,
    }  # fmt: skip


_APART = {"scale": {"color": "independent"}, "legend": {"color": "independent"}}
_CONFIG: Spec = {
    "font": "Arial, Helvetica, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelLimit": 340, "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "labelColor": INK,
        "titleColor": QUIET, "gridColor": GRID, "domainColor": GRID, "tickColor": GRID, "titleLimit": 500,
    },
    "legend": {
        "labelLimit": 340, "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "labelColor": INK,
        "titleColor": QUIET, "titleLimit": 300, "titlePadding": 9,
    },
    "title": {"fontWeight": "bold", "limit": 2000},
}  # fmt: skip


def label(text: str, length: int = LONG) -> str:
    """A label of an axis, not too long."""
    seen = shown(text)
    return seen if len(seen) <= length else f"{seen[: length - 1]}…"


def _panel(plot: Plot, link: Link, *, alone: bool) -> Spec:
    if isinstance(plot, Board):
        made = _board(plot, link)
    else:
        made = _curves(plot, link) if isinstance(plot, Tradeoff) else _DRAWN[plot.kind](plot, link)
    named, width = plot.name + (f", {plot.title}" if plot.title else ""), BESIDE if isinstance(plot, Board) else WIDE
    if alone and not plot.title:
        return made
    return {
        "title": {"text": textwrap.wrap(shown(named), width), "fontSize": 11, "anchor": "start", "color": INK},
        **made,
    }


def _datum(plot: Plot, p: Point, i: int, j: int, link: Link) -> Spec:
    m, c = p.measurement, p.measurement.control
    said = describe(plot, p, i, j)
    made: Spec = {"r": i, "c": j, "s": i, "v": m.value, "d": f"mark|{link(p)}|{said}"}
    if m.low is not None and m.high is not None:
        made |= {"lo": m.low, "hi": m.high}
    if c is not None:
        made |= {"cv": c.value, **({"clo": c.low, "chi": c.high} if c.low is not None else {})}
    return made


def _data(plot: Plot, link: Link) -> list[Spec]:
    return [_datum(plot, p, i, j, link) for i, line in enumerate(plot.points) for j, p in enumerate(line) if p]


def _labelled(field: str, labels: Sequence[str], title: str, *, angle: int = 0, **scale: Any) -> Spec:
    """An axis of indices with their labels."""
    texts = json.dumps([label(t) for t in labels])
    room = 4 + max((len(label(t)) for t in labels), default=0)  # where the reader's font is wider than the measured one
    axis: Spec = {
        "title": title or None,
        "titlePadding": room if field == "r" else 6,
        "labelExpr": f"{texts}[datum.value]",
        "labelAngle": angle,
        "labelOverlap": False,
    }
    if angle:
        axis |= {"labelAlign": "right", "labelBaseline": "middle"}
    return {
        "field": field, "type": "ordinal", "axis": axis, "scale": {"domain": list(range(len(labels))), **scale},
    }  # fmt: skip


def _value(plot: Plot, field: str, **more: Any) -> Spec:
    low, high = plot.limits
    scale: Spec = {"domain": [low, high], "nice": False, "zero": False}
    percent = plot.unit.startswith("share of")
    axis: Spec = {"title": f"{plot.name} ({plot.unit})", "tickCount": 5, **({"format": ".0%"} if percent else {})}
    if plot.log:
        scale |= {"type": "log", "reverse": True}
        axis["values"] = [t for t in TENS if low <= t <= high]
    return {"field": field, "type": "quantitative", "scale": scale, "axis": axis, **more}


def _colors(names: Sequence[str], colors: Sequence[str]) -> Spec:
    texts = json.dumps([label(n) for n in names])
    columns = 2 if max(map(len, names)) < 24 else 1
    legend = {
        "title": None,
        "orient": "top",
        "columns": columns,
        "labelExpr": f"{texts}[datum.value]",
        "symbolOpacity": 1,
    }
    return {
        "field": "s", "type": "nominal", "scale": {"domain": list(range(len(names))), "range": list(colors)},
        "legend": legend if len(names) > 1 else None,
    }  # fmt: skip


def _levels(plot: Plot, along: str) -> list[Spec]:
    """The intact model and chance, as lines across a plot, with their names."""
    low, high = plot.limits
    there = [("intact", plot.reference.measurement.value)] if plot.reference is not None else []
    there += [("chance", plot.chance)] if plot.chance is not None else []
    values = [{"v": v, "t": t} for t, v in there if low <= v <= high]
    if not values:
        return []
    rule = {"field": "v", "type": "quantitative"}
    text: Spec = {"type": "text", "fontSize": 10, "color": QUIET, "aria": False}
    text |= {"dy": -6, "baseline": "bottom"} if along == "x" else {"dx": 4, "align": "left"}
    place: Spec = {"y": {"value": 0}} if along == "x" else {"x": {"value": "width"}}
    ruled = {"type": "rule", "strokeDash": [4, 4], "color": QUIET, "aria": False}
    return [
        {"data": {"values": values}, "mark": ruled, "encoding": {along: rule}},
        {"data": {"values": values}, "mark": text, "encoding": {along: rule, "text": {"field": "t"}, **place}},
    ]


def _placed(layers: Sequence[Spec], **where: Spec) -> list[Spec]:
    """Layers with one more encoding."""
    return [{**layer, "encoding": {**layer["encoding"], **where}} for layer in layers]


def _heat(plot: Plot, link: Link) -> Spec:
    spelled = any(p is not None and p.text is not None for line in plot.points for p in line)
    start = max(0, len(plot.columns) - LAST) if spelled else 0
    columns, values = plot.columns[start:], [d for d in _data(plot, link) if d["c"] >= start]
    low, high = plot.limits
    two = low < 0 < high and abs(low + high) < 1e-9 * high
    whole = all(float(d["v"]).is_integer() for d in values)
    for d in values:
        p, t = plot.points[d["r"]][d["c"]], (d["v"] - low) / ((high - low) or 1.0)
        number = f"{d['v']:.0f}" if whole else f"{d['v'] + 0.0:.2f}".replace("-0.00", "0.00")
        d |= {"t": number if p is None or p.text is None else label(p.text, 10), "c": d["c"] - start}
        d["light"] = abs(t - 0.5) > 0.34 if two else t < 0.52
    step = 62 if spelled else 44 if len(columns) <= 16 else 30
    turned = max((len(label(c)) for c in columns), default=0) * 6 > step
    legend = {
        "title": textwrap.wrap(f"{plot.name} ({plot.unit})", 22),
        "gradientLength": max(60, min(140, 24 * len(plot.rows))),
    }
    shade = {"scheme": "purpleorange" if two else "cividis", "domain": [low, high], "clamp": True}
    color = {"field": "v", "type": "quantitative", "scale": shade, "legend": legend}
    rect = {
        "mark": {"type": "rect", "stroke": GROUND, "strokeWidth": 1},
        "encoding": {"color": color, "description": {"field": "d"}},
    }
    ink = {"condition": {"test": "datum.light", "value": "#fefefe"}, "value": "#010101"}
    text = {"mark": {"type": "text", "fontSize": 10, "aria": False}, "encoding": {"text": {"field": "t"}, "color": ink}}
    return {
        "data": {"values": values}, "width": {"step": step}, "height": {"step": 24},
        "encoding": {
            "x": _labelled("c", columns, plot.column_name, angle=-35 if turned else 0),
            "y": _labelled("r", plot.rows, plot.row_name),
        },
        "layer": [rect, *([text] if len(values) <= WRITTEN and step >= 30 else [])],
    }  # fmt: skip


def _board(plot: Board, link: Link) -> Spec:
    """Squares where they lie, coloured by their value, or by what they are."""
    values, (low, high) = _data(plot, link), plot.limits
    two = low < 0 < high
    for d in values:
        d["t"] = "" if plot.values else f"{d['v'] + 0.0:.2f}".replace("-0.00", "0.00").replace("0.", ".")
        d["light"] = abs((d["v"] - low) / (high - low) - 0.5) > 0.34 if two else (d["v"] - low) / (high - low) < 0.52
    legend: Spec = {"title": None, "orient": "bottom", "direction": "horizontal"}
    if plot.values:
        texts = json.dumps([label(v) for v in plot.values])
        shades = [GRID if v in ("", "empty", "none") else SERIES[i % len(SERIES)] for i, v in enumerate(plot.values)]
        scale: Spec = {"domain": list(range(len(plot.values))), "range": shades}
        color: Spec = {
            "field": "v", "type": "nominal", "scale": scale, "legend": {**legend, "labelExpr": f"{texts}[datum.value]"},
        }  # fmt: skip
    else:
        shade = {"scheme": "purpleorange" if two else "cividis", "domain": [low, high], "clamp": True}
        color = {"field": "v", "type": "quantitative", "scale": shade, "legend": {**legend, "gradientLength": 120}}
    rect = {
        "mark": {"type": "rect", "stroke": GROUND, "strokeWidth": 1},
        "encoding": {"color": color, "description": {"field": "d"}},
    }
    ink = {"condition": {"test": "datum.light", "value": "#fefefe"}, "value": "#010101"}
    text = {"mark": {"type": "text", "fontSize": 9, "aria": False}, "encoding": {"text": {"field": "t"}, "color": ink}}
    return {
        "data": {"values": values}, "width": {"step": 28}, "height": {"step": 28},
        "encoding": {"x": _labelled("c", plot.columns, ""), "y": _labelled("r", plot.rows, "")}, "layer": [rect, text],
    }  # fmt: skip


def _line(plot: Plot, link: Link) -> Spec:
    values = _data(plot, link)
    controlled = len(plot.rows) == 1 and any("cv" in d for d in values)
    names = [r or plot.name for r in plot.rows] + (["control"] if controlled else [])
    color = _colors(names, [*SERIES[: len(plot.rows)], *([CONTROL] if controlled else [])])
    step = max(36, min(64, 480 // max(1, len(plot.columns))))
    turned = max((len(label(c)) for c in plot.columns), default=0) * 6 > step
    dash = {
        "field": "s",
        "type": "nominal",
        "scale": {"domain": list(range(len(names))), "range": list(DASHES)},
        "legend": None,
    }
    band = {"type": "area", "opacity": 0.18, "aria": False}
    layers: list[Spec] = []
    if any("lo" in d for d in values):
        layers.append({"mark": band, "encoding": {"y": _value(plot, "lo"), "y2": {"field": "hi"}, "color": color}})
    line = {"type": "line", "aria": False}
    layers.append({"mark": line, "encoding": {"y": _value(plot, "v"), "color": color, "strokeDash": dash}})
    if controlled:
        beside = [{"c": d["c"], "s": 1, "v": d["cv"]} for d in values if "cv" in d]
        layers.append(
            {
                "data": {"values": beside},
                "mark": {**line, "strokeDash": [2, 3]},
                "encoding": {"y": _value(plot, "v"), "color": color},
            }
        )
    dots = {"type": "point", "filled": True, "size": 60, "opacity": 1}
    layers.append({"mark": dots, "encoding": {"y": _value(plot, "v"), "color": color, "description": {"field": "d"}}})
    across = _labelled("c", plot.columns, plot.column_name, angle=-35 if turned else 0, padding=0.5)
    return {
        "data": {"values": values}, "width": {"step": step}, "height": 180,
        "layer": [*_levels(plot, "y"), *_placed(layers, x=across)],
    }  # fmt: skip


def _dots(plot: Plot, link: Link) -> Spec:
    """A row for each place, a dot with its interval for each series, the control as a hollow one beside it."""
    values, one = _data(plot, link), len(plot.rows) == 1
    controls = [
        {
            "c": d["c"], "o": 1 if one else d["r"], "s": 1 if one else d["s"], "v": d["cv"],
            **({"lo": d["clo"], "hi": d["chi"]} if "clo" in d else {}),
        }
        for d in values if "cv" in d
    ]  # fmt: skip
    names = [r or plot.name for r in plot.rows] + (["control"] if one and controls else [])
    color = _colors(names, [*SERIES[: len(plot.rows)], *([CONTROL] if one and controls else [])])
    values = [{**d, "o": d["r"]} for d in values]
    lanes = 2 if one and controls else len(plot.rows)
    offset = {
        "field": "o",
        "type": "ordinal",
        "scale": {"domain": list(range(lanes)), "paddingOuter": 0.5 if lanes > 1 else 0},
    }
    x, bounds = _value(plot, "v"), {"x": _value(plot, "lo"), "x2": {"field": "hi"}}
    rule = {"type": "rule", "aria": False}
    layers: list[Spec] = []
    for data in (controls, values):
        if any("lo" in d for d in data):
            drawn = [d for d in data if "lo" in d]
            layers.append(
                {"data": {"values": drawn}, "mark": rule, "encoding": {**bounds, "yOffset": offset, "color": color}}
            )
    hollow = {"type": "point", "filled": False, "size": 36, "aria": False, "opacity": 1}
    if controls:
        layers.append(
            {"data": {"values": controls}, "mark": hollow, "encoding": {"x": x, "yOffset": offset, "color": color}}
        )
    dots = {"type": "point", "filled": True, "size": 70, "opacity": 1}
    own = {"x": x, "yOffset": offset, "color": color, "description": {"field": "d"}}
    layers.append({"data": {"values": values}, "mark": dots, "encoding": own})
    return {
        "width": 380, "height": {"step": max(20, 8 + 10 * lanes), "for": "position"},
        "layer": [*_levels(plot, "x"), *_placed(layers, y=_labelled("c", plot.columns, ""))],
    }  # fmt: skip


def _curves(plot: Tradeoff, link: Link) -> Spec:
    """Lines through points in the order of their doses, which are written beside them."""
    values = [
        {**d, "x": plot.across[d["r"]][d["c"]], "t": plot.columns[d["c"]] if d["c"] else ""} for d in _data(plot, link)
    ]
    color = _colors(plot.rows, SERIES[: len(plot.rows)])
    across: Spec = {"field": "x", "type": "quantitative", "axis": {"title": plot.across_name, "tickCount": 6}}
    order = {"field": "c", "type": "ordinal"}
    dash = {
        "field": "s",
        "type": "nominal",
        "scale": {"domain": list(range(len(plot.rows))), "range": list(DASHES)},
        "legend": None,
    }
    bar = {"type": "rule", "opacity": 0.5, "aria": False}
    layers: list[Spec] = [
        {
            "mark": {"type": "line", "aria": False},
            "encoding": {"y": _value(plot, "v"), "color": color, "order": order, "strokeDash": dash},
        },
        {"mark": bar, "encoding": {"y": _value(plot, "lo"), "y2": {"field": "hi"}, "color": color}},
        {
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
            "encoding": {"y": _value(plot, "v"), "color": color, "description": {"field": "d"}},
        },
        {
            "mark": {"type": "text", "dx": 7, "dy": -7, "fontSize": 10, "color": QUIET, "aria": False},
            "encoding": {"y": _value(plot, "v"), "text": {"field": "t"}},
        },
    ]  # fmt: skip
    return {"data": {"values": values}, "width": 420, "height": 220, "layer": _placed(layers, x=across)}


_DRAWN: dict[str, Callable[[Plot, Link], Spec]] = {"heat": _heat, "line": _line, "dots": _dots}
