"""Sweeps of edits at named positions: of a sequence only what comes at or after the first change is computed again.

In a causal stack an edit at position p changes nothing before p, and no block before its own. The unchanged run is made once
and every block's keys and values are kept; a variant then runs from its first edited block on, over the positions from p on
alone. Variants that begin at one position run as one batch. For prompts of S tokens an edit at the last one costs 1/S of a run.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tools.engine.adapter import Call, run_block
from tools.engine.attention import INNER
from tools.engine.decoding import Clock, with_cache
from tools.engine.executor import SweepCost, Variant, sweep
from tools.engine.narrow import FEWEST, Before, Narrow, Resume, is_narrow, worthwhile
from tools.engine.sites import Edit

Key = tuple[tuple[int, ...], int]


class _Kept(Clock):
    """A cache that keeps what one block adds to it."""

    def __init__(self) -> None:
        super().__init__(0)
        self.made: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keep keys and values, (batch, heads, seq, head width) each, and hand them on."""
        self.made = (key_states, value_states)
        return self.made


@dataclass(eq=False)
class _Node:
    edits: tuple[Edit, ...] = ()
    children: dict[tuple[int, ...], "_Node"] = field(default_factory=dict)
    leaves: list[int] = field(default_factory=list)


_Waiting = dict[tuple[int, bool], list[tuple[_Node, Tensor | None]]]


@dataclass
class _Whole:
    """The unchanged run of a program: the state before each of its blocks, the last state, and each block's keys and values."""

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
    max_state_bytes: int = 2**30,
    **options: Any,
) -> tuple[list[Tensor], SweepCost]:
    """As `executor.sweep`: variants whose edits begin at a later position run from there on, the others as a whole.

    resume: the stack's call from a position on, given the cache that stands for what comes before it; None where the stack
    has no caches. narrow: whether last blocks run only where they are read, where that saves something.
    """
    narrow = narrow and len(variants) >= FEWEST and worthwhile(read_from, call.start.shape[1])
    last = Narrow(resume, read_from) if resume and narrow and not torch.is_grad_enabled() else None
    options |= {"read_from": read_from, "narrow": last}
    groups = _worthwhile(call, variants, max_state_bytes) if resume else {}
    found, cost = dict[int, Tensor](), SweepCost()
    if resume and groups:
        found, cost = _sweep_groups(resume, groups, variants, read, max_state_bytes=max_state_bytes, **options)
    rest = [i for i in range(len(variants)) if i not in found]
    if rest:
        chosen = [variants[i] for i in rest]
        whole, spent = sweep(call, chosen, lambda h, at: read(h, rest[at]), max_state_bytes=max_state_bytes, **options)
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
            cost.naive_edges += len(variants[leaf].blocks)
            if on_progress:
                on_progress(1)

    for blocks in dict.fromkeys(blocks for blocks, _ in groups):
        if check:
            check()
        whole = _run_whole(resume, blocks, cost)
        settle(
            whole.states[-1][:, read_from:], [i for i, v in enumerate(variants) if v.blocks == blocks and not v.edits]
        )
        for position, members in ((p, m) for (b, p), m in groups.items() if b == blocks):
            clock = Clock(position)
            call = resume(position, clock)
            rooted, never = _trees(call, blocks, {i: variants[i] for i in members}, position)
            settle(whole.states[-1][:, read_from:], never)
            batch, seq = call.start.shape[:2]
            width = max(1, max_tokens // (batch * seq))
            waiting: _Waiting = defaultdict(list)
            later = narrow is not None and position < read_from
            for at, nodes in rooted.items():
                _wait(waiting, at, nodes, None, narrow=later)
            while waiting:
                if check:
                    check()
                live = len({id(h) for todo in waiting.values() for _, h in todo if h is not None})
                cost.peak_live_states = max(cost.peak_live_states, live)
                tight = live * call.start.numel() * call.start.element_size() > max_state_bytes
                at, last = max(waiting) if tight else min(waiting)
                part = waiting[at, last][-width:]
                del waiting[at, last][-width:]
                if not waiting[at, last]:
                    del waiting[at, last]
                known = [whole.states[at][:, position:] if h is None else h for _, h in part]
                h = known[0] if len(known) == 1 else torch.cat(known)
                cost.calls += 1
                cost.edges += len(part)
                before = whole.before(at, position)
                if last and narrow:
                    for (node, _), piece in zip(
                        part, narrow.run(blocks[at], h, len(part), before).chunk(len(part)), strict=True
                    ):
                        settle(piece, node.leaves)
                    continue
                arguments = with_cache(call.arguments_for(blocks[at], len(part)), clock, Before(position, before))
                out = run_block(call, blocks[at], h, [n.edits for n, _ in part], arguments=arguments)
                for (node, _), piece in zip(part, out.chunk(len(part)), strict=True):
                    if node.leaves:
                        settle(_from(read_from, whole.states[-1], piece), node.leaves)
                    if node.children:
                        kept = piece.clone() if len(part) > 1 else piece  # it does not keep the whole batch alive
                        _wait(waiting, at + 1, node.children.values(), kept, narrow=later)
    return values, cost


def _wait(waiting: _Waiting, at: int, nodes: Iterable[_Node], h: Tensor | None, *, narrow: bool) -> None:
    """Note what is still to run, by its place in the program and whether it runs only where it is read."""
    for n in nodes:
        waiting[at, narrow and is_narrow(n.children, n.leaves, n.edits)].append((n, h))


def _from(position: int, whole: Tensor, piece: Tensor) -> Tensor:
    """The last state from a position on, of which a variant has computed the last part."""
    unchanged = whole.shape[1] - piece.shape[1]
    if position >= unchanged:
        return piece[:, position - unchanged :]
    return torch.cat([whole[:, position:unchanged], piece], 1)


def _run_whole(resume: Resume, blocks: Sequence[int], cost: SweepCost) -> _Whole:
    clock = Clock(0)
    call = resume(0, clock)
    whole, kept = _Whole([call.start], []), None if torch.is_grad_enabled() else call.kept
    for at, block in enumerate(blocks):
        key = (call.key, "resumed", tuple(blocks[: at + 1]))
        cost.calls += 1
        cost.edges += 1
        if kept is not None and (known := kept.get(key)):
            state, *slots = known
            whole.states.append(state)
            whole.kept.append((slots[0], slots[1]))
            continue
        slot = _Kept()
        arguments = with_cache(call.arguments_for(block, 1), clock, slot)
        whole.states.append(run_block(call, block, whole.states[-1], arguments=arguments))
        assert slot.made is not None, "a block of a family with cached generation adds to its cache"
        whole.kept.append(slot.made)
        if kept is not None:
            kept.put(key, whole.states[-1], *slot.made)
    return whole


def _trees(
    call: Call, blocks: Sequence[int], variants: dict[int, Variant], position: int
) -> tuple[dict[int, list[_Node]], list[int]]:
    """Tries of (edits at a block), by the place in the program where they begin; and variants whose edits never fire."""
    moved: dict[int, Edit] = {}
    roots: dict[int, _Node] = {}
    never: list[int] = []
    for index, variant in variants.items():
        for e in variant.edits:
            call.spec.check_edit(e)
            assert e.positions is not None
            moved.setdefault(id(e), replace(e, positions=e.positions - position))
        edited = {e.site.block for e in variant.edits}
        start = next((at for at, block in enumerate(blocks) if block in edited), None)
        if start is None:
            never.append(index)
            continue
        node = roots.setdefault(start, _Node())
        for block in blocks[start:]:
            here = tuple(e for e in variant.edits if e.site.block == block)
            key = tuple(map(id, here))
            if key not in node.children:
                node.children[key] = _Node(tuple(moved[k] for k in key))
            node = node.children[key]
        node.leaves.append(index)
    return {at: list(root.children.values()) for at, root in roots.items()}, never
