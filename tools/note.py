"""Write down an observation, an idea or a doubt, with the experiments it is about; it appears in the report.

Refer to numbers as {{E3.accuracy[task=addition, program=skip 2]}} and never as digits you typed.
"""

from typing import Literal

from pydantic import Field

from experiments_db.records import Note, Outcome
from tools.findings.wording import check_handles, check_references
from tools.methods.tool import Context, ToolArgs

KIND: Literal["notebook"] = "notebook"
EXAMPLE = {"text": "Skipping block 0 breaks every task, so it says nothing about addition.", "experiments": ["E2"]}


class Args(ToolArgs):
    """Arguments of note."""

    text: str = Field(min_length=1, max_length=4000, description="the note, numbers as references")
    experiments: list[str] = Field(default=[], description="handles of the experiments it is about, such as E3")


def run(args: Args, ctx: Context) -> Outcome:
    """Keep the note."""
    check_handles(ctx, args.experiments, "E")
    check_references(ctx, args.text, digits=True)
    return Outcome(text="noted", entries=(Note(text=args.text, experiments=tuple(args.experiments)),))
