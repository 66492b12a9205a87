"""Attention with its inner parts in reach: queries, keys, values and the pattern of one block's heads.

Models call one function of a common signature for attention (transformers' attention interface). For the time of a run
that wants an inner part, the block's attention is computed here, in the open, and each part passes through a `touch`.
Everywhere else the model keeps its own, fused kernel.
"""

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tools.engine.sites import Kind

NAME = "locus_open"
INNER: tuple[Kind, ...] = ("attn.q", "attn.k", "attn.v", "attn.pattern")
CROSS: tuple[Kind, ...] = ("cross.q", "cross.k", "cross.v", "cross.pattern")
Touch = Callable[[Kind, Tensor], Tensor]
_active = threading.local()


@contextmanager
def opened(block: nn.Module, attentions: Mapping[nn.Module, tuple[Kind, ...]], touch: Touch) -> Generator[None]:
    """Compute some attention modules of this block in the open for the time of the context.

    attentions: what each one's queries, keys, values and pattern are called.
    """
    configs: dict[int, Any] = {id(m.config): m.config for m in block.modules() if hasattr(m, "config")}
    before = {key: c._attn_implementation_internal for key, c in configs.items()}
    _active.modules, _active.touch, _active.own = dict(attentions), touch, next(iter(before.values()), None)
    try:
        for c in configs.values():
            c._attn_implementation_internal = NAME
        yield
    finally:
        for key, c in configs.items():
            c._attn_implementation_internal = before[key]
        _active.modules = {}


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """softmax(q k^T * scaling + mask) v; query (batch, heads, seq, head width), keys and values may have fewer heads.

    The softmax is taken in float32, as the models' own eager code does. Where nothing is changed the model's own kernel
    gives the output, so that looking changes no bit. Returns (batch, seq, heads, head width).
    """
    as_given = (query, key, value)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    mine: tuple[Kind, ...] | None = getattr(_active, "modules", {}).get(module)
    changed = False
    if mine:
        before = (query, key, value)
        query, key, value = (_touch(k, t) for k, t in zip(mine, before, strict=False))
        changed = any(a is not b for a, b in zip(before, (query, key, value), strict=True))
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    n, m = scores.shape[-2:]
    if attention_mask is None:
        causal = others.get("is_causal")
        if n > 1 and (getattr(module, "is_causal", True) if causal is None else causal):
            scores = scores.masked_fill(
                torch.ones(n, m, dtype=torch.bool, device=scores.device).triu(m - n + 1), -torch.inf
            )
    elif attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask[..., :m], -torch.inf)
    else:
        scores = scores + attention_mask[..., :m]
    pattern = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    if mine:
        seen = pattern
        pattern = _touch(mine[3], pattern)
        changed = changed or pattern is not seen
    own = ALL_ATTENTION_FUNCTIONS.get(_active.own)
    if not changed and own is not None:
        return own(module, *as_given, attention_mask, scaling=scaling, **others)
    return (pattern @ value).transpose(1, 2).contiguous(), pattern


def _touch(kind: Kind, t: Tensor) -> Tensor:
    """Pass (batch, heads, seq, channels) through the active touch as (batch, seq, heads x channels)."""
    flat = t.transpose(1, 2)
    seen = flat.flatten(2)
    touched = _active.touch(kind, seen)
    return t if touched is seen else touched.unflatten(2, flat.shape[2:]).transpose(1, 2)


ALL_ATTENTION_FUNCTIONS.register(NAME, _attend)
