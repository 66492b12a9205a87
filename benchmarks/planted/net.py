"""The architecture of the planted models while they are trained, with an edit at every component."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.planted.cases import BLOCKS, HEADS, WIDTH, Case
from benchmarks.planted.tasks import VOCABULARY, Symbolic

INDEX = {t: i for i, t in enumerate(VOCABULARY)}
POSITIONS = 16
HEAD = WIDTH // HEADS
Batch = tuple[Tensor, Tensor, list[tuple[int, ...]]]


class Net(torch.nn.Module):
    """GPT-2's architecture, tied head, with an `edit` at every component: (batch, seq, channels) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = torch.nn.Embedding(len(VOCABULARY), WIDTH)
        self.wpe = torch.nn.Embedding(POSITIONS, WIDTH)
        self.blocks = torch.nn.ModuleList(_Block() for _ in range(BLOCKS))
        self.ln_f = torch.nn.LayerNorm(WIDTH)
        for p in (self.wte.weight, self.wpe.weight):
            torch.nn.init.normal_(p, std=0.02)

    def forward(
        self, ids: Tensor, edits: "Edits | None" = None, hide: dict[int, Tensor] | None = None, skip: Sequence[str] = ()
    ) -> Tensor:
        """Logits at the last position, (batch, vocabulary).

        hide: per block, a mask of positions that its attention may not see. skip: sublayers whose output is zero anyway.
        """
        h = self.wte(ids) + self.wpe.weight[: ids.shape[1]]
        causal = torch.full((ids.shape[1], ids.shape[1]), -torch.inf).triu(1)
        edits = edits or Edits()
        for k, b in enumerate(self.blocks):
            mask = causal if hide is None or k not in hide else causal + hide[k]
            if f"{k}.attn" not in skip:
                h = h + edits.apply(f"{k}.attn", b.attend(h, mask, lambda n, z, k=k: edits.apply(f"{k}.head.{n}", z)))
            if f"{k}.mlp" not in skip:
                h = h + edits.apply(f"{k}.mlp", b.down(F.gelu(b.up(b.ln_2(h)), approximate="tanh")))
        return self.ln_f(h[:, -1]) @ self.wte.weight.T


class _Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.qkv, self.out = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.up, self.down = torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.Linear(4 * WIDTH, WIDTH)
        for layer in (self.qkv, self.out, self.up, self.down):
            torch.nn.init.normal_(layer.weight, std=0.02)
            torch.nn.init.zeros_(layer.bias)

    def attend(self, h: Tensor, mask: Tensor, on_head: Any) -> Tensor:
        q, k, v = (t.unflatten(-1, (HEADS, HEAD)).transpose(1, 2) for t in self.qkv(self.ln_1(h)).chunk(3, -1))
        z = ((q @ k.transpose(-1, -2) / HEAD**0.5 + mask).softmax(-1) @ v).transpose(1, 2)
        return self.out(torch.cat([on_head(n, z[:, :, n]) for n in range(HEADS)], -1))


@dataclass
class Edits:
    """What happens to components in one forward pass: by name a (rows, seq) mask and what comes in there."""

    masks: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)
    record: dict[str, Tensor] | None = None

    def apply(self, name: str, x: Tensor) -> Tensor:
        """The component's output after its edit."""
        if self.record is not None:
            self.record[name] = x.detach()
        if name not in self.masks:
            return x
        return torch.where(self.masks[name][..., None], self.values[name], x)


def parts(case: Case) -> tuple[list[str], list[str]]:
    """(planted components, all the others); in an attention whose heads are planted, the heads one by one."""
    planted, others = [], []
    for k in range(BLOCKS):
        if k in case.attention and case.heads:
            for n in range(HEADS):
                (planted if n in case.heads else others).append(f"{k}.head.{n}")
        else:
            (planted if k in case.attention else others).append(f"{k}.attn")
        (planted if k in case.mlps else others).append(f"{k}.mlp")
    return planted, [o for o in others if o != case.decoy]


def batch(task: Symbolic, n: int, rng: random.Random) -> Batch:
    """Token ids (n, seq), answers (n), operands."""
    rows = [task.draw(rng) for _ in range(n)]
    ids = torch.tensor([[INDEX[t] for t in task.prompt(v)] for v in rows])
    return ids, torch.tensor([INDEX[task.answer(v)] for v in rows]), rows
