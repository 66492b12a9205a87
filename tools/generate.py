"""Speak to the model as it is and under a layer program: greedy completions of prompts, side by side.

Loops, lost grammar and lost facts show in the text what a loss cannot say.
"""

from typing import Literal

from pydantic import Field

from experiments_db.records import Measurement, Outcome
from tools.methods.arguments import ProgramArgs
from tools.methods.tool import Context, ToolInputError
from tools.subjects import SubjectError

KIND: Literal["experiment"] = "experiment"
NEEDS = "next_token"
EXAMPLE = {"prompts": ["2 + 4 = 6\n2 + 5 = 7\n4 + 2 ="], "operation": "skip", "blocks": [3]}


class Args(ProgramArgs):
    """Arguments of generate."""

    prompts: list[str] = Field(min_length=1, max_length=16, description="texts to continue")
    max_new_tokens: int = Field(default=20, ge=1, le=256, description="at most this many new tokens for each")


def run(args: Args, ctx: Context) -> Outcome:
    """Complete every prompt, intact and under the program."""
    subject, program = ctx.subject, args.program(ctx)
    subject.require("next_token")
    if args.stack_of(ctx) != subject.readout:
        raise ToolInputError(f"stack: texts are continued by {subject.readout} alone")
    rows = [subject.tokens(p) if p else [] for p in args.prompts]
    if not all(rows):
        raise ToolInputError("every prompt needs at least one token: give some text")
    longest = max(map(len, rows)) + args.max_new_tokens
    if subject.max_positions is not None and longest > subject.max_positions:
        raise ToolInputError(f"{longest} tokens are more than the {subject.max_positions} positions of {subject.name}")
    try:
        intact = subject.generate(rows, args.max_new_tokens)
        changed = intact if program.is_identity else subject.generate(rows, args.max_new_tokens, program)
    except SubjectError as error:
        raise ToolInputError(str(error)) from None
    lines: list[str] = []
    measurements: list[Measurement] = []
    for i, (prompt, row, a, b) in enumerate(zip(args.prompts, rows, intact, changed, strict=True)):
        lines.append(f"prompt {i}: {prompt!r}\n  intact: {subject.completion(row, a)!r}")
        if not program.is_identity:
            lines.append(f"  {program.label}: {subject.completion(row, b)!r}")
        same = sum(x == y for x, y in zip(a, b, strict=False)) / max(len(a), len(b))
        repeated = 1 - len(set(b)) / len(b)
        for name, value in (("tokens_as_intact", same), ("tokens_repeated", repeated)):
            measurements.append(
                Measurement(
                    name=name,
                    unit="share of new tokens",
                    value=value,
                    n=1,
                    program=program.label,
                    variant=f"prompt {i}",
                )
            )
    return Outcome(text="\n".join(lines), measurements=tuple(measurements))
