"""State a hypothesis, or change the status of one and attach evidence for or against it.

Without a handle a new one is opened. A hypothesis worth stating says what would refute it.
"""

from typing import Literal

from pydantic import Field

from experiments_db.records import Hypothesis, Outcome
from tools.findings.wording import check_handles, check_references
from tools.methods.tool import Context, ToolArgs, ToolInputError

KIND: Literal["notebook"] = "notebook"
EXAMPLE = {
    "statement": "The operands reach '=' through attention in block 0; patching later attention would refute it."
}


class Args(ToolArgs):
    """Arguments of hypothesis."""

    statement: str | None = Field(
        default=None, max_length=1000, description="what is held to be true; needed for a new one"
    )
    handle: str | None = Field(default=None, description="which one to change, for example H1; null opens a new one")
    status: Literal["open", "supported", "refuted", "abandoned"] = Field(
        default="open", description="where it stands; supported or refuted needs evidence"
    )
    evidence_for: list[str] = Field(default=[], description="experiments that speak for it, such as E4")
    evidence_against: list[str] = Field(default=[], description="experiments that speak against it")


def run(args: Args, ctx: Context) -> Outcome:
    """Open or change a hypothesis."""
    check_handles(ctx, [*args.evidence_for, *args.evidence_against], "E")
    known = {h.handle: h for h in ctx.history.hypotheses()}
    if args.handle is None:
        if not args.statement:
            raise ToolInputError("a new hypothesis needs a statement")
        handle, old = f"H{len(known) + 1}", None
    else:
        if args.handle not in known:
            raise ToolInputError(f"there is no hypothesis {args.handle!r}; there are {', '.join(known) or 'none yet'}")
        handle, old = args.handle, known[args.handle]
    statement = args.statement or (old.statement if old else "")
    check_references(ctx, statement, digits=True)
    supports = tuple(dict.fromkeys([*(old.evidence_for if old else ()), *args.evidence_for]))
    contradicts = tuple(dict.fromkeys([*(old.evidence_against if old else ()), *args.evidence_against]))
    if args.status == "supported" and not supports:
        raise ToolInputError("status supported needs evidence_for: the experiments that speak for it")
    if args.status == "refuted" and not contradicts:
        raise ToolInputError("status refuted needs evidence_against: the experiments that speak against it")
    entry = Hypothesis(
        handle=handle, statement=statement, status=args.status, evidence_for=supports, evidence_against=contradicts
    )
    return Outcome(text=f"{handle} is {args.status}: {statement}", entries=(entry,))
