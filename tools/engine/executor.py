"""Run many variants of one stack call, computing whatever they share only once.

A variant is a layer program with edits. The set of variants forms a trie over (block, edits at that block); each
distinct edge is computed once, edges that need the same block run as one batch, and a state is freed when its last
child is done. The cost of a sweep is therefore (distinct edges) x (time of one block at its best batch size).
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from tools.engine.adapter import Call, run_block
from tools.engine.kept import Kept
from tools.engine.kernels import in_use
from tools.engine.lanes import Step, run_steps
from tools.engine.narrow import Narrow, is_narrow
from tools.engine.sites import Edit, Kind, Site

AHEAD: tuple[Kind, ...] = ("attn.z", "attn.out", "mlp.out")
ROOM = 4  # times as much memory has to be there as what is read ahead of one batch takes


@dataclass(frozen=True, eq=False)
class Variant:
    """Blocks to run, in order, and edits that apply every time their block runs.

    earlier: programs of stacks that run before this one, by name; those not named run as they are.
    """

    blocks: tuple[int, ...]
    edits: tuple[Edit, ...] = ()
    earlier: tuple[tuple[str, tuple[int, ...]], ...] = ()


@dataclass
class SweepCost:
    """What a sweep cost: block calls, block x batch units computed, and units that separate runs would have needed."""

    calls: int = 0
    edges: int = 0
    naive_edges: int = 0
    peak_live_states: int = 0

    def __add__(self, other: "SweepCost") -> "SweepCost":
        """Of two sweeps, one after the other."""
        return SweepCost(
            self.calls + other.calls,
            self.edges + other.edges,
            self.naive_edges + other.naive_edges,
            max(self.peak_live_states, other.peak_live_states),
        )


@dataclass(eq=False)
class Node:
    """A block run that variants share: what is edited in it, and what follows.

    leaves: variants that end here. path: the blocks run up to here, None once something was edited. state: what it gave, while
    children wait for it. step: which of a sweep's steps gives it.
    """

    children: dict[tuple[int, ...], "Node"] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()
    leaves: list[int] = field(default_factory=list)
    path: tuple[int, ...] | None = None
    block: int = 0
    parent: "Node | None" = field(default=None, repr=False)
    depth: int = 0
    left: int = 0
    state: Tensor | None = None
    step: Step | None = None

    def add(self, key: tuple[int, ...], child: "Node") -> "Node":
        """The child under a key, this one unless there is one already."""
        if key not in self.children:
            child.parent, child.depth = self, self.depth + 1
            self.children[key] = child
        return self.children[key]

    def keep(self, state: Tensor, *, shared: bool) -> None:
        """Hold a state for the children. shared: it is a piece of a larger one, which is not to be kept alive for it."""
        if self.children:
            self.state, self.left = (state.clone() if shared else state), len(self.children)

    def given(self) -> Tensor:
        """The state that this one starts from, for which each child asks once."""
        assert self.parent is not None
        state = self.parent.state
        assert state is not None, "a state is asked for once by each child, after the step that made it"
        with _counting:
            self.parent.left -= 1
            if self.parent.left == 0:
                self.parent.state = None
        self.parent = None
        return state


_counting = threading.Lock()


def trie(call: Call, variants: Sequence[Variant]) -> Node:
    """The root of the variants' trie; SiteError for an edit that the stack cannot take."""
    root = Node(path=())
    for index, variant in enumerate(variants):
        for edit in variant.edits:
            call.spec.check_edit(edit)
        node = root
        for block in variant.blocks:
            here = tuple(e for e in variant.edits if e.site.block == block)
            path = None if here or node.path is None else (*node.path, block)
            node = node.add((block, *map(id, here)), Node(edits=here, path=path, block=block))
        node.leaves.append(index)
    return root


def plan(
    roots: Sequence[Node],
    width: int,
    state_bytes: int,
    max_state_bytes: int,
    cost: SweepCost,
    last: Callable[[Node], bool],
    place: Callable[[Node], int],
    *,
    furthest: bool = False,
) -> list[tuple[bool, list[Node]]]:
    """Which nodes run as one batch, in what order, decided by the tries alone: (whether their run is narrow, nodes).

    last, place: whether a node's run is narrow, and where in the program it stands. width: nodes of one batch at most. When
    waiting states exceed `max_state_bytes` the deepest, or those of the furthest place, are finished first instead of the widest
    batch.
    """
    waiting: dict[tuple[int, bool], list[Node]] = defaultdict(list)
    live: dict[Node | None, int] = defaultdict(int)
    out: list[tuple[bool, list[Node]]] = []

    def wait(nodes: Iterable[Node]) -> None:
        for n in nodes:
            waiting[place(n), last(n)].append(n)
            live[n.parent] += 1

    wait(roots)
    while waiting:
        # Counted by distinct tensors: siblings that wait on the same parent share its state.
        held = len(live) - (None in live)
        cost.peak_live_states = max(cost.peak_live_states, held)
        if held * state_bytes <= max_state_bytes:
            key = min(waiting)  # lowest block first batches monotone programs perfectly
        elif furthest:
            key = max(waiting)
        else:
            key = max(waiting, key=lambda k: max(n.depth for n in waiting[k]))
            waiting[key].sort(key=lambda n: n.depth)
        part = waiting[key][-width:]
        del waiting[key][-width:]
        if not waiting[key]:
            del waiting[key]
        for n in part:
            live[n.parent] -= 1
            if not live[n.parent]:
                del live[n.parent]
        cost.calls += 1
        cost.edges += len(part)
        out.append((key[1], part))
        if not key[1]:
            for n in part:
                wait(n.children.values())
    return out


def sweep(
    call: Call,
    variants: Sequence[Variant],
    read: Callable[[Float[Tensor, "batch seq width"], int], Tensor],
    *,
    read_from: int = 0,
    narrow: Narrow | None = None,
    lanes: bool = False,
    max_tokens: int = 2048,
    max_state_bytes: int = 2**30,
    on_progress: Callable[[int], None] | None = None,
    check: Callable[[], None] | None = None,
) -> tuple[list[Tensor], SweepCost]:
    """Run every variant from the captured start and return `read(final state, variant index)` for each.

    read_from: the first position whose final state is read; `read` is given the states from there on.
    narrow: runs blocks that end a variant only there; None runs each over every position.
    lanes: whether batches that do not need one another run side by side (`tools.engine.lanes`).
    max_tokens: batched tokens per block call (at least one copy of the captured batch always runs).
    check: called before each block call; what it raises ends the sweep.
    max_state_bytes: when waiting states exceed this, the deepest are finished first instead of the widest batch.
    """
    values: list[Tensor | None] = [None] * len(variants)
    cost = SweepCost(naive_edges=sum(len(v.blocks) for v in variants))
    batch, seq = call.start.shape[:2]
    intact = tuple(range(len(call.spec.blocks)))  # its states may be kept for what runs next

    def done(leaves: Sequence[int], h: Tensor) -> None:
        for leaf in leaves:
            values[leaf] = read(h, leaf)
            if on_progress:
                on_progress(1)

    def run(nodes: Sequence[Node], *, narrowly: bool) -> None:
        if check:
            check()
        given = [n.given() for n in nodes]
        h = given[0] if len(nodes) == 1 else torch.cat(given)
        del given
        block = nodes[0].block
        if narrowly and narrow:
            for node, piece in zip(nodes, narrow.run(block, h, len(nodes)).chunk(len(nodes)), strict=True):
                done(node.leaves, piece)
            return
        if len(nodes) == 1 and (path := nodes[0].path) is not None:
            out = run_unchanged(call, path, h)
        else:
            out = run_block(call, block, h, [n.edits for n in nodes])
        del h
        for node, piece in zip(nodes, out.chunk(len(nodes)) if len(nodes) > 1 else (out,), strict=True):
            done(node.leaves, piece[:, read_from:])
            node.keep(piece, shared=len(nodes) > 1)

    def is_last(node: Node) -> bool:
        return narrow is not None and node.path != intact and is_narrow(node.children, node.leaves, node.edits)

    root = trie(call, variants)
    done(root.leaves, call.start[:, read_from:])
    root.keep(call.start, shared=False)
    parts = plan(
        list(root.children.values()),
        max(1, max_tokens // (batch * seq)),
        call.start.numel() * call.start.element_size(),
        max_state_bytes,
        cost,
        is_last,
        lambda n: n.block,
    )
    if narrow and any(narrowly for narrowly, _ in parts):
        narrow.ready()
    run_steps(as_steps(parts, run), call.lanes(max_tokens) if lanes else 1)
    return [v for v in values if v is not None], cost


def as_steps(parts: Sequence[tuple[bool, list[Node]]], run: Callable[..., None]) -> list[Step]:
    """A planned sweep's steps, each after those that give the states it starts from."""
    steps: list[Step] = []
    for narrowly, nodes in parts:
        before = dict.fromkeys(n.parent.step for n in nodes if n.parent and n.parent.step)
        step = Step(partial(run, nodes, narrowly=narrowly), tuple(before))
        for n in nodes:
            n.step = step
        steps.append(step)
    return steps


def trace(
    call: Call,
    blocks: Sequence[int],
    edits: Iterable[Edit] = (),
    capture: Iterable[Site] = (),
    *,
    onward: bool = True,
) -> tuple[Float[Tensor, "batch seq width"], dict[Site, Tensor]]:
    """Run one variant and read activations on the way; where a block runs twice, the last reading is kept.

    onward: whether the last state is asked for; if not, what is returned for it means nothing.
    """
    edits, sites = tuple(edits), tuple(capture)
    for site in sites:
        call.spec.check(site)
    for edit in edits:
        call.spec.check_edit(edit)
    captured: dict[Site, Tensor] = {}
    h, path = call.start, tuple[int, ...]()
    for at, block in enumerate(blocks):
        wanted: dict[Kind, Site] = {s.kind: s for s in sites if s.block == block}
        here = [e for e in edits if e.site.block == block]
        path, needed = (*path, block), onward or at + 1 < len(blocks)
        if any(e.site.block in path for e in edits):
            h = run_block(call, block, h, [here], wanted, captured, onward=needed)
        else:
            h = run_unchanged(call, path, h, wanted, captured, onward=needed)
    return h if call.kept is None else h.clone(), captured


def run_unchanged(
    call: Call,
    path: tuple[int, ...],
    h: Float[Tensor, "batch seq width"],
    capture: Mapping[Kind, Site] | None = None,
    captured: dict[Site, Tensor] | None = None,
    *,
    onward: bool = True,
) -> Float[Tensor, "batch seq width"]:
    """The last block of a path on the captured batch, nothing edited; what is kept of it is not computed again.

    path: the blocks run so far, this one among them. h: the state before it, not to be written to; nor what is returned.
    onward: as of `run_block`.
    """
    kept, captured = call.kept, {} if captured is None else captured
    capture = dict[Kind, Site]() if capture is None else capture
    if kept is None or torch.is_grad_enabled():
        return run_block(call, path[-1], h, ((),), capture, captured, onward=onward)
    if "resid_pre" in capture:
        captured[capture["resid_pre"]] = h.clone()
        others: dict[Kind, Site] = {kind: site for kind, site in capture.items() if kind != "resid_pre"}
        if not (others or onward):
            return h
        capture = others
    key = (call.key, path, torch.get_num_threads(), in_use())  # the bits may depend on how products are divided
    known = kept.get(key)
    missing: dict[Kind, Site] = {}
    for kind, site in capture.items():
        if found := kept.get((*key, kind)):
            captured[site] = found[0].clone()
        else:
            missing[kind] = site
    if known is None or missing:
        made: dict[Site, Tensor] = {}
        read: dict[Kind, Site] = missing if known else {**_ahead(call, path[-1], kept), **missing}
        out = run_block(call, path[-1], h, ((),), read, made, onward=known is None)
        known = known or (out,)
        if known[0] is out:
            kept.put(key, out)
        for kind, site in read.items():
            kept.put((*key, kind), made[site].clone())
            if kind in missing:
                captured[site] = made[site]
    return known[0]


def _ahead(call: Call, block: int, kept: Kept) -> dict[Kind, Site]:
    """What is read of an unchanged block whenever it runs, asked for or not: most of it will be, and reading costs little.

    Nothing where the memory would not hold as much of every block, and have three quarters left.
    """
    spec, size = call.spec, call.start.numel() * call.start.element_size()
    if ROOM * (1 + len(AHEAD)) * size * len(spec.blocks) > kept.limit:
        return {}
    return {kind: Site(spec.name, block, kind) for kind in AHEAD if kind in spec.kinds}
