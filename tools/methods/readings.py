"""What stands at an anchor, example by example: tokens, and attention weights from one anchor to another."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from experiments_db.places import Component
from tools.engine.sites import HEADED, Kind, Site, channels_of
from tools.methods.anchors import positions
from tools.methods.scoring import batch_of, microbatches
from tools.methods.tool import Context, ToolInputError
from tools.ports import port_of
from tools.subjects import Inputs, Subject
from tools.tasks import Example


def units_of(subject: Subject, h: Tensor, site: Site, component: Component) -> Tensor:
    """The channels of a component's units; all of them where it names none."""
    heads = subject.spec(component.stack).n_heads if site.kind in HEADED else h.shape[-1]
    return h[..., channels_of(component.units or None, h.shape[-1] // heads)]


def tokens_at(ctx: Context, examples: Sequence[Example], anchor: str) -> list[tuple[Any, ...]]:
    """The tokens that stand at an anchor, example by example; where something else is read, what stands for the whole,
    wherever the anchor is.
    """
    batch, stack = batch_of(ctx.subject, examples), port_of(ctx.subject).reading(ctx.subject)
    at = positions(ctx.subject, batch, anchor, stack=stack)
    found: list[tuple[Any, ...]] = []
    for row, e in enumerate(batch.encoded):
        read = (
            (*e.tokens, *e.targets[:-1])
            if e.reads == ctx.subject.readout and e.lengths[stack] > len(e.tokens)
            else e.tokens
        )
        whole = range(len(read))
        wanted = whole if at is None or int(at[row].max()) >= len(read) else torch.unique(at[row]).tolist()
        found.append(tuple(read[i] for i in wanted))
    return found


def patterns(
    subject: Subject,
    inputs: Inputs,
    stack: str,
    blocks: Sequence[int],
    kind: Kind = "attn.pattern",
    programs: Mapping[str, Sequence[int]] | None = None,
) -> Tensor:
    """Attention weights of some blocks' heads, (blocks, batch, heads, queries, keys), float32; of cross-attention's too.

    programs: by stack, what runs; a block that does not has no weights.
    """
    spec = subject.spec(stack)
    if kind not in spec.kinds:
        raise ToolInputError(f"{kind} of {stack} is out of reach in this model; it has {', '.join(spec.kinds)}")
    sites = [Site(spec.name, b, kind) for b in blocks]
    captured = subject.run(inputs, programs or {}, capture=sites).captured
    idle = next((s for s in sites if s not in captured), None)
    if idle is not None:
        raise ToolInputError(
            f"{idle.stack} block {idle.block} does not run under this program: name heads of blocks that do"
        )
    return torch.stack([captured[s].float().unflatten(-1, (spec.n_heads, -1)).transpose(1, 2) for s in sites])


def weights(ctx: Context, examples: Sequence[Example], component: Component) -> tuple[np.ndarray, np.ndarray]:
    """How much every head looks from a pattern's query anchor to its key anchor, the mean over queries.

    Returns (blocks, heads, n), and (n,) what attention spread evenly over the tokens that can be seen would give.
    ToolInputError where the pattern names no key.
    """
    subject, spec = ctx.subject, ctx.subject.spec(component.stack)
    if not component.part.endswith("pattern") or not component.key:
        raise ToolInputError(
            f"{component}: name the head's pattern and where it looks, {component.stack}.3.attn.pattern[2]@answer<-operand1"
        )
    blocks, kind = range(len(spec.blocks)), cast("Kind", component.part)
    there = spec.keys_in(kind)
    if component.key_stack not in ("", there):
        raise ToolInputError(f"{component}: its keys lie in {there}")
    causal = spec.causal and kind == "attn.pattern"
    found, even = np.zeros((len(blocks), spec.n_heads, len(examples))), np.zeros(len(examples))
    with subject.evaluating():
        for batch in microbatches(subject, examples, ctx.max_tokens):
            seen = patterns(subject, batch.inputs, spec.name, blocks, kind)
            query = positions(subject, batch, component.anchor, stack=spec.name)
            key = positions(subject, batch, component.key, stack=there)
            for row, index in enumerate(batch.indices):
                n, m = batch.inputs.of(spec.name)[row], batch.inputs.of(there)[row]
                q, k = (
                    torch.arange(size) if at is None else torch.unique(at[row]).cpu()
                    for at, size in ((query, n), (key, m))
                )
                given = seen[:, row][..., q.to(seen.device), :][..., k.to(seen.device)]
                found[:, :, index] = given.sum(-1).mean(-1).cpu().numpy()
                visible = (q + 1).double() if causal else torch.full((len(q),), float(m))
                reached = (k[None] <= q[:, None]).sum(-1) if causal else torch.full((len(q),), len(k))
                even[index] = float((reached / visible).mean())
    # Weights are rounded: a sum of them may lie an ulp beyond what it can be.
    return np.clip(found, 0, 1), np.clip(even, 0, 1)
