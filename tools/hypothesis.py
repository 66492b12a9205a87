"""State a hypothesis, or change the status of one and attach evidence for or against it.

Without a handle a new one is opened. A hypothesis worth stating says what would refute it.
"""

from typing import Literal

from pydantic import Field

from experiments_db.records import Hypothesis, Outcome
from tools.findings.wording import check_handles, check_references
from tools.methods.one_example import ILLUSTRATIONS
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
    for handle in (*args.evidence_for, *args.evidence_against):
        if ctx.history.experiment(handle).tool in ILLUSTRATIONS:
            raise ToolInputError(
                f"{handle} illustrates one example and is evidence for nothing: measure it on many, with ablate, patch or examine"
            )
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
    _check_tested(ctx, args, handle, old)
    check_references(ctx, statement, digits=True)
    supports = tuple(dict.fromkeys([*(old.evidence_for if old else ()), *args.evidence_for]))
    contradicts = tuple(dict.fromkeys([*(old.evidence_against if old else ()), *args.evidence_against]))
    if args.status == "supported" and not supports:
        raise ToolInputError("status supported needs evidence_for: the experiments that speak for it")
    if args.status == "refuted" and not contradicts:
        raise ToolInputError("status refuted needs evidence_against: the experiments that speak against it")
    tested = old is not None and any(f.settled and f.hypothesis == handle for f in ctx.history.findings())
    status = old.status if old is not None and tested and args.status == "open" else args.status
    entry = Hypothesis(
        handle=handle, statement=statement, status=status, evidence_for=supports, evidence_against=contradicts
    )
    return Outcome(text=f"{handle} is {status}: {statement}", entries=(entry,))


def _check_tested(ctx: Context, args: Args, handle: str, old: Hypothesis | None) -> None:
    """What findings rest on is not reworded, and what unseen examples said of it is not overruled."""
    mine = [f for f in ctx.history.findings() if f.hypothesis == handle]
    if old is None or not mine:
        return
    if args.statement is not None and args.statement != old.statement:
        raise ToolInputError(
            f"{mine[0].handle} was predicted from {handle} as it is: open a new hypothesis for other words"
        )
    if args.status == "supported" and any(f.settled for f in mine) and args.status != old.status:
        fates = ", ".join(f"{f.handle} {f.fate or 'open'}" for f in mine)
        raise ToolInputError(
            f"{handle} is {old.status} by what its findings came to ({fates}); it can only be refuted or abandoned"
        )
