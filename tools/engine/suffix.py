"""Sweeps of edits at named positions: of a sequence only what comes at or after the first change is computed again.

In a causal stack an edit at position p changes nothing before p, and no block before its own. The unchanged run is made once
and every block's keys and values are kept; a variant then runs from its first edited block on, over the positions from p on
alone. Variants that begin at one position run as one batch. For prompts of S tokens an edit at the last one costs 1/S of a run.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tools.engine.adapter import Call, run_block
from tools.engine.attention import INNER
from tools.engine.decoding import Clock, with_cache
from tools.engine.executor import Node, SweepCost, Variant, as_steps, plan, sweep
from tools.engine.kernels import in_use
from tools.engine.lanes import Step, run_steps
from tools.engine.narrow import FEWEST, Before, Narrow, Resume, is_narrow, worthwhile
from tools.engine.shared import FEWEST as PROGRAMS
from tools.engine.shared import Beginning, Noted, sweep_shared
from tools.engine.sites import Edit

Key = tuple[tuple[int, ...], int]


@dataclass
class _Whole:
    """The unchanged run of a program: the state before each of its blocks, the last state, and each block's keys and values."""

    call: Call
    states: list[Tensor]
    kept: list[tuple[Tensor, Tensor]]

    def before(self, at: int, position: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the block at a place in the program, before a position."""
        keys, values = (t[..., :position, :] for t in self.kept[at])
        return keys, values


def _first_position(variant: Variant) -> int:
    """The first position that a variant's edits change; 0 where that is not known or what is changed has other positions."""
    if not variant.edits or any(e.positions is None or e.site.kind in INNER for e in variant.edits):
        return 0
    return min(int(e.positions.min()) for e in variant.edits if e.positions is not None)


def _worthwhile(call: Call, variants: Sequence[Variant], max_state_bytes: int) -> dict[Key, list[int]]:
    """Variants by (program, first position changed), where running them from there on saves more than it costs.

    That is an unchanged run of each program, unless it is among the variants, and the memory of its states, keys and values.
    """
    found: dict[tuple[int, ...], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, variant in enumerate(variants):
        if (position := _first_position(variant)) > 0:
            found[variant.blocks][position].append(index)
    size, seq = 3 * call.start.numel() * call.start.element_size(), call.start.shape[1]
    whole = {v.blocks for v in variants if not v.edits}
    out: dict[Key, list[int]] = {}
    for blocks, groups in found.items():
        saved = sum(len(members) * position / seq for position, members in groups.items())
        if saved > (blocks not in whole) and size * (len(blocks) + 1) <= max_state_bytes:
            out.update({(blocks, position): members for position, members in groups.items()})
    return out


def sweep_suffixes(
    resume: Resume | None,
    call: Call,
    variants: Sequence[Variant],
    read: Callable[[Float[Tensor, "batch seq width"], int], Tensor],
    *,
    read_from: int = 0,
    narrow: bool = False,
    beginning: Beginning | None = None,
    lanes: bool = False,
    max_state_bytes: int = 2**30,
    **options: Any,
) -> tuple[list[Tensor], SweepCost]:
    """As `executor.sweep`: variants whose edits begin at a later position run from there on, the others as a whole.

    resume: the stack's call from a position on, given the cache that stands for what comes before it; None where the stack
    has no caches. narrow: whether last blocks run only where they are read, where that saves something. beginning: what all rows
    begin with, which programs run once; None where that is nothing.
    """
    narrow = narrow and len(variants) >= FEWEST and worthwhile(read_from, call.start.shape[1])
    last = Narrow(resume, read_from) if resume and narrow and not torch.is_grad_enabled() else None
    options |= {"read_from": read_from, "lanes": lanes}
    groups = _worthwhile(call, variants, max_state_bytes) if resume else {}
    found, cost = dict[int, Tensor](), SweepCost()
    if resume and groups:
        found, cost = _sweep_groups(
            resume, groups, variants, read, narrow=last, max_state_bytes=max_state_bytes, **options
        )
    rest = [i for i in range(len(variants)) if i not in found]
    alike = [i for i in rest if beginning and beginning.takes(variants[i], len(call.spec.blocks))]
    if resume and beginning and len(alike) >= PROGRAMS and not torch.is_grad_enabled():
        chosen = [variants[i] for i in alike]
        options["max_state_bytes"] = max_state_bytes
        begun, spent = sweep_shared(resume, beginning, chosen, lambda h, at: read(h, alike[at]), **options)
        found.update(zip(alike, begun, strict=True))
        cost, rest = cost + spent, [i for i in rest if i not in found]
    if rest:
        chosen = [variants[i] for i in rest]
        options |= {"narrow": last, "max_state_bytes": max_state_bytes}
        whole, spent = sweep(call, chosen, lambda h, at: read(h, rest[at]), **options)
        found.update(zip(rest, whole, strict=True))
        cost = cost + spent
    return [found[i] for i in range(len(variants))], cost


def _sweep_groups(
    resume: Resume,
    groups: dict[Key, list[int]],
    variants: Sequence[Variant],
    read: Callable[[Tensor, int], Tensor],
    *,
    read_from: int,
    narrow: Narrow | None,
    lanes: bool,
    max_state_bytes: int,
    max_tokens: int = 2048,
    on_progress: Callable[[int], None] | None = None,
    check: Callable[[], None] | None = None,
) -> tuple[dict[int, Tensor], SweepCost]:
    """The groups' variants, and those without edits of the same programs; `max_tokens` counts the positions computed."""
    values, cost = dict[int, Tensor](), SweepCost()

    def settle(state: Tensor, leaves: Sequence[int]) -> None:
        for leaf in leaves:
            values[leaf] = read(state, leaf)  # a state from `read_from` on
            if on_progress:
                on_progress(1)

    def run(whole: _Whole, group: _Group, nodes: Sequence[Node], *, narrowly: bool) -> None:
        if check:
            check()
        call, clock = group.call()
        position, at = group.position, group.places[nodes[0]]
        known = [n.given() if n.parent else whole.states[at][:, position:] for n in nodes]
        h, before, block = known[0] if len(known) == 1 else torch.cat(known), whole.before(at, position), nodes[0].block
        del known
        if narrowly and narrow:
            for node, piece in zip(nodes, narrow.run(block, h, len(nodes), before).chunk(len(nodes)), strict=True):
                settle(piece, node.leaves)
        else:
            arguments = with_cache(call.arguments_for(block, len(nodes)), clock, Before(position, before))
            out = run_block(call, block, h, [n.edits for n in nodes], arguments=arguments)
            for node, piece in zip(nodes, out.chunk(len(nodes)), strict=True):
                if node.leaves:
                    settle(_from(read_from, whole.states[-1], piece), node.leaves)
                node.keep(piece, shared=len(nodes) > 1)
        group.end()

    for blocks in dict.fromkeys(blocks for blocks, _ in groups):
        if check:
            check()
        whole = _run_whole(resume, blocks, cost)
        settle(
            whole.states[-1][:, read_from:], [i for i, v in enumerate(variants) if v.blocks == blocks and not v.edits]
        )
        steps: list[Step] = []
        for position, members in ((p, m) for (b, p), m in groups.items() if b == blocks):
            group = _Group(resume, position)
            roots, never = group.trees(whole.call, blocks, {i: variants[i] for i in members})
            settle(whole.states[-1][:, read_from:], never)
            later = narrow is not None and position < read_from
            batch, seq = whole.call.start.shape[0], whole.call.start.shape[1] - position
            parts = plan(
                roots,
                max(1, max_tokens // (batch * seq)),
                whole.call.start[:, position:].numel() * whole.call.start.element_size(),
                max_state_bytes,
                cost,
                lambda n, later=later: later and is_narrow(n.children, n.leaves, n.edits),
                group.places.__getitem__,
                furthest=True,
            )
            group.left = len(parts)
            steps += as_steps(parts, partial(run, whole, group))
        run_steps(steps, whole.call.lanes(max_tokens) if lanes else 1)
    cost.naive_edges += sum(len(variants[leaf].blocks) for leaf in values)
    return values, cost


class _Group:
    """Variants of one program that begin at one position; `places` says where in the program each of their block runs stands."""

    def __init__(self, resume: Resume, position: int) -> None:
        self.resume, self.position, self.left = resume, position, 0
        self.places: dict[Node, int] = {}
        self._lock = threading.Lock()
        self._call: tuple[Call, Clock] | None = None

    def call(self) -> tuple[Call, Clock]:
        """The stack's call from the position on, captured when it is first needed and let go after the last run."""
        with self._lock:
            if self._call is None:
                clock = Clock(self.position)
                self._call = self.resume(self.position, clock), clock
            return self._call

    def end(self) -> None:
        """Note that one of the runs is done."""
        with self._lock:
            self.left -= 1
            if not self.left:
                self._call = None

    def trees(self, call: Call, blocks: Sequence[int], variants: dict[int, Variant]) -> tuple[list[Node], list[int]]:
        """Tries of (edits at a block), each from the place in the program where it begins; and variants whose edits never fire."""
        moved: dict[int, Edit] = {}
        roots: dict[int, Node] = {}
        never: list[int] = []
        for index, variant in variants.items():
            for e in variant.edits:
                call.spec.check_edit(e)
                assert e.positions is not None
                moved.setdefault(id(e), replace(e, positions=e.positions - self.position))
            edited = {e.site.block for e in variant.edits}
            start = next((at for at, block in enumerate(blocks) if block in edited), None)
            if start is None:
                never.append(index)
                continue
            node = roots.setdefault(start, Node())
            for at, block in enumerate(blocks[start:], start):
                key = tuple(id(e) for e in variant.edits if e.site.block == block)
                node = node.add(key, Node(edits=tuple(moved[k] for k in key), block=block))
                self.places[node] = at
            node.leaves.append(index)
        first = [n for root in roots.values() for n in root.children.values()]
        for n in first:
            n.parent = None  # it starts from the unchanged run
        return first, never


def _from(position: int, whole: Tensor, piece: Tensor) -> Tensor:
    """The last state from a position on, of which a variant has computed the last part."""
    unchanged = whole.shape[1] - piece.shape[1]
    if position >= unchanged:
        return piece[:, position - unchanged :]
    return torch.cat([whole[:, position:unchanged], piece], 1)


def _run_whole(resume: Resume, blocks: Sequence[int], cost: SweepCost) -> _Whole:
    clock = Clock(0)
    call = resume(0, clock)
    whole, kept = _Whole(call, [call.start], []), None if torch.is_grad_enabled() else call.kept
    for at, block in enumerate(blocks):
        key = (call.key, "resumed", tuple(blocks[: at + 1]), torch.get_num_threads(), in_use())
        cost.calls += 1
        cost.edges += 1
        if kept is not None and (known := kept.get(key)):
            state, *slots = known
            whole.states.append(state)
            whole.kept.append((slots[0], slots[1]))
            continue
        slot = Noted()
        arguments = with_cache(call.arguments_for(block, 1), clock, slot)
        whole.states.append(run_block(call, block, whole.states[-1], arguments=arguments))
        assert slot.made is not None, "a block of a family with cached generation adds to its cache"
        whole.kept.append(slot.made)
        if kept is not None:
            kept.put(key, whole.states[-1], *slot.made)
    return whole
