"""A circuit diagram drawn with Matplotlib, as PNG and SVG."""

from pathlib import Path
from typing import Any

from agent.report.circuit import ANSWER, HEIGHT, ROW, Circuit, Node
from agent.report.figures import BLUE, GREY, ORANGE, label, pyplot

FILL = {"needed": BLUE, "carries": "white", "suppresses": ORANGE, "spared": "#E3E3E3"}
EDGE = {"needed": BLUE, "carries": BLUE, "suppresses": ORANGE, "spared": "#B0B0B0"}
INK = {"needed": "white", "carries": "black", "suppresses": "black", "spared": "#555555"}


def draw_circuit(circuit: Circuit, folder: Path) -> None:
    """Write circuit.png and circuit.svg into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    plt, figure = pyplot(), figure_of(circuit)
    with plt.rc_context({"figure.constrained_layout.use": False}):  # what is laid out already is left where it is
        figure.savefig(folder / "circuit.png", dpi=130, metadata={"Software": None})
        figure.savefig(folder / "circuit.svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def figure_of(circuit: Circuit) -> Any:
    """The figure, one unit an inch, so that what was laid out is where it is drawn."""
    figure = pyplot().figure(figsize=(circuit.width, circuit.height), layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, circuit.width), ylim=(0, circuit.height))
    axes.axis("off")
    axes.text(0.12, circuit.height - 0.12, label(circuit.task, 60), fontsize=9, fontweight="bold", va="top")
    for name, y in circuit.rows:
        axes.text(0.12, y, name, fontsize=8, color=GREY, va="center")
    for name, x in circuit.columns:
        axes.text(x, 0.28, label(name, 40), fontsize=8, ha="center", va="center")
        axes.plot(
            [x, x], [0.44, circuit.rows[-1][1] + 0.4], color="#EEEEEE", linewidth=6, zorder=0, solid_capstyle="round"
        )
    top = circuit.rows[-1][1] + 0.86
    axes.text(circuit.columns[-1][1], top, ANSWER, fontsize=8, ha="center", va="center", bbox=_box("white", "black"))
    for e in circuit.edges:
        arrow = {"arrowstyle": "-|>", "color": BLUE, "linewidth": 1.2, "shrinkA": 14, "shrinkB": 12, "alpha": 0.7}
        axes.annotate("", xy=e.end, xytext=e.start, arrowprops=arrow, zorder=1)
        if e.text:  # on the arrow, between the rows
            along = min(0.45, 0.55 * ROW / max(abs(e.end[1] - e.start[1]), 0.01))
            x, y = (a + along * (b - a) for a, b in zip(e.start, e.end, strict=True))
            axes.text(x, y, e.text, fontsize=7, ha="center", va="center", bbox=_box("white", "none"), zorder=4)
    for n in circuit.nodes:
        _draw_node(axes, n)
    return figure


def _draw_node(axes: Any, n: Node) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y = n.x - n.width / 2, n.y - HEIGHT / 2
    shape = FancyBboxPatch(
        (x, y), n.width, HEIGHT, boxstyle="round,pad=0,rounding_size=0.08", facecolor=FILL[n.role], edgecolor=EDGE[n.role],
        linewidth=1.2, zorder=2,
    )  # fmt: skip
    axes.add_patch(shape)
    lines = "\n".join(label(line, 60) for line in n.lines)
    axes.text(n.x, n.y, lines, fontsize=7.5, ha="center", va="center", color=INK[n.role], linespacing=1.15, zorder=3)


def _box(fill: str, edge: str) -> dict[str, Any]:
    return {"boxstyle": "round,pad=0.25", "facecolor": fill, "edgecolor": edge, "linewidth": 0.8}
