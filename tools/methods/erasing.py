"""Take out of activations whatever a linear probe could read of some labels, and as little else as can be (LEACE).

Source: Belrose et al. 2023, LEACE: Perfect linear concept erasure in closed form; for asking whether a model uses what is taken
out: Elazar et al. 2021, Amnesic Probing.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST = 1e-6  # of the largest: directions of less variance, or less covariance with the labels, are none


@dataclass(frozen=True)
class Eraser:
    """x -> x - (x - mean) @ removed. rank: how many directions are taken out."""

    mean: Float[Tensor, " channels"]
    removed: Float[Tensor, "channels channels"]
    rank: int

    def __call__(self, x: Float[Tensor, "n channels"]) -> Float[Tensor, "n channels"]:
        """The states without what was to be taken out."""
        return (x.double() - (x.double() - self.mean) @ self.removed).to(x.dtype)


def leace(x: Float[Tensor, "n channels"], z: Float[Tensor, "n classes"]) -> Eraser:
    """After it no linear probe reads the labels better than their frequencies do: x and one-hot z have no covariance left.

    Of all affine maps that do so it changes x least, in the mean of squares.
    """
    whiten, back, mean = _whitened(x)
    cross = whiten @ ((x.double() - mean).mT @ (z.double() - z.double().mean(0))) / len(x)
    u, s, _ = torch.linalg.svd(cross, full_matrices=False)
    kept = u[:, s > SMALLEST * s[0].clamp(min=1e-12)] if s[0] > 1e-12 else u[:, :0]
    return Eraser(mean, (back @ kept @ kept.mT @ whiten).mT, kept.shape[1])


def random_eraser(x: Float[Tensor, "n channels"], rank: int, generator: torch.Generator) -> Eraser:
    """Takes out as many random directions, each of them as likely as any among the states' own."""
    whiten, back, mean = _whitened(x)
    drawn = torch.randn(len(whiten), rank, generator=generator, dtype=torch.float64)
    kept = torch.linalg.qr(whiten @ (back @ drawn))[0]  # inside the directions in which the states vary
    return Eraser(mean, (back @ kept @ kept.mT @ whiten).mT, rank)


def _whitened(x: Float[Tensor, "n channels"]) -> tuple[Tensor, Tensor, Tensor]:
    """(what whitens, its pseudo-inverse, the mean)."""
    x = x.double()
    mean = x.mean(0)
    values, vectors = torch.linalg.eigh((x - mean).mT @ (x - mean) / len(x))
    there = values > SMALLEST * values[-1].clamp(min=1e-30)
    root = torch.where(there, values.clamp(min=1e-30).sqrt(), 1.0)
    on = there.double()
    return (vectors * (on / root)) @ vectors.mT, (vectors * (on * root)) @ vectors.mT, mean
