"""Path patching: how much of a component's effect goes straight into one later component, with everything between held
at its clean value?

For each sender the prompt is run with the sender's output taken from the twin and every attention and MLP between
sender and receiver frozen; what the receiver then computes is put into an otherwise clean run. Recovered is 0 for no
effect and 1 for a complete change to the twin's answer, in logit margin, both uncertain. The control sends a random vector
of the same norm along the same path. Source: Wang et al. 2022, Interpretability in the Wild; Goldowsky-Dill et al. 2023.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from experiments_db.places import Component, ComponentSet, Intervention, Path, PlaceError
from experiments_db.records import Outcome
from tools.engine.executor import Variant
from tools.engine.sites import Edit, Site
from tools.methods.arguments import AMONG, DEPTH, DIRECTION, EXAMPLES, Direction, check_size, components
from tools.methods.effects import Condition, edits_of, sites_of
from tools.methods.interventions import activations
from tools.methods.layout import chosen_components, select_components
from tools.methods.measuring import control_of, groups_of, measured, recoveries, where_of
from tools.methods.scoring import Microbatch, score
from tools.methods.tables import component_array, place_text
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.methods.twins import donor_margin, load_pairs, whole_gap
from tools.tasks import Example

KIND: Literal["experiment"] = "experiment"
LOCALISES = True
EXAMPLE = {"task": "addition", "components": ["attn.out@answer"], "receiver": "decoder.1.mlp.out"}
TWIN = Intervention(op="resample", source="twin")
RECEIVERS = ("attn.q", "attn.k", "attn.v", "attn.out", "mlp.out", "logits")
SENDERS = ("attn.z", "attn.out", "mlp.out")
BETWEEN = ("attn.out", "mlp.out")


class Args(ToolArgs):
    """Arguments of path_patch."""

    task: str = Field(description="a task spec; see list_tasks. Examples without a twin get another example for one")
    components: list[str] = components(
        ["attn.out@all", "mlp.out@all"],
        "the senders: attn.out, mlp.out or attn.z; those that come too late are left out",
    )
    receiver: str = Field(
        description="what receives, at every position: decoder.3.attn.q[1] (or attn.k, attn.v, without a head all of them), "
        "decoder.3.attn.out, decoder.3.mlp.out or decoder.logits"
    )
    direction: Direction = DIRECTION
    depth: int = DEPTH
    among: str = AMONG
    examples: int = EXAMPLES


def run(args: Args, ctx: Context) -> Outcome:
    """Patch each path from a sender to the receiver."""
    receiver = _receiver(args, ctx)
    task, receivers = load_pairs(ctx, args.task, args.examples, args.direction, args.among)
    named = chosen_components(ctx.subject, args.components, receivers, args.depth)
    senders = _senders(named, receiver, mid=ctx.subject.spec().mid)
    check_size(len(senders), "senders", 128)
    plan = _Plan(ctx, receivers, senders, receiver)
    scores, _ = score(ctx.subject, receivers, plan.variants, choices=task.choices, max_tokens=ctx.max_tokens)
    base, donor, groups = scores[0], donor_margin(ctx, receivers), groups_of(receivers)
    gap = whole_gap(base.foil_margin, donor, task.name)
    moved = np.stack([s.foil_margin - base.foil_margin for s in scores[1:]])
    own, noise = moved[: len(senders)], moved[len(senders) :]
    three = (recoveries(x, donor - base.foil_margin, groups) for x in (own, noise, own - noise))
    where = {**where_of(ctx, task, args.among), "intervention": str(TWIN), "variant": args.direction}
    kind, unit = "random vector of the same norm along the same path", "of the margin between clean and twin"
    measurements = [
        measured("recovered", unit, mine, control=control_of(kind, other, apart), component=str(_path(c, receiver)), **where)
        for c, mine, other, apart in zip(senders, *three, strict=True)
    ]  # fmt: skip
    left = len(named) - len(senders)
    text = (
        f"{args.direction} path patching to {receiver} on {task.name} ({ctx.split}, n={len(receivers)}), recovered margin "
        f"(whole gap {gap:.2f} logits)\n" + place_text(measurements, ["recovered"])
    )
    return Outcome(
        text=text + (f"\n{left} named components do not come before the receiver" if left else ""),
        measurements=tuple(measurements),
        arrays=(component_array(measurements, "recovered"),),
    )


def _path(sender: Component, receiver: Component) -> Path:
    return Path(nodes=(sender, receiver), frozen=BETWEEN)


def _receiver(args: Args, ctx: Context) -> Component:
    """The receiver; ToolInputError says what would be valid."""
    stack = ctx.subject.spec()
    try:
        found = Component.parse(args.receiver)
    except PlaceError as error:
        raise ToolInputError(f"receiver: {error}") from None
    if found.part not in RECEIVERS or found.anchor or found.feature or found.passes is not None:
        raise ToolInputError(
            f"receiver: {found} cannot receive; write one of {', '.join(RECEIVERS)}, without a position"
        )
    if len(found.units) > 1 or (found.units and found.part not in RECEIVERS[:3]):
        raise ToolInputError(f"receiver: {found} names units; name one head of attn.q, attn.k or attn.v, or none")
    if found.stack != stack.name:
        raise ToolInputError(f"receiver: {found} lies in another stack than {stack.name}, which answers")
    if found.part == "logits":
        return found
    return select_components(ctx.subject, [str(found)], "receiver")[0]


def _senders(named: Sequence[Component], receiver: Component, *, mid: bool) -> list[Component]:
    """Those whose output can reach the receiver; ToolInputError where there is none."""
    bad = next((c for c in named if c.part not in SENDERS or c.stack != receiver.stack), None)
    if bad:
        raise ToolInputError(f"components: {bad} cannot send; senders are {', '.join(SENDERS)} of {receiver.stack}")
    found = [c for c in named if _before(c, receiver, mid=mid)]
    if not found:
        raise ToolInputError(f"components: none of these comes before {receiver}: name earlier blocks")
    return found


def _before(sender: Component, receiver: Component, *, mid: bool) -> bool:
    """Whether the receiver reads what the sender writes. mid: whether a block's MLP reads what its attention writes."""
    if receiver.part == "logits":
        return True
    assert sender.block is not None
    assert receiver.block is not None
    same = sender.block == receiver.block and receiver.part == "mlp.out" and sender.part != "mlp.out" and mid
    return sender.block < receiver.block or same


class _Plan:
    """Makes the variants of each microbatch: clean, each path, each control."""

    def __init__(self, ctx: Context, receivers: list[Example], senders: list[Component], receiver: Component) -> None:
        self.ctx, self.senders, self.receiver = ctx, senders, receiver
        self.stack = ctx.subject.spec().name
        self.conditions = [Condition.of(ComponentSet.of(c), TWIN, control=k) for k in (0, 1) for c in senders]
        self.edits = edits_of(ctx, receivers, self.conditions)
        blocks = len(ctx.subject.spec().blocks)
        to_logits = receiver.block is None
        self.until = blocks if receiver.block is None else receiver.block
        # What the logits receive is the state after the last block.
        self.site = Site(self.stack, blocks - 1, "resid_post") if to_logits else sites_of(ctx.subject, receiver)[0]

    def variants(self, batch: Microbatch) -> list[Variant]:
        """The sender's change runs once to see what arrives, then what arrived is put into a clean run."""
        subject = self.ctx.subject
        blocks = tuple(range(len(subject.spec().blocks)))
        between = [Site(self.stack, b, k) for b in blocks for k in BETWEEN]
        clean = activations(subject, batch, between)
        out = [Variant(blocks)]
        for condition, edits in zip(self.conditions, self.edits(batch), strict=True):
            (sender,) = (c for changed, _ in condition.changes for c in changed)
            frozen = [Edit(s, "set", clean[s]) for s in between if self._inside(sender, s)]
            run = subject.run(batch.inputs, edits=(*edits, *frozen), capture=[self.site])
            out.append(Variant(blocks, (self._receive(run.captured[self.site]),)))
        return out

    def _inside(self, sender: Component, s: Site) -> bool:
        """Whether a site lies after the sender and before the receiver: it stays as it was."""
        assert sender.block is not None
        after = s.block > sender.block or (s.block == sender.block and sender.part != "mlp.out" and s.kind == "mlp.out")
        to_mlp = self.site.kind == "mlp.out" and s.block == self.until and s.kind == "attn.out"
        return after and (s.block < self.until or to_mlp)

    def _receive(self, arrived: Tensor) -> Edit:
        units = self.receiver.units or None
        if units is None:
            return Edit(self.site, "set", arrived)
        width = arrived.shape[-1] // self.ctx.subject.spec().n_heads
        return Edit(self.site, "set", arrived[..., units[0] * width : (units[0] + 1) * width], None, units)
