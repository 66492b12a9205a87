"""Sweeps of models with several stacks: what variants share of an earlier stack runs once, the later ones once on each output."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from tools.engine.adapter import Call, StackSpec
from tools.engine.executor import SweepCost, Variant, sweep
from tools.engine.programs import LayerProgram


@runtime_checkable
class Stacked(Protocol):
    """What this needs of a subject."""

    stacks: dict[str, StackSpec]
    readout: str

    def call(self, inputs: Any, stack: str | None = None, upstream: Mapping[str, Tensor] | None = None) -> Call:
        """A stack's call, captured."""
        ...

    def handed_on(self, stack: str, h: Tensor) -> Tensor:
        """What a stack's last state becomes before a later one reads it."""
        ...


def across(
    subject: Stacked,
    inputs: Any,
    variants: Sequence[Variant],
    read: Callable[[Tensor, int], Tensor],
    **options: Any,
) -> tuple[list[Tensor], SweepCost]:
    """Run variants whose edits and programs may lie in any stack; `read` takes the final state of the one that is read out."""
    total, values = SweepCost(), dict[int, Tensor]()

    def descend(order: Sequence[str], upstream: Mapping[str, Tensor], todo: Sequence[tuple[int, Variant]]) -> None:
        name = order[0]
        heads, shared = _alike(subject, name, todo)

        def onward(h: Tensor, head: int) -> Tensor:
            if name == subject.readout:
                values.update({index: read(h, index) for index, _ in shared[head]})
            else:
                descend(order[1:], {**upstream, name: subject.handed_on(name, h)}, shared[head])
            return h.new_empty(0)

        _, cost = sweep(subject.call(inputs, name, upstream), heads, onward, **options)
        total.calls += cost.calls
        total.edges += cost.edges
        total.naive_edges += sum(len(h.blocks) * len(s) for h, s in zip(heads, shared, strict=True))
        total.peak_live_states = max(total.peak_live_states, cost.peak_live_states)

    descend(list(subject.stacks), {}, list(enumerate(variants)))
    return [values[i] for i in range(len(variants))], total


def _alike(
    subject: Stacked, name: str, todo: Sequence[tuple[int, Variant]]
) -> tuple[list[Variant], list[list[tuple[int, Variant]]]]:
    """Each different thing that variants do in one stack, and the variants that do it."""
    n = len(subject.stacks[name].blocks)
    apart: dict[tuple[tuple[int, ...], tuple[int, ...]], list[tuple[int, Variant]]] = {}
    heads: list[Variant] = []
    for index, v in todo:
        blocks = v.blocks if name == subject.readout else dict(v.earlier).get(name, tuple(range(n)))
        here = tuple(e for e in v.edits if e.site.stack == name)
        key = (LayerProgram(blocks, n, "").blocks, tuple(map(id, here)))  # checks the range
        if key not in apart:
            apart[key] = []
            heads.append(Variant(key[0], here))
        apart[key].append((index, v))
    return heads, list(apart.values())
