"""Runs through a model's stacks one after the other: sweeps, in which what variants share of an earlier stack runs once and
the later ones once on each output, and activations, for which nothing runs after the last that is asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from tools.engine.adapter import Call, StackSpec, record
from tools.engine.decoding import Clock
from tools.engine.executor import SweepCost, Variant, sweep, trace
from tools.engine.kept import Kept, batch_key
from tools.engine.programs import LayerProgram
from tools.engine.shared import Beginning, alike
from tools.engine.sites import Edit, Site
from tools.engine.suffix import sweep_suffixes
from tools.engine.version import BEGUN, LANES, NARROW


@runtime_checkable
class Stacked(Protocol):
    """What this needs of a subject."""

    model: Any
    stacks: dict[str, StackSpec]
    readout: str
    kept: Kept | None
    identity: object
    engine: int

    @property
    def capabilities(self) -> frozenset[str]:
        """What the model can do."""
        ...

    def call(self, inputs: Any, stack: str | None = None, upstream: Mapping[str, Tensor] | None = None) -> Call:
        """A stack's call, captured."""
        ...

    def body(self, stack: str, **arguments: Any) -> object:
        """The model code around a stack's blocks."""
        ...

    def handed_on(self, stack: str, h: Tensor) -> Tensor:
        """What a stack's last state becomes before a later one reads it."""
        ...

    def spec(self, stack: str | None = None) -> StackSpec:
        """A stack by name."""
        ...

    def recorded(self, spec: StackSpec, fields: Mapping[str, Tensor], upstream: Mapping[str, Tensor]) -> Call:
        """A stack's call at one batch size."""
        ...

    def run_stack(
        self, inputs: Any, name: str, program: Any, edits: Any, capture: Any, upstream: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, dict[Site, Tensor]]:
        """(state handed on, last block's state, captured) of one stack."""
        ...


def across(
    subject: Stacked,
    inputs: Any,
    variants: Sequence[Variant],
    read: Callable[[Tensor, int], Tensor],
    call: Call | None = None,
    **options: Any,
) -> tuple[list[Tensor], SweepCost]:
    """Run variants whose edits and programs may lie in any stack; `read` takes the final state of the one that is read out.

    Where there is one stack of text, what stands before an edit is not run again, and last blocks only where they are read.
    """
    options["lanes"] = subject.engine >= LANES
    if len(subject.stacks) == 1:
        text = "cached_generation" in subject.capabilities and set(inputs.fields) == {"input_ids", "attention_mask"}
        resume, options["narrow"] = partial(resumed, subject, inputs) if text else None, subject.engine >= NARROW
        if text and subject.engine >= BEGUN:
            options["beginning"] = _beginning(subject, inputs, options.get("read_from", 0))
        return sweep_suffixes(resume, call or subject.call(inputs), variants, read, **options)
    read_from = options.pop("read_from", 0)
    costs, values = list[SweepCost](), dict[int, Tensor]()
    for edit in (e for v in variants for e in v.edits):
        subject.stacks.get(edit.site.stack, subject.stacks[subject.readout]).check_edit(edit)

    def descend(order: Sequence[str], upstream: Mapping[str, Tensor], todo: Sequence[tuple[int, Variant]]) -> None:
        name = order[0]
        heads, shared = _alike(subject, name, todo)

        def onward(h: Tensor, head: int) -> Tensor:
            if name == subject.readout:
                values.update({index: read(h[:, read_from:], index) for index, _ in shared[head]})
            else:
                descend(order[1:], {**upstream, name: subject.handed_on(name, h)}, shared[head])
            return h.new_empty(0)

        _, cost = sweep(subject.call(inputs, name, upstream), heads, onward, **options)
        cost.naive_edges = sum(len(h.blocks) * len(s) for h, s in zip(heads, shared, strict=True))
        costs.append(cost)

    descend(list(subject.stacks), {}, list(enumerate(variants)))
    return [values[i] for i in range(len(variants))], sum(costs, SweepCost())


def _beginning(subject: Stacked, inputs: Any, read_from: int) -> Beginning | None:
    """What all rows of a text begin with, before what is read; None where that is too little."""
    length = alike(inputs.fields["input_ids"], read_from)
    if not length:
        return None
    one = replace(inputs, fields={k: v[:1, :length] for k, v in inputs.fields.items()}, lengths=(length,))
    return Beginning(length, partial(resumed, subject, one, 0))


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


def activations(subject: Stacked, inputs: Any, sites: Sequence[Site], edits: Sequence[Edit]) -> dict[Site, Tensor]:
    """Activations at sites of any stack under edits; no block runs after the last of them."""
    stacks = [*(s.stack for s in sites), *(e.site.stack for e in edits)]
    names = [subject.spec(name).name for name in stacks][: len(sites)]
    captured: dict[Site, Tensor] = {}
    upstream: dict[str, Tensor] = {}
    for name, spec in subject.stacks.items():
        here, changed = [s for s in sites if s.stack == name], [e for e in edits if e.site.stack == name]
        for site in here:
            spec.check(site)
        if set(names) <= {name}:  # the last stack that is asked about
            last = max((s.block for s in here), default=-1)
            call = subject.recorded(spec, inputs.fields, upstream)
            captured.update(trace(call, range(last + 1), changed, here, onward=False)[1])
            break
        upstream[name], _, seen = subject.run_stack(inputs, name, None, changed, here, upstream)
        captured.update(seen)
        names = [n for n in names if n != name]
    return captured


def resumed(subject: Stacked, inputs: Any, position: int, clock: Clock) -> Call:
    """The call of the only stack from a position on, given a clock in place of the cache of what comes before it."""
    ids, mask = inputs.fields["input_ids"][:, position:], inputs.fields["attention_mask"]

    def captured(times: int) -> Call:
        twice = {"input_ids": ids.repeat(times, 1), "attention_mask": mask.repeat(times, 1)}
        run = partial(subject.body, subject.readout, **twice, past_key_values=clock, use_cache=True)
        return record(subject.spec(), run)

    made = captured(1)
    made.again = partial(captured, 2)
    return made if position else kept_by(subject, made, inputs.fields, {})


def kept_by(subject: Stacked, call: Call, fields: Mapping[str, Tensor], upstream: Mapping[str, Tensor]) -> Call:
    """The call, which finds what is kept of its unchanged runs; with gradients nothing is."""
    if subject.kept is not None and not torch.is_grad_enabled():
        digest = batch_key(subject.model, call.spec.name, fields, upstream)
        call.kept, call.key = subject.kept, (subject.identity, subject.engine, digest)
    return call
