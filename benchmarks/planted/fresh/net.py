"""The network that fresh cases are trained in: GPT-2's architecture of any shape, with an edit at every component."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """How large a network is."""

    blocks: int
    heads: int
    width: int
    vocabulary: int
    positions: int = 16


@dataclass
class Edits:
    """What happens to components in one pass: by name a (rows, seq) mask and what comes in there; `record` keeps what was."""

    masks: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)
    record: dict[str, Tensor] | None = None

    def apply(self, name: str, x: Tensor) -> Tensor:
        """The component's output after its edit."""
        if self.record is not None:
            self.record[name] = x.detach()
        return torch.where(self.masks[name][..., None], self.values[name], x) if name in self.masks else x


class Net(torch.nn.Module):
    """Logits where the answer is predicted, (rows, tokens, vocabulary); the head is tied to the embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.wte = torch.nn.Embedding(shape.vocabulary, shape.width)
        self.wpe = torch.nn.Embedding(shape.positions, shape.width)
        self.blocks = torch.nn.ModuleList(_Block(shape) for _ in range(shape.blocks))
        self.ln_f = torch.nn.LayerNorm(shape.width)
        for p in (self.wte.weight, self.wpe.weight):
            torch.nn.init.normal_(p, std=0.1)

    def forward(self, ids: Tensor, tokens: int = 1, edits: Edits | None = None, skip: Sequence[str] = ()) -> Tensor:
        """skip: sublayers whose output is zero anyway."""
        edits = edits or Edits()
        h = self.wte(ids) + self.wpe.weight[: ids.shape[1]]
        causal = torch.full((ids.shape[1], ids.shape[1]), -torch.inf).triu(1)
        for k, b in enumerate(self.blocks):
            if f"{k}.attn" not in skip:
                h = h + edits.apply(f"{k}.attn", b.attend(h, causal, k, edits))
            if f"{k}.mlp" not in skip:
                h = h + edits.apply(f"{k}.mlp", b.down(F.gelu(b.up(b.ln_2(h)), approximate="tanh")))
        return self.ln_f(h[:, -tokens:]) @ self.wte.weight.T


class _Block(torch.nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        w = shape.width
        self.heads = shape.heads
        self.ln_1, self.ln_2 = torch.nn.LayerNorm(w), torch.nn.LayerNorm(w)
        self.qkv, self.out = torch.nn.Linear(w, 3 * w), torch.nn.Linear(w, w)
        self.up, self.down = torch.nn.Linear(w, 4 * w), torch.nn.Linear(4 * w, w)
        for layer in (self.qkv, self.out, self.up, self.down):
            torch.nn.init.normal_(layer.weight, std=0.05)
            torch.nn.init.zeros_(layer.bias)

    def attend(self, h: Tensor, causal: Tensor, block: int, edits: Edits) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.ln_1(h)).chunk(3, -1))
        z = ((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + causal).softmax(-1) @ v).transpose(1, 2)
        names = [f"{block}.head.{n}" for n in range(self.heads)]
        if edits.record is not None or any(n in edits.masks for n in names):
            z = torch.stack([edits.apply(name, z[:, :, n]) for n, name in enumerate(names)], 2)
        return self.out(z.flatten(-2))


def sublayer(net: Net, name: str) -> tuple[torch.nn.Linear, torch.nn.Linear]:
    """What a component reads with and what it writes with; a head has a part of both."""
    block: Any = net.blocks[int(name.partition(".")[0])]
    return (block.up, block.down) if name.endswith("mlp") else (block.qkv, block.out)


def columns(net: Net, name: str) -> slice:
    """Inputs of the second projection that belong to a component."""
    if ".head." not in name:
        return slice(None)
    head, size = int(name.rpartition(".")[2]), net.shape.width // net.shape.heads
    return slice(head * size, (head + 1) * size)


def rows(net: Net, name: str) -> Tensor:
    """Outputs of the first projection that belong to a component: all, or a head's queries, keys and values."""
    w = net.shape.width
    if ".head." not in name:
        return torch.arange(4 * w if name.endswith("mlp") else 3 * w)
    at = columns(net, name)
    return torch.cat([torch.arange(base + at.start, base + at.stop) for base in (0, w, 2 * w)])
