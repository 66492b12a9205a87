"""Muon (Jordan et al. 2024): momentum whose update is made orthogonal, for the matrices inside the built-in subjects."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalised(g: Tensor) -> Tensor:
    """Newton-Schulz iteration towards the nearest orthogonal matrices, (n, rows, columns) with rows <= columns."""
    x = g.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.float()


class Muon:
    """Momentum with orthogonal updates for the weights of linear layers, (outputs, inputs)."""

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float = 0.01) -> None:
        self.parameters = list(parameters)
        self.momentum = [torch.zeros_like(p) for p in self.parameters]
        self.decay = decay

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update; matrices of one shape are made orthogonal together."""
        groups: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        for p, m in zip(self.parameters, self.momentum, strict=True):
            assert p.grad is not None
            m.mul_(0.95).add_(p.grad, alpha=0.05)
            groups.setdefault(tuple(p.shape), []).append((p.data, p.grad * 0.05 + m * 0.95))
        for (rows, columns), members in groups.items():
            stacked = torch.stack([u for _, u in members])
            made = orthogonalised(stacked.mT).mT if rows > columns else orthogonalised(stacked)
            for (target, _), o in zip(members, made, strict=True):
                target.mul_(1 - lr * self.decay).add_(o, alpha=-lr * max(1.0, rows / columns) ** 0.5)
