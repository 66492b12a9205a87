"""One number at each position: what a neuron, a channel, a head's or probe's direction or a dictionary's feature is there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from experiments_db.places import PARTS, Component
from tools.engine.sites import HEADED, channels_of
from tools.methods.effects import sites_of
from tools.methods.features import collect, labels_of, random_twin
from tools.methods.scoring import microbatches
from tools.methods.tool import Context, ToolInputError
from tools.subjects import Subject
from tools.tasks import Example
from tools.tasks.task import unit_hash

DRAWN = 39  # random directions and units: what beats them all would do so by chance once in forty times
LEAST_LABELLED = 4
Read = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Unit:
    """What is read of a part. within: the part, or the heads of it, whose channels it is read from. read: of (positions, channels)
    one number a position. words: what it is, where its component does not say.
    """

    component: Component
    within: Component
    read: Read
    words: str = ""


def unit_of(ctx: Context, component: Component, examples: Sequence[Example], label: str = "") -> Unit:
    """What a component is read as: a neuron or channel itself; a head or a whole part along the difference of means of a label
    (`label=value`), or without one along its first principal component over the examples; a feature of a dictionary.

    examples: explore examples of the corpora, those with the label first. ToolInputError for what is no single number.
    """
    if component.anchor or component.passes:
        raise ToolInputError(f"components: {component} is read at every position: name no anchor and no pass")
    if PARTS[component.part].is_pattern or component.part == "block":
        raise ToolInputError(
            f"components: {component} is no activation of its own; name a neuron, a head, or resid_post"
        )
    single = PARTS[component.part].unit != "head" and len(component.units) == 1
    within = component.but(units=component.units if PARTS[component.part].unit == "head" else (), feature="")
    sites_of(ctx.subject, within)
    if component.feature:
        from tools.methods.dictionaries import feature_of  # which reads values as is done here

        if label:
            raise ToolInputError(f"label: {component} is a direction already; leave the label out")
        return Unit(component, within, feature_of(ctx, component, within))
    if single and not label:
        (at,) = component.units
        return Unit(component, within, lambda h: h[:, at : at + 1])
    if component.units and PARTS[component.part].unit != "head":
        raise ToolInputError(f"components: {component}: one neuron or channel at a time is one number; name them apart")
    vector, words = _direction(ctx, within, examples, label)
    return Unit(component, within, lambda h: h @ vector.to(h)[:, None], words)


def _direction(ctx: Context, within: Component, examples: Sequence[Example], label: str) -> tuple[Tensor, str]:
    if not label:
        rows = np.concatenate(values(ctx.subject, examples, within, lambda h: h, ctx.max_tokens))
        _, _, axes = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
        first = axes[0] * (1.0 if np.abs(axes[0]).max() == axes[0].max() else -1.0)
        return torch.tensor(first, dtype=torch.float32), "its first principal component"
    name, equals, value = (part.strip() for part in label.partition("="))
    having = [e for e in examples if name in e.values] if equals else []
    if not having:
        raise ToolInputError(
            f"label: write label=value of the first corpus' examples, as subject_number=plural, not {label!r}"
        )
    chosen = np.array([str(v) == value for v in labels_of(having, name)])
    if min(chosen.sum(), (~chosen).sum()) < LEAST_LABELLED:
        there = sorted({str(v) for v in labels_of(having, name)})
        raise ToolInputError(f"label: too few examples have {label!r}, or have not; values are {', '.join(there[:20])}")
    at = within.but(anchor="-1")
    rows = collect(ctx.subject, having, [at], ctx.max_tokens)[at]
    step = rows[chosen].mean(0) - rows[~chosen].mean(0)
    return torch.tensor(
        step / max(float(np.linalg.norm(step)), 1e-12), dtype=torch.float32
    ), f"the direction of {label}"


def values(
    subject: Subject, examples: Sequence[Example], within: Component, read: Read, max_tokens: int
) -> list[Float[np.ndarray, "_positions units"]]:
    """What is read of a part at every position of each example."""
    (site,) = sites_of(subject, within)
    heads = subject.spec(within.stack).n_heads if site.kind in HEADED else 0
    out: dict[int, np.ndarray] = {}
    with subject.evaluating():
        for batch in microbatches(subject, examples, max_tokens):
            found = subject.run(batch.inputs, capture=[site]).captured[site]
            if within.units:
                found = found[..., channels_of(within.units, found.shape[-1] // heads)]
            for row, index in enumerate(batch.indices):
                n = batch.inputs.of(within.stack)[row]
                out[index] = read(found[row, :n].float()).double().cpu().numpy()
    return [out[i] for i in range(len(examples))]


def random_directions(unit: Unit, seed: int) -> Read:
    """`DRAWN` random directions of length 1 in the channels that a unit is read from."""
    generator = torch.Generator().manual_seed(int(unit_hash("directions", seed, str(unit.component)) * 2**62))
    made: dict[int, Tensor] = {}

    def read(h: Tensor) -> Tensor:
        width = h.shape[-1]
        if width not in made:
            drawn = torch.randn(width, DRAWN, generator=generator)
            made[width] = drawn / drawn.norm(dim=0)
        return h @ made[width].to(h)

    return read


def beside(first: Read, second: Read) -> Read:
    """What two read, side by side."""
    return lambda h: torch.cat([first(h), second(h)], dim=-1)


def untrained(subject: Subject, unit: Unit, seed: int) -> tuple[Subject, Read]:
    """A model of random weights, and what is read there: as many of its neurons or channels, drawn, or of its directions."""
    twin = random_twin(subject, seed)
    if not unit.component.units or unit.component.feature or PARTS[unit.component.part].unit == "head":
        return twin, random_directions(unit, seed + 1)
    rng = np.random.default_rng([seed, *unit.component.units])
    made: dict[int, list[int]] = {}

    def read(h: Tensor) -> Tensor:
        width = h.shape[-1]
        at = made.setdefault(width, sorted(rng.choice(width, min(DRAWN, width), replace=False).tolist()))
        return h[:, at]

    return twin, read
