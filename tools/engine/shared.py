"""Layer programs on prompts that begin alike: what they share runs once for each program, not once for each prompt as well.

Few-shot lines, an instruction or a conversation's system prompt stand before every prompt of a task. In a causal stack the states
there depend on nothing that follows, so that one row's states, keys and values are those of all of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tools.engine.adapter import Call, run_block
from tools.engine.decoding import Clock, with_cache
from tools.engine.executor import Node, SweepCost, Variant, as_steps, plan, trie
from tools.engine.lanes import run_steps
from tools.engine.narrow import Before, Resume

SAVED = 256  # positions that a block runs over less, from which on another call of it is worth it
FEWEST = 4  # programs for which two more captured calls are


class Noted(Clock):
    """A cache that notes the keys and values which one block adds to it."""

    def __init__(self) -> None:
        super().__init__(0)
        self.made: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Note keys and values, (batch, heads, seq, head width) each, and hand them on."""
        self.made = (key_states, value_states)
        return self.made


@dataclass(frozen=True)
class Beginning:
    """What all rows of a batch begin with: so many positions, and their call for one row, given what stands for its cache."""

    length: int
    call: Callable[[Clock], Call]

    def takes(self, variant: Variant, intact: int) -> bool:
        """Whether a variant is a program of its own: what is only a part of the intact run may be kept of that."""
        return not variant.edits and variant.blocks != tuple(range(min(len(variant.blocks), intact)))


def alike(ids: Int[Tensor, "batch seq"], most: int) -> int:
    """How many positions all rows begin with, at most so many; 0 where running them once would save too little."""
    same = (ids == ids[:1]).all(0).long().cumprod(0)
    length = min(int(same.sum()), most)
    return length if length * (len(ids) - 1) >= SAVED else 0


def sweep_shared(
    resume: Resume,
    beginning: Beginning,
    variants: Sequence[Variant],
    read: Callable[[Tensor, int], Tensor],
    *,
    read_from: int,
    lanes: bool,
    max_tokens: int = 2048,
    max_state_bytes: int = 2**30,
    on_progress: Callable[[int], None] | None = None,
    check: Callable[[], None] | None = None,
) -> tuple[list[Tensor], SweepCost]:
    """As `executor.sweep`, of programs without edits; what is read lies behind the beginning."""
    values, cost = dict[int, Tensor](), SweepCost(naive_edges=sum(len(v.blocks) for v in variants))
    at = beginning.length
    clock, passed = Clock(0), Clock(at)
    first, call = beginning.call(clock), resume(at, passed)
    batch, seq, width = call.start.shape

    def done(leaves: Sequence[int], tail: Tensor) -> None:
        for leaf in leaves:
            values[leaf] = read(tail[:, read_from - at :], leaf)
            if on_progress:
                on_progress(1)

    def joined(head: Tensor, tail: Tensor) -> Tensor:
        """One row's beginning (1, length, width) and every row's rest (batch, seq, width), as (positions, width)."""
        return torch.cat([head.reshape(-1, width), tail.reshape(-1, width)])

    def run(nodes: Sequence[Node], *, narrowly: bool) -> None:  # noqa: ARG001  # none is
        if check:
            check()
        given, block, copies = [n.given() for n in nodes], nodes[0].block, len(nodes)
        heads = torch.stack([g[:at] for g in given])
        tails = torch.cat([g[at:].view(batch, seq, width) for g in given])
        del given
        slot, none = Noted(), ((),) * copies
        heads = run_block(
            first, block, heads, none, arguments=with_cache(first.arguments_for(block, copies), clock, slot)
        )
        assert slot.made is not None, "a block of a family with cached generation adds to its cache"
        before = slot.made[0].repeat_interleave(batch, 0), slot.made[1].repeat_interleave(batch, 0)
        slots = with_cache(call.arguments_for(block, copies), passed, Before(at, before))
        tails = run_block(call, block, tails, none, arguments=slots)
        for node, head, tail in zip(nodes, heads, tails.chunk(copies), strict=True):
            done(node.leaves, tail)
            if node.children:
                node.keep(joined(head, tail), shared=False)

    root = trie(call, variants)
    done(root.leaves, call.start)
    start = joined(first.start, call.start)
    root.keep(start, shared=False)
    parts = plan(
        list(root.children.values()),
        max(1, max_tokens // len(start)),
        start.numel() * start.element_size(),
        max_state_bytes,
        cost,
        lambda _: False,
        lambda n: n.block,
    )
    run_steps(as_steps(parts, run), call.lanes(max_tokens) if lanes else 1)
    return [values[i] for i in range(len(variants))], cost
