"""Adapter by capture: run a model's embedding and mask code once, then call its blocks directly, in any order.

A transformers model computes masks, rotary embeddings and position ids before its loop over blocks. `record` runs that
code with every block replaced by a recorder, so it costs no block at all and yields what each block would have been
given. Blocks are then called with THEIR OWN arguments. Nothing about the loop itself has to be imitated, which is what
goes wrong when a library edits `model.layers` in place.
"""

import threading
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tools.engine.attention import CROSS, INNER, opened
from tools.engine.kept import Kept
from tools.engine.lanes import lane, lanes
from tools.engine.shells import Shells
from tools.engine.sites import HEADED, Edit, Kind, Site, SiteError

BUSY = 22  # widths that an edited block holds for each position while it runs
LANE_BYTES = 4 * 2**30  # that lanes may take together


@dataclass(frozen=True)
class Sum:
    """One line of a block's equation: the terms add up to what `reader` is given.

    reader: a module of the block, or nothing for what leaves the block. terms: kinds of site, or `in:PATH` and `out:PATH`
    for what a module of the block is given and what it gives.
    """

    reader: str
    terms: tuple[str, ...]


@dataclass(frozen=True)
class StackSpec:
    """What a family tells about one stack of blocks; module paths are relative to a block.

    o_proj: the attention output projection (its input is attn.z, its output attn.out); likewise cross_o_proj.
    down_proj: the last linear map of the MLP (its input is mlp.act, its output mlp.out); None in blocks without one.
    attention: the self-attention module, whose queries, keys, values and pattern are in reach; None where they are not;
    likewise cross_attention, whose keys lie in the stack `attends_to`.
    mid: whether attention's output is added to the residual stream before the MLP reads it.
    causal: whether a token is never influenced by a later one.
    equation: how the block's parts add up, as the family declares it.
    refused: kinds of site that are not what their name says in this model, with the reason.
    lock: held while blocks are called or replaced, so that threads do not run into each other's hooks.
    shells: copies of the blocks for the lanes, with the same weights.
    """

    name: str
    blocks: nn.ModuleList
    width: int
    n_heads: int
    o_proj: str
    down_proj: str | None
    cross_o_proj: str | None = None
    attention: str | None = None
    cross_attention: str | None = None
    attends_to: str | None = None
    mid: bool = False
    causal: bool = True
    equation: tuple[Sum, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)
    shells: Shells = field(default_factory=Shells, repr=False, compare=False)

    @contextmanager
    def block(self, index: int) -> Generator[nn.Module]:
        """A block for this thread alone: a lane's own, or the model's own while nobody else has it."""
        if own := self.shells.of(lane()):
            yield own[index]
        else:
            with self.lock:
                yield self.blocks[index]

    def lanes(self) -> int:
        """How many batches can run through the blocks side by side from here; 1 where they cannot be copied for that."""
        if lanes() < 2 and not lane():
            return 1
        with self.lock:
            able = self.shells.prepare(self.blocks, max(lanes(), lane()))
        return lanes() if able else 1

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of site that this stack has, but for those that are refused."""
        return tuple(k for k in self.declared if k not in self.refused)

    @property
    def declared(self) -> tuple[Kind, ...]:
        """The kinds of site that the family names for this stack."""
        among: tuple[Kind, ...] = CROSS if self.cross_attention else ()
        cross: tuple[Kind, ...] = (*among, "cross.z", "cross.out") if self.cross_o_proj else ()
        inner: tuple[Kind, ...] = INNER if self.attention else ()
        mid: tuple[Kind, ...] = ("resid_mid",) if self.mid else ()
        mlp: tuple[Kind, ...] = ("mlp.act", "mlp.out") if self.down_proj else ()
        return ("resid_pre", *inner, "attn.z", "attn.out", *cross, *mid, *mlp, "resid_post")

    def lies_in(self, kind: Kind) -> str:
        """The stack whose positions a site of this kind has: cross-attention's keys and values lie in another one."""
        return self.attends_to or self.name if kind in ("cross.k", "cross.v") else self.name

    def keys_in(self, kind: Kind) -> str:
        """The stack whose positions a pattern's keys are."""
        return self.attends_to or self.name if kind == "cross.pattern" else self.name

    def check(self, site: Site) -> None:
        """Raise SiteError unless the site is one of this stack's."""
        if site.stack == self.name and site.kind in self.refused:
            raise SiteError(f"{site} is refused for this model: {self.refused[site.kind]}")
        if site.stack != self.name or not 0 <= site.block < len(self.blocks) or site.kind not in self.kinds:
            raise SiteError(
                f"{site} does not exist here: stack {self.name!r} has blocks 0 to {len(self.blocks) - 1} "
                f"and kinds {', '.join(self.kinds)}"
            )

    def check_edit(self, edit: Edit) -> None:
        """Raise SiteError unless the edit's site, and its units if it names any, are this stack's."""
        self.check(edit.site)
        headed = edit.site.kind in HEADED
        most = self.n_heads if headed else None if edit.site.kind == "mlp.act" else self.width
        bad = [u for u in edit.units or () if u < 0 or (most is not None and u >= most)]
        if bad:
            unit = "head" if headed else "channel"
            raise SiteError(f"{unit} {bad[0]} does not exist: {edit.site} has {unit}s 0 to {(most or 1) - 1}")


def tree_map(value: Any, f: Callable[[Tensor], Any]) -> Any:
    """`f` on every tensor inside nested tuples, lists and dicts; everything else is kept."""
    if isinstance(value, Tensor):
        return f(value)
    if isinstance(value, tuple | list):
        return type(value)(tree_map(v, f) for v in value)
    if isinstance(value, Mapping):
        return {k: tree_map(v, f) for k, v in value.items()}
    return value


def tree_leaves(value: Any) -> list[Tensor]:
    """The tensors inside nested tuples, lists and dicts, in order."""
    leaves: list[Tensor] = []
    tree_map(value, leaves.append)
    return leaves


@dataclass
class Call:
    """One captured call of a stack: the residual stream that enters it and each block's own arguments.

    start: (batch, seq, width). arguments: per block (positional, keyword) without the residual stream.
    batched: per block, for each tensor among the arguments, whether its first axis is the batch; none where none is. again:
    captures the same call at twice the batch size, from which that is seen once copies of the batch are asked for.
    kept, key: where unchanged states of this call are kept, and under what; None where nothing is.
    """

    spec: StackSpec
    start: Float[Tensor, "batch seq width"]
    arguments: list[tuple[tuple[Any, ...], dict[str, Any]]]
    batched: list[list[bool]] = field(default_factory=list[list[bool]])
    again: "Callable[[], Call] | None" = None
    kept: Kept | None = None
    key: Hashable = None
    _expanded: dict[int, Tensor] = field(default_factory=dict)

    def lanes(self, max_tokens: int) -> int:
        """How many batches of so many positions run side by side: on a processor, where no gradients flow and memory is enough."""
        if self.start.device.type != "cpu" or torch.is_grad_enabled():
            return 1
        rows, length, width = self.start.shape
        size = BUSY * max(max_tokens, rows * length) * width * self.start.element_size()
        return max(1, min(self.spec.lanes(), LANE_BYTES // size))

    def arguments_for(self, block: int, copies: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The block's arguments for a batch that holds the captured batch `copies` times over."""
        if copies == 1:
            return self.arguments[block]
        with self.spec.lock:
            if self.again is not None:
                mark_batched(self, self.again())
                self.again = None
        flags = iter(self.batched[block]) if self.batched else repeat(False)
        return tree_map(self.arguments[block], lambda t: self._expand(t, copies) if next(flags) else t)

    def _expand(self, tensor: Tensor, copies: int) -> Tensor:
        # Blocks share masks and encoder states, which can be large: one expansion of each is kept, the latest.
        known = self._expanded.get(id(tensor))
        if known is None or known.shape[0] != copies * tensor.shape[0]:
            known = self._expanded[id(tensor)] = tensor.repeat(copies, *[1] * (tensor.dim() - 1))
        return known


def record(spec: StackSpec, forward: Callable[[], object]) -> Call:
    """Capture a stack call: `forward` runs the model around the blocks, while the blocks only pass their input on."""
    calls: dict[int, tuple[Tensor, tuple[Any, ...], dict[str, Any]]] = {}

    with spec.lock, _replaced(spec.blocks, lambda index: partial(_note, calls, index)):
        forward()
    missing = [i for i in range(len(spec.blocks)) if i not in calls]
    if missing:
        raise RuntimeError(f"stack {spec.name!r}: blocks {missing} were not called by the model's own forward pass")
    return Call(
        spec,
        calls[0][0],
        [(calls[i][1], calls[i][2]) for i in range(len(spec.blocks))],
    )


def _note(
    calls: dict[int, tuple[Tensor, tuple[Any, ...], dict[str, Any]]], index: int, *args: Any, **kwargs: Any
) -> Tensor:
    """What a block does while a call is recorded: note its arguments, pass the residual stream on."""
    if args:
        hidden, args = args[0], args[1:]
    else:
        hidden = kwargs.pop("hidden_states")
    calls[index] = (hidden, args, kwargs)
    return hidden


def mark_batched(call: Call, other: Call) -> None:
    """Find out which arguments carry the batch axis by comparing with a call at another batch size.

    `shape[0] == batch` alone is ambiguous whenever another axis happens to have that length.
    """
    call.batched = [
        [a.dim() > 0 and a.shape[0] != b.shape[0] for a, b in zip(tree_leaves(mine), tree_leaves(theirs), strict=True)]
        for mine, theirs in zip(call.arguments, other.arguments, strict=True)
    ]


@contextmanager
def _replaced(blocks: nn.ModuleList, make: Callable[[int], Callable[..., Any]]) -> Generator[None]:
    """Give every block another `forward` for the time of the context."""
    before = [block.__dict__.get("forward") for block in blocks]
    try:
        for i, block in enumerate(blocks):
            block.forward = make(i)
        yield
    finally:
        for block, old in zip(blocks, before, strict=True):
            if old is None:
                block.__dict__.pop("forward", None)
            else:
                block.forward = old


def run_block(
    call: Call,
    index: int,
    h: Float[Tensor, "rows seq width"],
    edits: Sequence[Sequence[Edit]] = ((),),
    capture: Mapping[Kind, Site] | None = None,
    captured: dict[Site, Tensor] | None = None,
    arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None,
    onward: bool = True,
) -> Float[Tensor, "rows seq width"]:
    """Run one block on `len(edits)` copies of the captured batch, each copy with its own edits at this block.

    capture: kinds to read while the block runs, stored in `captured` under their sites, after the edits.
    arguments: used in place of the captured ones (generation with a cache). onward: whether the state after the block is
    asked for; if not, the block ends once everything has been read, and `h` is returned.
    """
    spec = call.spec
    args, kwargs = arguments or call.arguments_for(index, len(edits))
    size = h.shape[0] // len(edits)
    active, unread = any(edits) or bool(capture), set(capture or ())
    if not active:
        with spec.block(index) as block:
            return _tensor(block(h, *args, **kwargs))

    def touch(kind: Kind, value: Tensor) -> Tensor:
        # OPT flattens (batch, seq) before its MLP; seen from outside every site is (batch, seq, channels).
        flat = value.dim() == 2
        full, owned = value.view(h.shape[0], -1, value.shape[-1]) if flat else value, False
        for copy, chunk in enumerate(edits):
            for edit in chunk:
                if edit.site.kind == kind:
                    units = spec.n_heads if kind in HEADED else full.shape[-1]
                    rows = slice(copy * size, (copy + 1) * size)
                    part = edit.apply(full[rows], units)
                    if len(edits) == 1:
                        full = part
                        continue
                    full = full if owned else full.clone()
                    owned = True
                    full[rows] = part
        if capture and captured is not None and kind in capture:
            captured[capture[kind]] = full
            unread.discard(kind)
            if not (unread or onward):
                raise _ReadError
        return full.view(value.shape) if flat else full

    wanted: set[Kind] = set(capture or ())
    wanted.update(e.site.kind for chunk in edits for e in chunk)
    if "resid_mid" in wanted:
        wanted.add("cross.out" if spec.cross_o_proj else "attn.out")
    entered = h

    def touch_here(kind: Kind, value: Tensor) -> Tensor:
        """As `touch_sum`, where the residual stream is: a block may lie on another device."""
        brought = value.to(h.device)
        touched = touch_sum(kind, brought)
        return value if touched is brought else touched.to(value.device)

    def touch_sum(kind: Kind, value: Tensor) -> Tensor:
        """As `touch`; the middle of the block is what entered it plus what attention has added by then."""
        nonlocal entered
        value = touch(kind, value)
        if "resid_mid" not in wanted or kind not in ("attn.out", "cross.out"):
            return value
        if spec.cross_o_proj and kind == "attn.out":
            entered = entered + value.view(entered.shape)
            return value
        middle = entered + value.view(entered.shape)
        changed = touch("resid_mid", middle)
        return value if changed is middle else (changed - entered).view(value.shape)

    if "resid_mid" in wanted and spec.cross_o_proj:
        wanted.add("attn.out")
    with suppress(_ReadError), spec.block(index) as block, _hooks(spec, block, wanted, touch_here):
        if "resid_pre" in wanted:
            entered = h = touch("resid_pre", h)
        out = _tensor(block(h, *args, **kwargs))
        return touch("resid_post", out) if "resid_post" in wanted else out
    return h


class _ReadError(Exception):
    """Ends a block of which everything that is asked for has been read."""


@contextmanager
def _hooks(
    spec: StackSpec, block: nn.Module, wanted: set[Kind], touch: Callable[[Kind, Tensor], Tensor]
) -> Generator[None]:
    """Hooks on the projections of one block, for the kinds that are wanted, for the time of the context."""
    paths: list[tuple[str | None, Kind, Kind]] = [
        (spec.o_proj, "attn.z", "attn.out"),
        (spec.cross_o_proj, "cross.z", "cross.out"),
        (spec.down_proj, "mlp.act", "mlp.out"),
    ]
    handles: list[torch.utils.hooks.RemovableHandle] = []
    named = ((spec.attention, INNER), (spec.cross_attention, CROSS))
    attentions = {block.get_submodule(path): kinds for path, kinds in named if path and wanted & set(kinds)}
    inner = opened(block, attentions, touch) if attentions else nullcontext()
    try:
        for path, before, after in paths:
            if path is None:
                continue
            module = block.get_submodule(path)
            if before in wanted:
                handles.append(module.register_forward_pre_hook(_before(touch, before)))
            if after in wanted:
                handles.append(module.register_forward_hook(_after(touch, after)))
        with inner:
            yield
    finally:
        for handle in handles:
            handle.remove()


def _before(touch: Callable[[Kind, Tensor], Tensor], kind: Kind) -> Callable[..., Any]:
    """A forward pre-hook that touches a module's input."""
    return lambda _module, args: (touch(kind, args[0]), *args[1:])


def _after(touch: Callable[[Kind, Tensor], Tensor], kind: Kind) -> Callable[..., Any]:
    """A forward hook that touches a module's output."""
    return lambda _module, _args, out: touch(kind, out)


def _tensor(out: Any) -> Tensor:
    """Some blocks return a tuple whose first entry is the residual stream."""
    return out[0] if isinstance(out, tuple) else out
