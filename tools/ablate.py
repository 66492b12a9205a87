"""Remove what attention, an MLP, a whole block or a single head writes, at the answer's position or everywhere, and score
the task: necessity.

State the ablation type with every finding. `zero` takes the model off its distribution and can break what the component
has nothing to do with; `resample` puts in the activation from another example; `mean` the average activation. A component
that matters under zero but not under resample carries no information about the example. Every effect comes with its
control: a random vector of the same norm at the same site.
"""

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from experiments_db.records import Array, Control, Measurement, Outcome
from tools.engine.executor import Variant
from tools.engine.sites import HEADED, Site
from tools.methods.arguments import EXAMPLES, SPLIT, SplitName, check_blocks
from tools.methods.interventions import Spot, activations, channels, derangement, random_edits, select, set_edits
from tools.methods.measuring import delta_measurements, load_examples, score_measurements
from tools.methods.scoring import Microbatch, Scores, microbatches, score
from tools.methods.tables import as_array, grid, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.tasks import Example

KIND: Literal["experiment"] = "experiment"
LOCALISES = True
EXAMPLE = {"task": "addition", "component": "mlp", "ablation": "resample", "layers": [1, 2]}
Component = Literal["attn", "mlp", "block", "head"]


class Args(ToolArgs):
    """Arguments of ablate."""

    task: str = Field(description="a task spec; see list_tasks")
    component: Component = Field(description="what is removed: attn, mlp, block (both together) or head (one by one)")
    ablation: Literal["zero", "mean", "resample"] = Field(description="what takes its place; name it in every finding")
    layers: list[int] = Field(default=[], description="which blocks, counted from 0; empty means every block")
    heads: list[int] = Field(default=[], description="for component head: which heads; empty means every head")
    position: Literal["last", "all"] = Field(
        default="last", description="last: only the prompt's last token, which predicts the answer; all: every token"
    )
    together: bool = Field(
        default=False, description="false: one component at a time; true: all the layers given at once"
    )
    cumulative: bool = Field(
        default=False, description="remove the first layer given, then the first two, and so on, in the order given"
    )
    split: SplitName = SPLIT
    examples: int = EXAMPLES


def run(args: Args, ctx: Context) -> Outcome:
    """Score the task with each component removed, and with its control."""
    layers = check_blocks(ctx, args.layers)
    spec = ctx.subject.spec()
    bad = [h for h in args.heads if not 0 <= h < spec.n_heads]
    if bad:
        raise ToolInputError(f"heads: {bad[0]} is out of range: this model has heads 0 to {spec.n_heads - 1}")
    if args.together and args.cumulative:
        raise ToolInputError("together removes all layers at once and cumulative more and more of them: choose one")
    if args.heads and args.component != "head":
        raise ToolInputError("heads are given, but component is not head")
    task, examples = load_examples(ctx, args.task, args.split, args.examples)
    targets = _targets(args, layers, spec.name, args.heads or list(range(spec.n_heads)))
    plan = _Plan(ctx, args, examples, targets)
    scores, _ = score(ctx.subject, examples, plan.variants, choices=task.choices, max_tokens=ctx.max_tokens)
    if plan.alone > 0.05 * len(examples):
        raise ToolInputError(
            f"{plan.alone} of {len(examples)} examples have no other example of their length to resample from: "
            "use position last, another ablation, or more examples"
        )
    intact, own, controls = scores[0], scores[1 : 1 + len(targets)], scores[1 + len(targets) :]
    where: dict[str, Any] = {
        "task": task.name,
        "split": args.split,
        "variant": args.ablation,
        "position": args.position,
    }
    base = {**where, "program": "intact"}
    measurements = score_measurements(intact, seed=ctx.seed, **base)
    for (label, _, layer, head), mine, control in zip(targets, own, controls, strict=True):
        place = {**where, "site": label, "layer": layer, "head": head}
        made = score_measurements(mine, seed=ctx.seed, **place)
        made += delta_measurements(mine, intact, seed=ctx.seed, **place)
        measurements += [_with_control(m, control, intact, ctx.seed) for m in made]
    return Outcome(
        text=_text(args, measurements, intact, plan.alone),
        measurements=tuple(measurements),
        arrays=_arrays(measurements),
    )


Target = tuple[str, tuple[Site, ...], int | None, int | None]


def _targets(args: Args, layers: list[int], stack: str, heads: list[int]) -> list[Target]:
    """(label, sites, layer, head) of each thing to remove."""

    def sites(layer: int) -> tuple[Site, ...]:
        attn, mlp = Site(stack, layer, "attn.out"), Site(stack, layer, "mlp.out")
        return {"attn": (attn,), "mlp": (mlp,), "block": (attn, mlp), "head": (Site(stack, layer, "attn.z"),)}[
            args.component
        ]

    if args.component == "head":
        if args.together or args.cumulative:
            raise ToolInputError(
                "together and cumulative are for attn, mlp and block; for sets of heads use minimal_set"
            )
        return [(f"{layer}.head.{head}", sites(layer), layer, head) for layer in layers for head in heads]
    if args.cumulative:
        order = list(dict.fromkeys(args.layers)) or layers
        ends = range(1, len(order) + 1)
        return [
            (
                f"{'+'.join(map(str, order[:n]))}.{args.component}",
                tuple(s for b in order[:n] for s in sites(b)),
                None,
                None,
            )
            for n in ends
        ]
    if args.together:
        every = tuple(s for layer in layers for s in sites(layer))
        return [(f"{'+'.join(map(str, layers))}.{args.component}", every, None, None)]
    return [(f"{layer}.{args.component}", sites(layer), layer, None) for layer in layers]


class _Plan:
    """Makes the variants of each microbatch; keeps what has to be known across microbatches."""

    def __init__(self, ctx: Context, args: Args, examples: list[Example], targets: list[Target]) -> None:
        self.ctx, self.args, self.targets = ctx, args, targets
        self.alone = 0
        self.generator = torch.Generator().manual_seed(ctx.seed)
        self.sites = tuple(dict.fromkeys(s for _, sites, _, _ in targets for s in sites))
        self.means = self._mean_activations(examples) if args.ablation == "mean" else {}

    def variants(self, batch: Microbatch) -> list[Variant]:
        """Intact, each target removed, each target's control."""
        blocks = tuple(range(len(self.ctx.subject.spec().blocks)))
        positions = batch.last if self.args.position == "last" else None
        old_full = activations(self.ctx.subject, batch, self.sites)
        lengths = [0 if positions is not None else n for n in batch.inputs.lengths]
        donors, alone = derangement(lengths, self.generator)
        if self.args.ablation == "resample":
            self.alone += alone
        out, controls = [Variant(blocks)], []
        for _, sites, _, head in self.targets:
            spot = Spot(sites, positions, head)
            old = {s: self._part(old_full[s], s, spot) for s in sites}
            new = {s: self._replacement(s, old[s], donors, head) for s in sites}
            out.append(Variant(blocks, set_edits(spot, new)))
            controls.append(Variant(blocks, random_edits(spot, old, new, self.generator)))
        return out + controls

    def _part(self, h: Tensor, site: Site, spot: Spot) -> Tensor:
        heads = self.ctx.subject.spec().n_heads if site.kind in HEADED else 1
        return channels(select(h, spot.positions), spot.head, heads)

    def _replacement(self, site: Site, old: Tensor, donors: Tensor, head: int | None) -> Tensor:
        match self.args.ablation:
            case "zero":
                return torch.zeros_like(old)
            case "mean":
                return channels(self.means[site], head, self.ctx.subject.spec().n_heads).expand_as(old)
            case "resample":
                return old[donors.to(old.device)]

    def _mean_activations(self, examples: list[Example]) -> dict[Site, Tensor]:
        """Mean over the examples' positions that are ablated, per site."""
        total: dict[Site, Tensor] = {}
        count = 0
        with self.ctx.subject.evaluating():
            for batch in microbatches(self.ctx.subject, examples, self.ctx.max_tokens):
                found = activations(self.ctx.subject, batch, self.sites)
                for site, h in found.items():
                    rows = (
                        select(h, batch.last)[:, 0]
                        if self.args.position == "last"
                        else torch.cat([h[i, :n] for i, n in enumerate(batch.inputs.lengths)])
                    )
                    total[site] = total.get(site, 0) + rows.double().sum(0)
                count += len(batch.examples) if self.args.position == "last" else sum(batch.inputs.lengths)
        return {site: (t / count).to(self.ctx.subject.dtype) for site, t in total.items()}


def _with_control(m: Measurement, control: Scores, intact: Scores, seed: int) -> Measurement:
    """The same quantity under the control."""
    for c in [*score_measurements(control, seed=seed), *delta_measurements(control, intact, seed=seed)]:
        if c.name == m.name:
            kind = "random vector of the same norm at the same site"
            return m.model_copy(update={"control": Control(kind=kind, value=c.value, low=c.low, high=c.high, n=c.n)})
    return m


def _text(args: Args, measurements: list[Measurement], intact: Scores, alone: int) -> str:
    picked = [m for m in measurements if m.name == "accuracy" and m.site is not None]
    nll = {m.site: m for m in measurements if m.name == "nll.delta"}
    values = np.array([[m.value, m.control.value if m.control else np.nan, nll[m.site].value] for m in picked])
    head = (
        f"{args.ablation} ablation at {args.position} position(s), {args.task} ({args.split}, n={len(intact.nll)}), "
        f"intact accuracy {intact.correct.mean():.2f}\n"
    )
    tail = f"\n{alone} examples had no donor of their length and stayed intact" if alone else ""
    return head + text_table([m.site for m in picked], ["accuracy", "control", "nll.delta"], values) + tail


def _arrays(measurements: list[Measurement]) -> tuple[Array, ...]:
    out: list[Array] = []
    for name, unit in (("accuracy", "share of examples"), ("nll.delta", "nats per answer")):
        picked = [m for m in measurements if m.site is not None and m.name == name]
        if picked and picked[0].head is not None:
            rows, columns, values = grid(picked, name, "layer", "head")
            out.append(as_array(name, values, [("layer", rows), ("head", columns)], unit))
        else:
            columns = [m.site for m in picked]
            values = np.array([[m.value for m in picked], [m.control.value if m.control else np.nan for m in picked]])
            out.append(as_array(name, values, [("condition", ["ablated", "control"]), ("site", columns)], unit))
    return tuple(out)
