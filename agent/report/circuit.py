"""The confirmed findings about one task as a diagram: positions across, blocks upward, what takes part and what does not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from agent.report.numbers import compact_text
from agent.report.tested import Tested
from experiments_db.places import PARTS, Component, parse_anchor

NEEDED = frozenset({"necessary", "jointly_necessary"})
ROLES = ("needed", "carries", "suppresses", "spared")
ROLE = {"carries": "carries", "sends": "carries", "suppresses": "suppresses", "not_needed": "spared"}
MOST = 48  # nodes that one picture holds
CHARACTER, GAP, ROW, HEIGHT = 0.075, 0.22, 0.86, 0.42  # inches: a letter, between nodes, from block to block, a node
ANSWER = "the answer"


@dataclass(frozen=True)
class Node:
    """A component, or several heads of one block together. x, y: its middle, in inches; lines: what stands in it."""

    place: Component
    role: str
    lines: tuple[str, ...]
    x: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> float:
        """As wide as its longest line."""
        return CHARACTER * max(map(len, self.lines)) + 0.16


@dataclass(frozen=True)
class Edge:
    """From one point to another, in inches, with the effect that it stands for."""

    start: tuple[float, float]
    end: tuple[float, float]
    text: str


@dataclass(frozen=True)
class Circuit:
    """A diagram with computed places. columns, rows: (name, place in inches) of positions and blocks."""

    task: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    columns: tuple[tuple[str, float], ...]
    rows: tuple[tuple[str, float], ...]
    width: float
    height: float
    left_out: int = 0

    @property
    def caption(self) -> str:
        """What the picture shows."""
        words = {
            "needed": "filled: needed, with what is lost without it", "carries": "outlined: carries the answer",
            "suppresses": "orange: holds the answer down", "spared": "grey: tested and not needed",
        }  # fmt: skip
        seen = [words[r] for r in ROLES if any(n.role == r for n in self.nodes)]
        more = f" {self.left_out} more places are in the table." if self.left_out else ""
        told = f"What takes part in {self.task}, from confirmed findings alone; {'; '.join(seen)}."
        return f"{told} What is not drawn was not settled.{more}"


def circuit(findings: Sequence[Tested]) -> Circuit | None:
    """The picture of the task with most standing findings about places; None where there is none to draw."""
    placed = [t for t in findings if t.finding.stands and _role(t) and not t.finding.statement.among]
    tasks = [t.finding.statement.task for t in placed]
    if not tasks:
        return None
    task = max(dict.fromkeys(tasks), key=tasks.count)
    mine = [t for t in placed if t.finding.statement.task == task]
    nodes = _nodes(mine)
    if not any(n.role != "spared" for n in nodes):
        return None
    return _laid_out(task, nodes[:MOST], mine, max(0, len(nodes) - MOST))


def _role(t: Tested) -> str:
    kind = t.finding.statement.kind
    return "needed" if kind in NEEDED else ROLE.get(kind, "")


def _places(t: Tested) -> Sequence[Component]:
    s = t.finding.statement
    if s.route is not None:
        return s.route.nodes
    if s.kind == "necessary":
        return s.members
    return s.set.members if s.set is not None else ()


def _nodes(findings: Iterable[Tested]) -> list[Node]:
    """One node a place, in the strongest role that a finding gives it."""
    found: dict[Component, Node] = {}
    for t in sorted(findings, key=lambda t: ROLES.index(_role(t))):
        role = _role(t)
        for place in _places(t):
            if (
                place.part in ("logits", "final")
                or place.key
                or place in found
                or (role == "spared" and _known(found, place))
            ):
                continue
            joint = t.finding.statement.kind == "jointly_necessary" and len(t.finding.statement.members) > 1
            effect = (
                min(t.effects, key=lambda m: abs(m.value)) if t.effects and role in ("needed", "suppresses") else None
            )
            value = compact_text(effect) if effect is not None else ""
            lines = (_name(place), *filter(None, (f"together {value}" if joint and value else value,)))
            found[place] = Node(place, role, lines)
    return list(found.values())


def _known(found: Iterable[Component], place: Component) -> bool:
    """Whether all units of a place stand in the picture already."""
    units = {u for c in found if c.but(units=()) == place.but(units=()) for u in c.units}
    return bool(place.units) and set(place.units) <= units


def _name(c: Component) -> str:
    unit = PARTS[c.part].unit
    if c.feature:
        return "a direction"
    if c.units and unit:
        return f"{unit if len(c.units) == 1 else PARTS[c.part].units} {','.join(map(str, c.units))}"
    sublayer = c.part.partition(".")[0]
    return {"mlp": "MLP", "attn": "attention", "block": "whole block", "cross": "cross-attention"}.get(
        sublayer, "stream"
    )


def _block(c: Component) -> float:
    """The row: blocks as they are counted, the stream before a block between it and the one below."""
    if c.block is None:
        return -1.0
    return c.block - 0.5 if c.part == "resid_pre" else c.block + 0.5 if c.part == "resid_post" else float(c.block)


def _row_name(row: float) -> str:
    return "embedding" if row < -0.5 else f"block {row:g}" if row == int(row) else ""


def _laid_out(task: str, nodes: Sequence[Node], findings: Sequence[Tested], left_out: int) -> Circuit:
    anchors = sorted({n.place.anchor for n in nodes}, key=_anchor_order)
    levels = sorted({_block(n.place) for n in nodes})
    cells = {
        (a, r): [n for n in nodes if n.place.anchor == a and _block(n.place) == r] for a in anchors for r in levels
    }
    widths = {a: max([CHARACTER * len(_column_name(a)) + 0.2, *(_cell(cells[a, r]) for r in levels)]) for a in anchors}
    left = 0.9
    middles: dict[str, float] = {}
    for a in anchors:
        middles[a] = left + widths[a] / 2
        left += widths[a] + 2 * GAP
    heights = {r: 0.9 + ROW * i for i, r in enumerate(levels)}
    placed: list[Node] = []
    for (a, r), inside in cells.items():
        x = middles[a] - _cell(inside) / 2
        for n in sorted(inside, key=lambda n: (ROLES.index(n.role), n.place)):
            placed.append(replace(n, x=x + n.width / 2, y=heights[r]))
            x += n.width + GAP
    top = 0.9 + ROW * len(levels)
    goal = (middles[anchors[-1]], top)
    columns = tuple((_column_name(a), middles[a]) for a in anchors)
    rows = tuple((_row_name(r), heights[r]) for r in levels)
    width = max(left + 0.2, 5.2)
    return Circuit(task, tuple(placed), _edges(findings, placed, goal), columns, rows, width, top + 0.75, left_out)


def _cell(nodes: Sequence[Node]) -> float:
    return sum(n.width for n in nodes) + GAP * max(0, len(nodes) - 1)


def _edges(findings: Sequence[Tested], nodes: Sequence[Node], goal: tuple[float, float]) -> tuple[Edge, ...]:
    """From what carries to the answer, and along each path; the effect once, on the last part of it."""
    at = {n.place: (n.x, n.y) for n in nodes}
    out: list[Edge] = []
    for t in findings:
        if _role(t) != "carries":
            continue
        text = compact_text(t.effects[0]) if t.effects else ""
        route = t.finding.statement.route
        steps = [at.get(p, goal) for p in route.nodes] if route else []
        starts = [] if route else [at[p] for p in _places(t) if p in at]
        pairs = [*pairwise(steps), *((s, goal) for s in starts)]
        out += [Edge(a, b, text if i == len(pairs) - 1 else "") for i, (a, b) in enumerate(pairs) if a != b]
    return tuple(out)


def _anchor_order(text: str) -> tuple[int, float, str]:
    """All positions, spans by name, counted positions, the answer last."""
    if not text:
        return 0, 0.0, ""
    anchor = parse_anchor(text)
    if anchor.position is not None:
        return (1 if anchor.position >= 0 else 3), float(anchor.position), ""
    return (4 if anchor.name == "answer" else 2), {"first": 0.0, "all": 0.5, "last": 1.0}[anchor.policy], text


def _column_name(text: str) -> str:
    return {"": "all positions", "-1": "last position"}.get(text, text.replace("_", " "))
