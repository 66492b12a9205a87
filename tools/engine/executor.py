"""Run many variants of one stack call, computing whatever they share only once.

A variant is a layer program with edits. The set of variants forms a trie over (block, edits at that block); each
distinct edge is computed once, edges that need the same block run as one batch, and a state is freed when its last
child is done. The cost of a sweep is therefore (distinct edges) x (time of one block at its best batch size).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from tools.engine.adapter import Call, run_block
from tools.engine.kept import Kept
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
class _Node:
    children: dict[tuple[int, tuple[int, ...]], "_Node"] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()
    leaves: list[int] = field(default_factory=list)
    path: tuple[int, ...] | None = None  # the blocks run up to here, None once something was edited


def _trie(call: Call, variants: Sequence[Variant]) -> _Node:
    root = _Node(path=())
    for index, variant in enumerate(variants):
        for edit in variant.edits:
            call.spec.check_edit(edit)
        node = root
        for block in variant.blocks:
            here = tuple(e for e in variant.edits if e.site.block == block)
            key = (block, tuple(id(e) for e in here))
            if key not in node.children:
                path = None if here or node.path is None else (*node.path, block)
                node.children[key] = _Node(edits=here, path=path)
            node = node.children[key]
        node.leaves.append(index)
    return root


def sweep(
    call: Call,
    variants: Sequence[Variant],
    read: Callable[[Float[Tensor, "batch seq width"], int], Tensor],
    *,
    read_from: int = 0,
    narrow: Narrow | None = None,
    max_tokens: int = 2048,
    max_state_bytes: int = 2**30,
    on_progress: Callable[[int], None] | None = None,
    check: Callable[[], None] | None = None,
) -> tuple[list[Tensor], SweepCost]:
    """Run every variant from the captured start and return `read(final state, variant index)` for each.

    read_from: the first position whose final state is read; `read` is given the states from there on.
    narrow: runs blocks that end a variant only there; None runs each over every position.
    max_tokens: batched tokens per block call (at least one copy of the captured batch always runs).
    check: called before each block call; what it raises ends the sweep.
    max_state_bytes: when waiting states exceed this, the deepest are finished first instead of the widest batch.
    """
    values: list[Tensor | None] = [None] * len(variants)
    cost = SweepCost(naive_edges=sum(len(v.blocks) for v in variants))
    batch, seq = call.start.shape[:2]
    width = max(1, max_tokens // (batch * seq))
    state_bytes = call.start.numel() * call.start.element_size()
    intact = tuple(range(len(call.spec.blocks)))  # its states may be kept for what runs next
    waiting: dict[tuple[int, bool], list[tuple[int, _Node, Tensor]]] = defaultdict(list)

    def done(leaves: Sequence[int], h: Tensor) -> None:
        for leaf in leaves:
            values[leaf] = read(h, leaf)
            if on_progress:
                on_progress(1)

    def settle(node: _Node, h: Tensor, depth: int) -> None:
        done(node.leaves, h[:, read_from:])
        for (block, _), n in node.children.items():
            last = narrow is not None and n.path != intact and is_narrow(n.children, n.leaves, n.edits)
            waiting[block, last].append((depth + 1, n, h))

    settle(_trie(call, variants), call.start, 0)
    while waiting:
        if check:
            check()
        # Counted by distinct tensors: siblings that wait on the same parent share its state.
        live = len({id(h) for todo in waiting.values() for _, _, h in todo})
        cost.peak_live_states = max(cost.peak_live_states, live)
        if live * state_bytes <= max_state_bytes:
            block, last = min(waiting)  # lowest block first batches monotone programs perfectly
        else:
            block, last = max(waiting, key=lambda b: max(depth for depth, _, _ in waiting[b]))
            waiting[block, last].sort(key=lambda item: item[0])
        todo = waiting[block, last]
        part = todo[-width:]
        del todo[-width:]
        if not todo:
            del waiting[block, last]
        h = part[0][2] if len(part) == 1 else torch.cat([state for _, _, state in part])
        cost.calls += 1
        cost.edges += len(part)
        if last and narrow:
            for (_, node, _), piece in zip(part, narrow.run(block, h, len(part)).chunk(len(part)), strict=True):
                done(node.leaves, piece)
            continue
        if len(part) == 1 and (path := part[0][1].path) is not None:
            out = run_unchanged(call, path, h)
        else:
            out = run_block(call, block, h, [node.edits for _, node, _ in part])
        pieces = out.chunk(len(part)) if len(part) > 1 else (out,)
        for (depth, node, _), piece in zip(part, pieces, strict=True):
            # A state that has to wait is copied out, so that it does not keep the whole batch alive.
            settle(node, piece.clone() if node.children and len(part) > 1 else piece, depth)
        del h, out, pieces, part
    return [v for v in values if v is not None], cost


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
    known = kept.get((call.key, path))
    missing: dict[Kind, Site] = {}
    for kind, site in capture.items():
        if found := kept.get((call.key, path, kind)):
            captured[site] = found[0].clone()
        else:
            missing[kind] = site
    if known is None or missing:
        made: dict[Site, Tensor] = {}
        read: dict[Kind, Site] = missing if known else {**_ahead(call, path[-1], kept), **missing}
        out = run_block(call, path[-1], h, ((),), read, made, onward=known is None)
        known = known or (out,)
        if known[0] is out:
            kept.put((call.key, path), out)
        for kind, site in read.items():
            kept.put((call.key, path, kind), made[site].clone())
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
