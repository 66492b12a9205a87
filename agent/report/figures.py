"""Figures of a report, drawn with Matplotlib from what is on record: colour-blind-safe, labelled with units, n and intervals."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.report.plots import Plot, Point, main_plots, plots, shown
from agent.report.text import inert
from experiments_db.records import Result
from experiments_db.store import ExperimentRow

# Okabe and Ito 2008
BLUE, ORANGE, GREEN, PURPLE, SKY, RED, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#7F7F7F",
)
COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
STYLES = ("-", "--", ":", "-.", "-", "--")
LAST = 14  # positions of a token grid that fit a page: the last ones


def draw(row: ExperimentRow, result: Result, folder: Path | None) -> tuple[str, str] | None:
    """Draw the figure of one experiment as PNG and SVG; (file stem, caption), or None where there is nothing to draw.

    Without a folder nothing is drawn, and only that is said.
    """
    found = main_plots(row.experiment.tool, plots(row.experiment.tool, result))
    if not found or row.experiment.tool in ("loss", "generate", "describe_subject"):
        return None
    if sum(p is not None for plot in found for line in plot.points for p in line) < 2:
        return None  # a single number is read sooner than its figure
    stem = f"{row.handle}-{row.experiment.tool}"
    if folder is None:
        return stem, caption(row, found)
    figure = figure_of(found)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{stem}.png", dpi=130, metadata={"Software": None})
    figure.savefig(folder / f"{stem}.svg", metadata={"Date": None, "Creator": None})
    pyplot().close(figure)
    return stem, caption(row, found)


def figure_of(found: Sequence[Plot]) -> Any:
    """A Matplotlib figure with one panel for each plot, from above downward."""
    plt = pyplot()
    sizes = [_size(p) for p in found]
    figure, panels = plt.subplots(
        len(found), 1, squeeze=False, figsize=(max(w for w, _ in sizes), sum(h for _, h in sizes)),
        height_ratios=[h for _, h in sizes],
    )  # fmt: skip
    for plot, axes in zip(found, panels[:, 0], strict=True):
        {"heat": _heat, "line": _line, "bars": _bars}[plot.kind](figure, axes, plot)
        if plot.title or len(found) > 1:
            axes.set_title(plot.name + (f", {label(plot.title, 60)}" if plot.title else ""), fontsize=9, loc="left")
        axes.set_title(_sample(plot), fontsize=7, loc="right", color=GREY)
    return figure


def caption(row: ExperimentRow, found: list[Plot]) -> str:
    """What a figure shows: quantities and units, on which examples, how many, against which control."""
    args = row.experiment.args
    quantities = "; ".join(dict.fromkeys(f"{p.name} ({p.unit})" for p in found))
    about = [
        f"{k} {inert(', '.join(map(str, args[k])) if isinstance(args[k], list) else str(args[k]))}"
        for k in ("task", "components", "intervention", "direction")
        if args.get(k)
    ]
    low, high = min(p.n[0] for p in found), max(p.n[1] for p in found)
    examples = f"n={low}" if low == high else f"n={low} to {high}"
    split = f"{args.get('split', 'explore')} examples, " if row.experiment.tasks else ""
    points = [p.measurement for plot in found for line in plot.points for p in line if p is not None]
    controls = sorted({kind for p in found for kind in p.controls})
    words = [f"{row.experiment.tool}: {quantities}", *about, split + examples]
    text = ", ".join(words) + "."
    if any(p.kind != "heat" for p in found) and any(m.low is not None for m in points):
        text += " Bars and bands are 95% intervals."
    if controls and any(p.kind != "heat" for p in found):
        text += f" Control: {inert(', '.join(controls))}."
    return text


def _sample(plot: Plot) -> str:
    """How many examples a plot rests on, and what its bars or bands are."""
    low, high = plot.n
    drawn = plot.kind != "heat" and any(
        p is not None and p.measurement.low is not None for line in plot.points for p in line
    )
    return (f"n={low}" if low == high else f"n={low} to {high}") + (", 95% intervals" if drawn else "")


def pyplot() -> Any:
    """Matplotlib without a screen, with the style of all figures."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "svg.hashsalt": "locus",
            "figure.constrained_layout.use": True,
        }
    )
    return plt


def _size(plot: Plot) -> tuple[float, float]:
    """Width and height of a panel in inches."""
    columns, rows = min(len(plot.columns), LAST if _has_text(plot) else 400), len(plot.rows)
    if plot.kind == "heat":
        wide = 0.8 if _has_text(plot) else 0.62
        return max(4.6, min(13.0, 2.6 + wide * columns)), max(2.0, min(14.0, 1.4 + 0.34 * rows))
    if plot.kind == "bars":
        return max(5.0, min(13.0, 2.0 + 0.7 * columns * len(plot.rows))), 3.0
    return 6.0, 2.7


def _has_text(plot: Plot) -> bool:
    return any(p is not None and p.text is not None for line in plot.points for p in line)


def label(text: str, length: int = 24) -> str:
    """A label for a figure: nothing in it that the text layout would take for mathematics."""
    seen = shown(text).replace("$", r"\$")
    return seen if len(seen) <= length else seen[: length - 1] + "…"


def _values(points: tuple[Point | None, ...]) -> np.ndarray:
    return np.array([np.nan if p is None else p.measurement.value for p in points])


def _heat(figure: Any, axes: Any, plot: Plot) -> None:
    last = LAST if _has_text(plot) else len(plot.columns)
    columns, lines = plot.columns[-last:], [line[-last:] for line in plot.points]
    values = np.stack([_values(line) for line in lines])
    low, high = plot.limits
    colors = "PuOr_r" if low < 0 < high and np.isclose(low, -high) else "cividis"
    image = axes.imshow(values, cmap=colors, vmin=low, vmax=high, aspect="auto")
    turned = len(columns) > 4 or max(map(len, columns), default=0) > 8
    axes.set_xticks(
        range(len(columns)), [label(c) for c in columns], **({"rotation": 30, "ha": "right"} if turned else {})
    )
    axes.set_yticks(range(len(plot.rows)), [label(r, 40) for r in plot.rows])
    axes.set(xlabel=plot.column_name, ylabel=plot.row_name)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.9).set_label(_named(plot, " ", 40), fontsize=8)
    if values.size > 260:
        return
    whole = bool(np.all(np.isnan(values) | (values == np.round(values))))
    for (i, j), v in np.ndenumerate(values):
        point = lines[i][j]
        if point is None:
            continue
        number = f"{v:.0f}" if whole else f"{v + 0.0:.2f}".replace("-0.00", "0.00")
        text = number if point.text is None else label(point.text, 10)
        red, green, blue, _ = image.cmap(image.norm(v))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        axes.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")


def _line(_figure: Any, axes: Any, plot: Plot) -> None:
    places = np.arange(len(plot.columns))
    for name, line, color, style in zip(plot.rows, plot.points, COLORS, STYLES, strict=False):
        measured = [None if p is None else p.measurement for p in line]
        axes.plot(places, _values(line), style, color=color, marker="o", label=label(name) if name else plot.name)
        if any(m is not None and m.low is not None for m in measured):
            low, high = (
                np.array([np.nan if m is None or getattr(m, b) is None else getattr(m, b) for m in measured])
                for b in ("low", "high")
            )
            axes.fill_between(places, low, high, color=color, alpha=0.2)
        controls = np.array([np.nan if m is None or m.control is None else m.control.value for m in measured])
        if not np.isnan(controls).all():
            axes.plot(places, controls, ":", color=GREY, marker="x", label="control")
    axes.set_xticks(places, [label(c) for c in plot.columns])
    _value_axis(axes, plot)
    axes.set_xlabel(plot.column_name)
    if plot.log:
        axes.set_yscale("log")
        axes.invert_yaxis()
    if len(plot.rows) > 1 or any(p is not None and p.measurement.control for line in plot.points for p in line):
        axes.legend(frameon=False, fontsize=7)


def _bars(_figure: Any, axes: Any, plot: Plot) -> None:
    places = np.arange(len(plot.columns))
    measured = [[None if p is None else p.measurement for p in line] for line in plot.points]
    sets: list[tuple[str, list[Any], str]] = [
        (label(name) if name else plot.name, line, color)
        for name, line, color in zip(plot.rows, measured, COLORS, strict=False)
    ]
    controls = [None if m is None else m.control for m in measured[0]]
    if len(plot.rows) == 1 and any(controls):
        sets.append(("control", controls, GREY))
    width = 0.8 / len(sets)
    for i, (name, line, color) in enumerate(sets):
        values = np.array([np.nan if m is None else m.value for m in line])
        bounds = [
            [0.0 if m is None or getattr(m, b) is None else abs(m.value - getattr(m, b)) for m in line]
            for b in ("low", "high")
        ]
        at = places + (i - (len(sets) - 1) / 2) * width
        axes.bar(
            at, values, 0.95 * width, color=color, label=name, yerr=bounds, ecolor="black", error_kw={"linewidth": 0.8}
        )
    if plot.reference is not None:
        axes.axhline(plot.reference.measurement.value, color=GREY, linewidth=1, linestyle="--", label="intact")
    turned = sum(map(len, plot.columns)) > 60
    axes.set_xticks(places, [label(c, 40) for c in plot.columns], **({"rotation": 30, "ha": "right"} if turned else {}))
    _value_axis(axes, plot)
    axes.set_xlabel(plot.column_name)
    axes.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, 1.24), ncols=4)


def _named(plot: Plot, between: str, width: int) -> str:
    """A quantity with its unit, on several lines where the unit is long."""
    if len(plot.unit) <= width:
        return f"{plot.name}{between}({plot.unit})"
    return f"{plot.name}\n({textwrap.fill(plot.unit, width)})"


def _value_axis(axes: Any, plot: Plot) -> None:
    low, high = plot.limits
    axes.set_ylabel(_named(plot, "\n", 32), fontsize=8)
    if not plot.log:
        margin = 0.04 * (high - low)
        axes.set_ylim(low - (margin if low else 0.0), high + margin)
