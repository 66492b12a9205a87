"""Change what a probe reads of a label, at a place and at each later one, and see whether the answers become those that follow.

Each example supposes that one of its labels has another value and says which answers would be right then. Probes fitted on other
examples say how the state is moved: `add` goes along a linear probe's direction, `optimise` descends on the state until the
probe reads the new value and the other labels as before. What a model holds but does not use can be read, and changing it
changes nothing. Scored by answers wrongly in or out of the likeliest ones, against the supposed answers; controls: no
change, random changes of the same size, other examples' changes. With `saliency`, of one example and every label in turn,
how much less likely its answer gets when that label is turned over.
Source: Li et al. 2023, Emergent World Representations; Nanda et al. 2023.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from experiments_db.places import Component
from experiments_db.records import Array, Measurement, Outcome
from tools.methods.arguments import AMONG, components
from tools.methods.layout import select_components
from tools.methods.measuring import (
    ACCURACY,
    average,
    control_of,
    differences,
    fit_and_score,
    groups_of,
    measured,
    over_draws,
    where_of,
)
from tools.methods.rewriting import (
    How,
    Probes,
    Rewriting,
    Wanted,
    change_by,
    onward,
    rewritten,
    saliency,
    score_changes,
    set_errors,
    shown_change,
)
from tools.methods.saying import examples_of
from tools.methods.tables import as_array, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.tasks import Example, Task

KIND: Literal["experiment"] = "experiment"
NEEDS = "counterfactuals"
EXAMPLE = {"task": "othello", "label": "side.*", "components": ["*.2.resid_post@-1"]}
TRAIN_SHARE = 0.85
UNIT = "answers wrongly in or out"
RANDOM, OTHERS = "random changes of the same size", "other examples' changes"


class Args(ToolArgs):
    """Arguments of rewrite."""

    task: str = Field(
        description="a task whose examples say what would be right if a label were other than it is; see list_tasks"
    )
    label: str = Field(description="the label that is supposed to be other, or its family, such as side.*")
    components: list[str] = components(["resid_post@-1"], "from where on it is changed, each by itself")
    how: How = Field(default="add", description="along a linear probe's direction, or by descent on the state")
    model: Literal["linear", "mlp"] = Field(default="linear", description="the probe: ridge, or one hidden layer")
    dose: float = Field(
        default=1.0, gt=0, le=16, description="how clearly the new value is to be read; 1 is a perfect reading"
    )
    saliency: list[str] = Field(
        default=[],
        max_length=2,
        description="two values that are turned into each other, label by label, in one example; empty scores many examples",
    )
    among: str = AMONG
    examples: int = Field(default=1024, ge=40, le=4096, description="how many examples to use, most of them to fit on")


def run(args: Args, ctx: Context) -> Outcome:
    """Change every start by itself and score, or map one example's labels."""
    task, fitted, tried = fit_and_score(ctx, args.task, args.examples, TRAIN_SHARE, args.among)
    starts = [c.but(anchor=c.anchor or "-1") for c in select_components(ctx.subject, args.components)]
    if not starts:
        raise ToolInputError("components: name where the change begins, such as *.2.resid_post@-1")
    if len(args.saliency) == 1:
        raise ToolInputError("saliency: name two values that are turned into each other, or none")
    blocks = len(ctx.subject.spec(starts[0].stack).blocks)
    places = list(dict.fromkeys(p for c in starts for p in onward(blocks, c)))
    probes = Probes.at(ctx, fitted, places, args.label, "mlp" if args.model == "mlp" else "ridge")
    where: dict[str, Any] = {
        **where_of(ctx, task, args.among), "label": args.label, "variant": f"{args.how}, {args.model} probe",
    }  # fmt: skip
    about = f"{examples_of(task, args.among)} ({ctx.split}), fitted on {len(fitted)}"
    head = f"{args.label} changed by {args.how} with {args.model} probes, {about}"
    if args.saliency:
        return _map(args, ctx, task, tried[0], starts, probes, where, head)
    wanted = Wanted.of(probes.fitted.labels, tried)
    out: list[Measurement] = []
    rows: list[list[float]] = []
    for start in starts:
        mine = probes.of(onward(blocks, start))
        added = rewritten(ctx, tried, mine.places, change_by(args.how, mine, wanted, args.dose))
        found = score_changes(ctx, task, tried, added)
        made, row = _measurements(found, tried, {**where, "component": str(start), "dose": args.dose})
        out += made
        rows.append(row)
    columns = ["nothing changed", "changed", "random", "others'"]
    labels = [str(c) for c in starts]
    arrays = [as_array("set_errors", np.array(rows), [("component", labels), ("change", columns)], UNIT)]
    arrays += _shown(args, ctx, task, tried[:1], probes.of(onward(blocks, starts[0])), wanted)
    text = f"{head}, tried on {len(tried)}: {UNIT}, from each place on\n"
    return Outcome(
        text=text + text_table(labels, columns, np.array(rows)), measurements=tuple(out), arrays=tuple(arrays)
    )


def _measurements(
    found: Rewriting, tried: list[Example], where: dict[str, Any]
) -> tuple[list[Measurement], list[float]]:
    """Errors and accuracy against the supposed answers, under the change and beside its controls."""
    groups, out = groups_of(tried), list[Measurement]()
    none, changed = set_errors(found.none), set_errors(found.changed)
    random, others = (np.stack([set_errors(s) for s in drawn]) for drawn in (found.random, found.others))
    (beyond,) = differences(changed, others.mean(0), groups)
    (delta,) = differences(changed, none, groups)
    out.append(
        measured(
            "set_errors", UNIT, average(changed, groups),
            control=control_of(RANDOM, over_draws(random, groups), over_draws(changed - random, groups)), **where,
        )
    )  # fmt: skip
    out.append(measured("set_errors.intact", UNIT, average(none, groups), **where))
    out.append(
        measured(
            "set_errors.delta", UNIT, delta,
            control=control_of(RANDOM, over_draws(random - none, groups), over_draws(changed - random, groups)), **where,
        )
    )  # fmt: skip
    out.append(measured("set_errors.beyond_others", f"difference, {UNIT}", beyond, **where))
    right, before = ACCURACY.of(found.changed), ACCURACY.of(found.none)
    (gain,) = differences(right, before, groups)
    out.append(measured("accuracy.delta", "share of examples", gain, **where))
    return out, [float(x.mean()) for x in (none, changed, random, others)]


def _shown(args: Args, ctx: Context, task: Task, one: list[Example], probes: Probes, wanted: Wanted) -> list[Array]:
    """The first example: its labels as they are, as they are read before and after, and how likely each answer is."""
    change = change_by(args.how, probes, wanted.first(), args.dose)
    codes, odds, answers = shown_change(ctx, task, one[0], probes, change)
    labels = probes.fitted.labels
    short = [n.partition(".")[2] or n for n in labels.names]
    known = list(dict.fromkeys(v for values in labels.values for v in values))
    readings = ["true", "read", "supposed", "read after the change"]
    return [
        as_array("example_labels", codes, [("reading", readings), ("label", short)], " | ".join(known)),
        as_array("example_answers", odds, [("when", ["before", "after"]), ("answer", answers)], "probability"),
    ]


def _map(
    args: Args, ctx: Context, task: Task, example: Example, starts: list[Component], probes: Probes, where: dict[str, Any],
    head: str,
) -> Outcome:  # fmt: skip
    """Of one example, what turning each label over does to its likeliest answer."""
    blocks = len(ctx.subject.spec(starts[0].stack).blocks)
    names = probes.fitted.labels.names
    short = [n.partition(".")[2] or n for n in names]
    rows: list[NDArray[Any]] = []
    out: list[Measurement] = []
    answer = ""
    for start in starts:
        mine = probes.of(onward(blocks, start))
        falls, answer = saliency(ctx, task, example, mine, args.how, (args.saliency[0], args.saliency[1]), args.dose)
        rows.append(falls)
        for name, v in zip(names, falls.tolist(), strict=True):
            if not np.isnan(v):
                at: dict[str, Any] = {**where, "component": str(start), "label": name, "token": answer.strip()}
                out.append(Measurement(name="saliency", unit="nats", value=v, n=1, **at))
    if not out:
        raise ToolInputError(f"saliency: the probe reads no label as {' or '.join(args.saliency)} in the first example")
    table = np.stack(rows)
    text = f"{head}: how many nats less likely {answer.strip()!r} gets after {example.shown!r}, label by label\n"
    arrays = (as_array("saliency", table, [("component", [str(c) for c in starts]), ("label", short)], "nats"),)
    shown = [[str(m.label), f"{m.value:+.2f}"] for m in sorted(out, key=lambda m: -m.value)[:12]]
    return Outcome(text=text + "\n".join("  ".join(r) for r in shown), measurements=tuple(out), arrays=arrays)
