"""Push a component along a direction, at several doses, and see what happens to answers or to
text: does the direction do what it is thought to mean?

The direction is the difference of means between examples with a label's value and the others, the weights of a linear
probe for it, or random; it is fitted on examples other than those it is tried on, at the component's position (at -1, before
the answer, where it names none), and given the length of the difference of means, so that dose 1 is one such step.
`add` adds dose x direction, `set` first takes out what lies along it, `project_out` only takes out. `toward` is a text whose
probability (scoring) or presence in the completion (generating) is followed. The control is random directions of the same
length at the same dose. Source: Li et al. 2023 (inference-time intervention); Turner et al. 2023.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from experiments_db.places import Component, ComponentSet, Intervention, PlaceError
from experiments_db.records import Measurement, Outcome, tagged_hash
from tools.engine.sites import Edit
from tools.methods.anchors import positions
from tools.methods.arguments import AMONG
from tools.methods.effects import Change, Condition, score_under, sites_of
from tools.methods.features import two_classes
from tools.methods.layout import one_component
from tools.methods.measuring import (
    ACCURACY,
    PROBABILITY,
    Quantity,
    control_of,
    fit_and_score,
    groups_of,
    measured,
    others_of,
    over_draws,
    where_of,
)
from tools.methods.saying import examples_of
from tools.methods.scoring import batch_of
from tools.methods.tables import as_array, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.ports import Scores, port_of, replace_target
from tools.statistics import Groups
from tools.tasks import Example, Task

KIND: Literal["experiment"] = "experiment"
EXAMPLE = {
    "task": "agreement",
    "label": "subject_number",
    "value": "plural",
    "components": ["*.2.resid_post"],
    "toward": " are",
    "doses": [0, 1, 2],
}
RANDOM_DIRECTIONS = 4
Operation = Literal["add", "set", "project_out"]


class Args(ToolArgs):
    """Arguments of steer."""

    task: str = Field(description="a task spec whose examples are steered; see list_tasks")
    label: str = Field(description="a label of the task's examples, or answer: what the direction is about")
    value: str = Field(description="the label's value towards which the direction points")
    components: list[str] = Field(
        min_length=1,
        max_length=1,
        description="the one place that is pushed: *.2.resid_post, at every position, or @-1, or another anchor",
    )
    direction: Literal["mean_difference", "probe", "random"] = Field(
        default="mean_difference", description="how it is found"
    )
    operation: Operation = Field(default="add", description="what is done along it")
    doses: list[float] = Field(
        default=[0.0, 1.0, 2.0, 4.0],
        min_length=1,
        max_length=16,
        description="in steps of the difference of means; one is enough for project_out",
    )
    measure: Literal["score", "generate"] = Field(
        default="score", description="score the next tokens, or generate greedily"
    )
    toward: str | None = Field(
        default=None,
        min_length=1,
        description="a text to follow, with its leading space; null follows the task's own answer",
    )
    max_new_tokens: int = Field(default=8, ge=1, le=128, description="for generate")
    among: str = AMONG
    examples: int = Field(default=128, ge=16, le=2048, description="how many examples to use")


def run(args: Args, ctx: Context) -> Outcome:
    """Fit the direction, then try every dose beside random directions."""
    place = one_component(ctx.subject, args.components)
    _check_doses(args)
    task, fitted, tried = fit_and_score(ctx, args.task, args.examples, among=args.among)
    found = direction(args, ctx, place, fitted)
    generator = torch.Generator().manual_seed(ctx.seed)
    vectors = {_name(args.label, args.value, found): found}
    for i in range(RANDOM_DIRECTIONS):
        noise = _like(found, generator)
        vectors[_name("random", str(i), noise)] = noise
    series = (
        _scored(args, ctx, task, tried, place, vectors)
        if args.measure == "score"
        else _generated(args, ctx, tried, place, vectors)
    )
    where = {**where_of(ctx, task, args.among), "component": str(place), "label": f"{args.label}={args.value}"}
    where["variant"] = args.direction
    groups, own = groups_of(tried), next(iter(vectors))
    measurements = [m for q, values in series for m in _measurements(args, q, values, own, groups, where)]
    names = list(dict.fromkeys(m.name for m in measurements))
    of = {(m.name, m.dose): m for m in measurements}
    columns = [c for n in names for c in (n, "random")]
    table = np.array([[x for n in names for x in _pair(of[n, dose])] for dose in _doses(args)])
    about = f"{args.toward!r}" if args.toward else "the task's answer"
    text = (
        f"steering {place} by {args.operation} of {args.direction} for {args.label}={args.value} (length "
        f"{found.norm():.2f}), following {about}, {examples_of(task, args.among)} ({ctx.split}, n={len(tried)}), by dose\n"
    )
    return Outcome(
        text=text + text_table([f"{d:g}" for d in _doses(args)], columns, table, digits=3),
        measurements=tuple(measurements),
        arrays=(as_array("dose_curve", table, [("dose", _doses(args)), ("quantity", columns)]),),
    )


def _check_doses(args: Args) -> None:
    """ToolInputError for a dose that no record can hold."""
    try:
        for dose in args.doses:
            _intervention("add", "dir:x~0000", dose)
    except PlaceError as error:
        raise ToolInputError(f"doses: {error}") from None


def _doses(args: Args) -> list[float]:
    return list(dict.fromkeys(args.doses))


def _pair(m: Measurement) -> tuple[float, float]:
    assert m.control is not None
    return m.value, m.control.value


def _measurements(
    args: Args, q: Quantity, values: NDArray[np.float64], own: str, groups: Groups, where: dict[str, Any]
) -> list[Measurement]:
    """One quantity by dose: values (doses, directions, examples), the first direction the real one."""
    kind = f"{RANDOM_DIRECTIONS} random directions of the same length"
    known = ~np.isnan(values).any((0, 1))
    if not known.any():
        return []
    there = groups if known.all() else Groups.of(groups.codes[known])
    out: list[Measurement] = []
    for dose, rows in zip(_doses(args), values[..., known], strict=True):
        mine, others = rows[0], rows[1:]
        control = control_of(kind, over_draws(others, there, q.bounds), over_draws(mine - others, there, q.reach))
        how = str(_intervention(args.operation, own, dose))
        estimate = q.estimates(mine, there)[0]
        out.append(measured(q.name, q.unit, estimate, control=control, dose=dose, intervention=how, **where))
    return out


def _name(label: str, value: str, vector: Tensor) -> str:
    """A direction's name and the hash of what it is."""
    words = re.sub(r"[^\w.-]+", "_", f"{label}.{value}")
    return f"dir:{words}~{tagged_hash('direction', vector.tolist())[:12]}"


def _intervention(operation: Operation, name: str, dose: float) -> Intervention:
    if operation == "project_out":
        return Intervention(op="project_out", direction=name)
    return Intervention(op=operation, direction=name, dose=dose)


def _changes(operation: Operation, place: Component, name: str, dose: float) -> tuple[Change, ...]:
    """What is done one after the other: `set` takes out what lies along the direction, then adds."""
    made = ComponentSet.of(place)
    add, out = _intervention("add", name, dose), _intervention("project_out", name, dose)
    return {"add": ((made, add),), "set": ((made, out), (made, add)), "project_out": ((made, out),)}[operation]


def direction(args: Args, ctx: Context, place: Component, examples: list[Example]) -> Tensor:
    """The direction, (channels), as long as the difference of means."""
    x, labels = two_classes(ctx.subject, examples, place, args.label, args.value, ctx.max_tokens)
    difference = x[labels].mean(0) - x[~labels].mean(0)
    length = float(np.linalg.norm(difference))
    if args.direction == "probe":
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        fitted: Any = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)).fit(x, labels)
        weights = fitted[-1].coef_[0] / np.maximum(fitted[0].scale_, 1e-6)
        difference = weights / max(float(np.linalg.norm(weights)), 1e-12) * length
    vector = torch.tensor(difference, dtype=torch.float32)
    return _like(vector, torch.Generator().manual_seed(ctx.seed + 1)) if args.direction == "random" else vector


def _like(vector: Tensor, generator: torch.Generator) -> Tensor:
    """A random direction of the same length."""
    noise = torch.randn(vector.shape, generator=generator)
    return noise / noise.norm() * vector.norm()


def _aimed(example: Example, toward: str) -> Example:
    """The example with the followed text as its answer and the task's answer as its foil."""
    foil = example.answer if example.answer != toward else example.foil
    return replace(replace_target(example, toward), foil=foil)


Series = list[tuple[Quantity, NDArray[np.float64]]]  # values (doses, directions, examples)


def _scored(
    args: Args, ctx: Context, task: Task, tried: list[Example], place: Component, vectors: dict[str, Tensor]
) -> Series:
    """Every quantity under every dose of every direction."""
    followed = tried if args.toward is None else [_aimed(e, args.toward) for e in tried]
    aimed = task if args.toward is None else Task(task.name, task.description, task.draw)
    doses = _doses(args)
    conditions = [Condition(_changes(args.operation, place, name, dose)) for dose in doses for name in vectors]
    scores = score_under(ctx, aimed, followed, conditions, directions=vectors, kl=True)[1:]

    def of(q: Quantity) -> NDArray[np.float64]:
        return np.stack([q.of(s) for s in scores]).reshape(len(doses), len(vectors), len(tried))

    def margin(s: Scores) -> NDArray[np.float64]:
        return s.foil_margin

    unit = port_of(ctx.subject).margin_unit.partition(",")[0]
    quantities = [
        Quantity("probability", "of the followed text", PROBABILITY.of, PROBABILITY.bounds),
        Quantity(
            "accuracy", "share of examples: the followed text is on top", ACCURACY.of, ACCURACY.bounds, binary=True
        ),
        Quantity("kl", "nats from the intact model", lambda s: s.kl),
        Quantity("logit_margin", f"{unit}, followed text minus its foil", margin),
    ]
    lacks = scores[0].lacks  # what a model that answers otherwise has instead stands in its place
    quantities = [q for q in quantities if q.name not in lacks] + others_of(scores[0])
    return [(q, of(q)) for q in quantities]


def _generated(
    args: Args, ctx: Context, examples: list[Example], place: Component, vectors: dict[str, Tensor]
) -> Series:
    """Share of completions that contain the followed text, and that differ from the intact ones."""
    subject = ctx.subject
    (site,) = sites_of(subject, place)
    subject.require("next_token")
    rows = [subject.tokens(e.shown) for e in examples]
    at = positions(subject, batch_of(subject, examples), place.anchor or "all")
    if at is not None and any(p >= len(row) for p, row in zip(at.max(1).values.tolist(), rows, strict=True)):
        raise ToolInputError("components: to generate, push a position of the text, such as -1, or all")
    wanted = [(args.toward or e.answer).strip() for e in examples]

    def completions(edits: Sequence[Edit] = ()) -> list[str]:
        made = subject.generate(rows, args.max_new_tokens, edits=edits)
        return [subject.completion(p, t) for p, t in zip(rows, made, strict=True)]

    with subject.evaluating():
        intact = completions()
        texts = [
            completions(_edits(args.operation, site, place, vectors[name].to(subject.device), dose, at))
            for dose in _doses(args)
            for name in vectors
        ]
    shape = (len(_doses(args)), len(vectors), len(examples))
    has = np.array([[float(w in t) for w, t in zip(wanted, made, strict=True)] for made in texts]).reshape(shape)
    differs = np.array([[float(a != b) for a, b in zip(made, intact, strict=True)] for made in texts]).reshape(shape)
    unit = "share of completions"
    return [
        (Quantity("contains", f"{unit} with the followed text", _unread, (0.0, 1.0), binary=True), has),
        (Quantity("changed", f"{unit} that differ from the intact model's", _unread, (0.0, 1.0), binary=True), differs),
    ]


def _unread(_: Scores) -> NDArray[np.float64]:
    raise NotImplementedError("completions have no scores")


def _edits(
    operation: Operation, site: Any, place: Component, vector: Tensor, dose: float, at: Tensor | None
) -> tuple[Edit, ...]:
    units = place.units or None
    add, out = Edit(site, "add", dose * vector, at, units), Edit(site, "project_out", vector, at, units)
    return {"add": (add,), "set": (out, add), "project_out": (out,)}[operation]
