"""Put open findings to examples that nobody has seen, each once, all in one round; code decides what they come to.

Fates: confirmed; contradicted (the other way round); absent (shown to be smaller than what counts); inconclusive, with the
reason; void. Rounds cost: round r may spend half of what was left of the error rate, so confirm what belongs together in
one round.
"""

from typing import Literal

from pydantic import Field

from experiments_db.records import Outcome
from tools.findings.wording import check_handles
from tools.methods.tool import Context, ToolArgs, ToolInputError

KIND: Literal["settling"] = "settling"
EXAMPLE = {"findings": ["F1", "F2"]}


class Args(ToolArgs):
    """Arguments of confirm."""

    findings: list[str] = Field(default=[], description="which open findings; empty: all of them")


def run(args: Args, ctx: Context) -> Outcome:
    """The findings to settle, as they are; the loop measures them on unseen examples and settles them."""
    check_handles(ctx, args.findings, "F")
    chosen = [f for f in ctx.history.findings() if f.handle in args.findings or not args.findings]
    settled = [f for f in chosen if f.settled]
    if args.findings and settled:
        raise ToolInputError(f"{settled[0].handle} is settled ({settled[0].fate}): a fate never changes")
    left = tuple(f for f in chosen if not f.settled)
    if not left:
        raise ToolInputError("no finding is open: examine something, then predict from it")
    return Outcome(text=", ".join(f.handle for f in left), entries=left)
