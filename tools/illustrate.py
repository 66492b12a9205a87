"""One example with the model laid open, as it is and with switches on: what it answers, what each depth would answer, where
heads look. An illustration by hand, evidence for nothing.

Components can be set to zero, to their mean, to another example's or the twin's activation; blocks skipped, kept, repeated,
swapped; a difference of means added. Means, donors and directions come from the task's explore examples. What is seen here has
to be examined on many examples, predicted and confirmed before it says anything about the model.
"""

from typing import Any, Literal

import numpy as np

from experiments_db.records import Array, Measurement, Outcome
from tools.methods.layout import depth_component
from tools.methods.one_example import OneExampleArgs
from tools.methods.opened import Opened, Side, open_example
from tools.methods.tables import as_array
from tools.methods.tool import Context
from tools.ports import port_of

KIND: Literal["experiment"] = "experiment"
NEEDS = "person"  # planners ask about many examples at once
EXAMPLE: dict[str, object] = {"task": "addition", "example": 0, "zero": ["*.0.mlp.out@answer"]}
UNITS = {"probability": "of the right answer", "rank": "rank, 1 is top", "logit_margin": "logits, answer minus foil"}


class Args(OneExampleArgs):
    """Arguments of illustrate."""


def run(args: Args, ctx: Context) -> Outcome:
    """Open the example and say what changed."""
    found = open_example(args, ctx)
    sides = [("as it is", found.intact)] + ([("changed", found.changed)] if found.changed else [])
    measurements: list[Measurement] = []
    arrays: list[Array] = []
    lines = [f"illustration of one example, evidence for nothing: {found.chosen.example.shown!r}"]
    right = found.chosen.example.target
    lines[0] += f", {'right is' if found.chosen.asked else 'followed is what the model says,'} {right!r}"
    for name, side in sides:
        what = "as it is" if name == "as it is" else "; ".join(found.changes.words)
        lines.append(f"{what}: {_answer_words(side)}")
        measurements += _measurements(ctx, found, name, side)
        arrays += _arrays(found, name, side)
    return Outcome(text="\n".join(lines), measurements=tuple(measurements), arrays=tuple(arrays))


def _answer_words(side: Side) -> str:
    """What a side answers, in words."""
    told = [
        f"{p.top[0].label!r} {p.top[0].probability:.2f} (right {p.right.label!r} {p.right.probability:.2f}, rank {p.right.rank})"
        for p in side.answers
    ] or [f"{name} {value:.3g}" for name, value in side.values.items()]
    return "; ".join(told) + (f"; it writes {side.wrote!r}" if side.wrote is not None else "")


def _measurements(ctx: Context, found: Opened, name: str, side: Side) -> list[Measurement]:
    where: dict[str, Any] = {
        "task": found.chosen.task or None,
        "split": ctx.split if found.chosen.task else None,
        "variant": name,
    }
    out: list[Measurement] = []
    for quantity, value in quantities(side).items():
        objective = port_of(ctx.subject).objectives.get(quantity)
        unit = UNITS.get(quantity) or (objective.unit if objective else "")
        out.append(Measurement(name=quantity, unit=unit, value=value, n=1, **where))
    if name == "changed" and ctx.subject.readout in found.changes.programs:
        return out  # its steps are no depths of the model
    labels = found.stacks[ctx.subject.readout].labels
    for depth in range(len(side.steps)):
        for at in range(len(labels)):
            place = str(depth_component(ctx.subject, depth, str(at - len(labels))))
            token = port_of(ctx.subject).answer_label(ctx.subject, int(side.top[depth, at]))
            chance = float(side.chance[depth, at])
            out.append(
                Measurement(name="top1", unit="probability", value=chance, n=1, component=place, token=token, **where)
            )
    return out


def quantities(side: Side) -> dict[str, float]:
    """Numbers of a side: the right answer's probability and first rank, the margin to the foil, or what the port has."""
    if not side.answers:
        return dict(side.values)
    out = {"probability": float(np.exp(-side.values["nll"])), "rank": float(side.answers[0].right.rank)}
    if "margin" in side.values:
        out["logit_margin"] = side.values["margin"]
    return out


def _arrays(found: Opened, name: str, side: Side) -> list[Array]:
    """Attention weights."""
    if side.patterns is None or found.attention is None:
        return []
    blocks, heads, queries, keys = side.patterns.shape
    axes = [("block", range(blocks)), ("head", range(heads)), ("query", range(queries)), ("key", range(keys))]
    of = f"{'.'.join(found.attention)} {name}"
    return [as_array(of, side.patterns.double().numpy(), axes, "share of attention")]
