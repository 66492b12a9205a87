"""What stands in for blocks that are left out: the best linear guess of the state that leaves them, from the one that enters.

The guess is an affine map, fitted by ridge regression in closed form on the positions of other examples; beside it the mean
state, and the same fit to states of other positions. Leaving blocks out with nothing in their place is the guess that they
change nothing. Source: Yom Din et al. 2023, Jump to Conclusions; Belrose et al. 2023.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tools.engine.executor import Variant
from tools.engine.programs import LayerProgram
from tools.engine.sites import Edit, Site
from tools.methods.scoring import microbatches
from tools.methods.tool import ToolInputError
from tools.ports import Batch
from tools.subjects import Subject
from tools.tasks import Example

RIDGE = 1e-3  # of the mean diagonal of the second moments
LINEAR, MEAN, SHUFFLED = "linear", "mean", "shuffled"
HOW = (LINEAR, MEAN, SHUFFLED)
Range = tuple[int, int]  # the first block that is left out, and the last
Guess = Float[Tensor, "width1 width"]


@dataclass(frozen=True)
class Guesses:
    """Maps in place of ranges of a stack's blocks, by range and how they were fitted; the last row is the constant."""

    stack: str
    maps: Mapping[tuple[Range, str], Guess]


def ranges(programs: Sequence[LayerProgram]) -> list[Range]:
    """The one range of blocks that each program leaves out. ToolInputError where one does something else."""
    found: list[Range] = []
    for p in programs:
        missing = [b for b in range(p.n_blocks) if b not in p.blocks]
        whole = not missing or missing != list(range(missing[0], missing[-1] + 1)) or not p.blocks
        if whole or list(p.blocks) != [b for b in range(p.n_blocks) if b not in missing]:
            raise ToolInputError(
                f"fill: {p.label} does not leave out one range of blocks; use operation skip with blocks that follow one "
                "another but are not all there are, or sweep skip_each"
            )
        found.append((missing[0], missing[-1]))
    return found


def fit(
    subject: Subject, examples: Sequence[Example], stack: str, wanted: Sequence[Range], seed: int, max_tokens: int
) -> Guesses:
    """Maps for the ranges of a stack from the states of every position of the examples."""
    blocks = len(subject.spec(stack).blocks)
    sites = [*(Site(stack, b, "resid_pre") for b in range(blocks)), Site(stack, blocks - 1, "resid_post")]
    parts: dict[int, Tensor] = {}
    with subject.evaluating():
        for batch in microbatches(subject, examples, max_tokens):
            captured = subject.run(batch.inputs, capture=sites).captured
            h = torch.stack([captured[s] for s in sites])
            parts |= {
                i: h[:, row, :n] for row, (i, n) in enumerate(zip(batch.indices, batch.inputs.of(stack), strict=True))
            }
    h = torch.cat([parts[i] for i in range(len(examples))], 1).double()  # (depths, positions, width)
    other = torch.randperm(h.shape[1], generator=torch.Generator().manual_seed(seed)).to(h.device)
    maps: dict[tuple[Range, str], Tensor] = {}
    for first, last in dict.fromkeys(wanted):
        before, after = h[first], h[last + 1]
        maps[(first, last), LINEAR] = _ridge(before, after)
        maps[(first, last), SHUFFLED] = _ridge(before, after[other])
        constant = torch.zeros(h.shape[-1] + 1, h.shape[-1], dtype=h.dtype, device=h.device)
        constant[-1] = after.mean(0)
        maps[(first, last), MEAN] = constant
    return Guesses(stack, {key: m.to(subject.dtype) for key, m in maps.items()})


def _ridge(x: Float[Tensor, "n width"], y: Float[Tensor, "n width"]) -> Float[Tensor, "width1 width"]:
    """The affine map from x to y with the least squared error; its weights are held back towards changing nothing."""
    mx, my = x.mean(0), y.mean(0)
    a, c = (x - mx).T @ (x - mx), (x - mx).T @ (y - my - x + mx)
    a.diagonal().add_(a.diagonal().mean() * RIDGE + 1e-12)
    weight = torch.cholesky_solve(c, torch.linalg.cholesky(a))
    weight.diagonal().add_(1.0)
    return torch.cat([weight, (my - mx @ weight)[None]])


def filled(
    subject: Subject,
    batch: Batch,
    guesses: Guesses,
    programs: Sequence[LayerProgram],
    wanted: Sequence[Range],
    how: str,
) -> list[Variant]:
    """The programs with guesses in place of the blocks that they leave out, for one batch."""
    stack = guesses.stack
    entering = [Site(stack, first, "resid_pre") for first in dict.fromkeys(a for a, _ in wanted)]
    captured = subject.run(batch.inputs, capture=entering).captured
    out: list[Variant] = []
    for p, (first, last) in zip(programs, wanted, strict=True):
        h, m = captured[Site(stack, first, "resid_pre")], guesses.maps[(first, last), how]
        there = Site(stack, last + 1, "resid_pre") if last + 1 < p.n_blocks else Site(stack, first - 1, "resid_post")
        out.append(subject.variant({stack: p.blocks}, [Edit(there, "set", h @ m[:-1] + m[-1])]))
    return out
