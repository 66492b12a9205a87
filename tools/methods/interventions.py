"""Activations of a microbatch, as interventions read and replace them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tools.engine.sites import Site
from tools.ports import Batch
from tools.subjects import Subject


def activations(subject: Subject, batch: Batch, sites: Sequence[Site]) -> dict[Site, Tensor]:
    """Intact activations of a microbatch at the sites, (batch, seq, channels) each."""
    return subject.activations(batch.inputs, sites)


def select(h: Float[Tensor, "batch seq channels"], positions: Int[Tensor, "batch n"] | None) -> Tensor:
    """The activations at the positions, (batch, n, channels); all of them for None."""
    if positions is None:
        return h
    return h[torch.arange(h.shape[0], device=h.device)[:, None], positions]
