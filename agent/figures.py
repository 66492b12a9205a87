"""Figures of a report, drawn from what is on record: colour-blind-safe, labelled with units, n and intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.text import inert
from experiments_db.records import Array, Result
from experiments_db.store import ExperimentRow

BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#7F7F7F"  # Okabe and Ito 2008
DTYPES = {"float32": "<f4", "float64": "<f8", "int64": "<i8", "int32": "<i4", "bool": "|b1"}


def array_values(array: Array) -> np.ndarray:
    """The numbers of an array on record."""
    return np.frombuffer(array.data, dtype=DTYPES[array.dtype]).reshape(array.shape)


def draw(row: ExperimentRow, result: Result, folder: Path) -> tuple[str, str] | None:
    """Draw the figure of one experiment as PNG and SVG; (file stem, caption), or None where there is nothing to draw."""
    makers = {"layer_program": _programs, "patch": _patch, "ablate": _ablate, "lens": _lens}
    maker = makers.get(row.experiment.tool)
    if maker is None or result.status != "ok":
        return None
    pyplot = _pyplot()
    made = maker(pyplot, row, result)
    if made is None:
        return None
    figure, caption = made
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{row.handle}-{row.experiment.tool}"
    figure.savefig(folder / f"{stem}.png", dpi=130, metadata={"Software": None})
    figure.savefig(folder / f"{stem}.svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    return stem, caption


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as pyplot

    pyplot.rcParams.update(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "svg.hashsalt": "locus",
            "figure.constrained_layout.use": True,
        }
    )
    return pyplot


def _heat(
    pyplot: Any, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], limits: tuple[float, float]
) -> Any:
    height = min(14.0, 1.2 + 0.34 * len(rows))
    slanted = len(columns) > 4 or max(map(len, columns), default=0) > 8
    figure, axes = pyplot.subplots(figsize=(max(3.6, min(13.0, 2.6 + 0.62 * len(columns))), max(2.0, height)))
    image = axes.imshow(values, cmap="cividis", vmin=limits[0], vmax=limits[1], aspect="auto")
    turned = {"rotation": 30, "ha": "right"} if slanted else {}
    axes.set_xticks(range(len(columns)), [inert(c)[:24] for c in columns], **turned)
    axes.set_yticks(range(len(rows)), [inert(r)[:40] for r in rows])
    axes.spines[:].set_visible(False)
    if values.size <= 260:
        middle = (limits[0] + limits[1]) / 2
        for (i, j), v in np.ndenumerate(values):
            if not np.isnan(v):
                axes.text(
                    j,
                    i,
                    f"{v + 0.0:.2f}".replace("-0.00", "0.00"),
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if v < middle else "black",
                )
    return figure, axes, figure.colorbar(image, ax=axes, shrink=0.9)


def _programs(pyplot: Any, row: ExperimentRow, result: Result) -> tuple[Any, str]:
    array = next(a for a in result.arrays if a.name == "accuracy")
    tasks, programs = (x.labels for x in array.axes)
    figure, axes, bar = _heat(pyplot, array_values(array).T, programs, tasks, (0.0, 1.0))
    bar.set_label("accuracy (share of examples)")
    axes.set_ylabel("layer program")
    n = max((m.n for m in result.measurements), default=0)
    return figure, f"Accuracy of each task under each layer program, {_split(row)} examples, n={n} a task."


def _patch(pyplot: Any, row: ExperimentRow, result: Result) -> tuple[Any, str]:
    array = next(a for a in result.arrays if a.name == "recovered")
    layers, columns = array.axes
    values = array_values(array)
    figure, axes, bar = _heat(pyplot, values, layers.labels, columns.labels, (0.0, 1.0))
    bar.set_label("recovered margin (0 none, 1 complete)")
    axes.set_ylabel("block")
    axes.set_xlabel(
        "position, counted back from the prompt's last token" if columns.name == "position" else columns.name
    )
    args, n = row.experiment.args, max((m.n for m in result.measurements), default=0)
    return figure, (
        f"{args['direction'].capitalize()} patching of {args['site']} on {inert(args['task'])}: how far the answer moves to "
        f"the twin's, {_split(row)} examples, n={n}."
    )


def _ablate(pyplot: Any, row: ExperimentRow, result: Result) -> tuple[Any, str]:
    args = row.experiment.args
    picked = [m for m in result.measurements if m.name == "accuracy" and m.site is not None]
    n = max((m.n for m in picked), default=0)
    caption = (
        f"{args['ablation'].capitalize()} ablation of {args['component']} at {args['position']} position(s) on "
        f"{inert(args['task'])}, {_split(row)} examples, n={n}"
    )
    if picked and picked[0].head is not None:
        array = next(a for a in result.arrays if a.name == "accuracy")
        figure, axes, bar = _heat(pyplot, array_values(array), array.axes[0].labels, array.axes[1].labels, (0.0, 1.0))
        bar.set_label("accuracy (share of examples)")
        axes.set_xlabel("head")
        axes.set_ylabel("block")
        return figure, caption + "."
    figure, axes = pyplot.subplots(figsize=(max(5.0, min(13.0, 2.0 + 0.7 * len(picked))), 3.0))
    places = np.arange(len(picked))
    _bars(axes, places - 0.2, [(m.value, m.low, m.high) for m in picked], BLUE, "ablated")
    controls = [(m.control.value, m.control.low, m.control.high) for m in picked if m.control]
    if len(controls) == len(picked):
        _bars(axes, places + 0.2, controls, ORANGE, "control: random vector, same norm")
    intact = next((m for m in result.measurements if m.name == "accuracy" and m.program == "intact"), None)
    if intact is not None:
        axes.axhline(intact.value, color=GREY, linewidth=1, linestyle="--", label="intact")
    axes.set_xticks(places, [str(m.site) for m in picked])
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("accuracy (share of examples)")
    axes.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, 1.22), ncols=3)
    return figure, caption + "; bars are 95% intervals."


def _bars(
    axes: Any, places: np.ndarray, values: Sequence[tuple[float, float | None, float | None]], color: str, label: str
) -> None:
    heights = np.array([v for v, _, _ in values])
    below = np.array([v - (v if low is None else low) for v, low, _ in values])
    above = np.array([(v if high is None else high) - v for v, _, high in values])
    axes.bar(
        places,
        heights,
        0.38,
        color=color,
        label=label,
        yerr=[below, above],
        ecolor="black",
        error_kw={"linewidth": 0.8},
    )


def _lens(pyplot: Any, row: ExperimentRow, result: Result) -> tuple[Any, str] | None:
    if row.experiment.args.get("task") is None:
        return _lens_prompt(pyplot, result)
    points = [m for m in result.measurements if m.name == "accuracy"]
    ranks = array_values(next(a for a in result.arrays if a.name == "rank"))
    depths = len(points)
    figure, panels = pyplot.subplot_mosaic([["left", "right"], ["grid", "grid"]], figsize=(8.0, 4.2 + 0.3 * depths))
    depth = [m.layer for m in points]
    panels["left"].plot(depth, [m.value for m in points], color=BLUE, marker="o")
    panels["left"].fill_between(depth, [m.low for m in points], [m.high for m in points], color=BLUE, alpha=0.2)
    panels["left"].set(xlabel="depth (blocks passed)", ylabel="accuracy (share of examples)", ylim=(-0.02, 1.05))
    low, middle, high = np.quantile(ranks, [0.25, 0.5, 0.75], axis=1)
    panels["right"].plot(range(depths), middle, color=ORANGE, marker="o")
    panels["right"].fill_between(range(depths), low, high, color=ORANGE, alpha=0.25)
    panels["right"].set(xlabel="depth (blocks passed)", ylabel="rank of the answer (1 is top)", yscale="log")
    _lens_grid(panels["grid"], result)
    return figure, (
        f"Logit lens on {inert(row.experiment.args['task'])}, {_split(row)} examples, n={ranks.shape[1]}: accuracy with 95% "
        "interval, and median rank with quartiles; below, one example: the top token at each depth and position, shaded by "
        "its probability."
    )


def _lens_prompt(pyplot: Any, result: Result) -> tuple[Any, str] | None:
    ranks = [m for m in result.measurements if m.name == "rank" and m.token is not None and m.position == "-1"]
    top = [m for m in result.measurements if m.name == "top1"]
    if not top:
        return None
    places, depths = len({m.position for m in top}), len({m.layer for m in top})
    figure, panels = pyplot.subplots(
        1, 2 if ranks else 1, figsize=(min(13.0, 2.6 + 0.8 * places + (4.0 if ranks else 0.0)), 1.6 + 0.36 * depths),
        squeeze=False, width_ratios=[max(1.5, 0.8 * places), 3.5] if ranks else [1],
    )  # fmt: skip
    _lens_grid(panels[0][0], result)
    if ranks:
        axes = panels[0][1]
        for token, style in zip(dict.fromkeys(str(m.token) for m in ranks), ("-", "--", ":", "-.") * 2, strict=False):
            mine = [m for m in ranks if m.token == token]
            axes.plot([m.layer for m in mine], [m.value for m in mine], style, marker="o", label=_shown(token))
        axes.set(xlabel="depth (blocks passed)", ylabel="rank at the last position (1 is top)", yscale="log")
        axes.invert_yaxis()
        axes.legend(frameon=False)
    words = "; right: rank of the watched tokens" if ranks else ""
    return figure, f"Logit lens on one prompt: the top token at each depth, shaded by its probability{words}."


def _lens_grid(axes: Any, result: Result, last: int = 14) -> None:
    """Top tokens by depth and position, the last positions only where there are many."""
    top = [m for m in result.measurements if m.name == "top1"]
    positions = list(dict.fromkeys(m.position for m in top))[-last:]
    depths = sorted({m.layer or 0 for m in top})
    labels = next(a for a in result.arrays if a.name == "top_token").axes[1].labels[-last:]
    shade = np.zeros((len(depths), len(positions)))
    for m in (m for m in top if m.position in positions):
        i, j = depths.index(m.layer or 0), positions.index(m.position)
        shade[i, j] = m.value
        color = "white" if m.value < 0.5 else "black"
        axes.text(j, i, _shown(str(m.token)), ha="center", va="center", fontsize=7, color=color)
    axes.imshow(shade, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(positions)), [_shown(x) for x in labels], rotation=45, ha="right")
    axes.set_yticks(range(len(depths)), [str(d) for d in depths])
    axes.set(xlabel="position and its token", ylabel="depth (blocks passed)")


def _shown(token: str) -> str:
    """A token for a figure: whitespace visible, nothing that the text layout would take for mathematics."""
    return inert(token).replace("\n", "↵").replace("$", r"\$")[:14] or "∅"


def _split(row: ExperimentRow) -> str:
    return str(row.experiment.args.get("split", "explore"))
