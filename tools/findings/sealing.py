"""From an experiment that examined a statement to a finding that says it, word for word."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from experiments_db.findings import Finding, Statement
from experiments_db.places import plain_message
from experiments_db.records import Measurement
from tools.findings.kind import kind_of
from tools.methods.layout import select_path, select_set
from tools.methods.tool import Context, ToolInputError

EXAMINE = "examine"


def statement_of(ctx: Context, args: Mapping[str, Any]) -> Statement:
    """The statement that arguments of `examine` mean, selectors resolved, as its kind completes it.

    ToolInputError where they mean none.
    """
    components = select_set(ctx.subject, args.get("components") or ())
    universe = select_set(ctx.subject, args.get("universe") or (), "universe")
    given = {k: v for k, v in args.items() if k in Statement.model_fields}
    path = str(select_path(ctx.subject, args["path"])) if args.get("path") else ""
    resolved = {
        "components": str(components or ""), "universe": str(universe or ""), "path": path,
        "task": ctx.tasks.get(str(args["task"])).name,
        "interventions": tuple("resample(donor)" if how == "resample" else how for how in args.get("interventions") or ()),
    }  # fmt: skip
    try:
        made = Statement.model_validate({**given, **resolved})
    except ValidationError as error:
        raise ToolInputError("; ".join(plain_message(str(e["msg"])) for e in error.errors())) from None
    return kind_of(made.kind).complete(made)


def arguments_of(statement: Statement) -> dict[str, object]:
    """The arguments of `examine` that measure a statement."""
    listed = {k: [getattr(statement, k)] if getattr(statement, k) else [] for k in ("components", "universe")}
    return {**statement.model_dump(mode="json"), **listed, "interventions": list(statement.interventions)}


def seal(ctx: Context, handle: str, statement: Statement, probability: float | None, hypothesis: str | None) -> Finding:
    """The finding that an experiment on explore examples suggests; ToolInputError where it cannot be one."""
    rows = ctx.history.measurements_of(handle)
    seen = {m.name: m.value for m in rows if m.component is None and m.variant is None and m.program is None}
    if "smallest" not in seen:
        raise ToolInputError(
            f"{handle} failed, so nothing can be predicted from it: examine again what can be measured"
        )
    sealed = statement.model_copy(update={"smallest": seen["smallest"]})
    for other in ctx.history.findings():
        if other.statement == sealed:
            raise ToolInputError(
                f"{other.handle} says exactly this{f' and is settled: {other.fate}' if other.settled else ' already'}: one "
                "finding for each statement, settled once"
            )
    _check_both_ways(rows)
    return Finding(
        handle=f"F{len(ctx.history.findings()) + 1}",
        statement=sealed,
        hypothesis=hypothesis,
        seen=handle,
        smallest=seen["smallest"],
        stricter=statement.smallest is not None,
        probability=seen["probability"] if probability is None else probability,
        power=seen["power"],
    )


def _check_both_ways(rows: Sequence[Measurement]) -> None:
    """A prediction that can only come out one way is none."""
    groups = min((m.groups for m in rows if m.name == "p"), default=0)
    if groups < 5:
        raise ToolInputError(
            f"these examples are only {groups} independent problems: too few for any test; use more examples or a task with more"
        )
    bare = {(m.component, m.intervention) for m in rows if m.name == "effect" and m.low is None}
    if any(m.name == "p" and m.value == 1.0 and (m.component, m.intervention) in bare for m in rows):
        raise ToolInputError("with so few independent problems nothing could confirm this; use more examples")
