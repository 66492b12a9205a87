"""Have a narrower question investigated by a run of its own, with a share of what is left of this run's budget.

The child run sees its question, the subject and the tasks of this run, nothing else. It settles findings in its own record, on
examples of its own, in rounds that it shares with this run: however many runs take part, they have one error rate. What it found
comes back as text, and stands in this run's report with a link; to claim something here, examine and confirm it here. A
child cannot have children.
"""

from typing import Literal

from pydantic import Field

from experiments_db.records import Outcome
from tools.methods.tool import Context, ToolArgs, ToolInputError

LEAST = 4  # experiments: to look, to examine, to confirm, and one to spare
KIND: Literal["delegating"] = "delegating"
EXAMPLE = {"question": "Which heads of block 0 does addition need at the answer?", "share": 8}


class Args(ToolArgs):
    """Arguments of investigate."""

    question: str = Field(min_length=8, max_length=400, description="one question, narrower than the goal")
    share: int = Field(ge=LEAST, le=1000, description="how many experiments it may make of those left")


def run(args: Args, ctx: Context) -> Outcome:
    """The question as it will be asked; the loop runs it."""
    ctx.history.handles("E")  # outside of a run this says that the tool belongs to one
    if not args.question.strip():
        raise ToolInputError("question: say what to find out")
    return Outcome(text=args.question.strip())
