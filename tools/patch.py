"""Activation patching between each example and its corrupted twin, block by block, by head or position by position:
where does the information that separates the two lie?

Direction `noise` runs the clean prompt and puts in the twin's activation: how far does the answer go over to the
twin's (the activation is enough to change the answer). Direction `denoise` runs the twin and puts in the clean
activation: how far does the clean answer come back. Recovered is 0 for no effect and 1 for a complete change, in
logit margin between the two answers; flipped is the share of examples whose answer, between the two, changes over;
probability, nll and accuracy are those of the prompt's own answer, kl is from the unpatched run. The control adds a
random vector of the same norm at the same site; at `pattern` it takes the weights of another example. Source: Meng et
al. 2022; Zhang, Nanda 2023.
"""

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from experiments_db.records import Array, Control, Measurement, Outcome
from tools.engine.executor import Variant
from tools.engine.sites import HEADED, Kind, Site
from tools.methods.arguments import EXAMPLES, SPLIT, SplitName, check_blocks
from tools.methods.interventions import Spot, activations, channels, random_edits, select, set_edits
from tools.methods.measuring import measured
from tools.methods.scoring import Microbatch, Scores, score
from tools.methods.tables import as_array, grid, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.methods.twins import donor_inputs, donor_margin, load_pairs, place_positions, whole_gap
from tools.statistics import intervals as statistics

KIND: Literal["experiment"] = "experiment"
LOCALISES = True
EXAMPLE = {"task": "addition", "site": "resid_pre", "positions": "each"}


KINDS: dict[str, Kind] = {
    "resid_pre": "resid_pre", "resid_mid": "resid_mid", "resid_post": "resid_post", "attn.out": "attn.out",
    "mlp.out": "mlp.out", "head": "attn.z", "head.q": "attn.q", "head.k": "attn.k", "head.v": "attn.v",
    "head.pattern": "attn.pattern",
}  # fmt: skip


class Args(ToolArgs):
    """Arguments of patch."""

    task: str = Field(description="a task spec whose examples have twins; see list_tasks")
    site: Literal[
        "resid_pre",
        "resid_mid",
        "resid_post",
        "attn.out",
        "mlp.out",
        "head",
        "head.q",
        "head.k",
        "head.v",
        "head.pattern",
    ] = Field(
        description="what is patched: the residual stream before, in the middle of or after a block, what attention or "
        "the MLP adds, or of single heads the output, queries, keys, values or attention pattern"
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
    if KINDS[args.site] not in ctx.subject.spec().kinds:
        raise ToolInputError(f"site: this model has no {args.site}; it has {', '.join(ctx.subject.spec().kinds)}")
    task, receivers = load_pairs(ctx, args.task, args.split, args.examples, args.direction)
    plan = _Plan(ctx, args, layers, longest=max(len(ctx.subject.tokens(e.prompt)) for e in receivers))
    scores, _ = score(ctx.subject, receivers, plan.variants, max_tokens=ctx.max_tokens, kl=True)
    base, donor = scores[0], donor_margin(ctx, receivers)
    targets = plan.targets
    own, controls = scores[1 : 1 + len(targets)], scores[1 + len(targets) :]
    where: dict[str, Any] = {"task": task.name, "split": args.split, "variant": args.direction}
    measurements: list[Measurement] = [
        measured("margin.base", "logits", statistics.mean(base.foil_margin, ctx.seed), **where),
        measured("margin.donor", "logits", statistics.mean(donor, ctx.seed), **where),
    ]
    gap = whole_gap(base.foil_margin, donor, task.name)
    for (label, layer, head, position), mine, control in zip(targets, own, controls, strict=True):
        place = {**where, "site": label, "layer": layer, "head": head, "position": position}
        measurements += _effects(mine, control, base, gap, place, ctx.seed)
    return Outcome(text=_text(args, task.name, measurements, len(receivers), gap), measurements=tuple(measurements),
                   arrays=_arrays(measurements))  # fmt: skip


def _effects(
    mine: Scores, control: Scores, base: Scores, gap: float, place: dict[str, Any], seed: int
) -> list[Measurement]:
    """Recovered margin and flipped answers of one patch, each with its control."""
    pattern = str(place["site"]).endswith("pattern")
    kind = "another example's weights" if pattern else "random vector of the same norm at the same site"

    def recovered(s: Scores) -> statistics.Estimate:
        return statistics.mean((s.foil_margin - base.foil_margin) / gap, seed)

    def flipped(s: Scores) -> statistics.Estimate:
        return statistics.proportion((s.foil_margin > 0) != (base.foil_margin > 0))

    out: list[Measurement] = []
    for name, unit, f in (
        ("recovered", "of the margin between clean and twin", recovered),
        ("flipped", "share of examples", flipped),
        ("probability", "of the prompt's own answer", lambda s: statistics.mean(np.exp(-s.nll), seed)),
        ("nll", "nats per answer", lambda s: statistics.mean(s.nll, seed)),
        ("accuracy", "share of examples", lambda s: statistics.proportion(s.correct)),
        ("kl", "nats from the unpatched run", lambda s: statistics.mean(s.kl, seed)),
    ):
        c = f(control)
        beside = Control(kind=kind, value=c.value, low=c.low, high=c.high, n=c.n)
        out.append(measured(name, unit, f(mine), control=beside, **place))
    return out


class _Plan:
    """Makes the variants of each microbatch: base, each patch, each control."""

    def __init__(self, ctx: Context, args: Args, layers: list[int], longest: int) -> None:
        self.ctx, self.args, depth = ctx, args, min(args.depth, longest)
        spec = ctx.subject.spec()
        kind = KINDS[args.site]
        heads: list[int | None] = list(range(spec.n_heads)) if kind in HEADED else [None]
        places: list[str] = [str(-1 - i) for i in range(depth)] if args.positions == "each" else [args.positions]
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
        new_full = dict(subject.run(donor_inputs(subject, batch), capture=tuple(self.sites.values())).captured)
        out, controls = [Variant(blocks)], []
        for _, layer, head, place in self.targets:
            site = self.sites[layer]
            spot = Spot((site,), place_positions(batch, place), head)
            old, new = ({site: self._part(full[site], site, spot)} for full in (old_full, new_full))
            out.append(Variant(blocks, set_edits(spot, new)))
            if site.kind == "attn.pattern":  # a random vector is no distribution over tokens
                order = torch.randperm(len(batch.examples), generator=self.generator)
                controls.append(Variant(blocks, set_edits(spot, {site: old[site][order.to(old[site].device)]})))
            else:
                controls.append(Variant(blocks, random_edits(spot, old, new, self.generator)))
        return out + controls

    def _part(self, h: Tensor, site: Site, spot: Spot) -> Tensor:
        return channels(
            select(h, spot.positions), spot.head, self.ctx.subject.spec().n_heads if site.kind in HEADED else 1
        )


def _text(args: Args, task: str, measurements: list[Measurement], n: int, gap: float) -> str:
    column = "position" if args.positions == "each" else "head" if args.site.startswith("head") else None
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
