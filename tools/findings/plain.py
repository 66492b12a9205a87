"""The plain transformers model, seen and changed by hooks that share nothing with the engine: what the gate compares with.

A part is found by the module that computes it, and queries, keys and values at the attention function that transformers
hands them to; the pattern is what transformers' own eager attention returns.
"""

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tools.engine.adapter import StackSpec
from tools.engine.attention import CROSS, INNER
from tools.engine.kernels import Kernels, using
from tools.engine.sites import Kind, Site
from tools.subjects import Inputs, Subject
from tools.subjects.family import readout

NAME = "locus_plain"
Touch = Callable[[Site, Tensor], Tensor]
_state = threading.local()


@dataclass(frozen=True)
class Seen:
    """One forward pass of the plain model.

    logits: (batch, seq, vocab). parts: every part that could be seen, (batch, seq, channels). modules: what the modules
    that a block's equation names are given and give, by (stack, block, `in:PATH` or `out:PATH`).
    """

    logits: Tensor
    parts: Mapping[Site, Tensor]
    modules: Mapping[tuple[str, int, str], Tensor]


@dataclass(frozen=True)
class Change:
    """A change of one part: a function of the whole activation (batch, seq, channels)."""

    site: Site
    make: Callable[[Tensor], Tensor]


class Plain:
    """The model of a subject as transformers runs it."""

    def __init__(self, subject: Subject) -> None:
        self.model, self.stacks, self.family = subject.model, subject.stacks, subject.family
        self._attentions: dict[tuple[str, int, tuple[Kind, ...]], nn.Module] = {
            (spec.name, index, kinds): block.get_submodule(path)
            for spec in self.stacks.values()
            for path, kinds in ((spec.attention, INNER), (spec.cross_attention, CROSS))
            if path
            for index, block in enumerate(spec.blocks)
        }

    def logits(self, fields: Mapping[str, Tensor]) -> Tensor:
        """The logits of transformers' own forward pass, (batch, seq, vocab).

        Of a model that reads one position, its head on the states that its own forward pass ends with, at every position;
        an error where the logits it gives are not among them. Rows without padding only. By the model's own kernels.
        """
        with using(Kernels()):
            return self._logits(fields)

    def _logits(self, fields: Mapping[str, Tensor]) -> Tensor:
        if self.family.read == "every":
            return self.model(**fields).logits
        states: list[Tensor] = []
        body = self.model.get_submodule(self.family.stacks[-1].body)
        handle = body.register_forward_hook(lambda _m, _a, out: states.append(out.last_hidden_state))
        try:
            own = self.model(**fields).logits
        finally:
            handle.remove()
        logits = readout(self.family, self.model)(states[0])
        read = logits[:, 0 if self.family.read == "first" else -1]
        if not torch.allclose(own, read, rtol=1e-2, atol=1e-2 * float(own.abs().max())):
            raise ValueError(f"the head's logits at the {self.family.read} position are not those that the model gives")
        return logits

    def see(self, fields: Mapping[str, Tensor]) -> Seen:
        """Run once with every part noted, and once with transformers' eager attention for the patterns."""
        parts: dict[Site, Tensor] = {}
        modules: dict[tuple[str, int, str], Tensor] = {}

        def note(site: Site, value: Tensor) -> Tensor:
            parts[site] = value
            return value

        def keep(key: tuple[str, int, str], value: Tensor) -> Tensor:
            modules[key] = value
            return value

        size = next(iter(fields.values())).shape[0]
        with self._noting(size, note), self._modules(size, keep), self._attention(NAME, note):
            logits = self.logits(fields)
        handles = [
            module.register_forward_hook(partial(_weights, parts, Site(stack, block, kinds[3])))
            for (stack, block, kinds), module in self._attentions.items()
        ]
        try:
            with self._attention("eager"):
                self.logits(fields)
        finally:
            for handle in handles:
                handle.remove()
        for (stack, block, key), value in modules.items():
            if key == _reader_of_mid(self.stacks[stack]):
                parts[Site(stack, block, "resid_mid")] = value
        return Seen(logits, parts, modules)

    def changed(self, fields: Mapping[str, Tensor], changes: Sequence[Change], seen: Seen) -> Tensor:
        """Logits under each change by itself, (changes, batch, seq, vocab), as one batch of as many copies.

        seen: a pass over the same fields, for the parts that are computed from others (the pattern, the middle).
        """
        size = next(iter(fields.values())).shape[0]
        copies = {k: v.repeat(len(changes), *[1] * (v.dim() - 1)) for k, v in fields.items()}

        def touch(site: Site, value: Tensor) -> Tensor:
            out = value.clone()
            for i, change in enumerate(changes):
                rows = slice(i * size, (i + 1) * size)
                if change.site == site:
                    out[rows] = change.make(value[rows])
                elif change.site == _mid_of(site, self.stacks[site.stack]):
                    middle = seen.parts[change.site]
                    out[rows] = value[rows] + change.make(middle) - middle
            return out

        def patterns(site: Site) -> list[tuple[slice, Tensor]]:
            return [
                (slice(i * size, (i + 1) * size), change.make(seen.parts[site]))
                for i, change in enumerate(changes)
                if change.site == site
            ]

        wanted = {c.site for c in changes}
        wanted |= {Site(s.stack, s.block, _adder(self.stacks[s.stack])) for s in wanted if s.kind == "resid_mid"}
        inner = any(s.kind in (*INNER, *CROSS) for s in wanted)
        own = self._attention(NAME if inner else None, touch, wanted, patterns)
        with self._noting(len(changes) * size, touch, wanted), own:
            return self.logits(copies).unflatten(0, (len(changes), size))

    # -- hooks --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _noting(self, batch: int, touch: Touch, wanted: set[Site] | None = None) -> Generator[None]:
        """Pass the parts that are a module's input or output through `touch`."""
        with _hooks() as hook:
            for spec in self.stacks.values():
                for index, block in enumerate(spec.blocks):
                    ends: list[tuple[str | None, Kind, Kind]] = [
                        ("", "resid_pre", "resid_post"),
                        (spec.o_proj, "attn.z", "attn.out"),
                        (spec.cross_o_proj, "cross.z", "cross.out"),
                        (spec.down_proj, "mlp.act", "mlp.out"),
                    ]
                    for path, before, after in ends:
                        if path is None:
                            continue
                        pair: tuple[tuple[Kind, str], ...] = ((before, "in"), (after, "out"))
                        for kind, end in pair:
                            site = Site(spec.name, index, kind)
                            if wanted is None or site in wanted:
                                hook(block.get_submodule(path), end, batch, partial(touch, site))
            yield

    @contextmanager
    def _modules(self, batch: int, keep: Callable[[tuple[str, int, str], Tensor], Tensor]) -> Generator[None]:
        """Note what the modules of the blocks' equations are given and give."""
        with _hooks() as hook:
            for spec in self.stacks.values():
                named = {f"in:{s.reader}" for s in spec.equation if s.reader}
                named |= {t for s in spec.equation for t in s.terms if t.startswith(("in:", "out:"))}
                for index, block in enumerate(spec.blocks):
                    for key in named:
                        end, _, path = key.partition(":")
                        hook(block.get_submodule(path), end, batch, partial(keep, (spec.name, index, key)))
            yield

    @contextmanager
    def _attention(
        self,
        name: str | None,
        touch: Touch = lambda _, value: value,
        wanted: set[Site] | None = None,
        patterns: Callable[[Site], list[tuple[slice, Tensor]]] = lambda _: [],
    ) -> Generator[None]:
        """Use another attention function for the time of the context."""
        if name is None:
            yield
            return
        configs: dict[int, Any] = {id(m.config): m.config for m in self.model.modules() if hasattr(m, "config")}
        before = {key: c._attn_implementation_internal for key, c in configs.items()}
        _state.where = {id(module): where for where, module in self._attentions.items()}
        _state.touch, _state.wanted, _state.patterns = touch, wanted, patterns
        try:
            for c in configs.values():
                c._attn_implementation_internal = name
            yield
        finally:
            for key, c in configs.items():
                c._attn_implementation_internal = before[key]
            _state.where = None


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Torch's own attention with queries, keys, values, and where it is to be changed the pattern, in reach."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    where: tuple[str, int, tuple[Kind, ...]] | None = _state.where.get(id(module))
    wanted: set[Site] | None = _state.wanted

    def touched(kind: Kind, t: Tensor) -> Tensor:
        if where is None or not (wanted is None or Site(where[0], where[1], kind) in wanted):
            return t
        flat = _state.touch(Site(where[0], where[1], kind), t.transpose(1, 2).flatten(2))
        return flat.unflatten(2, (t.shape[1], -1)).transpose(1, 2)

    named = INNER if where is None else where[2]
    query, key, value = touched(named[0], query), touched(named[1], key), touched(named[2], value)
    declared = getattr(module, "is_causal", True) if is_causal is None else is_causal
    causal = attention_mask is None and query.shape[2] > 1 and declared
    out = F.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, scale=scaling, is_causal=bool(causal)
    ).transpose(1, 2)
    out = out.contiguous()
    if where is not None:
        for rows, pattern in _state.patterns(Site(where[0], where[1], where[2][3])):
            weights = pattern.unflatten(2, (query.shape[1], -1)).transpose(1, 2)
            out[rows] = (weights @ value[rows]).transpose(1, 2)
    return out, None


ALL_ATTENTION_FUNCTIONS.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def _weights(parts: dict[Site, Tensor], site: Site, _module: nn.Module, _args: Any, out: Any) -> None:
    """Note the attention weights that an eager attention module returns beside its output."""
    if isinstance(out, tuple) and len(out) > 1 and isinstance(out[1], Tensor):
        parts[site] = out[1].transpose(1, 2).flatten(2)


def _reader_of_mid(spec: StackSpec) -> str:
    """Which module is given the middle of the block: the reader of the last sum within it."""
    readers = [s.reader for s in spec.equation if s.reader]
    return f"in:{readers[-1]}" if spec.mid and readers else ""


def _adder(spec: StackSpec) -> Kind:
    """The part that is added last before the middle of the block."""
    return "cross.out" if spec.cross_o_proj else "attn.out"


def _mid_of(site: Site, spec: StackSpec) -> Site | None:
    """The middle of the block that a part is the last to be added to."""
    return Site(site.stack, site.block, "resid_mid") if site.kind == _adder(spec) else None


Hook = Callable[[nn.Module, str, int, Callable[[Tensor], Tensor]], None]


@contextmanager
def _hooks() -> Generator[Hook]:
    """A function that puts a hook on a module's input or output until the context ends.

    What is touched is (batch, seq, channels), also where the model flattens batch and seq.
    """
    handles: list[Any] = []

    def through(touch: Callable[[Tensor], Tensor], batch: int, value: Tensor) -> Tensor:
        out = touch(value.view(batch, -1, value.shape[-1]) if value.dim() == 2 else value)
        return out.view(value.shape)

    def hook(module: nn.Module, end: str, batch: int, touch: Callable[[Tensor], Tensor]) -> None:
        def before(_m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if args:
                return (through(touch, batch, args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": through(touch, batch, kwargs["hidden_states"])}

        def after(_m: nn.Module, _args: Any, out: Any) -> Any:
            if isinstance(out, tuple):
                return (through(touch, batch, out[0]), *out[1:])
            return through(touch, batch, out)

        if end == "in":
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        else:
            handles.append(module.register_forward_hook(after))

    try:
        yield hook
    finally:
        for handle in handles:
            handle.remove()


def rounding(subject: Subject, plain: Plain, inputs: Inputs, seen: Seen, seed: int) -> float:
    """By what norm a position's logits of the plain model change when the stream before its blocks changes by rounding alone.

    Nearly nothing in most models. Where the logits are small differences of large states it is most of them, and says
    nothing about the engine.
    """
    chunk = 8
    eps = torch.finfo(subject.dtype).eps
    generator = torch.Generator().manual_seed(seed)
    spec = subject.spec()

    def nudged(state: Tensor) -> Tensor:
        drawn = torch.randn(state.shape, generator=generator).to(state.device)
        return (state.float() * (1 + eps * drawn)).to(state.dtype)

    sites = [s for b in range(len(spec.blocks)) if (s := Site(spec.name, b, "resid_pre")) in seen.parts]
    moved = [
        (x - seen.logits).double().norm(dim=-1).square().mean()
        for part in (sites[i : i + chunk] for i in range(0, len(sites), chunk))
        for x in plain.changed(inputs.fields, [Change(s, nudged) for s in part], seen)
    ]
    return float(torch.stack(moved).sum().sqrt()) if moved else 0.0
