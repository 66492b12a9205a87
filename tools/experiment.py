"""Run code of your own on the model: it gets prompts and the subject, never an answer, and what it returns is measured here.

Define one function of (subject, batch, components). `edits` returns a list of {"component", "op", "value"}: op zero, scale (a
number), set, add or project_out (a vector, of (channels,), or for set and add (n, channels)); the task is scored under all of
them together. `features` returns (n, d) numbers and `values` (n,): a linear probe reads the label from them, on examples it was
not fitted on.

`batch.states(component)` is what a component writes, (n, channels), averaged over its positions; `batch.positions(anchor)` are
token positions; `batch.fitting` is another batch, for means and directions; `batch.inputs` goes into `subject.run(inputs,
edits=..., capture=[...])`, and `subject.model` is the model. torch, np and scipy.linalg are there, no files, network or
processes, for one minute and 2 GB. The code is asked twice and must answer the same; it runs on a random-init twin too and is not
told which. Claim what it shows with examine, kind own and the address of the code as program.
"""

from typing import Any, Literal

import numpy as np
from pydantic import Field

from experiments_db.records import Measurement, Outcome
from tools.findings.kinds.decodable import predicted
from tools.findings.null_twins import null_twin, shuffled_answers
from tools.methods.arguments import AMONG, WHERE
from tools.methods.effects import RANDOM_VECTOR, score_under
from tools.methods.layout import select_set
from tools.methods.measuring import (
    averages,
    control_of,
    differences,
    effect_measurements,
    fit_and_score,
    groups_of,
    measured,
    score_measurements,
    shares,
    where_of,
)
from tools.methods.own import address, ask, labels_for, listed, on, sandbox_of, under
from tools.methods.saying import examples_of
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.sandbox import CodeError, Function, Returned, function_of
from tools.statistics import Groups
from tools.tasks import Example, Task

KIND: Literal["experiment"] = "experiment"
NEEDS = "code"
EXAMPLE = {
    "task": "addition", "components": ["decoder.0.mlp.out@answer"],
    "code": "def edits(subject, batch, components):\n    mean = batch.fitting.states(components[0]).mean(0)\n"
    "    return [{'component': components[0], 'op': 'set', 'value': mean}]",
}  # fmt: skip


class Args(ToolArgs):
    """Arguments of experiment."""

    task: str = Field(description="a task spec; see list_tasks")
    code: str = Field(description="Python that defines edits, features or values of (subject, batch, components)")
    components: list[str] = Field(
        default=[], max_length=64, description=f"what the function is given, each unit by itself. {WHERE}"
    )
    label: str = Field(
        default="",
        description="for features and values: what the probe reads, a label of the examples, answer, or right",
    )
    among: str = AMONG
    examples: int = Field(default=256, ge=40, le=4096, description="how many examples, half of them to fit on")


def run(args: Args, ctx: Context) -> Outcome:
    """Run the code and measure what it returned."""
    sandbox_of(ctx)
    try:
        function = function_of(args.code)
    except CodeError as error:
        raise ToolInputError(f"code: {error}") from None
    if (function == "features") > bool(args.label) or (function == "edits" and args.label):
        raise ToolInputError(f"label: {function} {'takes none' if args.label else 'needs one: what should be read?'}")
    task, fitting, scored = fit_and_score(ctx, args.task, args.examples, among=args.among)
    given = listed(select_set(ctx.subject, args.components))
    twin = null_twin(ctx.subject, seed=ctx.seed)
    try:
        mine, other = (ask(ctx, s, args.code, given, scored, fitting) for s in (ctx.subject, twin))
        if function == "edits":
            found = _edits(ctx, task, scored, mine, on(ctx, twin), other, args)
        else:
            found = _read(ctx, task, fitting, scored, mine, other, args, function)
    except CodeError as error:
        return Outcome(status="failed", text=f"{address(args.code)} failed: {error}")
    rows = "\n".join(_line(m) for m in found if m.control is not None or "." in m.name or m.name == "value")
    head = f"{address(args.code)} ({function}) on {examples_of(task, args.among)} ({ctx.split}, n={len(scored)})"
    return Outcome(text=f"{head}\n{rows}", measurements=tuple(found))


def _edits(
    ctx: Context, task: Task, scored: list[Example], mine: Returned, there: Context, other: Returned, args: Args
) -> list[Measurement]:
    """How the model answers under the edits, beside random vectors, a random-init twin and other problems' answers."""
    groups, base = groups_of(scored), where_of(ctx, task, args.among)
    own, noise, directions = under(ctx, ctx.subject, mine.edits, scored)
    intact, edited, random = score_under(ctx, task, scored, [own, noise], directions=directions)
    where: dict[str, Any] = {**base, "variant": address(args.code)}
    out = score_measurements(intact, groups, program="intact", **base)
    out += effect_measurements(intact, [edited], [where], groups, [random], RANDOM_VECTOR)
    on_twin, _, vectors = under(ctx, there.subject, other.edits, scored)
    shuffled = shuffled_answers(scored, ctx.seed)
    for name, pair, where_groups in (
        ("random_init", score_under(there, task, scored, [on_twin], directions=vectors), groups),
        ("shuffled_answers", score_under(ctx, task, shuffled, [own], directions=directions), groups),
    ):
        changed = effect_measurements(pair[0], pair[1:], [where], where_groups)
        first = next(m for m in changed if m.name.endswith(".delta"))
        out.append(first.model_copy(update={"name": f"{first.name}.{name}"}))
    return out


def _read(
    ctx: Context, task: Task, fitting: list[Example], scored: list[Example], mine: Returned, other: Returned, args: Args,
    function: Function,
) -> list[Measurement]:  # fmt: skip
    """How often a probe reads the label, beside shuffled labels and a random-init twin; of values their mean as well."""
    groups = groups_of(scored)
    where: dict[str, Any] = {**where_of(ctx, task, args.among), "variant": address(args.code)}
    out: list[Measurement] = []
    assert mine.rows is not None
    assert other.rows is not None
    if function == "values":
        a, b = mine.rows[:, 0], other.rows[:, 0]
        (value,), (twin,), (apart,) = averages(a, groups), averages(b, groups), differences(a, b, groups)
        out.append(
            measured("value", "as the code returns it", value, control=control_of("random init", twin, apart), **where)
        )
    if args.label:
        y, truth = (labels_for(ctx, task, e, args.label) for e in (fitting, scored))
        if len(set(y)) < 2:
            raise ToolInputError(f"label: {args.label} has one value only in these examples, {y[0]!r}")
        out += _probed(y, truth, fitting, scored, mine, other, groups, {**where, "label": args.label}, ctx.seed)
    return out


def _probed(
    y: np.ndarray, truth: np.ndarray, fitting: list[Example], scored: list[Example], mine: Returned, other: Returned,
    groups: Groups, where: dict[str, Any], seed: int,
) -> list[Measurement]:  # fmt: skip
    train, tried = ([e.group for e in side] for side in (fitting, scored))
    unit, shuffled = "share of examples", np.random.default_rng(seed).permutation(y)

    def is_right(found: Returned, labels: np.ndarray) -> np.ndarray:
        assert found.rows is not None
        assert found.fitting is not None
        return (predicted(found.fitting, labels, train, found.rows, tried) == truth).astype(float)

    own, chance, blind = is_right(mine, y), is_right(mine, shuffled), is_right(other, y)
    (base,), (apart,) = shares(chance, groups), differences(own, chance, groups, (-1.0, 1.0))
    values, counts = np.unique(y, return_counts=True)
    majority = float(np.mean(truth == values[counts.argmax()]))
    return [
        measured("accuracy", unit, shares(own, groups)[0], control=control_of("shuffled labels", base, apart), **where),
        measured("accuracy.random_init", unit, shares(blind, groups)[0], **where),
        Measurement(name="accuracy.majority", unit=unit, value=majority, n=groups.n, groups=groups.count, **where),
    ]


def _line(m: Measurement) -> str:
    """'accuracy.delta -0.52 [-0.60, -0.44], random vector ... 0.01'."""
    inside = f" [{m.low:.3g}, {m.high:.3g}]" if m.low is not None and m.high is not None else ""
    beside = f", {m.control.kind} {m.control.value:.3g}" if m.control is not None else ""
    return f"  {m.name} {m.value:.3g}{inside}{beside}"
