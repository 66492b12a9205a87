"""Which components move the answer, estimated for all of them at once: attribution patching (gradient times the
difference between twin and clean), or direct logit attribution (what each component itself writes towards the
answer).

`patching` estimates what exact patching would give, with two passes in place of one a component; a few components, the
highest and a random sample, are then patched exactly, and the result says how well the estimate agrees: believe it only
as far as that. `direct` takes the answer's logit apart into what each attention, head or MLP writes where the answer is
predicted, under the final norm's own scale; the parts of every block add up to the margin exactly, but it does not see
what a component does through later ones. Source: Nanda 2023, Attribution patching; Kramar et al. 2024 (AtP*); Hanna et al.
2024 (steps > 1); Elhage et al. 2021.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from experiments_db.places import Component, Intervention
from experiments_db.records import Control, Measurement, Outcome
from tools.engine.sites import HEADED, Edit, Site, channels_of
from tools.methods.anchors import positions
from tools.methods.arguments import AMONG, EXAMPLES, check_size, components
from tools.methods.effects import Condition, score_under, sites_of
from tools.methods.interventions import activations
from tools.methods.layout import chosen_components
from tools.methods.measuring import (
    average,
    averages,
    control_of,
    groups_of,
    load_examples,
    measured,
    recoveries,
    where_of,
)
from tools.methods.saying import beside, examples_of
from tools.methods.scoring import microbatches
from tools.methods.tables import component_array, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.methods.twins import donor_inputs, donor_margin, load_pairs, whole_gap
from tools.ports import Batch, differences, port_of
from tools.subjects import Subject
from tools.tasks import Example

KIND: Literal["experiment"] = "experiment"
LOCALISES = True
EXAMPLE = {"task": "addition", "method": "patching", "components": ["attn.out@all", "mlp.out@all"]}
TWIN = Intervention(op="resample", source="twin")
WRITERS = ("attn.z", "attn.out", "cross.z", "cross.out", "mlp.out", "block")
SHARE = "of the margin between clean and twin"
LOGITS = "logits, answer minus foil"


class Args(ToolArgs):
    """Arguments of attribute."""

    task: str = Field(description="a task spec; see list_tasks. Examples without a twin get another example for one")
    method: Literal["patching", "direct"] = Field(description="attribution patching, or direct logit attribution")
    components: list[str] = components(
        ["attn.out", "mlp.out"],
        "what the answer is attributed to; for direct attn.out, attn.z[*], mlp.out or block, at the answer",
    )
    steps: int = Field(
        default=1,
        ge=1,
        le=16,
        description="for patching: points on the way from twin to clean at which gradients are averaged",
    )
    check: int = Field(
        default=6,
        ge=0,
        le=64,
        description="how many are patched too: so many of the top, and so many random others, exactly",
    )
    among: str = AMONG
    examples: int = EXAMPLES


def run(args: Args, ctx: Context) -> Outcome:
    """Attribute the margin between the answer and its foil to components."""
    return _direct(args, ctx) if args.method == "direct" else _patching(args, ctx)


# -- attribution patching ---------------------------------------------------------------------------------------------


def _patching(args: Args, ctx: Context) -> Outcome:
    subject = ctx.subject
    task, receivers = load_pairs(ctx, args.task, args.examples, among=args.among)
    targets = chosen_components(subject, args.components, receivers)
    check_size(len(targets), "components", 4096)
    block = next((c for c in targets if c.part == "block"), None)
    if block:
        raise ToolInputError(
            f"components: a first-order effect of {block} would count twice; name its attn.out and mlp.out"
        )
    base = np.full(len(receivers), np.nan)
    effects = np.zeros((len(targets), len(receivers)))
    for batch in microbatches(subject, receivers, ctx.max_tokens):
        found, margins = estimate(subject, batch, targets, args.steps)
        effects[:, list(batch.indices)], base[list(batch.indices)] = found, margins
    donor, groups = donor_margin(ctx, receivers), groups_of(receivers)
    whole_gap(base, donor, task.name)
    where: dict[str, Any] = {**where_of(ctx, task, args.among), "intervention": str(TWIN)}
    zero = Control(kind="no effect: the twin's activation is the clean one", value=0.0, n=len(receivers))
    estimates = recoveries(effects, donor - base, groups)
    measurements = [
        measured("attribution", SHARE, e, control=zero, component=str(c), **where)
        for c, e in zip(targets, estimates, strict=True)
    ]
    lines = [
        f"attribution patching on {examples_of(task, args.among)} ({ctx.split}, n={len(receivers)}), share of the margin"
    ]
    checked = _chosen(effects.mean(1), args.check, ctx.seed)
    if checked:
        conditions = [Condition.of(targets[i], TWIN) for i in checked]
        intact, *patched = score_under(ctx, task, receivers, conditions)
        moved = np.stack([s.foil_margin - intact.foil_margin for s in patched])
        exact = recoveries(moved, donor - intact.foil_margin, groups)
        rows = zip(checked, exact, strict=True)
        measurements += [measured("exact", SHARE, e, component=str(targets[i]), **where) for i, e in rows]
        guessed, true = np.array([estimates[i].value for i in checked]), np.array([e.value for e in exact])
        agreement = float(np.corrcoef(guessed, true)[0, 1]) if min(guessed.std(), true.std()) > 1e-9 else 0.0
        worst, n = float(np.abs(guessed - true).max()), len(checked)
        unit = "correlation with exact patching, over components"
        measurements += [
            Measurement(name="agreement", unit=unit, value=agreement, n=n, **where),
            Measurement(name="worst_error", unit=SHARE, value=worst, n=n, **where),
        ]
        names = [str(targets[i]) for i in checked]
        lines += [
            f"checked by exact patching at {n} components: correlation {agreement:.2f}, worst error {worst:.2f}",
            text_table(names, ["estimate", "exact"], np.stack([guessed, true], 1)),
        ]
    return _outcome(lines, measurements, "attribution")


def estimate(
    subject: Subject, batch: Batch, targets: Sequence[Component], steps: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """(targets, batch) first-order effects on the margin of putting the twin's activation in; and the clean margins."""
    where = [sites_of(subject, c) for c in targets]
    sites = list(dict.fromkeys(s for found in where for s in found))
    entries = [Site(name, 0, "resid_pre") for name in subject.stacks]
    with subject.evaluating():
        clean = activations(subject, batch, [*sites, *entries])
        donor = dict(subject.run(donor_inputs(subject, batch), capture=[*sites, *entries]).captured)
    gradients = {s: torch.zeros_like(clean[s]) for s in sites}
    margins = torch.zeros(len(batch.examples))
    with torch.enable_grad():
        for step in range(steps):
            # One step: the gradient at the clean input. More: averaged over midpoints between twin and clean.
            share = 1.0 if steps == 1 else (step + 0.5) / steps
            starts = [(share * clean[e] + (1 - share) * donor[e]).clone().requires_grad_() for e in entries]
            put = [Edit(e, "set", start) for e, start in zip(entries, starts, strict=True)]
            run = subject.run(batch.inputs, edits=put, capture=sites)
            found = port_of(subject).margin(run.logits, batch)
            captured = [run.captured[s] for s in sites]
            for site, g in zip(sites, torch.autograd.grad(found.sum(), captured), strict=True):
                gradients[site] += g / steps
            if steps == 1:
                margins = found.detach()
    if steps > 1:
        with subject.evaluating():
            margins = port_of(subject).margin(subject.run(batch.inputs).logits, batch)
    products = {s: ((donor[s] - clean[s]) * gradients[s]).float() for s in sites}
    effects = [sum(_share(subject, batch, c, s, products[s]) for s in w) for c, w in zip(targets, where, strict=True)]
    return torch.stack([torch.as_tensor(e) for e in effects]).cpu().double().numpy(), margins.cpu().double().numpy()


def _share(subject: Subject, batch: Batch, c: Component, site: Site, product: Tensor) -> Tensor:
    """The part of a site's products that belongs to a component's units and positions, summed for each example."""
    at = positions(subject, batch, c.anchor or "all", stack=subject.spec(site.stack).lies_in(site.kind))
    heads = subject.spec(c.stack).n_heads if site.kind in HEADED else product.shape[-1]
    picked = product[..., channels_of(c.units or None, product.shape[-1] // heads)]
    if at is None:
        return picked.sum((-1, -2))
    mask = torch.zeros(
        picked.shape[:2], dtype=torch.bool, device=picked.device
    )  # a position that stands twice counts once
    return (picked * mask.scatter(1, at, True)[..., None]).sum((-1, -2))


def _chosen(means: np.ndarray, check: int, seed: int) -> list[int]:
    """The highest in size and as many random others, in order."""
    order = np.argsort(-np.abs(means), kind="stable")
    rest = np.random.default_rng(seed).permutation(order[check:])
    return sorted([*order[:check].tolist(), *rest[:check].tolist()])


# -- direct logit attribution -----------------------------------------------------------------------------------------


def _direct(args: Args, ctx: Context) -> Outcome:
    if "rank" in port_of(ctx.subject).lacks:
        raise ToolInputError(
            f"method: {ctx.subject.name} answers with no token or class, so that nothing writes towards one; use patching"
        )
    task, found = load_examples(ctx, args.task, args.examples, args.among)
    examples = [e for e in found if e.foil is not None]
    if not examples:
        raise ToolInputError(f"{task.name} has no foils: direct attribution needs a wrong answer to compare with")
    embedding = Component(stack=ctx.subject.spec().name, part="embed", anchor="answer")
    named = chosen_components(ctx.subject, args.components, examples)
    bad = next((c for c in named if c.part not in WRITERS or c.anchor not in ("", "answer")), None)
    if bad:
        raise ToolInputError(
            f"components: {bad} writes nothing where the answer is; use {', '.join(WRITERS)} at the answer"
        )
    parts = [embedding, *(c.but(anchor="answer") for c in named)]
    effects, whole = direct_effects(ctx, examples, parts)
    groups, where = groups_of(examples), {**where_of(ctx, task, args.among), "variant": "direct"}
    # What the same component writes towards a random other example's answer would be zero on average.
    signs = np.random.default_rng(ctx.seed).choice([-1.0, 1.0], effects.shape)
    flipped = effects * signs
    rows = zip(*(averages(x, groups) for x in (effects, flipped, effects - flipped)), parts, strict=True)
    kind = "signs of the examples flipped at random"
    measurements = [
        measured("direct", LOGITS, own, control=control_of(kind, other, apart), component=str(c), **where)
        for own, other, apart, c in rows
    ]
    measurements.append(measured("logit_margin", LOGITS, average(whole, groups), **where))
    rest = average(whole - effects.sum(0), groups)
    measurements.append(measured("rest", "logits: biases, and components left out", rest, **where))
    head = (
        f"direct logit attribution on {examples_of(task, args.among)} ({ctx.split}, n={len(examples)}): logits towards the "
        f"answer{beside(measurements)}, margin "
        f"{whole.mean():.2f}"
    )
    return _outcome([head], measurements, "direct")


def direct_effects(
    ctx: Context, examples: Sequence[Example], parts: Sequence[Component]
) -> tuple[np.ndarray, np.ndarray]:
    """(parts, examples) logits that each component writes towards the answer over the foil; and the whole margins.

    A head's part is what the output projection makes of its output alone, without the projection's bias.
    """
    subject = ctx.subject
    entry = Site(subject.spec().name, 0, "resid_pre")
    where = [(entry,) if c.part == "embed" else sites_of(subject, c) for c in parts]
    effects, whole = np.zeros((len(parts), len(examples))), np.zeros(len(examples))
    with subject.evaluating():
        for batch in microbatches(subject, examples, ctx.max_tokens):
            run = subject.run(batch.inputs, capture=list(dict.fromkeys(s for found in where for s in found)))
            rows, at, answer, foil = differences(batch, run.final.device)
            summands = [
                torch.stack([_written(subject, c, s, run.captured[s][rows, at]) for s in found]).sum(0)
                for c, found in zip(parts, where, strict=True)
            ]
            logits = subject.contributions(torch.stack(summands), run.final[rows, at]).float()
            effects[:, list(batch.indices)] = (logits[:, rows, answer] - logits[:, rows, foil]).cpu().double().numpy()
            whole[list(batch.indices)] = port_of(subject).margin(run.logits, batch).cpu().double().numpy()
    return effects, whole


def _written(subject: Subject, c: Component, site: Site, h: Tensor) -> Tensor:
    """What a component adds to the residual stream, (rows, width), from the activation at its site."""
    spec = subject.spec(c.stack)
    path = {"attn.z": spec.o_proj, "cross.z": spec.cross_o_proj}.get(site.kind)
    if path is None:
        return h
    own = torch.zeros_like(h)
    channels = channels_of(c.units or None, h.shape[-1] // spec.n_heads)
    own[..., channels] = h[..., channels]
    project = spec.blocks[site.block].get_submodule(path)
    return project(own) - project(torch.zeros_like(h))


def _outcome(lines: list[str], measurements: list[Measurement], name: str) -> Outcome:
    picked = sorted((m for m in measurements if m.name == name), key=lambda m: -abs(m.value))
    values = np.array([[m.value] for m in picked])
    lines.append(text_table([m.component for m in picked[:60]], [name], values[:60]))
    if len(picked) > 60:
        lines.append(f"... {len(picked) - 60} smaller ones; use query")
    return Outcome(
        text="\n".join(lines), measurements=tuple(measurements), arrays=(component_array(measurements, name),)
    )
