"""Probes of one label or a family of them at many places, beside their controls, in one batched fit each.

Beside the probe itself: the control task (a token's labels are those of a random problem), shuffled labels, a randomly
initialised twin, how long a code of the labels is that learns as it goes, and how the task is done without what the probe reads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments_db.places import Component
from experiments_db.records import Measurement
from tools.methods.batched_probes import Fitted, Labels, Model, code_length, fit
from tools.methods.effects import score_under
from tools.methods.erasing import Eraser, leace, random_eraser
from tools.methods.features import collect
from tools.methods.measuring import ACCURACY, averages, control_of, differences, groups_of, measured, over_draws
from tools.methods.probing import CONTROL_TASK, SHUFFLED, control_labels
from tools.methods.rewriting import additions, onward, rewritten
from tools.methods.tool import Context, ToolInputError
from tools.statistics import Estimate, Groups
from tools.tasks import Example, Task

DRAWS = 2
ERASED = "random directions erased, as many"
States = Mapping[Component, NDArray[Any]]


@dataclass(frozen=True)
class Sample:
    """What is probed: examples, the first `cut` of them to fit on; own and twin: their states at each place."""

    examples: Sequence[Example]
    cut: int
    labels: Labels
    own: States
    twin: States

    @property
    def places(self) -> tuple[Component, ...]:
        """The components, in order."""
        return tuple(self.own)

    @property
    def groups(self) -> Groups:
        """The independent problems of the examples to score on."""
        return groups_of(self.examples[self.cut :])


def right(sample: Sample, states: States, labels: Sequence[Labels], model: Model, ctx: Context) -> NDArray[np.float64]:
    """For each place the share of an example's labels that are read right, (places, examples to score on).

    labels: those of each place. Places of as many channels, with the same labels, are fitted together.
    """
    out = np.zeros((len(sample.places), len(sample.examples) - sample.cut))
    together: dict[tuple[int, int], list[int]] = {}
    for i, (c, wanted) in enumerate(zip(sample.places, labels, strict=True)):
        together.setdefault((states[c].shape[1], id(wanted)), []).append(i)
    for places in together.values():
        x, wanted = stacked(states, [sample.places[i] for i in places]), labels[places[0]]
        fitted = fit(x[:, : sample.cut], wanted.rows(slice(sample.cut)), model, ctx.seed, ctx.check)
        out[places] = (fitted.read(x[:, sample.cut :]) == wanted.codes[sample.cut :]).mean(-1)
    return out


def stacked(states: States, places: Sequence[Component]) -> Tensor:
    """States of places of as many channels, (places, examples, channels)."""
    return torch.stack([torch.from_numpy(states[c]) for c in places])


def probed(
    ctx: Context, sample: Sample, model: Model, unit: str, where: Mapping[str, Any]
) -> tuple[list[Measurement], NDArray[Any], list[str]]:
    """Accuracy at every place beside its controls: measurements, a table (places, kinds) and what its columns are."""
    n, labels, groups = len(sample.examples), sample.labels, sample.groups
    shuffled = labels.rows(np.random.default_rng(ctx.seed).permutation(n))
    controls: list[Labels] = []
    for c in sample.places:
        order = control_labels(ctx.subject, sample.examples, c, np.arange(n), ctx.seed)
        controls.append(shuffled if order is None else labels.rows(order))
    same = [labels] * len(sample.places)
    mine, untrained = right(sample, sample.own, same, model, ctx), right(sample, sample.twin, same, model, ctx)
    permuted = right(sample, sample.own, [shuffled] * len(same), model, ctx)
    base = right(sample, sample.own, controls, model, ctx)
    out: list[Measurement] = []
    for i, c in enumerate(sample.places):
        at: dict[str, Any] = {**where, "component": str(c)}
        kind = SHUFFLED if controls[i] is shuffled else CONTROL_TASK
        value, control, shuffle, blind = averages(
            np.stack([mine[i], base[i], permuted[i], untrained[i]]), groups, (0.0, 1.0)
        )
        (apart,) = differences(mine[i], base[i], groups, (-1.0, 1.0))
        (beyond,) = differences(mine[i], untrained[i], groups, (-1.0, 1.0))
        out += [
            measured("accuracy", unit, value, control=control_of(kind, control, apart), **at),
            measured("accuracy.shuffled", unit, shuffle, **at),
            measured("accuracy.random_init", unit, blind, **at),
            measured("accuracy.beyond_random_init", f"difference, {unit}", beyond, **at),
        ]
    most = np.array([np.bincount(column).argmax() for column in labels.codes[: sample.cut].T])
    (often,) = averages((labels.codes[sample.cut :] == most).mean(-1), groups, (0.0, 1.0))
    out.append(measured("majority", unit, often, **where))
    table = np.stack([x.mean(-1) for x in (mine, base, permuted, untrained)], -1)
    return out, table, ["accuracy", "control task", "shuffled", "random init"]


def each_label(sample: Sample, model: Model, ctx: Context) -> NDArray[np.float64]:
    """The share of examples in which each label is read right, (places, labels)."""
    out = np.zeros((len(sample.places), len(sample.labels.names)))
    for i, c in enumerate(sample.places):
        fitted, held = fitted_at(sample, [c], model, ctx), stacked(sample.own, [c])[:, sample.cut :]
        out[i] = (fitted.read(held)[0] == sample.labels.codes[sample.cut :]).mean(0)
    return out


def fitted_at(sample: Sample, places: Sequence[Component], model: Model, ctx: Context) -> Fitted:
    """Probes at places of as many channels, fitted on the examples to fit on."""
    x = stacked(sample.own, places)[:, : sample.cut]
    return fit(x, sample.labels.rows(slice(sample.cut)), model, ctx.seed, ctx.check)


def coded(
    ctx: Context, sample: Sample, model: Model, where: Mapping[str, Any]
) -> tuple[list[Measurement], NDArray[Any], list[str]]:
    """Bits a label of a code that learns as it goes (Voita and Titov 2020), beside shuffled labels and the random twin."""
    unit, groups = "bits a label", groups_of(sample.examples)
    shuffled = sample.labels.rows(np.random.default_rng(ctx.seed).permutation(len(sample.examples)))
    rows: list[list[float]] = []
    out: list[Measurement] = []

    def bare(value: float) -> Estimate:
        return Estimate(value, -np.inf, np.inf, groups.n, groups.count)

    kind = "mlp" if model == "mlp" else "logistic"
    for c in sample.places:
        found = [
            float(code_length(stacked(x, [c]), y, kind, ctx.seed, ctx.check).mean())
            for x, y in ((sample.own, sample.labels), (sample.own, shuffled), (sample.twin, sample.labels))
        ]
        at: dict[str, Any] = {**where, "component": str(c)}
        out.append(
            measured("code_length", unit, bare(found[0]), control=control_of("shuffled labels", bare(found[1])), **at)
        )
        out.append(measured("code_length.random_init", unit, bare(found[2]), **at))
        rows.append(found)
    even = float(np.mean([np.log2(len(v)) for v in sample.labels.values]))
    out.append(measured("code_length.even_odds", unit, bare(even), **where))
    return out, np.array(rows), ["bits", "shuffled", "random init"]


def amnesic(
    ctx: Context, task: Task, sample: Sample, where: Mapping[str, Any]
) -> tuple[list[Measurement], NDArray[Any], list[str]]:
    """How the task is done when whatever a linear probe could read of the labels is erased, beside as many random directions.

    It is erased at each place, of the residual stream there and after every later block, by LEACE fitted there; the examples
    are those to score on.
    """
    tried, groups = sample.examples[sample.cut :], sample.groups
    z = sample.labels.rows(slice(sample.cut)).one_hot()
    rows: list[list[float]] = []
    out: list[Measurement] = []
    for c in sample.places:
        start = c if c.anchor and c.anchor != "all" else c.but(anchor="-1")
        later = (
            onward(len(ctx.subject.spec(c.stack).blocks), start) if c.part == "resid_post" and not c.units else [start]
        )
        erasers, rank = _erasers(ctx, sample, later, z)
        added = [rewritten(ctx, tried, later, _erase(e)) for e in erasers]
        directions, conditions = additions(added)
        intact, erased, *drawn = score_under(ctx, task, tried, conditions, directions=directions)
        base, value, others = ACCURACY.of(intact), ACCURACY.of(erased), np.stack([ACCURACY.of(s) for s in drawn])
        (change,) = differences(value, base, groups)
        beside = control_of(
            ERASED, over_draws(others - base, groups, (-1.0, 1.0)), over_draws(value - others, groups, (-1.0, 1.0))
        )
        at: dict[str, Any] = {**where, "component": str(c)}
        out.append(measured("erased.delta", "share of examples", change, control=beside, **at))
        out.append(
            Measurement(name="erased.rank", unit="directions", value=float(rank), n=groups.n, groups=groups.count, **at)
        )
        rows.append([float(base.mean()), float(value.mean()), float(others.mean()), float(rank)])
    return out, np.array(rows), ["intact", "erased", "random", "directions"]


def _erasers(ctx: Context, sample: Sample, places: Sequence[Component], z: Tensor) -> tuple[list[list[Eraser]], int]:
    """LEACE at each place, then as many random directions, several times; and how many LEACE takes out at the first."""
    fitted = list(sample.examples[: sample.cut])
    states = [torch.from_numpy(x) for x in collect(ctx.subject, fitted, places, ctx.max_tokens).values()]
    own = [leace(x, z) for x in states]
    generator = torch.Generator().manual_seed(ctx.seed)
    return [
        own,
        *([random_eraser(x, e.rank, generator) for x, e in zip(states, own, strict=True)] for _ in range(DRAWS)),
    ], own[0].rank


def _erase(erasers: Sequence[Eraser]) -> Callable[[int, Tensor, Sequence[int]], Tensor]:
    return lambda place, x, _: erasers[place](x)


def check_class(labels: Labels, cut: int) -> None:
    """ToolInputError where nothing can be read: no label has two values among the examples to fit on."""
    if all(len(np.unique(column)) < 2 for column in labels.codes[:cut].T):
        raise ToolInputError("label: the examples to fit on have only one class: use more examples")
