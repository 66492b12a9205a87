"""Adopt a confirmed finding as an answer. What it says is written by code from what was measured; your own words beyond it
(computes, moves, represents) are kept apart, marked as interpretation that was not tested.
"""

from typing import Literal

from pydantic import Field

from experiments_db.findings import Claim
from experiments_db.records import Outcome
from tools.findings.consequences import answers
from tools.findings.wording import check_handles, check_references
from tools.methods.tool import Context, ToolArgs, ToolInputError

KIND: Literal["notebook"] = "notebook"
EXAMPLE = {"finding": "F1", "interpretation": "It seems to compute the units digit."}


class Args(ToolArgs):
    """Arguments of claim."""

    finding: str = Field(description="a confirmed finding, for example F1")
    question: str | None = Field(default=None, description="the question it answers, for example Q1")
    interpretation: str = Field(default="", max_length=600, description="what you make of it, in words without numbers")


def run(args: Args, ctx: Context) -> Outcome:
    """Keep the claim."""
    check_handles(ctx, [args.finding], "F")
    if args.question is not None:
        check_handles(ctx, [args.question], "Q")
    found = next(f for f in ctx.history.findings() if f.handle == args.finding)
    if not found.stands:
        state = "was taken back" if found.retracted else f"is {found.fate}" if found.settled else "is still open"
        why = f" ({found.reason})" if found.reason else ""
        raise ToolInputError(
            f"{found.handle} {state}{why}: only a confirmed finding can be claimed, as it was "
            f"tested. Confirmed so far: {', '.join(f.handle for f in ctx.history.findings() if f.stands) or 'none'}"
        )
    if any(c.finding == args.finding for c in ctx.history.claims()):
        raise ToolInputError(f"{args.finding} is claimed already")
    asked = next((q for q in ctx.history.questions() if q.handle == args.question), None)
    if asked is not None and found not in answers(asked, ctx.history.findings()):
        raise ToolInputError(
            f"{found.handle} ({found.statement.kind} for {found.statement.task}) does not answer {asked.handle} ({asked.text}): "
            "claim it without a question, or for one that it answers"
        )
    check_references(ctx, args.interpretation, digits=True)
    entry = Claim(finding=args.finding, question=args.question, interpretation=args.interpretation)
    beyond = f"\ninterpretation, not tested: {args.interpretation}" if args.interpretation else ""
    return Outcome(text=f"claimed: {found.sentence}{beyond}", entries=(entry,))
