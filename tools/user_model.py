"""What the model holds about its user, and about itself: attributes read where the answer begins, and pinned there to see whether
the answer changes.

Attributes are labels that begin with `user ` or `model `. At each place a linear probe reads them on examples it was not fitted
on, beside a bag of the prompt's words, the last word that the user said, and a randomly initialised twin; what is no better than
chance is said to be. A pin puts the activation where another value's mean lies along the direction that tells the values apart,
from the end of the prompt on: the share of answers that go over to the other one stands beside random directions of the same
size, and beside how many go over when the user says otherwise. Source: Chen et al. 2024; Viégas and Wattenberg 2023.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from experiments_db.places import Component, ComponentSet, Intervention
from experiments_db.records import Measurement, Outcome, tagged_hash
from tools.methods.arguments import AMONG, components
from tools.methods.attributes import BAG, Believed, Probe, attributes_of, believed
from tools.methods.effects import Condition, score_under
from tools.methods.features import collect, labels_of, random_twin
from tools.methods.layout import chosen_components
from tools.methods.measuring import (
    averages,
    control_of,
    differences,
    fit_and_score,
    groups_of,
    measured,
    over_draws,
    shares,
    where_of,
)
from tools.methods.saying import examples_of
from tools.methods.tables import as_array, text_table
from tools.methods.tool import Context, ToolArgs
from tools.ports import flipped
from tools.statistics import Groups
from tools.tasks import Example, Task

KIND: Literal["experiment"] = "experiment"
NEEDS = "attributes"
EXAMPLE: dict[str, object] = {"task": "host", "components": ["*.2-3.resid_post@-1"], "examples": 96}
DRAWS = 3
RANDOM = f"{DRAWS} random directions of the same size"
Rows = NDArray[np.float64]


class Args(ToolArgs):
    """Arguments of user_model."""

    task: str = Field(description="conversations whose labels say something of the user or the model; see list_tasks")
    components: list[str] = components(["resid_post@-1"], "what is read, where the answer begins")
    strength: float = Field(
        default=2.0,
        ge=-10,
        le=10,
        description="how far a pin goes: 1 is to the value's mean, 0 half-way between the values",
    )
    among: str = AMONG
    examples: int = Field(default=256, ge=64, le=2048, description="how many examples, half of them to fit on")


@dataclass(frozen=True)
class _Bench:
    """What is measured on: the task, the examples to fit and to try on, and where."""

    args: Args
    ctx: Context
    task: Task
    fitted: list[Example]
    tried: list[Example]
    where: dict[str, Any]

    @property
    def both(self) -> list[Example]:
        """All examples, those to fit on first."""
        return [*self.fitted, *self.tried]


def run(args: Args, ctx: Context) -> Outcome:
    """Read every attribute at every place, and pin it at those where it is read."""
    task, fitted, tried = fit_and_score(ctx, args.task, args.examples, among=args.among)
    bench = _Bench(args, ctx, task, fitted, tried, where_of(ctx, task, args.among))
    places = chosen_components(ctx.subject, args.components, bench.both)
    own = collect(ctx.subject, bench.both, places, ctx.max_tokens)
    twin = collect(random_twin(ctx.subject, ctx.seed), bench.both, places, ctx.max_tokens)
    labels, n = attributes_of(bench.both), len(fitted)
    out: list[Measurement] = []
    lines: list[str] = []
    table = np.full((len(labels), len(places)), np.nan)
    for i, label in enumerate(labels):
        ctx.progress(label)
        y, truth = (np.array([str(v) for v in labels_of(e, label)]) for e in (fitted, tried))
        found: list[tuple[Probe, Believed]] = []
        for j, place in enumerate(places):
            probe, blind = (Probe.fit(label, place, x[place][:n], y.tolist()) for x in (own, twin))
            right, untrained = (
                (np.array(p.read(x[place][n:])) == truth).astype(float) for p, x in ((probe, own), (blind, twin))
            )
            how = believed(label, fitted, tried, right)
            out += _read(bench, probe, how, right, untrained)
            table[i, j] = how.own.value
            found.append((probe, how))
        best = max(found, key=lambda f: f[1].own.value)
        lines.append(
            f"{label}: {best[1].words} (best at {best[0].place}: {best[1].own.value:.2f}, {BAG} {best[1].bag.value:.2f})"
        )
        out += _pinned(bench, [p for p, how in found if how.there], own)
    head = f"attributes of who speaks, {examples_of(task, args.among)} ({ctx.split}), fitted on {n}, tried on {len(tried)}\n"
    names = [str(p) for p in places]
    return Outcome(
        text=head + text_table(labels, names, table) + "\n" + "\n".join([*lines, *_told(out)]),
        measurements=tuple(out),
        arrays=(as_array("read", table, [("attribute", labels), ("component", names)], "share of examples"),),
    )


def _read(bench: _Bench, probe: Probe, how: Believed, right: Rows, untrained: Rows) -> list[Measurement]:
    """How well a probe reads, beside what the words alone tell."""
    groups, unit = groups_of(bench.tried), "share of examples"
    at: dict[str, Any] = {**bench.where, "label": probe.label, "component": str(probe.place)}
    trained = differences(right, untrained, groups)[0]
    return [
        measured("read", unit, how.own, control=control_of(BAG, how.bag, how.beyond_bag), **at),
        measured("read.beyond_last_word", f"difference, {unit}", how.beyond_last, **at),
        measured("read.beyond_random_init", f"difference, {unit}", trained, **at),
        Measurement(name="read.majority", unit=unit, value=how.chance, n=groups.n, groups=groups.count, **at),
    ]


def turned(examples: Sequence[Example], label: str) -> list[int]:
    """The examples whose foil is the answer with the attribute the other way round: those that do not say it is another."""
    return [
        i for i, e in enumerate(examples)
        if e.foil is not None and str(e.values.get("turns", label.split()[-1])) == label.split()[-1]
    ]  # fmt: skip


def _pinned(bench: _Bench, probes: Sequence[Probe], own: dict[Component, NDArray[Any]]) -> list[Measurement]:
    """At each place how many answers go over to the other one when the attribute is pinned to its other value."""
    if not probes or len(probes[0].classes) != 2:
        return []
    rows = turned(bench.tried, probes[0].label)
    examples = [bench.tried[i] for i in rows]
    if len({e.group for e in examples}) < 8:
        return []
    directions: dict[str, torch.Tensor] = {}
    conditions: list[Condition] = []
    rng = np.random.default_rng(bench.ctx.seed)
    for probe in probes:
        x = own[probe.place][len(bench.fitted) :][rows].astype(np.float64)
        other = [next(c for c in probe.classes if c != v) for v in map(str, labels_of(examples, probe.label))]
        pins = {c: probe.pin(c, bench.args.strength) for c in probe.classes}
        change = np.array([pins[v][1] - row @ pins[v][0] for v, row in zip(other, x, strict=True)])
        steps = [np.stack([pins[v][0] * t for v, t in zip(other, change, strict=True)])]
        for _ in range(DRAWS):
            noise = rng.standard_normal(x.shape)
            steps.append(noise / np.linalg.norm(noise, axis=1, keepdims=True) * np.abs(change)[:, None])
        for step in steps:
            name = f"dir:{'.'.join(probe.label.split())}~{tagged_hash('direction', np.round(step, 6).tolist())[-12:]}"
            directions[name] = torch.tensor(step, dtype=torch.float32)
            made = ComponentSet.of(probe.place.but(anchor="answer.first"))
            conditions.append(Condition(((made, Intervention(op="add", direction=name, dose=1.0)),)))
    intact, *scores = score_under(bench.ctx, bench.task, examples, conditions, directions=directions)
    groups = groups_of(examples)
    base = flipped(intact)
    out = _expected(bench, examples, probes[0].label, groups)
    for k, probe in enumerate(probes):
        mine, *random = (flipped(s) - base for s in scores[k * (1 + DRAWS) : (k + 1) * (1 + DRAWS)])
        drawn = np.stack(random)
        control = control_of(
            RANDOM, over_draws(drawn, groups, (-1.0, 1.0)), over_draws(mine - drawn, groups, (-2.0, 2.0))
        )
        at: dict[str, Any] = {**bench.where, "label": probe.label, "component": str(probe.place)}
        value = averages(mine, groups, (-1.0, 1.0))[0]
        out.append(measured("pinned", "share of answers that go over", value, control=control, **at))
    return out


def _expected(bench: _Bench, examples: Sequence[Example], label: str, groups: Groups) -> list[Measurement]:
    """How many answers go over when the user says otherwise: what a pin can be held against."""
    if any(e.twin_inputs is None for e in examples):
        return []
    twins = [e.as_twin(str(e.foil)) for e in examples]
    said = score_under(bench.ctx, bench.task, twins, [])[0].correct
    value = shares(said.astype(float), groups)[0]
    return [measured("expected", "share of answers that go over", value, label=label, **bench.where)]


def _told(found: Sequence[Measurement]) -> list[str]:
    """Pins in words."""
    expected = {m.label: m.value for m in found if m.name == "expected"}
    return [
        f"pinned {m.label} at {m.component}: {m.value:.2f} of answers go over (random {m.control.value:.2f}"
        + (f", said otherwise {expected[m.label]:.2f})" if m.label in expected else ")")
        for m in found if m.name == "pinned" and m.control
    ]  # fmt: skip
