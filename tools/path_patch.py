"""Path patching: how much of a component's effect goes straight into one later component, with everything between held
at its clean value?

For each sender the prompt is run with the sender's output taken from the twin and every attention and MLP between
sender and receiver frozen; what the receiver then computes is put into an otherwise clean run. Recovered is 0 for no
effect and 1 for a complete change to the twin's answer, in logit margin. The control sends a random vector of the
same norm along the same path. Source: Wang et al. 2022, Interpretability in the Wild; Goldowsky-Dill et al. 2023.
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from experiments_db.records import Control, Measurement, Outcome
from tools.engine.executor import Variant
from tools.engine.sites import HEADED, Edit, Kind, Site
from tools.methods.arguments import EXAMPLES, SPLIT, SplitName, check_blocks
from tools.methods.interventions import Spot, activations, channels, random_edits, select, set_edits, units_of
from tools.methods.measuring import measured
from tools.methods.scoring import Microbatch, Scores, score
from tools.methods.tables import as_array, grid, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.methods.twins import donor_inputs, donor_margin, load_pairs, place_positions, whole_gap
from tools.statistics import intervals as statistics

KIND: Literal["experiment"] = "experiment"
LOCALISES = True
EXAMPLE = {"task": "addition", "sender": "attn.out", "receiver": "mlp", "receiver_layer": 1}
RECEIVERS: dict[str, Kind] = {"q": "attn.q", "k": "attn.k", "v": "attn.v", "attn": "attn.out", "mlp": "mlp.out"}


class Args(ToolArgs):
    """Arguments of path_patch."""

    task: str = Field(description="a task spec whose examples have twins; see list_tasks")
    sender: Literal["attn.out", "mlp.out", "head"] = Field(description="what sends: each attention, MLP or head")
    receiver: Literal["q", "k", "v", "attn", "mlp", "logits"] = Field(
        description="what receives: the queries, keys or values of a block's heads, its attention, its MLP, or the logits"
    )
    receiver_layer: int | None = Field(default=None, description="the receiver's block; not for logits")
    receiver_head: int | None = Field(default=None, description="for q, k, v: one head; null is all of them")
    layers: list[int] = Field(default=[], description="the senders' blocks; empty means every one before the receiver")
    position: Literal["last", "all"] = Field(default="all", description="where the sender's output is replaced")
    direction: Literal["noise", "denoise"] = Field(default="noise", description="which of the two prompts is run")
    split: SplitName = SPLIT
    examples: int = EXAMPLES


def run(args: Args, ctx: Context) -> Outcome:
    """Patch each path from a sender to the receiver."""
    layers = _senders(args, ctx)
    task, receivers = load_pairs(ctx, args.task, args.split, args.examples, args.direction)
    plan = _Plan(ctx, args, layers)
    scores, _ = score(ctx.subject, receivers, plan.variants, max_tokens=ctx.max_tokens)
    base, donor = scores[0], donor_margin(ctx, receivers)
    gap = whole_gap(base.foil_margin, donor, task.name)
    count = len(plan.senders)
    to = args.receiver if args.receiver == "logits" else f"{args.receiver_layer}.{args.receiver}"
    to += "" if args.receiver_head is None else f".{args.receiver_head}"
    where: dict[str, Any] = {
        "task": task.name,
        "split": args.split,
        "variant": args.direction,
        "position": args.position,
    }

    def recovered(s: Scores) -> statistics.Estimate:
        return statistics.mean((s.foil_margin - base.foil_margin) / gap, ctx.seed)

    measurements: list[Measurement] = []
    for (layer, head), mine, control in zip(plan.senders, scores[1 : 1 + count], scores[1 + count :], strict=True):
        label = f"{layer}.{args.sender}" + ("" if head is None else f".{head}") + f" -> {to}"
        c = recovered(control)
        beside = Control(
            kind="random vector of the same norm along the same path", value=c.value, low=c.low, high=c.high, n=c.n
        )
        unit = "of the margin between clean and twin"
        measurements.append(
            measured("recovered", unit, recovered(mine), control=beside, site=label, layer=layer, head=head, **where)
        )
    column = "head" if args.sender == "head" else "variant"
    rows, columns, values = grid(measurements, "recovered", "layer", column)
    text = (
        f"{args.direction} path patching from {args.sender} to {to} on {task.name} ({args.split}, n={len(receivers)}), "
        "recovered margin\n"
    )
    return Outcome(
        text=text + text_table(rows, columns, values),
        measurements=tuple(measurements),
        arrays=(as_array("recovered", values, [("layer", rows), (column, columns)], "share of margin"),),
    )


def _senders(args: Args, ctx: Context) -> list[int]:
    """Blocks that can send to the receiver; ToolInputError says what would be valid."""
    spec = ctx.subject.spec()
    layers = check_blocks(ctx, args.layers)
    if args.receiver == "logits":
        if args.receiver_layer is not None or args.receiver_head is not None:
            raise ToolInputError("receiver_layer and receiver_head are not for receiver logits: leave them out")
        return layers
    if args.receiver_layer is None:
        raise ToolInputError(
            f"receiver_layer is missing: receiver {args.receiver} needs a block, 0 to {len(spec.blocks) - 1}"
        )
    check_blocks(ctx, [args.receiver_layer], "receiver_layer")
    if args.receiver_head is not None and args.receiver not in ("q", "k", "v"):
        raise ToolInputError("receiver_head is for receiver q, k or v")
    if args.receiver_head is not None and not 0 <= args.receiver_head < spec.n_heads:
        raise ToolInputError(f"receiver_head: {args.receiver_head} is out of range: heads are 0 to {spec.n_heads - 1}")
    same = args.receiver == "mlp" and args.sender != "mlp.out" and spec.mid
    before = [b for b in layers if b < args.receiver_layer or (same and b == args.receiver_layer)]
    if not before or (args.layers and len(before) < len(layers)):
        raise ToolInputError(f"senders have to come before the receiver: layers up to {args.receiver_layer - 1}")
    return before


class _Plan:
    """Makes the variants of each microbatch: base, each path, each control."""

    def __init__(self, ctx: Context, args: Args, layers: list[int]) -> None:
        self.ctx, self.args = ctx, args
        spec = ctx.subject.spec()
        self.kind: Kind = "attn.z" if args.sender == "head" else args.sender
        heads: list[int | None] = list(range(spec.n_heads)) if args.sender == "head" else [None]
        self.senders = [(layer, head) for layer in layers for head in heads]
        self.stack = spec.name
        last = len(spec.blocks) - 1
        if args.receiver == "logits":
            self.receiver, self.until = Site(self.stack, last, "resid_post"), last + 1
        else:
            assert args.receiver_layer is not None
            self.receiver = Site(self.stack, args.receiver_layer, RECEIVERS[args.receiver])
            self.until = args.receiver_layer
        self.generator = torch.Generator().manual_seed(ctx.seed)

    def variants(self, batch: Microbatch) -> list[Variant]:
        """The runs through the frozen model happen here; the sweep then sees only edits at the receiver."""
        subject = self.ctx.subject
        blocks = tuple(range(len(subject.spec().blocks)))
        sending = [Site(self.stack, layer, self.kind) for layer in dict.fromkeys(layer for layer, _ in self.senders)]
        between = [Site(self.stack, b, k) for b in blocks for k in ("attn.out", "mlp.out")]
        clean = activations(subject, batch, [*sending, *between])
        donor = dict(subject.run(donor_inputs(subject, batch), capture=sending).captured)
        out, controls = [Variant(blocks)], []
        for layer, head in self.senders:
            site = Site(self.stack, layer, self.kind)
            spot = Spot((site,), place_positions(batch, self.args.position), head)
            old, new = ({site: self._part(full[site], spot)} for full in (clean, donor))
            for edits, into in ((set_edits(spot, new), out), (random_edits(spot, old, new, self.generator), controls)):
                frozen = self._frozen(site, between, clean)
                arrived = subject.run(batch.inputs, edits=(*edits, *frozen), capture=[self.receiver]).captured[
                    self.receiver
                ]
                into.append(Variant(blocks, self._receive(arrived)))
        return out + controls

    def _frozen(self, sender: Site, between: list[Site], clean: dict[Site, Tensor]) -> list[Edit]:
        """Everything after the sender and before the receiver stays as it was."""
        mlp = self.receiver.kind == "mlp.out"

        def inside(s: Site) -> bool:
            after = s.block > sender.block or (
                s.block == sender.block and sender.kind != "mlp.out" and s.kind == "mlp.out"
            )
            return after and (s.block < self.until or (mlp and s.block == self.until and s.kind == "attn.out"))

        return [Edit(s, "set", clean[s]) for s in between if inside(s)]

    def _receive(self, arrived: Tensor) -> tuple[Edit, ...]:
        head = self.args.receiver_head
        value = channels(arrived, head, self.ctx.subject.spec().n_heads)
        return (Edit(self.receiver, "set", value, None, units_of(head)),)

    def _part(self, h: Tensor, spot: Spot) -> Tensor:
        heads = self.ctx.subject.spec().n_heads if self.kind in HEADED else 1
        return channels(select(h, spot.positions), spot.head, heads)
