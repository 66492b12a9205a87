"""Run the model with blocks skipped, kept, repeated, swapped, reversed or permuted, one program or a whole sweep
(drop_last n, drop_first n, skip_each block, skip_ranges: every contiguous range, repeat_each, swap_adjacent), and
score tasks under every program; computation shared by the programs is done once.

With `fill`, the best linear guess of what the skipped blocks make of a state is put in their place: what is lost still is what
no linear map of the state does.

A block that breaks every task when skipped says little about any one of them: always give control tasks beside the task
of interest.
"""

from typing import Any, Literal

import numpy as np
from pydantic import Field

from experiments_db.records import Array, Measurement, Outcome
from tools.engine.executor import Variant
from tools.engine.programs import SWEEPS, LayerProgram, identity
from tools.methods.answers import INTACT, keep
from tools.methods.arguments import AMONG, EXAMPLES, ProgramArgs
from tools.methods.effects import Condition
from tools.methods.filling import HOW, filled, fit, ranges
from tools.methods.forecasting import Work
from tools.methods.measuring import (
    effect_measurements,
    fit_and_score,
    groups_of,
    load_examples,
    score_measurements,
    where_of,
)
from tools.methods.scoring import score
from tools.methods.tables import as_array, grid, text_table
from tools.methods.tool import Context, ToolInputError
from tools.methods.written import written, written_measurements
from tools.ports import Batch, port_of
from tools.tasks import Task

KIND: Literal["experiment"] = "experiment"
EXAMPLE = {"tasks": ["addition", "agreement"], "sweep": "skip_each"}
GUESS = "linear guess in place"


class Args(ProgramArgs):
    """Arguments of layer_program."""

    tasks: list[str] = Field(min_length=1, max_length=16, description="task specs; see list_tasks")
    sweep: Literal["drop_last", "drop_first", "skip_each", "skip_ranges", "repeat_each", "swap_adjacent"] | None = (
        Field(default=None, description="a family of programs to run together; give either this or operation")
    )
    written: bool = Field(
        default=False,
        description="also let the model write its answers under each program, and hold them against the right ones: word and "
        "character error rates, words repeated, words that are not there",
    )
    fill: bool = Field(
        default=False,
        description="also put in place of skipped blocks the best linear guess of what they make of a state, fitted on other "
        "examples, beside the mean state and a fit to states of other positions",
    )
    among: str = AMONG
    examples: int = EXAMPLES


def work(args: Args, ctx: Context) -> list[Work]:
    """Each program on each task, four times over where blocks are filled in for; of writing nothing is known beforehand."""
    if args.written:
        return []
    stack = args.stack_of(ctx)
    programs = SWEEPS[args.sweep](len(ctx.subject.spec(stack).blocks)) if args.sweep else [args.program(ctx)]
    conditions = [Condition(programs=((stack, p.blocks),)) for p in programs] * (5 if args.fill else 1)
    tasks = dict.fromkeys(args.tasks)
    return [Work(*load_examples(ctx, name, args.examples, args.among), conditions) for name in tasks]


def run(args: Args, ctx: Context) -> Outcome:
    """Score every task under every program of the sweep."""
    if (args.sweep is None) == (args.operation is None):
        raise ToolInputError(f"give either operation and blocks, or sweep (one of {', '.join(SWEEPS)})")
    stack = args.stack_of(ctx)
    n_blocks = len(ctx.subject.spec(stack).blocks)
    programs = SWEEPS[args.sweep](n_blocks) if args.sweep else [args.program(ctx)]
    variants = [ctx.subject.variant({stack: p.blocks}) for p in [identity(n_blocks), *programs]]
    measurements: list[Measurement] = []
    edges = naive = 0
    for name in dict.fromkeys(args.tasks):
        task, examples = load_examples(ctx, name, args.examples, args.among)
        ctx.progress(f"{task.name}: {len(programs)} programs x {len(examples)} examples")
        scores, cost = score(ctx.subject, examples, lambda _: variants, choices=task.choices, max_tokens=ctx.max_tokens)
        edges, naive = edges + cost.edges, naive + cost.naive_edges
        labels = [f"program {args.label(ctx, p)}" for p in programs]
        keep(ctx, task, examples, dict(zip([INTACT, *labels], scores, strict=True)))
        where, groups = where_of(ctx, task, args.among), groups_of(examples)
        measurements += score_measurements(scores[0], groups, program="intact", **where)
        wheres = [{**where, "program": args.label(ctx, p)} for p in programs]
        measurements += effect_measurements(scores[0], scores[1:], wheres, groups)
        if args.fill:
            measurements += _filled(args, ctx, task, programs, wheres)
        if args.written:
            said = [
                written(ctx, examples, {stack: v}) for v in [identity(n_blocks).blocks, *(p.blocks for p in programs)]
            ]
            measurements += written_measurements(ctx, examples, said, [{**where, "program": "intact"}, *wheres])
    first = port_of(ctx.subject).first
    fills = [m for m in measurements if m.variant]
    measurements = [m for m in measurements if not m.variant]
    names = {m.name: m.unit for m in measurements if m.name in (first, "nll", "wer", "cer", "repeated", "not_there")}
    tables = [_table(measurements, name, unit) for name, unit in names.items()]
    shown: list[str] = []
    for name in names if args.written else [first]:
        rows, columns, values = grid(measurements, name, "program", "task")
        shown.append(f"{name}\n" + text_table(rows, columns, values))
    shown += _fills_shown(fills, first)
    about = f"{ctx.split}{f' among {args.among}' if args.among else ''}"
    return Outcome(
        text=f"{', '.join(names) if args.written else first} on {about}, programs x tasks; computed {edges} block runs "
        f"where separate runs need {naive}\n" + "\n".join(shown),
        measurements=(*measurements, *fills),
        arrays=tuple(tables),
    )


def _filled(
    args: Args, ctx: Context, task: Task, programs: list[LayerProgram], wheres: list[dict[str, Any]]
) -> list[Measurement]:
    """How the model answers with nothing, the mean state, or a linear guess in place of skipped blocks, all on examples that
    nothing was fitted on; the guess stands beside the same fit to states of other positions.
    """
    stack, wanted = args.stack_of(ctx), ranges(programs)
    _, known, examples = fit_and_score(ctx, task.name, args.examples, among=args.among)
    guesses = fit(ctx.subject, known, stack, wanted, ctx.seed, ctx.max_tokens)
    intact = ctx.subject.variant({stack: identity(programs[0].n_blocks).blocks})
    plain = [intact, *(ctx.subject.variant({stack: p.blocks}) for p in programs)]

    def variants(batch: Batch) -> list[Variant]:
        made = [filled(ctx.subject, batch, guesses, programs, wanted, how) for how in HOW]
        return [*plain, *(v for some in made for v in some)]

    scores, _ = score(ctx.subject, examples, variants, choices=task.choices, max_tokens=ctx.max_tokens)
    base, n, groups = scores[0], len(programs), groups_of(examples)
    nothing, linear, mean, shuffled = (scores[1 + i * n : 1 + (i + 1) * n] for i in range(4))

    def of(kind: str) -> list[dict[str, Any]]:
        return [{**where, "variant": kind} for where in wheres]

    return [
        *effect_measurements(base, nothing, of("nothing in place"), groups),
        *effect_measurements(base, mean, of("mean state in place"), groups),
        *effect_measurements(base, linear, of(GUESS), groups, shuffled, "the same fit to states of other positions"),
    ]


def _fills_shown(fills: list[Measurement], first: str) -> list[str]:
    """A table for each task: programs by what stands in place."""
    out: list[str] = []
    for task in dict.fromkeys(m.task for m in fills):
        mine = [m for m in fills if m.task == task and m.name == first]
        rows, columns, values = grid(mine, first, "program", "variant")
        beside = {m.program: m.control.value for m in mine if m.control is not None}
        values = np.column_stack([values, [beside[r] for r in rows]])
        out.append(f"{first} of {task} on examples that nothing was fitted on\n")
        out[-1] += text_table(rows, [*columns, "fitted to other positions"], values)
    return out


def _table(measurements: list[Measurement], name: str, unit: str) -> Array:
    rows, columns, values = grid(measurements, name, "task", "program")
    return as_array(name, np.asarray(values), [("task", rows), ("program", columns)], unit)
