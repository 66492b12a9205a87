"""Structural probes: a linear map under which squared distances of words are distances in their tree, and one under which
squared norms are depths (Hewitt and Manning 2019, A Structural Probe for Finding Syntax in Word Representations).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Num
from numpy.typing import NDArray
from torch import Tensor

from tools.methods.trees import Tree

RANK, STEPS = 32, 150  # of the space that states are mapped to, and of the fit, where nothing else is said
RATE, DECAY = 0.3, 1e-3  # Adam's first step (of the size of an entry), and the weight of the maps' squared entries
Rows = Num[np.ndarray, "rows channels"]


@dataclass(frozen=True)
class StructuralProbe:
    """Two linear maps of states, (channels, rank) each, after every channel has got mean 0 and variance 1.

    distance: edges between two words are the squared distance of their images. depth: edges to the root are the squared norm
    of the image, with `origin` (rank) for the image of the mean state. mean, scale: (channels).
    """

    mean: Float[np.ndarray, " channels"]
    scale: Float[np.ndarray, " channels"]
    distance: Float[np.ndarray, "channels rank"]
    depth: Float[np.ndarray, "channels rank"]
    origin: Float[np.ndarray, " rank"]

    def distances(self, states: Rows, trees: Sequence[Tree]) -> list[NDArray[Any]]:
        """Predicted distances in edges, (words, words), sentence after sentence."""
        return squared_distances(((states - self.mean) / self.scale) @ self.distance, trees)

    def depths(self, states: Rows, trees: Sequence[Tree]) -> list[NDArray[Any]]:
        """Predicted depths in edges, (words), sentence after sentence."""
        images = ((states - self.mean) / self.scale) @ self.depth + self.origin
        return parted((images**2).sum(-1), trees)


def fit(
    states: Rows, trees: Sequence[Tree], rank: int, steps: int, seed: int, check: Callable[[], None] = lambda: None
) -> StructuralProbe:
    """The maps that leave the smallest mean absolute error of distances and of depths, each sentence weighing the same.

    states: those of the trees' words, sentence after sentence. The same for the same seed, on the same machine. check: called
    before each step.
    """
    x = np.asarray(states, dtype=np.float32)
    mean, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 1e-6 * max(float(scale.max()), 1e-30), scale, np.inf).astype(
        np.float32
    )  # constant channels
    longest, width = max(map(len, trees)), x.shape[1]
    h = torch.zeros(len(trees), longest, width)
    near, far = torch.zeros(len(trees), longest), torch.zeros(len(trees), longest, longest)
    words, pairs = torch.zeros_like(near), torch.zeros_like(far)
    for s, (rows, tree) in enumerate(zip(parted((x - mean) / scale, trees), trees, strict=True)):
        n = len(tree)
        h[s, :n] = torch.from_numpy(rows)
        near[s, :n], far[s, :n, :n] = torch.from_numpy(tree.depths()), torch.from_numpy(tree.distances())
        words[s, :n], pairs[s, :n, :n] = 1 / n, (1 - torch.eye(n)) / (n * (n - 1))
    generator = torch.Generator().manual_seed(seed)
    size = (2 / max(1, width * min(rank, width))) ** 0.5  # images whose squared norm is about 2 edges
    maps = [(torch.randn(width, rank, generator=generator) * size).requires_grad_() for _ in range(2)]
    origin = torch.zeros(rank, requires_grad=True)
    given = [*maps, origin]
    optimiser = torch.optim.Adam(given, RATE * size)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    with torch.enable_grad():
        for _ in range(steps):
            check()
            missed = _missed(h @ maps[0], far, pairs) + _missed_depth(h @ maps[1] + origin, near, words)
            loss = missed / len(trees) + DECAY * sum(m.square().sum() for m in maps)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            plan.step()
    distance, depth, zero = (g.detach().numpy().astype(np.float64) for g in given)
    return StructuralProbe(mean, scale, distance, depth, zero)


def _missed(z: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    norms = z.square().sum(-1)
    found = norms[:, :, None] + norms[:, None, :] - 2 * z @ z.mT
    return ((found - wanted).abs() * weights).sum()


def _missed_depth(z: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    return ((z.square().sum(-1) - wanted).abs() * weights).sum()


def squared_distances(states: Rows, trees: Sequence[Tree]) -> list[NDArray[Any]]:
    """Squared Euclidean distances of the words' states, sentence after sentence: what an identity for a map gives."""
    return [((x[:, None] - x[None]) ** 2).sum(-1) for x in parted(np.asarray(states, dtype=np.float64), trees)]


def parted(rows: NDArray[Any], trees: Sequence[Tree]) -> list[NDArray[Any]]:
    """Rows of words, sentence after sentence, as one array a sentence."""
    return np.split(rows, np.cumsum([len(t) for t in trees])[:-1])


def word_places(trees: Sequence[Tree], longest: int) -> Rows:
    """Where each word stands, counted from the beginning and from the end, one channel each: what position alone can tell."""
    at = np.concatenate([np.arange(len(t)) for t in trees])
    back = np.concatenate([np.arange(len(t))[::-1] for t in trees])
    return np.concatenate([np.eye(longest)[at], np.eye(longest)[back]], axis=1).astype(np.float32)


def word_distances(trees: Sequence[Tree]) -> list[NDArray[Any]]:
    """How many words lie between each two, plus one."""
    return [np.abs(np.subtract.outer(np.arange(len(t)), np.arange(len(t)))).astype(np.float64) for t in trees]
