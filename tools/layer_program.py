"""Run the model with blocks skipped, kept, repeated, swapped, reversed or permuted, one program or a whole sweep
(drop_last n, drop_first n, skip_each block, skip_ranges: every contiguous range, repeat_each, swap_adjacent), and
score tasks under every program; computation shared by the programs is done once.

A block that breaks every task when skipped says little about any one of them: always give control tasks beside the task
of interest.
"""

from typing import Literal

import numpy as np
from pydantic import Field

from experiments_db.records import Array, Measurement, Outcome
from tools.engine.programs import SWEEPS, identity
from tools.methods.answers import INTACT, keep
from tools.methods.arguments import AMONG, EXAMPLES, ProgramArgs
from tools.methods.measuring import effect_measurements, groups_of, load_examples, score_measurements, where_of
from tools.methods.scoring import score
from tools.methods.tables import as_array, grid, text_table
from tools.methods.tool import Context, ToolInputError
from tools.methods.written import written, written_measurements
from tools.ports import port_of

KIND: Literal["experiment"] = "experiment"
EXAMPLE = {"tasks": ["addition", "agreement"], "sweep": "skip_each"}


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
    among: str = AMONG
    examples: int = EXAMPLES


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
        if args.written:
            said = [
                written(ctx, examples, {stack: v}) for v in [identity(n_blocks).blocks, *(p.blocks for p in programs)]
            ]
            measurements += written_measurements(ctx, examples, said, [{**where, "program": "intact"}, *wheres])
    first = port_of(ctx.subject).first
    names = {m.name: m.unit for m in measurements if m.name in (first, "nll", "wer", "cer", "repeated", "not_there")}
    tables = [_table(measurements, name, unit) for name, unit in names.items()]
    shown: list[str] = []
    for name in names if args.written else [first]:
        rows, columns, values = grid(measurements, name, "program", "task")
        shown.append(f"{name}\n" + text_table(rows, columns, values))
    about = f"{ctx.split}{f' among {args.among}' if args.among else ''}"
    return Outcome(
        text=f"{', '.join(names) if args.written else first} on {about}, programs x tasks; computed {edges} block runs "
        f"where separate runs need {naive}\n" + "\n".join(shown),
        measurements=tuple(measurements),
        arrays=tuple(tables),
    )


def _table(measurements: list[Measurement], name: str, unit: str) -> Array:
    rows, columns, values = grid(measurements, name, "task", "program")
    return as_array(name, np.asarray(values), [("task", rows), ("program", columns)], unit)
