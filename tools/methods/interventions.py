"""Edits that ablate or patch, with what they need to know about the examples, and the control that belongs to each.

An effect of replacing an activation means something only beside the effect of a change of the same size that carries no
information. The control here adds, at the same site, a random vector with the norm of the real change.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tools.engine.sites import Edit, Site
from tools.methods.scoring import Microbatch
from tools.subjects import Subject


@dataclass(frozen=True)
class Spot:
    """A place that one intervention is about: sites that change together, positions (None: all), and a head."""

    sites: tuple[Site, ...]
    positions: Int[Tensor, "batch n"] | None
    head: int | None = None

    @property
    def units(self) -> tuple[int, ...] | None:
        """The units that an edit here is about."""
        return units_of(self.head)


def units_of(head: int | None) -> tuple[int, ...] | None:
    """A head as the units of an edit."""
    return None if head is None else (head,)


def activations(subject: Subject, batch: Microbatch, sites: Sequence[Site]) -> dict[Site, Tensor]:
    """Intact activations of a microbatch at the sites, (batch, seq, channels) each."""
    return dict(subject.run(batch.inputs, capture=tuple(dict.fromkeys(sites))).captured)


def derangement(groups: Sequence[object], generator: torch.Generator) -> tuple[Int[Tensor, " n"], int]:
    """A donor for every row from its own group, never itself; also how many rows have no other row in their group.

    Those rows keep themselves as donors, so that their ablation changes nothing: the count has to be reported.
    """
    members: dict[object, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    donors = torch.arange(len(groups))
    alone = 0
    for rows in members.values():
        if len(rows) == 1:
            alone += 1
            continue
        order = torch.tensor(rows)[torch.randperm(len(rows), generator=generator)]
        donors[order] = order.roll(1)
    return donors, alone


def select(h: Float[Tensor, "batch seq channels"], positions: Int[Tensor, "batch n"] | None) -> Tensor:
    """The activations at the positions, (batch, n, channels); all of them for None."""
    if positions is None:
        return h
    return h[torch.arange(h.shape[0], device=h.device)[:, None], positions]


def channels(h: Tensor, head: int | None, n_heads: int) -> Tensor:
    """One head's channels of a z activation; everything for None."""
    if head is None:
        return h
    width = h.shape[-1] // n_heads
    return h[..., head * width : (head + 1) * width]


def set_edits(spot: Spot, new: dict[Site, Tensor]) -> tuple[Edit, ...]:
    """Edits that put `new` (already selected by position and head) in place."""
    return tuple(Edit(s, "set", new[s], spot.positions, spot.units) for s in spot.sites)


def random_edits(
    spot: Spot, old: dict[Site, Tensor], new: dict[Site, Tensor], generator: torch.Generator
) -> tuple[Edit, ...]:
    """The control: at the same sites a random vector with the norm of the real change, position by position."""
    edits: list[Edit] = []
    for site in spot.sites:
        change = (new[site] - old[site]).float()
        noise = torch.randn(change.shape, generator=generator).to(change.device)
        noise *= change.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        edits.append(Edit(site, "set", (old[site].float() + noise).to(old[site].dtype), spot.positions, spot.units))
    return tuple(edits)
