"""Where in a model an activation is read or changed, and how it is changed.

A site is written `stack.block.kind`: `decoder.3.resid_pre`, `decoder.3.attn.z`, `decoder.0.mlp.out`. Kinds follow the
residual-stream picture (Elhage et al. 2021, A Mathematical Framework for Transformer Circuits):

    resid_pre   what enters the block                              width
    attn.q      queries, after any rotation by position            heads x head width
    attn.k      keys, likewise, one for each query head            heads x head width
    attn.v      values, one for each query head                    heads x head width
    attn.pattern  attention weights of each query position         heads x key positions
    attn.z      the heads' outputs, before the output projection   heads x head width
    attn.out    what attention adds to the residual stream         width
    cross.q, cross.k, cross.v, cross.pattern   as those of attn, of cross-attention
    cross.z     as attn.z, of cross-attention                      heads x head width
    cross.out   as attn.out, of cross-attention                    width
    resid_mid   the residual stream between attention and MLP      width
    mlp.act     the hidden activations of the MLP                  MLP width
    mlp.out     what the MLP adds to the residual stream           width
    resid_post  what leaves the block                              width
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

Kind = Literal[
    "resid_pre", "attn.q", "attn.k", "attn.v", "attn.pattern", "attn.z", "attn.out", "cross.q", "cross.k", "cross.v",
    "cross.pattern", "cross.z", "cross.out", "resid_mid", "mlp.act", "mlp.out", "resid_post",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
HEADED: frozenset[Kind] = frozenset(
    f"{a}.{part}"  # type: ignore[misc]  # every one of them is a kind
    for a in ("attn", "cross")
    for part in ("q", "k", "v", "pattern", "z")
)


class SiteError(ValueError):
    """A site that does not exist; the message says what would be valid."""


@dataclass(frozen=True, order=True)
class Site:
    """One place in one block of one stack."""

    stack: str
    block: int
    kind: Kind

    def __str__(self) -> str:
        return f"{self.stack}.{self.block}.{self.kind}"

    @classmethod
    def parse(cls, text: str) -> "Site":
        """`decoder.3.attn.z` as a Site; SiteError says what the form is."""
        stack, _, rest = text.partition(".")
        block, _, kind = rest.partition(".")
        if not (stack and block.isdecimal() and kind in KINDS):
            raise SiteError(
                f"{text!r} is not a site: write stack.block.kind, for example decoder.3.mlp.out; "
                f"kinds are {', '.join(KINDS)}"
            )
        return cls(stack, int(block), kind)  # type: ignore[arg-type]  # membership was just checked


@dataclass(frozen=True, eq=False)
class Edit:
    """A change of the activation at a site, made while the block runs.

    value: broadcasts to the selection, (batch, positions, channels); for `scale` a factor, for `project_out` the
        direction to remove (any length), for `set` and `add` the activation.
    positions: (batch, n) token indices of each row, or None for all positions.
    onward: in generation, every token made is edited too, not only the positions of the prompt.
    units: which heads of a site that has heads (q, k, v, pattern, z), or which channels of any other; None for all. The
        value has the selected channels in the order of `units`.
    """

    site: Site
    op: Literal["set", "add", "scale", "project_out"]
    value: Float[Tensor, "..."]
    positions: Int[Tensor, "batch n"] | None = None
    units: tuple[int, ...] | None = None
    onward: bool = False

    def apply(self, h: Float[Tensor, "batch seq channels"], n_units: int) -> Float[Tensor, "batch seq channels"]:
        """A changed copy of `h`, whose channels are so many heads or, at a site without heads, as many units."""
        out = h.clone()
        channels = channels_of(self.units, h.shape[-1] // n_units)
        rows = torch.arange(h.shape[0], device=h.device)[:, None]
        old = h[..., channels] if self.positions is None else h[rows, self.positions][..., channels]
        new = self._changed(old).to(h.dtype).expand_as(old)
        if self.positions is None:
            out[..., channels] = new
        else:
            picked = h[rows, self.positions].clone()
            picked[..., channels] = new
            out[rows, self.positions] = picked
        return out

    def _changed(self, old: Tensor) -> Tensor:
        value = self.value.to(device=old.device)
        match self.op:
            case "set":
                return value
            case "add":
                return old + value
            case "scale":
                return old * value
            case "project_out":
                norm = value.norm(dim=-1, keepdim=True)
                unit = value / norm.clamp(min=torch.finfo(value.dtype).tiny)  # a zero direction removes nothing
                return old - (old * unit).sum(-1, keepdim=True) * unit


def channels_of(units: tuple[int, ...] | None, width: int) -> slice | list[int]:
    """The channels of some units that are `width` channels wide each; all of them for None."""
    if units is None:
        return slice(None)
    if len(units) == 1:
        return slice(units[0] * width, (units[0] + 1) * width)
    return [u * width + i for u in units for i in range(width)]
