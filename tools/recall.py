"""Everything on record about one handle: an experiment (E3) with arguments, result and measurements, a note (N1), a
hypothesis (H2), a prediction (P1) or a claim (C1).
"""

from typing import Literal

from pydantic import Field

from experiments_db.records import Outcome
from tools.methods.tool import Context, ToolArgs, ToolInputError

KIND: Literal["notebook"] = "notebook"
EXAMPLE = {"handle": "E1"}


class Args(ToolArgs):
    """Arguments of recall."""

    handle: str = Field(description="for example E3, N1, H2, P1 or C1")


def run(args: Args, ctx: Context) -> Outcome:
    """Print the record."""
    try:
        return Outcome(text=ctx.history.recall(args.handle.strip()))
    except ValueError as error:
        raise ToolInputError(str(error)) from None
