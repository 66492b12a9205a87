"""End the investigation with its answer; the report is then written from the record.

Say what was found, or that it was not found, or that the model cannot do it: all three are results.
"""

from typing import Literal

from pydantic import Field

from experiments_db.records import Note, Outcome
from tools.findings.wording import check_references
from tools.methods.tool import Context, ToolArgs

KIND: Literal["notebook"] = "notebook"
EXAMPLE = {"answer": "found", "conclusion": "Addition happens in the MLPs of blocks 1 and 2 (C1)."}


class Args(ToolArgs):
    """Arguments of finish."""

    answer: Literal["found", "not_found", "cannot", "unclear"] = Field(
        description="found; not_found: looked and nothing there; cannot: the model can't do the task; unclear"
    )
    conclusion: str = Field(
        min_length=1, max_length=3000, description="the answer to the goal in a few sentences, numbers as references"
    )


def run(args: Args, ctx: Context) -> Outcome:
    """Keep the conclusion and end."""
    check_references(ctx, args.conclusion, digits=True)
    return Outcome(text=f"{args.answer}: {args.conclusion}", entries=(Note(text=args.conclusion),), finished=True)
