"""What a processor computes slowly the way a model does it, computed by other kernels: an activation function, and products.

GPT-2's own `gelu_new` makes eight tensors of the MLP's width, one after the other; in blocks of a few hundred channels that takes
as long as their matrix products. Torch's own kernel takes a sixth of that and rounds otherwise in the last bit of one value in a
hundred. Where a record asks for the bits of the eight steps, they run in the same order on pieces that stay in the cache.

Products in single precision go to MKL, which leaves half the width of AMD's AVX-512 processors idle. There oneDNN, which torch
has for other types of number, takes less than half the time and rounds otherwise in the last bits. It wants weights in an order
of its own, and puts them so at every product; where memory allows, weights in that order are kept, with which bits are the same.
"""

import math
import platform
import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.weak import WeakIdKeyDictionary
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from tools.engine.kept import share_of_free

PIECE = 2**16  # elements
SCALE = math.sqrt(2.0 / math.pi)
LEAST = 2**20  # multiplications, below which calling oneDNN takes longer than it saves
NEAR = 1e-5


class Kernels(NamedTuple):
    """Which of them are in use."""

    activations: bool = False
    products: bool = False


_kernels: ContextVar[Kernels] = ContextVar("kernels", default=Kernels())  # noqa: B039  # a tuple


@contextmanager
def using(kernels: Kernels) -> Generator[None]:
    """Let models compute with these kernels for the time of the context, and else as they are written."""
    token = _kernels.set(kernels)
    try:
        yield
    finally:
        _kernels.reset(token)


def in_use() -> Kernels:
    """Those of this context; products only where this processor gains by them."""
    chosen = _kernels.get()
    return chosen if not chosen.products or gains() else chosen._replace(products=False)


@cache
def gains() -> bool:
    """Whether oneDNN multiplies with twice the width that MKL has here, and rightly: on AMD's processors with AVX-512."""
    wide = "AVX512" in torch.backends.cpu.get_cpu_capability() and "AuthenticAMD" in _maker()
    there = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    if not (wide and there and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    x, weight = (torch.linspace(-1, 1, n * 64, dtype=torch.float32, device="cpu").sin().view(n, 64) for n in (32, 48))
    with torch.inference_mode():
        return bool(((_product(x, weight, weight[0, :48]) - x @ weight.T - weight[0, :48]).abs() < NEAR).all())


def _maker() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line for line in lines if line.startswith("vendor_id")), "") or platform.processor()


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """X, (*rows, channels), times the transposed weights, (out, channels), plus a bias that has no gaps, by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # what compiled models call


class _Ordered:
    """Weights in oneDNN's order, kept as long as they are there and are not written to."""

    def __init__(self) -> None:
        self.room = -1  # bytes; not known yet
        self._known = WeakIdKeyDictionary()
        self._lock = threading.Lock()

    def of(self, weight: Tensor, mapping: Tensor) -> Tensor:
        """What a product with these weights is to be given: `mapping`, which is (out, channels), in order, or as it is."""
        if type(weight) is not nn.Parameter or weight.is_inference():  # of other tensors no change is counted
            return mapping
        found = self._found(weight)
        return self._put(weight, mapping) if found is None else found

    def _found(self, weight: Tensor) -> Tensor | None:
        known = self._known.get(weight)
        return known[1] if known is not None and known[0] == (weight.data_ptr(), weight._version) else None

    def _put(self, weight: Tensor, mapping: Tensor) -> Tensor:
        with self._lock:
            if (found := self._found(weight)) is not None:  # another lane was sooner
                return found
            if self.room < 0:  # when the first are put in order
                self.room = share_of_free(weight.device) if _order_keeps_bits() else 0
            self._known.pop(weight, None)
            size = weight.numel() * weight.element_size()
            if sum(known[2] for known in self._known.values()) + size > self.room:
                return mapping
            made = torch.ops.mkldnn._reorder_linear_weight(mapping, None)
            self._known[weight] = (weight.data_ptr(), weight._version), made, size
            return made


@cache
def _order_keeps_bits() -> bool:
    """Whether products of several rows are the same to the last bit here when weights are in order; to be asked in inference mode.

    What is kept depends on the memory that is free, and nothing that is recorded may.
    """
    weight = torch.linspace(-9, 9, 768 * 515, dtype=torch.float32, device="cpu").sin().view(515, 768)
    ordered = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    some = (weight[:rows].contiguous() for rows in (2, 17, 96, 300))
    return all(torch.equal(_product(x, ordered, None), _product(x, weight, None)) for x in some)


_ordered = _Ordered()


def _quick(x: Tensor, weight: Tensor, mapping: Tensor, bias: Tensor | None) -> Tensor:
    """A product by oneDNN. mapping: the weights, (out, channels), maybe transposed."""
    alone = x.numel() == x.shape[-1]  # of one row it computes by another kernel where weights are in order
    return _product(x, mapping if alone else _ordered.of(weight, mapping), bias)


def _suits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether a product is one that oneDNN takes less time for."""
    if not (_kernels.get().products and torch.is_inference_mode_enabled() and gains()):
        return False
    if x.numel() // max(1, x.shape[-1]) * weight.numel() < LEAST:
        return False
    of = [t for t in (x, weight, bias) if t is not None]
    single = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in of)
    return single and (bias is None or bias.is_contiguous())


class QuickLinear(nn.Linear):
    """A linear map, its product by oneDNN where that is in use and gains.

    Called so often that shapes are not annotated, which would be checked at each call of a test.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(*rows, channels) to (*rows, out)."""
        quick = _suits(input, self.weight, self.bias)
        return _quick(input, self.weight, self.weight, self.bias) if quick else super().forward(input)


class QuickConv1D(Conv1D):
    """The same for GPT-2's own, whose weights are (channels, out)."""

    def forward(self, x: Tensor) -> Tensor:
        """(*rows, channels) to (*rows, out)."""
        quick = _suits(x, self.weight, self.bias)
        return _quick(x, self.weight, self.weight.T, self.bias) if quick else super().forward(x)


class OnePass(NewGELUActivation):
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), to the last bit what its parent gives (Hendrycks, Gimpel 2016).

    Unless torch's kernel is in use. Where gradients flow, away from the CPU and for tensors with gaps, the parent does it.
    """

    def forward(self, input: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:  # noqa: A002  # the parent's name
        """The function of every element."""
        x = input
        if _kernels.get().activations:
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


QUICK: dict[type[nn.Module], type[nn.Module]] = {
    NewGELUActivation: OnePass,
    nn.Linear: QuickLinear,
    Conv1D: QuickConv1D,
}


def quicken(model: nn.Module) -> None:
    """Let a model's `gelu_new` and linear modules run so; nothing else of it is touched."""
    for module in model.modules():
        if type(module) in QUICK:
            module.__class__ = QUICK[type(module)]
