"""How tuned lenses are fitted: weighted ridge regression onto the last state, then KL steps on the output distribution.

Both come from one pass over the states, which gives their second moments. The steps are Adam's (Kingma, Ba 2015) with Nesterov's
momentum (Dozat 2016) on few rows each, as long as what the regression left unexplained, in coordinates in which the few
directions that hold most of a state are shortened: in the model's own, steps along the others hardly move. Source: Belrose et
al. 2023, Eliciting Latent Predictions from Transformers with the Tuned Lens; they train by SGD or Adam from zero in the
model's own coordinates.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tools.methods.layout import depth_component
from tools.methods.tool import ToolInputError
from tools.subjects import Subject

RIDGE = 1e-3  # of the mean second moment
FLOOR = (
    10.0  # of the mean second moment, added to each direction's: so much the steps in short directions are held back
)
RATE = 0.03  # of what the regression left unexplained: the first step's length
BETAS = (0.5, 0.8)  # short memories: a fit has tens of steps
ROWS = 64  # states of each depth a step
JUDGED = 512  # states by which the better of two translators is found
PIECE = 128  # states of each depth whose products are added at a time: so many lie in the cache


@dataclass(frozen=True)
class Moments:
    """Weighted means of products over the states of each depth, in double precision.

    gram: of (state, 1) with itself; cross: of (state, 1) with last state - state. spread: of the latter with itself, a channel.
    """

    gram: Float[Tensor, "depths width1 width1"]
    cross: Float[Tensor, "depths width1 width"]
    spread: Float[Tensor, " depths"]

    @classmethod
    def of(cls, h: Float[Tensor, "depths rows width"], target: Float[Tensor, "rows width"]) -> "Moments":
        """A state weighs what the final norm makes of its errors: one of small variance is scaled up by it."""
        depths, rows, width = h.shape
        weight = (target.var(-1, unbiased=False) + 1e-5).reciprocal()
        weight /= weight.mean() * rows
        found = torch.zeros(depths, width + 1, 2 * width + 1, dtype=torch.double, device=h.device)
        one = torch.ones(depths, 1, 1, dtype=torch.double, device=h.device)
        for start in range(0, rows, PIECE):
            piece = slice(start, start + PIECE)
            x, y, w = h[:, piece].double(), target[piece].double(), weight[piece].double()
            z = torch.cat([x, one.expand(-1, len(y), -1), y.expand(depths, -1, -1)], -1)
            found.baddbmm_((z[..., : width + 1] * w[:, None]).transpose(1, 2), z)
        gram, cross = found[..., : width + 1], found[..., width + 1 :]
        total = (weight.double()[:, None] * target.double().square()).sum()
        own, both = (m.diagonal(dim1=1, dim2=2)[:, :width].sum(-1) for m in (gram, cross))
        return cls(gram, cross - gram[..., :width], (total - 2 * both + own) / width)

    @property
    def mean(self) -> Float[Tensor, "depths 1 1"]:
        """The mean second moment of a direction."""
        return self.gram.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None]

    def raised(self, share: float) -> Float[Tensor, "depths width1 width1"]:
        """The Gram matrices with a share of the mean second moment added to every direction."""
        return self.gram + share * self.mean * torch.eye(
            self.gram.shape[1], dtype=torch.double, device=self.gram.device
        )

    def regression(self) -> Float[Tensor, "depths width1 width"]:
        """Translators by weighted ridge regression onto the last state."""
        return torch.cholesky_solve(self.cross, torch.linalg.cholesky(self.raised(RIDGE)))

    def unexplained(self, lens: Float[Tensor, "depths width1 width"]) -> Float[Tensor, " depths"]:
        """Root mean square error of a channel of the last state as translators predict it."""
        explained = (lens * (2 * self.cross - self.gram @ lens)).sum((1, 2)) / lens.shape[-1]
        return (self.spread - explained).clamp(min=0).sqrt()

    def coordinates(self) -> tuple[Tensor, Tensor]:
        """For each depth the map of (state, 1) to coordinates in which a second moment m is m / (m + FLOOR x mean), and back."""
        root = torch.linalg.cholesky(self.raised(FLOOR))
        eye = torch.eye(root.shape[1], dtype=torch.double, device=root.device).expand_as(root)
        return torch.linalg.solve_triangular(root, eye, upper=False).transpose(1, 2), root.transpose(1, 2)


def fit(
    subject: Subject, states: Float[Tensor, "depths rows width"], steps: int, seed: int, *, zero: bool = False
) -> Float[Tensor, "depths_but_one width1 width"]:
    """Translators for all depths but the last, whose states are the model's own; from zero instead of the regression on request.

    ToolInputError where a state is not finite.
    """
    _check_finite(subject, states)
    h, target = states[:-1], states[-1]
    with torch.no_grad():
        moments = Moments.of(h, target)
        regression = moments.regression()
        first = torch.zeros_like(regression) if zero else regression
        if steps == 0:
            return first.float()
        stretch, back = moments.coordinates()
        length = RATE * moments.unexplained(regression).float()
        lens = _descend(subject, states, stretch.float(), (back @ first).float(), length, steps, seed)
        # A translator that KL steps made worse than none at all is not one: keep the better by depth, on the fitting texts.
        return _best(subject, states, (torch.zeros_like(lens), first.float(), lens))


def _check_finite(subject: Subject, states: Tensor) -> None:
    finite = torch.stack([h.isfinite().all() for h in states]).tolist()
    if not all(finite):
        depth, dtype = finite.index(False), str(subject.dtype).removeprefix("torch.")
        more = ": load it in bfloat16 or float32, whose range is wider (--dtype)" if dtype == "float16" else ""
        where = f"at depth {depth}, {depth_component(subject, depth)}"
        raise ToolInputError(
            f"no lens can be fitted: {where}, the model's states overflow or are undefined in {dtype}{more}"
        )


def _descend(
    subject: Subject, states: Tensor, stretch: Tensor, lens: Tensor, length: Tensor, steps: int, seed: int
) -> Tensor:
    """Adam with Nesterov's momentum on `lens`, given in the coordinates of `stretch`; returned in the model's own."""
    h, target = states[:-1], states[-1]
    n, (fading, slow) = min(h.shape[1], ROWS), BETAS
    mean, square = torch.zeros_like(lens), torch.zeros_like(lens)
    for step, rows in enumerate(_drawn(h.shape[1], n, steps, seed)):
        here = rows.to(h.device)
        x = torch.baddbmm(stretch[:, -1:], h[:, here], stretch[:, :-1])
        slope = x.transpose(1, 2) @ _slope(subject, torch.baddbmm(h[:, here], x, lens), target[here]) / n
        mean.lerp_(slope, 1 - fading)
        square.lerp_(slope.square(), 1 - slow)
        ahead = mean * (fading / (1 - fading ** (step + 2))) + slope * ((1 - fading) / (1 - fading ** (step + 1)))
        ahead /= (square / (1 - slow ** (step + 1))).sqrt_().add_(1e-8)
        lens = lens - ahead * (length * (1 - step / steps))[:, None, None]
    return stretch @ lens


def _drawn(total: int, n: int, steps: int, seed: int) -> list[Tensor]:
    """Which rows each step sees: none a second time before all have been seen."""
    generator = torch.Generator().manual_seed(seed)
    passes = -(-steps * n // total)
    return list(torch.cat([torch.randperm(total, generator=generator) for _ in range(passes)]).split(n)[:steps])


def _slope(
    subject: Subject, guess: Float[Tensor, "depths rows width"], target: Float[Tensor, "rows width"]
) -> Float[Tensor, "depths rows width"]:
    """The gradient of each KL(model's distribution || that of a guess) with respect to the guess."""
    with torch.enable_grad():
        logits = subject.unembed(guess.requires_grad_().to(subject.dtype))
    off = logits.detach().float().softmax(-1)
    off -= subject.unembed(target.to(subject.dtype)).float().softmax(-1)
    return torch.autograd.grad(logits, guess, off.to(logits.dtype))[0]


def _best(subject: Subject, states: Tensor, candidates: tuple[Tensor, ...]) -> Tensor:
    """Of several translators of each depth that with the least KL on some of the states."""
    rows = states.shape[1]
    some = states[:, torch.linspace(0, rows - 1, min(rows, JUDGED), device=states.device).long()]
    chosen: list[Tensor] = []
    truth = subject.unembed(some[-1].to(subject.dtype)).float().softmax(-1)
    for depth, h in enumerate(some[:-1]):
        tried = [c[depth] for c in candidates]
        guesses = torch.stack([h + torch.addmm(t[-1], h, t[:-1]) for t in tried])
        out = subject.unembed(guesses.to(subject.dtype)).float().log_softmax(-1)
        chosen.append(tried[int((truth * out).sum((1, 2)).nan_to_num(-math.inf).argmax())])
    return torch.stack(chosen)
