"""Activation patching between each example and its corrupted twin, block by block and optionally position by position:
where does the information that separates the two lie?

Direction `noise` runs the clean prompt and puts in the twin's activation: how far does the answer go over to the twin's
(the activation is enough to change the answer). Direction `denoise` runs the twin and puts in the clean activation: how
far does the clean answer come back. Recovered is 0 for no effect and 1 for a complete change, in logit margin between
the two answers; flipped is the share of examples whose answer, between the two, changes over. The control adds a
random vector of the same norm at the same site. Source: Meng et al. 2022; Zhang and Nanda 2023.
"""

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from experiments_db.records import Array, Control, Measurement, Outcome
from tools._arguments import EXAMPLES, SPLIT, SplitName, check_blocks
from tools._base import Context, ToolArgs, ToolInputError
from tools._interventions import Spot, activations, channels, random_edits, select, set_edits
from tools._measure import load_examples, measured
from tools._scoring import Microbatch, Scores, score
from tools._tables import as_array, grid, text_table
from tools.engine import statistics
from tools.engine.executor import Variant
from tools.engine.sites import Kind, Site
from tools.subjects import Subject
from tools.tasks import Example

KIND: Literal["experiment"] = "experiment"
EXAMPLE = {"task": "addition", "site": "resid_pre", "positions": "each"}


class Args(ToolArgs):
    """Arguments of patch."""

    task: str = Field(description="a task spec whose examples have twins; see list_tasks")
    site: Literal["resid_pre", "resid_post", "attn.out", "mlp.out", "head"] = Field(
        description="what is patched: the residual stream before or after a block, what attention or the MLP adds, "
        "or a single head's output"
    )
    direction: Literal["noise", "denoise"] = Field(default="noise", description="which of the two prompts is run")
    layers: list[int] = Field(default=[], description="which blocks, counted from 0; empty means every block")
    positions: Literal["last", "each", "all"] = Field(
        default="last",
        description="last: the prompt's last token; each: one position at a time, counted back from the last as -1, "
        "-2 ...; all: every position at once",
    )
    depth: int = Field(default=8, ge=1, le=64, description="for positions each: how many, counted back from the last")
    split: SplitName = SPLIT
    examples: int = EXAMPLES


def run(args: Args, ctx: Context) -> Outcome:
    """Patch every layer (and position), and measure the move from one answer to the other."""
    layers = check_blocks(ctx, args.layers)
    task, all_examples = load_examples(ctx, args.task, args.split, args.examples)
    clean = [e for e in all_examples if e.twin is not None and e.foil is not None and _aligned(ctx.subject, e)]
    if len(clean) < 8:
        raise ToolInputError(
            f"patch needs examples with a twin of the same number of tokens and a foil; {task.name} has {len(clean)} "
            f"among {len(all_examples)} on this subject"
        )
    receivers = clean if args.direction == "noise" else [_twin_of(e) for e in clean]
    plan = _Plan(ctx, args, layers)
    scores, _ = score(ctx.subject, receivers, plan.variants, max_tokens=ctx.max_tokens)
    base, donor = scores[0], _donor_margin(ctx, receivers)
    targets = plan.targets
    own, controls = scores[1 : 1 + len(targets)], scores[1 + len(targets) :]
    where: dict[str, Any] = {"task": task.name, "split": args.split, "variant": args.direction}
    measurements: list[Measurement] = [
        measured("margin.base", "logits", statistics.mean(base.foil_margin, ctx.seed), **where),
        measured("margin.donor", "logits", statistics.mean(donor, ctx.seed), **where),
    ]
    gap = float(np.mean(donor - base.foil_margin))
    if abs(gap) < 1e-3:
        raise ToolInputError(f"on {task.name} the twins do not move the answer of this model: nothing to patch")
    for (label, layer, head, position), mine, control in zip(targets, own, controls, strict=True):
        place = {**where, "site": label, "layer": layer, "head": head, "position": position}
        measurements += _effects(mine, control, base, gap, place, ctx.seed)
    return Outcome(text=_text(args, task.name, measurements, len(clean), gap), measurements=tuple(measurements),
                   arrays=_arrays(measurements))  # fmt: skip


def _effects(
    mine: Scores, control: Scores, base: Scores, gap: float, place: dict[str, Any], seed: int
) -> list[Measurement]:
    """Recovered margin and flipped answers of one patch, each with its control."""
    kind = "random vector of the same norm at the same site"

    def recovered(s: Scores) -> statistics.Estimate:
        return statistics.mean((s.foil_margin - base.foil_margin) / gap, seed)

    def flipped(s: Scores) -> statistics.Estimate:
        return statistics.proportion((s.foil_margin > 0) != (base.foil_margin > 0))

    out: list[Measurement] = []
    for name, unit, f in (
        ("recovered", "of the margin between clean and twin", recovered),
        ("flipped", "share of examples", flipped),
    ):
        c = f(control)
        beside = Control(kind=kind, value=c.value, low=c.low, high=c.high, n=c.n)
        out.append(measured(name, unit, f(mine), control=beside, **place))
    return out


class _Plan:
    """Makes the variants of each microbatch: base, each patch, each control."""

    def __init__(self, ctx: Context, args: Args, layers: list[int]) -> None:
        self.ctx, self.args = ctx, args
        spec = ctx.subject.spec()
        kind: Kind = "attn.z" if args.site == "head" else args.site
        heads: list[int | None] = list(range(spec.n_heads)) if args.site == "head" else [None]
        places: list[str] = [str(-1 - i) for i in range(args.depth)] if args.positions == "each" else [args.positions]
        self.sites = {layer: Site(spec.name, layer, kind) for layer in layers}
        self.targets = [
            (f"{layer}.{args.site}" + ("" if head is None else f".{head}"), layer, head, place)
            for layer in layers
            for head in heads
            for place in places
        ]
        self.generator = torch.Generator().manual_seed(ctx.seed)

    def variants(self, batch: Microbatch) -> list[Variant]:
        """Base, patched and control variants with this microbatch's activations."""
        subject = self.ctx.subject
        blocks = tuple(range(len(subject.spec().blocks)))
        old_full = activations(subject, batch, list(self.sites.values()))
        donors = subject.inputs(
            [[*_twin_prompt(subject, e), *p.answer[:-1]] for e, p in zip(batch.examples, batch.encoded, strict=True)]
        )
        new_full = dict(subject.run(donors, capture=tuple(self.sites.values())).captured)
        out, controls = [Variant(blocks)], []
        for _, layer, head, place in self.targets:
            site = self.sites[layer]
            spot = Spot((site,), _positions(batch, place), head)
            old, new = ({site: self._part(full[site], site, spot)} for full in (old_full, new_full))
            out.append(Variant(blocks, set_edits(spot, new)))
            controls.append(Variant(blocks, random_edits(spot, old, new, self.generator)))
        return out + controls

    def _part(self, h: Tensor, site: Site, spot: Spot) -> Tensor:
        return channels(
            select(h, spot.positions), spot.head, self.ctx.subject.spec().n_heads if site.kind == "attn.z" else 1
        )


def _positions(batch: Microbatch, place: str) -> Tensor | None:
    """Token indices of a place counted back from the prompt's last token; the first token where a prompt is shorter."""
    if place == "all":
        return None
    back = 0 if place == "last" else -int(place) - 1
    return (batch.last - back).clamp(min=0)


def _twin_prompt(subject: Subject, example: Example) -> list[int]:
    assert example.twin is not None
    return subject.tokens(example.twin)


def _twin_of(example: Example) -> Example:
    """The twin as the example: its answer is the foil."""
    assert example.twin is not None
    assert example.foil is not None
    return Example(example.twin, example.foil, example.answer, example.prompt, (), example.metadata)


def _aligned(subject: Subject, example: Example) -> bool:
    return len(_twin_prompt(subject, example)) == len(subject.tokens(example.prompt))


def _donor_margin(ctx: Context, receivers: list[Example]) -> np.ndarray:
    """Margin of the receiver's answer over the donor's when the donor prompt itself is run."""
    blocks = tuple(range(len(ctx.subject.spec().blocks)))
    donors = [_twin_of(e) for e in receivers]
    scores, _ = score(ctx.subject, donors, lambda _: [Variant(blocks)], max_tokens=ctx.max_tokens)
    return -scores[0].foil_margin


def _text(args: Args, task: str, measurements: list[Measurement], n: int, gap: float) -> str:
    column = "position" if args.positions == "each" else "head" if args.site == "head" else None
    head = f"{args.direction} patching of {args.site} on {task} ({args.split}, n={n}), recovered margin"
    if column:
        rows, columns, values = grid(measurements, "recovered", "layer", column)
        return f"{head}, layers x {column}s\n" + text_table(rows, columns, values)
    picked = [m for m in measurements if m.name == "recovered" and m.site is not None]
    flips = {m.site: m.value for m in measurements if m.name == "flipped"}
    values = np.array([[m.value, m.control.value if m.control else np.nan, flips[m.site]] for m in picked])
    return f"{head} (whole gap {gap:.2f} logits)\n" + text_table(
        [m.site for m in picked], ["recovered", "control", "flipped"], values
    )


def _arrays(measurements: list[Measurement]) -> tuple[Array, ...]:
    out: list[Array] = []
    for name, unit in (("recovered", "share of margin"), ("flipped", "share of examples")):
        column = "head" if any(m.head is not None for m in measurements) else "position"
        rows, columns, values = grid(measurements, name, "layer", column)
        out.append(as_array(name, values, [("layer", rows), (column, columns)], unit))
    return tuple(out)
