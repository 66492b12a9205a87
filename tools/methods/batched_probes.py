"""Probes of many labels at many places at once: one batched solve or one batched fit for all of them.

A family of labels (`side.*`: the state of every square of a board) is read from the same activations, one class a label. Ridge
regression on one-hot classes is solved for all places, labels and penalties from one eigendecomposition a place, the penalty
of each label by its leave-one-out error (Golub et al. 1979). `mass_mean` goes by the classes' means (Marks and Tegmark 2023);
`logistic` and `mlp` (one hidden layer) are fitted by Adam, `sparse` by proximal gradients, all places side by side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tools.methods.features import Label

Model = Literal["ridge", "mass_mean", "logistic", "sparse", "mlp"]
MODELS: tuple[Model, ...] = get_args(Model)
PENALTIES = tuple(float(a) for a in np.logspace(0, 5, 6))
HIDDEN, STEPS, RATE, SPARSITY = 128, 200, 1e-2, 0.03
PENALTY = {"logistic": 30.0, "mlp": 10.0}  # half of it times a label's squared weights is added to its nats
States = Float[Tensor, "places rows channels"]
Scores = Float[Tensor, "places rows classes"]


@dataclass(frozen=True)
class Labels:
    """Several labels of the same examples. names: of the labels; values: each one's classes; codes: which class, (n, labels)."""

    names: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    codes: Int[np.ndarray, "n labels"]

    @classmethod
    def of(cls, columns: dict[str, Sequence[Label]]) -> "Labels":
        """From each label's values, one an example; classes in alphabetical order."""
        texts = {name: [str(v) for v in column] for name, column in columns.items()}
        values = tuple(tuple(sorted(set(column))) for column in texts.values())
        index = [{v: i for i, v in enumerate(known)} for known in values]
        codes = [[at[v] for v in column] for at, column in zip(index, texts.values(), strict=True)]
        return cls(tuple(columns), values, np.array(codes, dtype=np.int64).reshape(len(columns), -1).T)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where each label's classes begin among all of them."""
        return tuple(np.cumsum([0, *map(len, self.values)]).tolist())

    @property
    def width(self) -> int:
        """How many classes all labels have together."""
        return self.starts[-1]

    def rows(self, chosen: Int[np.ndarray, " m"] | slice) -> "Labels":
        """Those of some of the examples."""
        return Labels(self.names, self.values, self.codes[chosen])

    def one_hot(self) -> Float[Tensor, "n classes"]:
        """1 for each label's own class, else 0."""
        out = torch.zeros(len(self.codes), self.width, dtype=torch.float64)
        return out.scatter_(1, torch.from_numpy(self.codes + np.array(self.starts[:-1])), 1.0)

    def apart(self, scores: Scores) -> Float[Tensor, "places rows labels most"]:
        """The scores label by label, minus infinity beyond as many classes as a label has."""
        most = max(map(len, self.values))
        slots = torch.arange(most) + torch.tensor(self.starts[:-1])[:, None]
        there = torch.arange(most) < torch.tensor([len(v) for v in self.values])[:, None]
        return scores[..., slots.clamp(max=self.width - 1)].masked_fill(~there, -torch.inf)

    def read(self, scores: Scores) -> Int[np.ndarray, "places rows labels"]:
        """The class with the highest score, of each label."""
        return self.apart(scores).argmax(-1).cpu().numpy()

    def log_odds(
        self, scores: Scores, codes: Int[np.ndarray, "rows labels"] | None = None
    ) -> Float[Tensor, "places rows labels"]:
        """The log-probability of each label's own class, in nats; codes: whose, else those of these labels."""
        own = torch.from_numpy(self.codes if codes is None else codes)[None, :, :, None].expand(len(scores), -1, -1, -1)
        return self.apart(scores).log_softmax(-1).gather(-1, own)[..., 0]


@dataclass(frozen=True)
class Fitted:
    """Probes of all labels at some places. mean, scale: of each place's channels.

    layers: weights, (places, inputs, outputs), and biases, (places, 1, outputs), in turn, with rectifiers between: from states of
    which the mean is taken and which are divided by the scale to a score of each class.
    """

    labels: Labels
    mean: Float[Tensor, "places 1 channels"]
    scale: Float[Tensor, "places 1 channels"]
    layers: tuple[Tensor, ...]

    def scores(self, states: States) -> Scores:
        """Of states as they are in the model, a score of each class."""
        return forward((states.double() - self.mean) / self.scale, self.layers)

    def read(self, states: States) -> Int[np.ndarray, "places rows labels"]:
        """The class that each label is read as."""
        with torch.no_grad():
            return self.labels.read(self.scores(states))

    def at(self, place: int) -> "Fitted":
        """The probes of one place."""
        mean, scale, *layers = (t[place : place + 1] for t in (self.mean, self.scale, *self.layers))
        return Fitted(self.labels, mean, scale, tuple(layers))


def forward(x: States, layers: Sequence[Tensor]) -> Scores:
    """The scores of prepared states, in the layers' precision."""
    h = x.to(layers[0].dtype)
    for i in range(0, len(layers), 2):
        h = h @ layers[i] + layers[i + 1]
        h = h.relu() if i + 2 < len(layers) else h
    return h


def fit(
    states: States, labels: Labels, model: Model = "ridge", seed: int = 0, check: Callable[[], None] = lambda: None
) -> Fitted:
    """Probes of all labels at every place. states: (places, n, channels), those of the labels' examples.

    The same for the same seed on the same machine. check: called between steps of a long fit.
    """
    x = states.double()
    mean, scale = x.mean(1, keepdim=True), x.std(1, keepdim=True, unbiased=False)
    still = scale <= 1e-6 * scale.amax(-1, keepdim=True).clamp(min=1e-30)
    scale = scale.masked_fill(still, torch.inf)  # a channel that never changes says nothing
    if model == "mass_mean":  # distances as they are in the model: channels keep their size
        scale = torch.ones_like(scale)
    x = (x - mean) / scale
    if model == "ridge":
        layers = ridge(x, labels)
    elif model == "mass_mean":
        layers = _means(x, labels)
    elif model == "sparse":
        layers = _sparse(x, labels, check)
    else:
        layers = _descended(x, labels, model, seed, check)
    return Fitted(labels, mean, scale, layers)


def ridge(
    x: States, labels: Labels, penalties: Sequence[float] = PENALTIES
) -> tuple[Float[Tensor, "places channels classes"], Float[Tensor, "places 1 classes"]]:
    """Weights and bias of ridge regressions on -1 and 1 for each class, the penalty of each place and label by leave-one-out error.

    x: centred by channel. The error left out, of residuals r and leverages h: r / (1 - h), for all penalties from one
    eigendecomposition of a place's Gram matrix.
    """
    y = 2 * labels.one_hot() - 1
    bias = y.mean(0)
    y = y - bias
    values, vectors = torch.linalg.eigh(x.mT @ x)
    values = values.clamp(min=0)
    turned, images = x @ vectors, (x @ vectors).mT @ y
    best = torch.full((len(x), len(labels.names)), torch.inf, dtype=torch.float64)
    weights = torch.zeros(len(x), x.shape[-1], labels.width, dtype=torch.float64)
    owner = torch.repeat_interleave(torch.arange(len(labels.names)), torch.tensor([len(v) for v in labels.values]))
    for penalty in penalties:
        shrunk = 1 / (values + penalty)
        found = shrunk[..., None] * images
        leverage = (turned.square() * shrunk[:, None]).sum(-1, keepdim=True) + 1 / x.shape[1]
        missed = ((y - turned @ found) / (1 - leverage).clamp(min=1e-9)).square().mean(1)
        error = torch.zeros_like(best).index_add_(1, owner, missed)
        better = error < best
        best = torch.where(better, error, best)
        weights = torch.where(better[:, owner][:, None], vectors @ found, weights)
    return weights, bias.expand(len(x), 1, -1)


def _means(x: States, labels: Labels) -> tuple[Tensor, Tensor]:
    """The nearest class mean as linear scores: x . m - |m|^2 / 2. A class that no example has is never read."""
    y = labels.one_hot()
    count = y.sum(0)
    means = (x.mT @ y) / count.clamp(min=1)
    bias = -means.square().sum(1, keepdim=True) / 2
    return means, bias.masked_fill(count == 0, -torch.inf)


def _descended(x: States, labels: Labels, model: Model, seed: int, check: Callable[[], None]) -> tuple[Tensor, ...]:
    """Softmax regressions, or MLPs of one hidden layer, of all places at once: full batches, Adam, squared weights penalised."""
    generator = torch.Generator().manual_seed(seed)
    places, rows, channels = x.shape
    x = x.float()
    sizes = [channels, *([HIDDEN] if model == "mlp" else []), labels.width]
    layers: list[Tensor] = []
    for a, b in pairwise(sizes):
        start = torch.randn(1, a, b, generator=generator) * (2 / a) ** 0.5 if model == "mlp" else torch.zeros(1, a, b)
        layers += [start.repeat(places, 1, 1).requires_grad_(), torch.zeros(places, 1, b, requires_grad=True)]
    plan, penalty = torch.optim.Adam(layers, RATE), PENALTY[model] / (2 * rows * len(labels.names))
    with torch.enable_grad():
        for step in range(STEPS):
            check()
            plan.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
            loss = -labels.log_odds(forward(x, layers)).mean((1, 2)).sum()  # the sum: each place as if by itself
            loss = loss + penalty * sum(w.square().sum() for w in layers[::2])
            plan.zero_grad()
            loss.backward()
            plan.step()
    return tuple(t.requires_grad_(False) for t in layers)


def _sparse(x: States, labels: Labels, check: Callable[[], None]) -> tuple[Tensor, Tensor]:
    """Softmax regressions, the sum of absolute weights penalised, by accelerated proximal gradients (Beck and Teboulle 2009)."""
    x, y, rows = x.float(), labels.one_hot().float(), x.shape[1]
    size = 2 / torch.linalg.eigvalsh(x.mT @ x / rows)[:, -1].clamp(min=1e-6)[:, None, None]
    weights = torch.zeros(len(x), x.shape[-1], labels.width)
    bias = (y.mean(0) + 1e-3).log().expand(len(x), 1, -1).clone()
    ahead, speed = weights, 1.0
    index = torch.repeat_interleave(torch.arange(len(labels.names)), torch.tensor([len(v) for v in labels.values]))
    for _ in range(STEPS):
        check()
        scores = (x @ ahead + bias).exp()
        whole = torch.zeros(*scores.shape[:2], len(labels.names)).index_add_(2, index, scores)
        missed = (scores / whole[..., index] - y) / rows
        new = ahead - size * (x.mT @ missed)
        new = new.sign() * (new.abs() - size * SPARSITY).clamp(min=0)
        bias = bias - missed.sum(1, keepdim=True)
        faster = (1 + (1 + 4 * speed**2) ** 0.5) / 2
        ahead, weights, speed = new + (speed - 1) / faster * (new - weights), new, faster
    return weights, bias


def code_length(
    states: States,
    labels: Labels,
    model: Literal["logistic", "mlp"],
    seed: int,
    check: Callable[[], None] = lambda: None,
) -> Float[np.ndarray, "places labels"]:
    """Bits an example that an online code of each label takes (Voita and Titov 2020): what comes next is coded by a probe fitted on
    what came before, in parts that double from a sixteenth on; the first of them by even odds.
    """
    n = len(labels.codes)
    cuts = [n >> k for k in (4, 3, 2, 1, 0)]
    even = np.array([np.log2(len(v)) for v in labels.values])
    bits = np.tile(cuts[0] * even, (len(states), 1))
    for a, b in pairwise(cuts):
        fitted = fit(states[:, :a], labels.rows(slice(0, a)), model, seed, check)
        with torch.no_grad():
            coded = labels.log_odds(fitted.scores(states[:, a:b]), labels.codes[a:b]).sum(1)
        bits -= coded.numpy() / np.log(2)
    return bits / n
