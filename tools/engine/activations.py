"""An activation function that transformers writes out in eight steps, in one pass over memory.

GPT-2's own `gelu_new` makes eight tensors of the MLP's width, one after the other; in blocks of a few hundred channels that takes
as long as their matrix products. Torch's own kernel takes a sixth of that and rounds otherwise in the last bit of one value in a
hundred. Where a record asks for the bits of the eight steps, they run in the same order on pieces that stay in the cache.
"""

import math
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import NewGELUActivation

PIECE = 2**16  # elements
_fused: ContextVar[bool] = ContextVar("fused", default=False)
SCALE = math.sqrt(2.0 / math.pi)


@contextmanager
def fused(on: bool) -> Generator[None]:
    """Let activation functions be computed by torch's kernel for the time of the context, or not."""
    token = _fused.set(on)
    try:
        yield
    finally:
        _fused.reset(token)


def is_fused() -> bool:
    """Whether they are here."""
    return _fused.get()


class OnePass(NewGELUActivation):
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), to the last bit what its parent gives (Hendrycks, Gimpel 2016).

    Unless `fused`. Where gradients flow, away from the CPU and for tensors with gaps, the parent does it.
    """

    def forward(self, input: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:  # noqa: A002  # the parent's name
        """The function of every element."""
        x = input
        if _fused.get():
            return functional.gelu(x, approximate="tanh")
        if x.device.type != "cpu" or not x.is_contiguous() or (torch.is_grad_enabled() and x.requires_grad):
            return super().forward(x)
        out = torch.empty_like(x)
        half = x.new_empty(min(PIECE, x.numel()))
        for piece, given in zip(out.view(-1).split(PIECE), x.view(-1).split(PIECE), strict=True):
            torch.pow(given, 3.0, out=piece)
            piece.mul_(0.044715).add_(given).mul_(SCALE).tanh_().add_(1.0)
            piece.mul_(torch.mul(given, 0.5, out=half[: given.numel()]))
        return out


def quicken(model: nn.Module) -> None:
    """Let a model's `gelu_new` modules run so; nothing else of it is touched."""
    for module in model.modules():
        if type(module) is NewGELUActivation:
            module.__class__ = OnePass
