"""Everything on record about one handle: an experiment (E3) with arguments, result and measurements, a page of them at a time
with intervals and controls; a note (N1), a hypothesis (H2), a finding (F1), a claim (C1) or a question (Q1).
"""

from typing import Literal

from pydantic import Field

from experiments_db.records import Outcome
from tools.methods.tool import Context, ToolArgs, ToolInputError

KIND: Literal["notebook"] = "notebook"
EXAMPLE = {"handle": "E1"}


class Args(ToolArgs):
    """Arguments of recall."""

    handle: str = Field(description="for example E3, N1, H2, F1, C1 or Q1")
    page: int = Field(default=1, ge=1, le=1000, description="of an experiment's measurements, 120 a page")


def run(args: Args, ctx: Context) -> Outcome:
    """Print the record."""
    try:
        return Outcome(text=ctx.history.recall(args.handle.strip(), args.page))
    except ValueError as error:
        raise ToolInputError(str(error)) from None
