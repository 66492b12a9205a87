"""A circuit diagram as SVG text: one drawing for the report's file, the page and the exported page.

Colours are the page's variables with a fallback for a file that stands by itself, on light ground.
"""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from agent.report.circuit import BELOW, HEIGHT, Circuit, Edge, Node, caption_of
from agent.report.text import inert

INK, QUIET, GROUND, GRID, BAR, BAR2, LINE = (
    f"var(--{name}, {plain})"
    for name, plain in (
        ("ink", "#1d1d1b"), ("quiet", "#5c5a55"), ("raised", "#ffffff"), ("sunken", "#f1efea"), ("bar", "#0072b2"),
        ("bar2", "#b35c00"), ("line", "#c9c6bf"),
    )
)  # fmt: skip
ON_BAR = "var(--on-bar, #ffffff)"
STYLE = {  # fill, outline, text, dashes of the outline
    "needed": (BAR, BAR, ON_BAR, ""), "carries": (GROUND, BAR, INK, ""), "looks": (GROUND, BAR, INK, ""),
    "suppresses": (GROUND, BAR2, INK, ""), "readable": (GROUND, QUIET, INK, "2 3"), "spared": (GRID, LINE, QUIET, ""),
}  # fmt: skip
CIRCUIT = "circuit.svg"
FONT = 'system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif'


TITLE = 34  # pixels above a panel, where there are several


def draw_circuit(panels: Sequence[Circuit], folder: Path) -> None:
    """Write the drawing into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CIRCUIT).write_text(circuit_svg(panels, ground=True), encoding="utf-8")


def circuit_svg(panels: Sequence[Circuit], link: Callable[[str], str] = lambda _: "", *, ground: bool = False) -> str:
    """The drawing, a panel for each task, one below the other, with its name where there are several.

    link: where a finding's handle leads, '' for nowhere; ground: with a ground of its own, for a file.
    """
    title = TITLE if len(panels) > 1 else 0
    width, height = max(c.width for c in panels), sum(c.height + title for c in panels)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="group" aria-label="{_t(caption_of(panels))}" font-family="{escape(FONT)}" font-size="12">',
        '<defs><marker id="circuit-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="{BAR}"/></marker></defs>',
    ]
    if ground:
        out.append(f'<rect width="100%" height="100%" fill="{GROUND}"/>')
    if len(panels) == 1:
        return "\n".join([*out, *_panel(panels[0], link), "</svg>"])
    y = 0.0
    for c in panels:
        out += [
            _text(10, y + 24, c.task, INK, anchor="start", size=14, weight=True),
            f'<g transform="translate(0 {y + title:.1f})">',
        ]
        out += [*_panel(c, link), "</g>"]
        y += title + c.height
    return "\n".join([*out, "</svg>"])


def _panel(c: Circuit, link: Callable[[str], str]) -> list[str]:
    """The elements of one task's drawing."""
    out: list[str] = []
    low = c.height - BELOW
    for column in c.columns:
        out.append(_line((column.x, low), (column.x, c.goal[1] + 22), GRID, 6))
        if column.token:
            out.append(_text(column.x, low + 22, column.token, INK, weight=True))
        out.append(_text(column.x, low + (40 if any(k.token for k in c.columns) else 22), column.name, QUIET))
    for name, y in c.rows:
        out.append(_text(10, y + 4, name, QUIET, anchor="start"))
    answer = "answer" + (f": {c.answer}" if c.answer else "")
    wide = 7.4 * len(answer) + 18
    out += [_arrow(e) for e in c.edges]
    out.append(_box(c.goal[0], c.goal[1], wide, 28, GROUND, INK) + _text(c.goal[0], c.goal[1] + 4, answer, INK))
    out += [_node(n, link(n.finding) if n.finding else "") for n in c.nodes]
    out += [_said(e) for e in c.edges if e.text]
    return out


def _node(n: Node, href: str) -> str:
    fill, outline, ink, dashes = STYLE[n.role]
    box = _box(n.x, n.y, n.width, HEIGHT, fill, outline, dashes)
    top = n.y + 4 - 7.5 * (len(n.lines) - 1)
    lines = "".join(_text(n.x, top + 15 * i, line, ink) for i, line in enumerate(n.lines))
    whole = f'<g class="node {n.role}"><title>{_t(f"{n.place} {n.finding}")}</title>{box}{lines}</g>'
    return f'<a href="{_t(href)}">{whole}</a>' if href else whole


def _arrow(e: Edge) -> str:
    dashes = ' stroke-dasharray="5 4"' if e.looks else ""
    (x1, y1), (x2, y2) = e.start, _end(e)
    return (
        f'<path d="M{x1:.1f} {y1:.1f} L{x2:.1f} {y2:.1f}" stroke="{BAR}" stroke-width="1.4" fill="none"{dashes} '
        'marker-end="url(#circuit-arrow)"/>'
    )


def _end(e: Edge) -> tuple[float, float]:
    """Where an arrow ends: at the lower side of what it points to."""
    return e.end[0], e.end[1] + (HEIGHT / 2 if e.looks else 16)


def _said(e: Edge) -> str:
    """The effect, on the arrow a little after its beginning, on ground of its own."""
    (x1, y1), (x2, y2) = e.start, _end(e)
    along = 0.3 if e.looks else min(0.5, 36 / max(abs(y2 - y1), 1))
    x, y = x1 + along * (x2 - x1), y1 + along * (y2 - y1)
    if not e.looks and 0 < abs(x1 - x2) < 120:  # arrows that meet have their numbers apart
        x += 20 if x1 > x2 else -20
    return _box(x, y, 6.6 * len(e.text) + 8, 17, GROUND, "none") + _text(x, y + 4, e.text, INK, size=11)


def _box(x: float, y: float, width: float, height: float, fill: str, outline: str, dashes: str = "") -> str:
    more = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<rect x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}" rx="6" fill="{fill}" '
        f'stroke="{outline}" stroke-width="1.4"{more}/>'
    )


def _line(a: tuple[float, float], b: tuple[float, float], color: str, width: float) -> str:
    return (
        f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" stroke="{color}" stroke-width="{width}" '
        'stroke-linecap="round"/>'
    )


def _text(
    x: float, y: float, text: str, color: str, *, anchor: str = "middle", size: int = 12, weight: bool = False
) -> str:
    bold = ' font-weight="600"' if weight else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{color}"{bold}>{_t(text)}</text>'


def _t(text: str) -> str:
    return escape(inert(text))
