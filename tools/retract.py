"""Take a finding back, with the reason: it stays on record and in the report, and carries nothing any more."""

from typing import Literal

from pydantic import Field

from experiments_db.records import Outcome
from tools.findings.wording import check_handles, check_references
from tools.methods.tool import Context, ToolArgs, ToolInputError

KIND: Literal["notebook"] = "notebook"
EXAMPLE = {"finding": "F2", "reason": "The probe reads the last word only."}


class Args(ToolArgs):
    """Arguments of retract."""

    finding: str = Field(description="the finding, for example F2")
    reason: str = Field(min_length=1, max_length=600, description="why, in words without numbers")


def run(args: Args, ctx: Context) -> Outcome:
    """Mark the finding as taken back."""
    check_handles(ctx, [args.finding], "F")
    check_references(ctx, args.reason, digits=True)
    found = next(f for f in ctx.history.findings() if f.handle == args.finding)
    if not found.settled:
        raise ToolInputError(
            f"{found.handle} is open: a prediction that is sealed is settled before it can be taken back"
        )
    if found.retracted:
        raise ToolInputError(f"{found.handle} was taken back already: {found.retracted}")
    entry = found.model_copy(update={"retracted": args.reason})
    return Outcome(text=f"{found.handle} is taken back: {args.reason}", entries=(entry,))
