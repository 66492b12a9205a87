"""The confirmed findings about one task as a diagram: positions across, blocks upward, what takes part and what does not."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from agent.report.numbers import compact_text
from agent.report.tested import Tested
from agent.report.worked import Worked, shown
from experiments_db.places import PARTS, Component, parse_anchor
from experiments_db.records import Measurement
from tools.findings.phrases import listed
from tools.tasks.spans import role_words

NEEDED = frozenset({"necessary", "jointly_necessary"})
ROLES = ("needed", "carries", "looks", "suppresses", "readable", "spared")
ROLE = {
    "carries": "carries", "sends": "carries", "suppresses": "suppresses", "not_needed": "spared", "attends": "looks",
    "readable": "readable",
}  # fmt: skip
MOST = 48  # nodes that one picture holds
CHARACTER, GAP, ROW, HEIGHT = 7.4, 20, 78, 42  # pixels: a letter of 12, between nodes, from block to block, a node
RISE = 58  # pixels below a block whose heads look somewhere: room for the arrows
LOOK = 14  # letters on an arrow of attention
LEFT, BELOW, ABOVE = 96, 60, 56  # pixels: names of blocks, tokens with their roles, the answer
ANSWER = "answer"


@dataclass(frozen=True)
class Node:
    """A component, or several heads of one block together. x, y: its middle, in pixels; lines: what stands in it."""

    place: Component
    role: str
    lines: tuple[str, ...]
    finding: str = ""
    x: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> float:
        """As wide as its longest line."""
        return CHARACTER * max(map(len, self.lines)) + 16


@dataclass(frozen=True)
class Edge:
    """From one point to another, in pixels, with the effect that it stands for. looks: attention, not a state that is moved."""

    start: tuple[float, float]
    end: tuple[float, float]
    text: str
    looks: bool = False


@dataclass(frozen=True)
class Column:
    """A position: what it is called, which token stands there in the worked example, its middle in pixels."""

    anchor: str
    name: str
    token: str
    x: float


@dataclass(frozen=True)
class Circuit:
    """A diagram with computed places, y downward. rows: (name, place in pixels) of blocks. answer: the example's right answer."""

    task: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, float], ...]
    width: float
    height: float
    goal: tuple[float, float]
    answer: str = ""
    left_out: int = 0

    @property
    def caption(self) -> str:
        """What the picture shows."""
        return caption_of([self])


def caption_of(panels: Sequence[Circuit]) -> str:
    """What a picture of one panel a task shows."""
    words = {
        "needed": "filled: needed, with what is lost without it", "carries": "outlined: carries the answer",
        "suppresses": "orange: holds the answer down", "readable": "dotted: the answer can be read from here on",
        "spared": "grey: tested and not needed",
    }  # fmt: skip
    seen = [words[r] for r in ROLES if r in words and any(n.role == r for c in panels for n in c.nodes)]
    if any(e.looks for c in panels for e in c.edges):
        seen.append("dashed arrows: where a head looks, with its share of attention")
    left_out = sum(c.left_out for c in panels)
    more = f" {left_out} more places are in the table." if left_out else ""
    each = ", one panel each" if len(panels) > 1 else ""
    told = f"What takes part in {listed([c.task for c in panels])}{each}, from confirmed findings alone; {'; '.join(seen)}."
    return f"{told} What is not drawn was not settled.{more}"


def circuits(findings: Sequence[Tested], example: Callable[[str], Worked | None] = lambda _: None) -> list[Circuit]:
    """A picture of each task with standing findings about places, the one with most of them first; none where nothing is drawn.

    example: the worked example of a task, whose tokens stand below.
    """
    placed = [t for t in findings if t.finding.stands and _role(t) and not t.finding.statement.among]
    tasks = [t.finding.statement.task for t in placed]
    out: list[Circuit] = []
    for task in sorted(dict.fromkeys(tasks), key=tasks.count, reverse=True):
        mine = [t for t in placed if t.finding.statement.task == task]
        nodes = _nodes(mine)
        if any(n.role != "spared" for n in nodes):
            out.append(_laid_out(task, nodes[:MOST], mine, max(0, len(nodes) - MOST), example(task)))
    return out


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
            if place.part in ("logits", "final") or (place.key and role != "looks"):
                continue
            if role == "looks":  # a pattern's head stands where it looks from
                place = _head(place)
            if place in found or (role in ("spared", "looks") and _known(found, place)):
                continue
            joint = t.finding.statement.kind == "jointly_necessary" and len(t.finding.statement.members) > 1
            own = [m for m in t.rows if m.name == "effect" and m.component == str(place)] or t.effects
            effect = min(own, key=lambda m: abs(m.value)) if own and role in ("needed", "suppresses") else None
            value = compact_text(effect) if effect is not None else ""
            said = "answer readable" if role == "readable" else f"together {value}" if joint and value else value
            lines = (_name(place), *filter(None, (said,)))
            found[place] = Node(place, role, lines, t.finding.handle)
    return list(found.values())


def _head(pattern: Component) -> Component:
    """The head whose pattern it is."""
    return pattern.but(part=f"{pattern.part.partition('.')[0]}.z", key="", key_stack="")


def _known(found: Iterable[Component], place: Component) -> bool:
    """Whether all units of a place stand in the picture already."""
    units = {u for c in found if c.but(units=()) == place.but(units=()) for u in c.units}
    return bool(place.units) and set(place.units) <= units


def _name(c: Component) -> str:
    unit = PARTS[c.part].unit
    if c.feature:
        return "a direction"
    if c.units and unit:
        of = "cross-attention " if c.part.startswith("cross.") else ""
        return f"{of}{unit if len(c.units) == 1 else PARTS[c.part].units} {','.join(map(str, c.units))}"
    sublayer = c.part.partition(".")[0]
    return {"mlp": "MLP", "attn": "attention", "block": "whole block", "cross": "cross-attention"}.get(
        sublayer, "stream"
    )


@dataclass(frozen=True)
class _Rows:
    """Which row a place stands in. parted: blocks whose MLP stands above their attention, because a path leads from one to the
    other. stacks: from below, the one that answers on top.
    """

    parted: Collection[int]
    stacks: Sequence[str]

    @classmethod
    def of(cls, nodes: Sequence[Node], findings: Sequence[Tested]) -> "_Rows":
        answering = {n.place.stack for n in nodes if parse_anchor(n.place.anchor).name == "answer"}
        stacks = dict.fromkeys(n.place.stack for n in nodes)
        return cls(_parted(findings), sorted(stacks, key=lambda s: (s in answering, s)))

    def row(self, c: Component) -> tuple[int, float]:
        """The stack, and blocks as they are counted, the stream before a block between it and the one below."""
        stack = self.stacks.index(c.stack) if c.stack in self.stacks else 0
        if c.block is None:
            return stack, -1.0
        if c.block in self.parted and c.part.startswith("mlp"):
            return stack, c.block + 0.25
        return stack, c.block + {"resid_pre": -0.5, "resid_post": 0.5}.get(c.part, 0.0)

    def name(self, rows: Sequence[tuple[int, float]]) -> str:
        """What stands beside a row, or several that are one."""
        said = _row_name([r for _, r in rows])
        return f"{self.stacks[rows[0][0]]} {said}" if said and len(self.stacks) > 1 else said


def _row_name(rows: Sequence[float]) -> str:
    low, high = rows[0], rows[-1]
    if low < -0.5:
        return "embedding"
    if low != high:
        return f"blocks {low:g} to {high:g}"
    return f"block {low:g}" if low == int(low) else ""


def _parted(findings: Iterable[Tested]) -> frozenset[int]:
    """Blocks inside which a path leads from attention to the MLP."""
    routes = [t.finding.statement.route for t in findings]
    steps = [pair for r in routes if r is not None for pair in pairwise(r.nodes)]
    return frozenset(a.block for a, b in steps if a.block is not None and a.block == b.block)


def _levels(nodes: Sequence[Node], rows: _Rows) -> list[list[tuple[int, float]]]:
    """Rows from below upward; neighbouring blocks in which the same places, and no others, were spared are one row."""
    inside: dict[tuple[int, float], list[Node]] = {}
    for n in nodes:
        inside.setdefault(rows.row(n.place), []).append(n)
    levels: list[list[tuple[int, float]]] = []
    for level in sorted(inside):
        here = inside[level]
        alike = {_kind_of(n) for n in here}
        below = inside[levels[-1][-1]] if levels else []
        if (
            below and level == (levels[-1][-1][0], levels[-1][-1][1] + 1) and all(n.role == "spared" for n in [*here, *below])
            and alike == {_kind_of(n) for n in below}
        ):  # fmt: skip
            levels[-1].append(level)
        else:
            levels.append([level])
    return levels


def _kind_of(n: Node) -> tuple[str, str, tuple[str, ...]]:
    return n.place.part, n.place.anchor, n.lines


def _laid_out(
    task: str, nodes: Sequence[Node], findings: Sequence[Tested], left_out: int, example: Worked | None
) -> Circuit:
    keys = {c.key for t in findings if _role(t) == "looks" for c in _places(t) if c.key}
    anchors = sorted({n.place.anchor for n in nodes} | keys, key=lambda a: _anchor_order(a, example))
    which = _Rows.of(nodes, findings)
    levels = _levels(nodes, which)
    drawn = {level[0] for level in levels}
    cells = {
        (a, level[0]): [n for n in nodes if n.place.anchor == a and which.row(n.place) == level[0]]
        for a in anchors
        for level in levels
    }
    names = {a: (_column_name(a), _token(a, example)) for a in anchors}
    widths = {
        a: max(
            [
                CHARACTER * max(LOOK if a in keys else 0, *map(len, names[a])) + 20,
                *(_cell(cells[a, level[0]]) for level in levels),
            ]
        )
        for a in anchors
    }
    left, middles = float(LEFT), dict[str, float]()
    for a in anchors:
        middles[a] = left + widths[a] / 2
        left += widths[a] + 2 * GAP
    looking = {which.row(c) for t in findings if _role(t) == "looks" for c in _places(t)}
    heights, y = dict[tuple[int, float], float](), 0.0
    for level in levels:  # measured upward first
        y += ROW + (RISE if looking & set(level) else 0)
        heights[level[0]] = y
    height = ABOVE + y + ROW / 2 + BELOW
    heights = {level: height - BELOW + ROW / 2 - y for level, y in heights.items()}
    placed: list[Node] = []
    for (a, r), inside in cells.items():
        x = middles[a] - _cell(inside) / 2
        for n in sorted(inside, key=lambda n: (ROLES.index(n.role), n.place)):
            placed.append(replace(n, x=x + n.width / 2, y=heights[r]))
            x += n.width + GAP
    goal = (middles[anchors[-1]], ABOVE / 2 - 4)
    columns = tuple(Column(a, *names[a], middles[a]) for a in anchors)
    rows = tuple((which.name(level), heights[level[0]]) for level in levels if level[0] in drawn)
    edges = (*_edges(findings, placed, goal), *_looks(findings, placed, middles))
    answer = example.answer.strip() if example else ""
    return Circuit(task, tuple(placed), edges, columns, rows, max(left + 10, 480), height, goal, answer, left_out)


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


def _looks(findings: Sequence[Tested], nodes: Sequence[Node], middles: Mapping[str, float]) -> Iterator[Edge]:
    """From the position that a head looks at, below its block, up to the head."""
    for t in findings:
        if _role(t) != "looks":
            continue
        text = _attention(t.effects[0]) if t.effects else ""
        for c in (c for c in _places(t) if c.key in middles):
            head = _head(c)
            for n in nodes:
                if n.place.but(units=()) == head.but(units=()) and set(head.units) <= set(n.place.units):
                    yield Edge((middles[c.key], n.y + HEIGHT / 2 + RISE), (n.x, n.y), text, looks=True)


def _attention(m: Measurement) -> str:
    inside = "" if m.low is None or m.high is None else f" [{m.low:.0%}, {m.high:.0%}]"
    return f"{m.value:.0%}{inside}"


def _anchor_order(text: str, example: Worked | None) -> tuple[int, float, str]:
    """All positions, then by the worked example's places; without one spans by name and counted positions; the answer last."""
    if not text:
        return 0, 0.0, ""
    anchor = parse_anchor(text)
    last = anchor.name == "answer"
    if example is not None and (found := example.places(text)) and not last:
        return 2, float(found[-1]), text
    if anchor.position is not None:
        return (1 if anchor.position >= 0 else 3), float(anchor.position), ""
    return (4 if last else 2), {"first": 0.0, "all": 0.5, "last": 1.0}[anchor.policy], text


def _column_name(text: str) -> str:
    if not text:
        return "all positions"
    anchor = parse_anchor(text)
    if anchor.position is not None:
        return "last token" if anchor.position == -1 else f"token {text}"
    words = role_words(anchor.name).removeprefix("the ")
    return words if anchor.policy == "all" else f"{words}, {anchor.policy} token"


def _token(anchor: str, example: Worked | None) -> str:
    """The tokens of a column in the worked example, in quotes."""
    found = example.places(anchor) if example and anchor else ()
    if not found or example is None or len(found) > 4:
        return ""
    return " ".join(shown(example.tokens[i]) for i in found)
