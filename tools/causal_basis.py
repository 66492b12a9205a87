"""Which directions of the residual stream does the tuned lens read from, and does the model use the same ones?

Causal basis extraction finds, one after the other and orthogonal to each other, the directions whose removal
(replacement by their mean) changes the lens' output most; then each is removed in the model itself. Energy is the KL
that a removal causes, of the lens and of the model. Alignment is the cosine, in Aitchison geometry, between how the
lens' and the model's log probabilities change. The control is random orthonormal directions. Source: Belrose et al.
2023, sections 4.1 and 4.2.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from experiments_db.records import Measurement, Outcome
from tools.engine.sites import Site
from tools.methods.layout import one_component
from tools.methods.measuring import averages, control_of, measured, over_draws
from tools.methods.tables import as_array, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.methods.translators import (
    States,
    corpus,
    fitted,
    kl,
    last_states_with,
    logprobs,
    split_rows,
    states,
    translate,
)
from tools.subjects import Subject

KIND: Literal["experiment"] = "experiment"
NEEDS = "next_token"
EXAMPLE = {
    "tasks": ["addition", "agreement"],
    "components": ["decoder.3.resid_pre"],
    "directions": 4,
    "examples": 64,
    "steps": 40,
}
ROUNDS = 60


class Args(ToolArgs):
    """Arguments of causal_basis."""

    tasks: list[str] = Field(
        min_length=1, max_length=16, description="task specs whose prompts and answers are the corpus"
    )
    components: list[str] = Field(
        min_length=1,
        max_length=1,
        description="where the residual stream is read and changed: decoder.3.resid_pre, at the last token of each text",
    )
    directions: int = Field(default=8, ge=2, le=32, description="how many directions to extract")
    steps: int = Field(default=100, ge=0, le=2000, description="KL steps of the tuned lens after its closed-form start")
    examples: int = Field(default=128, ge=16, le=4096, description="how many examples of each task the corpus has")


def run(args: Args, ctx: Context) -> Outcome:
    """Extract the basis on some texts, and compare lens and model on others."""
    from scipy.stats import spearmanr

    ctx.subject.require("next_token")
    place = one_component(ctx.subject, args.components)
    if place.part != "resid_pre" or place.units or place.anchor or place.stack != ctx.subject.spec().name:
        raise ToolInputError(
            f"components: {place} is no whole residual stream before a block: write decoder.3.resid_pre"
        )
    layer = place.block or 0
    width = ctx.subject.spec().width
    if args.directions > width:
        raise ToolInputError(f"directions: the residual stream has {width} dimensions")
    texts = corpus(ctx, args.tasks, "explore", args.examples)
    train, held_out = split_rows(texts, ctx.seed)
    lens = fitted(ctx, train.rows, args.steps)[layer]
    basis = extract(ctx, states(ctx.subject, train.rows, ctx.max_tokens, last=True).h[layer], lens, args.directions)
    random = torch.linalg.qr(torch.randn(width, args.directions, generator=torch.Generator().manual_seed(ctx.seed)))[
        0
    ].T
    with ctx.subject.evaluating():
        s = states(ctx.subject, held_out.rows, ctx.max_tokens, last=True)
        own, other = (
            _compare(ctx.subject, held_out.rows, s, lens, b.to(s.h.device), layer, ctx.max_tokens)
            for b in (basis, random)
        )
    where: dict[str, Any] = {"task": texts.name, "split": "explore", "component": str(place)}
    groups = held_out.groups
    measurements: list[Measurement] = []
    units = {"lens_energy": "nats", "model_energy": "nats", "alignment": "cosine"}
    for name, unit in units.items():
        kind, noise = "random orthonormal directions", over_draws(other[name], groups)
        for i, (row, mine) in enumerate(zip(own[name], averages(own[name], groups), strict=True)):
            control = control_of(kind, noise, over_draws(row - other[name], groups))
            measurements.append(measured(name, unit, mine, control=control, variant=f"direction {i}", **where))
    rank = spearmanr(own["lens_energy"].mean(1), own["model_energy"].mean(1))
    correlation = float(rank.statistic) if np.isfinite(rank.statistic) else 0.0  # type: ignore[attr-defined]
    gram = (basis @ basis.T - torch.eye(len(basis))).abs().max()
    measurements += [
        Measurement(
            name="rank_correlation",
            unit="Spearman, lens and model energy over directions",
            value=correlation,
            n=args.directions,
            **where,
        ),
        Measurement(
            name="orthonormality_error",
            unit="largest entry of B B^T - I",
            value=float(gram),
            n=args.directions,
            **where,
        ),
    ]
    table = np.stack([own[n].mean(1) for n in units], 1)
    control_row = np.array([[other[n].mean() for n in units]])
    return Outcome(
        text=f"causal basis before block {layer} on {texts.name} (explore, n={len(held_out.rows)} other texts); rank "
        f"correlation of energies {correlation:.2f}\n"
        + text_table([*range(args.directions), "random"], list(units), np.concatenate([table, control_row]), digits=4),
        measurements=tuple(measurements),
        arrays=(
            as_array("energies", table, [("direction", range(args.directions)), ("quantity", list(units))]),
            as_array(
                "basis", basis.double().numpy(), [("direction", range(args.directions)), ("channel", range(width))]
            ),
        ),
    )


def extract(ctx: Context, h: Tensor, lens: Tensor, count: int) -> Tensor:
    """Orthonormal directions (count, width), each the one whose removal changes the lens' output most."""
    subject = ctx.subject
    h = h.detach().clone()
    lens = lens.detach().clone()
    mean = h.mean(0)
    generator = torch.Generator().manual_seed(ctx.seed)
    found: list[Tensor] = []
    with torch.enable_grad():
        base = _lens(subject, h, lens).detach()
        for _ in range(count):
            vector = torch.randn(h.shape[-1], generator=generator).to(h.device).requires_grad_()
            optimizer = torch.optim.Adam([vector], lr=0.05)
            for _ in range(ROUNDS):
                unit = _unit(vector, found)
                energy = kl(base, _lens(subject, _without(h, unit, mean), lens)).mean()
                optimizer.zero_grad()
                (-energy).backward()
                optimizer.step()
            found.append(_unit(vector.detach(), found))
    return torch.stack(found).cpu()


def _unit(vector: Tensor, found: list[Tensor]) -> Tensor:
    """A unit vector orthogonal to those found."""
    for _ in range(2):  # twice is enough for orthogonality to rounding (Kahan)
        for other in found:
            vector = vector - (vector @ other) * other
    return vector / vector.norm()


def _without(h: Tensor, unit: Tensor, mean: Tensor) -> Tensor:
    """The states with their component along the direction at its mean."""
    return h - ((h - mean) @ unit)[:, None] * unit


def _lens(subject: Subject, h: Tensor, lens: Tensor) -> Tensor:
    return logprobs(subject, translate(h[None], lens[None])[0])


def _compare(
    subject: Subject,
    rows: Sequence[tuple[int, ...]],
    s: States,
    lens: Tensor,
    basis: Tensor,
    layer: int,
    max_tokens: int,
) -> dict[str, np.ndarray]:
    """Per direction and text: energies of lens and model, and alignment of their responses, at the last token."""
    h = s.h[layer]
    mean = h.mean(0)
    base_lens, base_model = _lens(subject, h, lens), logprobs(subject, s.h[-1])
    site = Site(subject.spec().name, layer, "resid_pre")
    out: dict[str, list[np.ndarray]] = {"lens_energy": [], "model_energy": [], "alignment": []}
    for unit in basis:
        changed = _without(h, unit, mean)
        q = _lens(subject, changed, lens)
        p = logprobs(subject, last_states_with(subject, rows, site, changed, max_tokens))
        out["lens_energy"].append(kl(base_lens, q).double().cpu().numpy())
        out["model_energy"].append(kl(base_model, p).double().cpu().numpy())
        out["alignment"].append(
            aitchison_cosine(q - base_lens, p - base_model, base_model.exp()).double().cpu().numpy()
        )
    return {k: np.stack(v) for k, v in out.items()}


def aitchison_cosine(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Cosine of log-ratio changes, centred and weighted by probability, over the last axis; 0 where one is zero."""
    a = a - (weights * a).sum(-1, keepdim=True)
    b = b - (weights * b).sum(-1, keepdim=True)
    product, norms = (weights * a * b).sum(-1), (weights * a * a).sum(-1) * (weights * b * b).sum(-1)
    return torch.where(norms > 1e-20, product / norms.clamp(min=1e-20).sqrt(), torch.zeros_like(product))
