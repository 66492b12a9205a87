"""End the investigation. The answer itself is written by code from the confirmed findings; your words stand beside it, marked
as interpretation.

found needs a confirmed finding that answers one of the goal's questions; cannot needs a confirmed finding that the model
does not do the task. Questions without an answer are listed as unanswered.
"""

from typing import Literal

from pydantic import Field

from experiments_db.findings import Conclusion
from experiments_db.records import Outcome
from tools.findings.consequences import answers
from tools.findings.wording import check_references
from tools.methods.tool import Context, ToolArgs, ToolInputError

KIND: Literal["notebook"] = "notebook"
EXAMPLE = {"answer": "found", "words": "It looks as if the operands are added where they first meet."}


class Args(ToolArgs):
    """Arguments of finish."""

    answer: Literal["found", "not_found", "cannot", "unclear"] = Field(
        description="found; not_found: looked and nothing there; cannot: the model can't do the task; unclear"
    )
    words: str = Field(default="", max_length=2000, description="what you make of the findings, numbers as references")


def run(args: Args, ctx: Context) -> Outcome:
    """Keep the conclusion and end; ToolInputError where the record does not carry it."""
    check_references(ctx, args.words, digits=True)
    findings, questions = ctx.history.findings(), ctx.history.questions()
    open_ = [f.handle for f in findings if not f.settled]
    if open_:
        raise ToolInputError(
            f"{', '.join(open_)} {'is' if len(open_) == 1 else 'are'} sealed and not settled: confirm first"
        )
    standing = [f for f in findings if f.stands]
    if args.answer == "found" and not any(answers(q, findings) for q in questions):
        asked = "; ".join(f"{q.handle} {q.text}" for q in questions)
        raise ToolInputError(
            f"found needs a confirmed finding that answers a question ({asked}); confirmed are "
            f"{', '.join(f'{f.handle} {f.statement.kind}' for f in standing) or 'none'}"
        )
    if args.answer == "cannot" and not any(f.statement.kind == "cannot" for f in standing):
        raise ToolInputError("cannot needs a confirmed finding of kind cannot: examine it, predict, confirm")
    return Outcome(text=f"{args.answer}", entries=(Conclusion(answer=args.answer, words=args.words),), finished=True)
