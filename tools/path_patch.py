"""Path patching: how much of a component's effect goes straight into one later component, with everything between held
at its clean value?

For each sender the input is run with the sender's output taken from the twin and every attention and MLP between
sender and receiver frozen; what the receiver then computes is put into an otherwise clean run. Recovered is 0 for no
effect and 1 for a complete change to the twin's answer, in logit margin, both uncertain. The control sends a random vector
of the same norm along the same path. Source: Wang et al. 2022, Interpretability in the Wild; Goldowsky-Dill et al. 2023.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from experiments_db.places import Component, Path, PlaceError
from experiments_db.records import Outcome
from tools.methods.arguments import AMONG, DEPTH, DIRECTION, EXAMPLES, Direction, check_size, components
from tools.methods.layout import chosen_components, select_components
from tools.methods.measuring import control_of, groups_of, measured, recoveries, where_of
from tools.methods.paths import ALONG, BETWEEN, SENDERS, TWIN, Sending, comes_before, score_along
from tools.methods.saying import beside, examples_of
from tools.methods.tables import component_array, place_text
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.methods.twins import donor_margin, load_pairs, whole_gap
from tools.ports import port_of
from tools.subjects import Subject

KIND: Literal["experiment"] = "experiment"
LOCALISES = True
EXAMPLE = {"task": "addition", "components": ["attn.out@answer"], "receiver": "*.1.mlp.out"}


class Args(ToolArgs):
    """Arguments of path_patch."""

    task: str = Field(description="a task spec; see list_tasks. Examples without a twin get another example for one")
    components: list[str] = components(
        ["attn.out@all", "mlp.out@all"],
        "the senders: attn.out, cross.out, mlp.out or heads, attn.z; those that cannot reach the receiver are left out",
    )
    receiver: str = Field(
        description="what receives, at every position: *.3.attn.q[1] (or attn.k, attn.v, without a head all of them), "
        "*.3.attn.out, *.3.mlp.out or logits"
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
    senders = _senders(ctx.subject, named, receiver)
    check_size(len(senders), "senders", 128)
    sendings = [
        Sending(Path(nodes=(c, receiver), frozen=_held(ctx.subject)), TWIN, control=k)
        for k in (False, True)
        for c in senders
    ]
    base, *scores = score_along(ctx, task, receivers, sendings)
    donor, groups = donor_margin(ctx, receivers), groups_of(receivers)
    gap = whole_gap(base.foil_margin, donor, task.name)
    moved = np.stack([s.foil_margin - base.foil_margin for s in scores])
    own, noise = moved[: len(senders)], moved[len(senders) :]
    three = (recoveries(x, donor - base.foil_margin, groups) for x in (own, noise, own - noise))
    where: dict[str, Any] = {**where_of(ctx, task, args.among), "intervention": str(TWIN), "variant": args.direction}
    unit, margin = "of the margin between clean and twin", port_of(ctx.subject).margin_unit.partition(",")[0]
    measurements = [
        measured("recovered", unit, mine, control=control_of(ALONG, other, apart), component=str(sending.path), **where)
        for sending, mine, other, apart in zip(sendings[: len(senders)], *three, strict=True)
    ]  # fmt: skip
    left = len(named) - len(senders)
    text = (
        f"{args.direction} path patching to {receiver} on {examples_of(task, args.among)} "
        f"({ctx.split}, n={len(receivers)}){beside(measurements)}, "
        f"recovered margin "
        f"(whole gap {gap:.2f} {margin})\n" + place_text(measurements, ["recovered"])
    )
    return Outcome(
        text=text + (f"\n{left} named components do not come before the receiver" if left else ""),
        measurements=tuple(measurements),
        arrays=(component_array(measurements, "recovered"),),
    )


def _held(subject: Subject) -> tuple[str, ...]:
    """The parts that are held at their clean value in between."""
    return tuple(k for k in BETWEEN if any(k in s.kinds for s in subject.stacks.values()))


def _receiver(args: Args, ctx: Context) -> Component:
    """The receiver; ToolInputError says what would be valid."""
    if args.receiver.removeprefix("*.") == "logits":
        return Component(stack=ctx.subject.readout, part="logits")
    try:  # heads that are named together receive together
        return _possible(Component.parse(args.receiver), ctx)
    except PlaceError:
        found = select_components(ctx.subject, [args.receiver], "receiver")
    if len(found) != 1:
        raise ToolInputError(f"receiver: one at a time, not {', '.join(map(str, found[:4]))}")
    return _possible(found[0], ctx)


def _possible(c: Component, ctx: Context) -> Component:
    if c.part not in (*SENDERS, "logits"):
        raise ToolInputError(f"receiver: {c} cannot receive; write one of {', '.join(SENDERS)} of a block, or logits")
    return c if c.part == "logits" else select_components(ctx.subject, [str(c)], "receiver")[0]


def _senders(subject: Subject, named: Sequence[Component], receiver: Component) -> list[Component]:
    """Those whose output can reach the receiver; ToolInputError where there is none."""
    bad = next((c for c in named if c.part not in SENDERS), None)
    if bad:
        raise ToolInputError(f"components: {bad} cannot send; senders are {', '.join(SENDERS)}")
    found = [c for c in named if comes_before(subject, c, receiver)]
    if not found:
        raise ToolInputError(f"components: none of these comes before the receiver {receiver}: name earlier blocks")
    return found
