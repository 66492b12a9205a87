"""Which components move the answer, estimated for all of them at once: attribution patching (gradient times the
difference between twin and clean), or direct logit attribution (what each component itself writes towards the
answer).

`patching` estimates what exact patching would give, with two passes in place of one a site; a few sites, the highest
and a random sample, are then patched exactly, and the result says how well the estimate agrees: believe it only as
far as that. `direct` takes the answer's logit apart into what each attention and MLP writes into the last position,
under the final norm's own scale; its parts add up to the margin exactly, but it does not see what a component does
through later ones. Source: Nanda 2023, Attribution patching; Kramar et al. 2024 (AtP*); Hanna et al. 2024 (steps >
1); Elhage et al. 2021.
"""

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from experiments_db.records import Array, Control, Measurement, Outcome
from tools.engine.executor import Variant
from tools.engine.sites import HEADED, Edit, Kind, Site
from tools.methods.arguments import EXAMPLES, SPLIT, SplitName, check_blocks
from tools.methods.interventions import Spot, activations, channels, set_edits
from tools.methods.measuring import load_examples, measured
from tools.methods.scoring import Encoded, Microbatch, microbatches, score
from tools.methods.tables import as_array, grid, text_table
from tools.methods.tool import Context, ToolArgs
from tools.methods.twins import donor_inputs, donor_margin, load_pairs, whole_gap
from tools.statistics import intervals as statistics
from tools.subjects import Subject

KIND: Literal["experiment"] = "experiment"
LOCALISES = True
EXAMPLE = {"task": "addition", "method": "patching", "component": "sublayer"}
Target = tuple[str, Site, int | None]


class Args(ToolArgs):
    """Arguments of attribute."""

    task: str = Field(description="a task spec whose examples have twins; see list_tasks")
    method: Literal["patching", "direct"] = Field(description="attribution patching, or direct logit attribution")
    component: Literal["sublayer", "head", "resid_pre"] = Field(
        default="sublayer", description="each attention and MLP; each head; or the residual stream before each block"
    )
    layers: list[int] = Field(default=[], description="which blocks, counted from 0; empty means every block")
    position: Literal["last", "all"] = Field(default="all", description="for patching: where activations are replaced")
    steps: int = Field(
        default=1,
        ge=1,
        le=16,
        description="for patching: points on the way from twin to clean at which gradients are averaged",
    )
    check: int = Field(
        default=6, ge=0, le=64, description="for patching: how many of the top, and of random others, to patch exactly"
    )
    split: SplitName = SPLIT
    examples: int = EXAMPLES


def run(args: Args, ctx: Context) -> Outcome:
    """Attribute the margin between the answer and its foil to components."""
    layers = check_blocks(ctx, args.layers)
    return _direct(args, ctx, layers) if args.method == "direct" else _patching(args, ctx, layers)


def _targets(args: Args, subject: Subject, layers: list[int]) -> list[Target]:
    spec = subject.spec()
    if args.component == "head":
        return [(f"{b}.head.{h}", Site(spec.name, b, "attn.z"), h) for b in layers for h in range(spec.n_heads)]
    if args.component == "resid_pre":
        return [(f"{b}.resid_pre", Site(spec.name, b, "resid_pre"), None) for b in layers]
    kinds: tuple[tuple[str, Kind], ...] = (("attn", "attn.out"), ("mlp", "mlp.out"))
    return [(f"{b}.{name}", Site(spec.name, b, kind), None) for b in layers for name, kind in kinds]


# -- attribution patching ---------------------------------------------------------------------------------------------


def _patching(args: Args, ctx: Context, layers: list[int]) -> Outcome:
    subject = ctx.subject
    task, receivers = load_pairs(ctx, args.task, args.split, args.examples)
    targets = _targets(args, subject, layers)
    base = np.full(len(receivers), np.nan)
    effects = np.zeros((len(targets), len(receivers)))
    for batch in microbatches(subject, receivers, ctx.max_tokens):
        found, margins = estimate(subject, batch, targets, args.position, args.steps)
        effects[:, list(batch.indices)], base[list(batch.indices)] = found, margins
    gap = whole_gap(base, donor_margin(ctx, receivers), task.name)
    where: dict[str, Any] = {"task": task.name, "split": args.split, "position": args.position}
    zero = Control(kind="no effect: the twin's activation is the clean one", value=0.0, n=len(receivers))
    measurements = [
        measured("attribution", "of the margin between clean and twin", statistics.mean(row / gap, ctx.seed), control=zero,
                 site=label, layer=site.block, head=head, **where)
        for (label, site, head), row in zip(targets, effects, strict=True)
    ]  # fmt: skip
    lines = [f"attribution patching on {task.name} ({args.split}, n={len(receivers)}), share of the margin"]
    checked = _chosen(effects.mean(1), args.check, ctx.seed)
    if checked:
        exact = _exact(ctx, receivers, [targets[i] for i in checked], args.position, base)
        for i, values in zip(checked, exact, strict=True):
            label, site, head = targets[i]
            measurements.append(
                measured("exact", "of the margin between clean and twin", statistics.mean(values / gap, ctx.seed), control=zero,
                         site=label, layer=site.block, head=head, **where)
            )  # fmt: skip
        estimated, true = effects[checked].mean(1) / gap, exact.mean(1) / gap
        agreement = float(np.corrcoef(estimated, true)[0, 1]) if min(estimated.std(), true.std()) > 1e-9 else 0.0
        worst = float(np.abs(estimated - true).max())
        n = len(checked)
        measurements += [
            Measurement(
                name="agreement", unit="correlation with exact patching, over sites", value=agreement, n=n, **where
            ),
            Measurement(name="worst_error", unit="of the margin between clean and twin", value=worst, n=n, **where),
        ]
        table = np.stack([estimated, true], 1)
        lines += [
            f"checked by exact patching at {n} sites: correlation {agreement:.2f}, worst error {worst:.2f}",
            text_table([targets[i][0] for i in checked], ["estimate", "exact"], table),
        ]
    return _outcome(lines, measurements, "attribution", args)


def estimate(
    subject: Subject, batch: Microbatch, targets: list[Target], position: str, steps: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """(targets, batch) first-order effects on the margin of putting the twin's activation in; and the clean margins."""
    sites = list(dict.fromkeys(s for _, s, _ in targets))
    entry = Site(subject.spec().name, 0, "resid_pre")
    with subject.evaluating():
        clean = activations(subject, batch, [*sites, entry])
        donor = dict(subject.run(donor_inputs(subject, batch), capture=[*sites, entry]).captured)
    gradients = {s: torch.zeros_like(clean[s]) for s in sites}
    margins = torch.zeros(len(batch.examples))
    with torch.enable_grad():
        for step in range(steps):
            # One step: the gradient at the clean prompt. More: averaged over midpoints between twin and clean.
            share = 1.0 if steps == 1 else (step + 0.5) / steps
            start = (share * clean[entry] + (1 - share) * donor[entry]).clone().requires_grad_()
            run = subject.run(batch.inputs, edits=[Edit(entry, "set", start)], capture=sites)
            found = margin(run.logits, batch)
            captured = [run.captured[s] for s in sites]
            for site, g in zip(sites, torch.autograd.grad(found.sum(), captured), strict=True):
                gradients[site] += g / steps
            if steps == 1:
                margins = found.detach()
    if steps > 1:
        with subject.evaluating():
            margins = margin(subject.run(batch.inputs).logits, batch)
    n_heads = subject.spec().n_heads
    rows = torch.arange(len(batch.examples), device=batch.last.device)[:, None]
    effects: list[Tensor] = []
    for _, site, head in targets:
        product = ((donor[site] - clean[site]) * gradients[site]).float()
        product = channels(product, head, n_heads if site.kind in HEADED else 1)
        effects.append((product[rows, batch.last] if position == "last" else product).sum((-1, -2)))
    return torch.stack(effects).cpu().double().numpy(), margins.cpu().double().numpy()


def margin(logits: Tensor, batch: Microbatch) -> Tensor:
    """Logit of the answer minus logit of the foil where they first differ, (batch)."""
    places = [_place(e) for e in batch.encoded]
    rows = torch.arange(len(places), device=logits.device)
    at, answer, foil = (torch.tensor(list(c), device=logits.device) for c in zip(*places, strict=True))
    picked = logits[rows, at].float()
    return picked[rows, answer] - picked[rows, foil]


def _place(e: Encoded) -> tuple[int, int, int]:
    """(position that predicts it, answer token, foil token) of the first difference."""
    offset, foil = e.foil if e.foil is not None else (0, e.answer[0])
    return len(e.prompt) - 1 + offset, e.answer[offset], foil


def _chosen(means: np.ndarray, check: int, seed: int) -> list[int]:
    """The highest in size and as many random others, in order."""
    order = np.argsort(-np.abs(means), kind="stable")
    rest = np.random.default_rng(seed).permutation(order[check:])
    return sorted([*order[:check].tolist(), *rest[:check].tolist()])


def _exact(ctx: Context, receivers: Any, targets: list[Target], position: str, base: np.ndarray) -> np.ndarray:
    """(targets, examples) changes of the margin under exact patching."""
    subject = ctx.subject
    blocks = tuple(range(len(subject.spec().blocks)))
    sites = list(dict.fromkeys(s for _, s, _ in targets))

    def variants(batch: Microbatch) -> list[Variant]:
        donor = dict(subject.run(donor_inputs(subject, batch), capture=sites).captured)
        positions = batch.last if position == "last" else None
        out: list[Variant] = []
        for _, site, head in targets:
            h = donor[site]
            picked = h if positions is None else h[torch.arange(len(h), device=h.device)[:, None], positions]
            value = channels(picked, head, subject.spec().n_heads if site.kind in HEADED else 1)
            out.append(Variant(blocks, set_edits(Spot((site,), positions, head), {site: value})))
        return out

    scores, _ = score(subject, receivers, variants, max_tokens=ctx.max_tokens)
    return np.stack([s.foil_margin - base for s in scores])


# -- direct logit attribution -----------------------------------------------------------------------------------------


def _direct(args: Args, ctx: Context, layers: list[int]) -> Outcome:
    subject = ctx.subject
    spec = subject.spec()
    task, found = load_examples(ctx, args.task, args.split, args.examples)
    examples = [e for e in found if e.foil is not None]
    entry = Site(spec.name, 0, "resid_pre")
    sublayers = _targets(args.model_copy(update={"component": "sublayer"}), subject, layers)
    parts = [("embedding", entry, None), *sublayers]
    effects = np.zeros((len(parts), len(examples)))
    whole = np.zeros(len(examples))
    with subject.evaluating():
        for batch in microbatches(subject, examples, ctx.max_tokens):
            run = subject.run(batch.inputs, capture=[s for _, s, _ in parts])
            places = [_place(e) for e in batch.encoded]
            rows = torch.arange(len(places), device=run.final.device)
            at, answer, foil = (torch.tensor(list(c), device=run.final.device) for c in zip(*places, strict=True))
            summands = torch.stack([run.captured[s][rows, at] for _, s, _ in parts])
            logits = subject.contributions(summands, run.final[rows, at]).float()
            effects[:, list(batch.indices)] = (logits[:, rows, answer] - logits[:, rows, foil]).cpu().double().numpy()
            whole[list(batch.indices)] = margin(run.logits, batch).cpu().double().numpy()
    where: dict[str, Any] = {"task": task.name, "split": args.split, "position": "last", "variant": "direct"}
    rng = np.random.default_rng(ctx.seed)
    measurements: list[Measurement] = []
    for (label, site, _), row in zip(parts, effects, strict=True):
        # What the same component writes towards a random other example's answer would be zero on average.
        flipped = statistics.mean(row * rng.choice([-1.0, 1.0], len(row)), ctx.seed)
        control = Control(
            kind="signs of the examples flipped at random",
            value=flipped.value,
            low=flipped.low,
            high=flipped.high,
            n=flipped.n,
        )
        layer = None if label == "embedding" else site.block
        measurements.append(
            measured(
                "direct",
                "logits, answer minus foil",
                statistics.mean(row, ctx.seed),
                control=control,
                site=label,
                layer=layer,
                **where,
            )
        )
    measurements.append(
        measured("logit_margin", "logits, answer minus foil", statistics.mean(whole, ctx.seed), **where)
    )
    rest = statistics.mean(whole - effects.sum(0), ctx.seed)
    measurements.append(measured("rest", "logits: biases, and blocks left out", rest, **where))
    head = (
        f"direct logit attribution on {task.name} ({args.split}, n={len(examples)}): logits towards the answer, margin "
        f"{whole.mean():.2f}"
    )
    return _outcome([head], measurements, "direct", args)


def _outcome(lines: list[str], measurements: list[Measurement], name: str, args: Args) -> Outcome:
    picked = [m for m in measurements if m.name == name]
    arrays: tuple[Array, ...]
    if args.component == "head" and name == "attribution":
        rows, columns, values = grid(picked, name, "layer", "head")
        arrays = (as_array(name, values, [("layer", rows), ("head", columns)], picked[0].unit),)
        lines.append(text_table(rows, columns, values))
    else:
        values = np.array([m.value for m in picked])
        arrays = (as_array(name, values, [("site", [str(m.site) for m in picked])], picked[0].unit),)
        order = np.argsort(-np.abs(values), kind="stable")
        lines.append(text_table([picked[i].site for i in order], [name], values[order, None]))
    return Outcome(text="\n".join(lines), measurements=tuple(measurements), arrays=arrays)
