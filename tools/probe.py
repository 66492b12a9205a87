"""Fit a probe that reads a label from activations, per component and position: is the variable there, in a form that a
linear map (or a small MLP) can read?

The label is any label of the task's examples, such as an operand, a carry or a number, or the answer; `% 2` after it gives
parity. Classes are scored by accuracy, numbers by R2, always on examples the probe was not fitted on. The control is a control
task, a random label for every token at the position (Hewitt and Liang 2019); beside it stand the same probe on shuffled labels
and on a randomly initialised twin of the model, and the share of the most frequent class. What can be read need not be used:
`erasure` says how the task is done without it. A family of labels (`side.*`) is read by one probe each, of all places in one
solve, and scored by the share of them that is right. With the model `centroid`, how much nearer the own class's centroid is
shows how far context has moved a word towards one of its senses; most of the distance is between words, which `beyond` takes
away.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from experiments_db.places import Component
from experiments_db.records import Measurement, Outcome
from tools.methods.arguments import AMONG, DEPTH, components
from tools.methods.batched_probes import Labels, Model
from tools.methods.features import class_labels, collect, labels_named, labels_of, number_labels, random_twin
from tools.methods.layout import chosen_components
from tools.methods.many_labels import Sample, amnesic, check_class, coded, each_label, probed
from tools.methods.measuring import averages, control_of, differences, fit_and_score, groups_of, measured, where_of
from tools.methods.probing import CONTROL_TASK, SHUFFLED, Probe, check_size, control_labels, without_means
from tools.methods.saying import examples_of
from tools.methods.tables import as_array, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.statistics import Groups
from tools.tasks import Example, Task

KIND: Literal["experiment"] = "experiment"
EXAMPLE = {"task": "addition", "label": "a % 2", "dimensions": 16, "examples": 128}
TRAIN_SHARE = 0.7


class Args(ToolArgs):
    """Arguments of probe."""

    task: str = Field(description="a task spec; see list_tasks")
    label: str = Field(
        description="a label of the task's examples, a family such as side.*, or answer; with ' % 2' its parity"
    )
    target: Literal["class", "number"] = Field(default="class", description="class: accuracy; number: regression, R2")
    model: Literal["linear", "ridge", "mass_mean", "sparse", "mlp", "centroid"] = Field(
        default="linear",
        description="logistic or ridge regression (of families ridge), ridge on classes, the nearest class mean, few channels "
        "(L1), one hidden layer, or the nearest centroid of a class, with how much nearer the own one is than another",
    )
    components: list[str] = components(["resid_post@-1"], "what it is read from; several positions are averaged")
    depth: int = DEPTH
    dimensions: int | None = Field(
        default=None,
        ge=1,
        description="reduce the activations to so many principal components first; null uses all channels",
    )
    beyond: str = Field(
        default="",
        description="a label, or a span for its word: what all states with one value of it have in common is taken away first, so "
        "that what context adds is left",
    )
    also: list[Literal["code_length", "erasure"]] = Field(
        default=[],
        max_length=2,
        description="bits of a code of the labels that learns as it goes (MDL); the task's accuracy once what a linear probe reads "
        "is erased from there on (amnesic probing)",
    )
    among: str = AMONG
    examples: int = Field(default=256, ge=40, le=4096, description="how many examples to use")


def run(args: Args, ctx: Context) -> Outcome:
    """Probe every component."""
    task, fitted, scored = fit_and_score(ctx, args.task, args.examples, TRAIN_SHARE, args.among)
    both, n_train = [*fitted, *scored], len(fitted)
    places = chosen_components(ctx.subject, args.components, both, args.depth)
    if args.model == "centroid" and args.target == "number":
        raise ToolInputError("model: a number has no centroids; use target class, or the linear model")
    if args.label.endswith(".*") or args.also or args.model in ("ridge", "mass_mean", "sparse"):
        return _many(args, ctx, task, both, n_train, places)
    assert args.model not in ("ridge", "mass_mean", "sparse")
    probe = Probe(args.target, args.model, args.dimensions)
    y, names = _targets(args, both)
    own = collect(ctx.subject, both, places, ctx.max_tokens)
    for x in own.values():
        if args.model != "centroid" or args.dimensions is not None:  # as many centroids as classes, whatever the width
            check_size(probe, n_train, x.shape[1], TRAIN_SHARE)
    twin = collect(random_twin(ctx.subject, ctx.seed), both, places, ctx.max_tokens)
    if args.beyond:
        kinds = labels_of(both, args.beyond)
        own, twin = ({c: without_means(x, kinds, n_train) for c, x in found.items()} for found in (own, twin))
    shuffled = np.random.default_rng(ctx.seed).permutation(y)
    groups = groups_of(scored)
    variant = f"{args.model} probe" + (f" beyond {args.beyond}" if args.beyond else "")
    where: dict[str, Any] = {**where_of(ctx, task, args.among), "variant": variant, "label": args.label}
    name, unit = ("accuracy", "share of examples") if args.target == "class" else ("r2", "share of variance explained")

    def read(x: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
        return probe.predict(x[:n_train], labels[:n_train], x[n_train:], ctx.seed)

    measurements: list[Measurement] = []
    rows: list[list[float]] = []
    truth = y[n_train:]
    for place, x in own.items():
        control = control_labels(ctx.subject, both, place, y, ctx.seed)
        labels, kind = (shuffled, SHUFFLED) if control is None else (control, CONTROL_TASK)
        mine, other = read(x, y), read(x, labels)
        base = probe.score(labels[n_train:], other, groups)
        apart = differences(mine == truth, other == labels[n_train:], groups)[0] if names else None
        at = {**where, "component": str(place)}
        beside = control_of(kind, base, apart)
        made = measured(name, unit, probe.score(truth, mine, groups), control=beside, **at)
        permuted = probe.score(shuffled[n_train:], read(x, shuffled), groups)
        untrained = probe.score(truth, read(twin[place], y), groups)
        measurements += [
            made,
            measured(f"{name}.shuffled", unit, permuted, **at),
            measured(f"{name}.random_init", unit, untrained, **at),
        ]
        if args.model == "centroid":
            near, by_chance, blind = (
                probe.margins(z[:n_train], v[:n_train], z[n_train:], v[n_train:], ctx.seed)
                for z, v in ((x, y), (x, shuffled), (twin[place], y))
            )
            measurements += _margins(near, by_chance, blind, groups, at)
        rows.append([made.value, base.value, permuted.value, untrained.value])
    majority = float(np.mean(truth == np.bincount(y[:n_train].astype(int)).argmax())) if names else 0.0
    baseline = Measurement(name="majority", unit=unit, value=majority, n=groups.n, groups=groups.count, **where)
    what = f"{len(names)} classes" if names else "a number"
    beyond = f", beyond the mean of each {args.beyond}" if args.beyond else ""
    text = (
        f"{args.model} probe of {args.label} ({what}), {examples_of(task, args.among)} "
        f"({ctx.split}){beyond}: {name} on {len(scored)} examples, fitted on "
        f"{n_train}; {'most frequent class' if names else 'mean'} {majority:.2f}\n"
    )
    columns, table = [name, "control task", "shuffled", "random init"], np.array(rows)
    labels_ = [str(c) for c in own]
    return Outcome(
        text=text + text_table(labels_, columns, table),
        measurements=(*measurements, baseline),
        arrays=(as_array(name, table, [("component", labels_), ("probe", columns)], unit),),
    )


def _many(
    args: Args, ctx: Context, task: Task, examples: list[Example], cut: int, places: Sequence[Component]
) -> Outcome:
    """Probes of one label or a family, all places at once, with what else was asked for."""
    if args.target == "number" or args.model == "centroid" or args.dimensions is not None or args.beyond:
        raise ToolInputError(
            f"model: {args.label} is read as classes from all channels here: use linear, ridge, mass_mean, sparse or mlp, "
            "without dimensions and beyond"
        )
    names = labels_named(examples, args.label)
    labels = Labels.of({n: labels_of(examples, n) for n in names})
    check_class(labels, cut)
    family = len(names) > 1
    model: Model = ("ridge" if family else "logistic") if args.model == "linear" else args.model
    states = [collect(s, examples, places, ctx.max_tokens) for s in (ctx.subject, random_twin(ctx.subject, ctx.seed))]
    for x in states[0].values():
        check_size(Probe(), cut, x.shape[1], TRAIN_SHARE)
    sample = Sample(examples, cut, labels, *states)
    unit = f"share of {args.label}" if family else "share of examples"
    where: dict[str, Any] = {**where_of(ctx, task, args.among), "variant": f"{model} probe", "label": args.label}
    found = [("accuracy", unit, probed(ctx, sample, model, unit, where))]
    if "code_length" in args.also:
        found.append(("code_length", "bits a label", coded(ctx, sample, model, where)))
    if "erasure" in args.also:
        found.append(("erasure", "accuracy of the task", amnesic(ctx, task, sample, where)))
    text = (
        f"{model} probe of {args.label} ({len(names)} label{'s' if family else ''}), "
        f"{examples_of(task, args.among)} ({ctx.split}): {len(examples) - cut} examples, fitted on {cut}\n"
    )
    rows = [str(c) for c in places]
    arrays = [as_array(n, table, [("component", rows), ("probe", columns)], u) for n, u, (_, table, columns) in found]
    if family:
        short = [n.partition(".")[2] for n in names]
        arrays.append(
            as_array("by_label", each_label(sample, model, ctx), [("component", rows), ("label", short)], unit)
        )
    return Outcome(
        text=text + "\n".join(text_table(rows, columns, table) for _, _, (_, table, columns) in found),
        measurements=tuple(m for _, _, (made, _, _) in found for m in made),
        arrays=tuple(arrays),
    )


def _margins(
    own: NDArray[Any], shuffled: NDArray[Any], untrained: NDArray[Any], groups: Groups, at: dict[str, Any]
) -> list[Measurement]:
    """How much nearer the own centroid is, beside shuffled labels, and the same on the random twin."""
    unit, bounds = "(other - own) / (other + own) distance", (-1.0, 1.0)
    (value,), (base,), (blind,) = (averages(v, groups, bounds) for v in (own, shuffled, untrained))
    (apart,) = differences(own, shuffled, groups, (-2.0, 2.0))
    (trained,) = differences(own, untrained, groups, (-2.0, 2.0))
    return [
        measured("centroid_margin", unit, value, control=control_of("shuffled labels", base, apart), **at),
        measured("centroid_margin.random_init", unit, blind, **at),
        measured("centroid_margin.beyond_random_init", f"difference, {unit}", trained, **at),
    ]


def _targets(args: Args, examples: list[Example]) -> tuple[NDArray[Any], list[str]]:
    values = labels_of(examples, args.label)
    if args.target == "class":
        return class_labels(values)
    numbers = number_labels(values)
    if numbers is None or np.ptp(numbers) == 0:
        raise ToolInputError(f"label: {args.label} does not vary, or is no number: use target class, or another label")
    return numbers, []
