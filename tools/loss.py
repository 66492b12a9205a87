"""Score a task's answers under one layer program: NLL over ALL answer tokens, accuracy against the chance level, rank of
the answer, margin over the foil, and the change of each against the intact model on the same examples.

Use it first: whether the intact model can do the task at all comes before any question about where.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from experiments_db.records import Measurement, Outcome
from tools.methods.answers import INTACT, keep
from tools.methods.arguments import AMONG, EXAMPLES, ProgramArgs
from tools.methods.effects import Condition
from tools.methods.forecasting import Work
from tools.methods.measuring import (
    effect_measurements,
    groups_of,
    load_examples,
    percent,
    score_measurements,
    where_of,
)
from tools.methods.saying import examples_of
from tools.methods.scoring import score_tasks
from tools.methods.tables import as_array
from tools.methods.tool import Context, ToolInputError
from tools.ports import port_of
from tools.tasks import Example, Task

KIND: Literal["experiment"] = "experiment"
NAMED = 6  # failing examples of a task that was made in the run
EXAMPLE = {"tasks": ["addition", "agreement"], "operation": "skip", "blocks": [2]}


class Args(ProgramArgs):
    """Arguments of loss."""

    tasks: list[str] = Field(min_length=1, max_length=16, description="task specs; see list_tasks")
    among: str = AMONG
    examples: int = EXAMPLES


def work(args: Args, ctx: Context) -> list[Work]:
    """Each task, intact and under the program."""
    program = Condition(programs=((args.stack_of(ctx), args.program(ctx).blocks),))
    return [Work(*load_examples(ctx, name, args.examples, args.among), [program]) for name in dict.fromkeys(args.tasks)]


def run(args: Args, ctx: Context) -> Outcome:
    """Score each task, intact and under the program."""
    program = args.program(ctx)
    measurements: list[Measurement] = []
    lines: list[str] = []
    arrays = []
    names = list(dict.fromkeys(args.tasks))
    asked = [_loaded(args, name, ctx) for name in names]
    changed = ctx.subject.variant({args.stack_of(ctx): program.blocks})
    variants = [ctx.subject.variant(), *([] if program.is_identity else [changed])]
    scored = score_tasks(ctx.subject, asked, variants, ctx.max_tokens)
    for name, (task, examples), scores in zip(names, asked, scored, strict=True):
        keep(
            ctx,
            task,
            examples,
            {INTACT: scores[0], **({} if program.is_identity else {f"program {args.label(ctx, program)}": scores[-1]})},
        )
        where: dict[str, Any] = {**where_of(ctx, task, args.among), "program": args.label(ctx, program)}
        groups = groups_of(examples)
        if program.is_identity:
            made = score_measurements(scores[-1], groups, **where)
        else:
            made = effect_measurements(scores[0], [scores[-1]], [where], groups)
        measurements += made
        port = port_of(ctx.subject)
        judged = port.objectives[port.first]
        chance = judged.sign * port.guess(judged, task, examples)
        measurements.append(
            Measurement(name="chance", value=chance, unit=judged.unit, n=groups.n, groups=groups.count, **where)
        )
        accuracy = next((m for m in made if m.name == "accuracy"), None)
        line = f"{examples_of(task, args.among)}: n={len(examples)}"
        if accuracy is not None:
            line = f"{examples_of(task, args.among)}: accuracy {percent(accuracy)} (n={len(examples)}, chance {100 * chance:.0f}%)"
            if not program.is_identity:
                line += f", intact {100 * scores[0].correct.mean():.0f}%"
        if "nll" not in scores[-1].lacks:
            line += f", NLL {scores[-1].nll.mean():.3f} nats per answer, median rank {np.median(scores[-1].rank):.0f}"
        else:
            own = next(m for m in made if m.name == judged.name)
            line += f" {judged.name} {own.value:.3f}, a guesser's {chance:.3f} ({judged.unit})"
        lines.append(line)
        if program.is_identity and accuracy is not None and _is_made(ctx, name):
            lines += failing(examples, scores[-1].correct)
        labels = [e.shown[-40:] + e.answer for e in examples]
        if not program.is_identity:
            owners = [f"{labels[i]} [{k}]" for k, i in enumerate(scores[-1].token_owner)]
            change = scores[-1].token_logits - scores[0].token_logits
            arrays.append(as_array(f"token_logit_delta:{task.name}", change, [("answer token", owners)], "logits"))
        if "nll" not in scores[-1].lacks:
            arrays.append(as_array(f"nll:{task.name}", scores[-1].nll, [("example", labels)], "nats per answer"))
    return Outcome(
        text=f"program {program.label}, split {ctx.split}\n" + "\n".join(lines),
        measurements=tuple(measurements),
        arrays=tuple(arrays),
    )


def _loaded(args: Args, name: str, ctx: Context) -> tuple[Task, list[Example]]:
    """A task and its examples; of several tasks an error names the one that it is about."""
    try:
        return load_examples(ctx, name, args.examples, args.among)
    except ToolInputError as error:
        others = "; nothing was measured: mend it, or leave this task out"
        raise ToolInputError(f"task {name}: {error}{others}" if len(args.tasks) > 1 else str(error)) from None


def _is_made(ctx: Context, spec: str) -> bool:
    """Whether a task was made in this run: nobody has looked through its examples yet."""
    return ctx.split == "explore" and any(
        t.origin == "planner" and t.name == spec.partition(":")[0].strip() for t in ctx.tasks.made()
    )


def failing(examples: Sequence[Example], correct: Sequence[bool] | np.ndarray) -> list[str]:
    """The examples that are not answered right, up to `NAMED` of them, so that a mistake in a task is seen at once."""
    wrong = [e for e, right in zip(examples, correct, strict=True) if not right]
    lines = [f"  wrong: {e.shown[-60:]!r}, right is {e.answer!r}" for e in wrong[:NAMED]]
    return [*lines, f"  and {len(wrong) - NAMED} more"] if len(wrong) > NAMED else lines
