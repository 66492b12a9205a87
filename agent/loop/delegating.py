"""Runs that investigate a narrower question for another one: budgets, rounds and records of parent and children.

A child is a run of its own in the same database; the parent's event `child` names it before it begins, so that a killed parent
finds it again. What a child spends its parent has spent, and the rounds of a family stand in one sequence: round r of any of them
may spend alpha 2^-r, whoever settles it, so that parent and children together confirm something false with probability alpha
at most.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.loop.budget import Limits, Spent
from agent.loop.record import RunRecord, branched_at
from experiments_db.findings import Question
from experiments_db.records import Run, TaskData
from tools.methods.tool import ToolInputError

CHILD = "child"  # the event
TOOL = "investigate"


@dataclass(frozen=True)
class Child:
    """A child run, the call of its parent that asked for it, and the number of the parent's event that names it."""

    name: str
    call: str
    seq: int


def children(record: RunRecord) -> list[Child]:
    """A run's children, oldest first; those of the run that it branched from are among them."""
    sql = (
        "SELECT seq, json_extract(payload, '$.run') AS run, json_extract(payload, '$.call') AS call FROM events "
        "WHERE run = ? AND kind = ? ORDER BY seq"
    )
    return [Child(r["run"], r["call"], r["seq"]) for r in record.store.rows(sql, record.run, CHILD)]


def parent_of(run: Run) -> str | None:
    """The run that a child was begun by."""
    return (run.settings.get("parent") or {}).get("run")


def rounds_used(record: RunRecord) -> int:
    """The last round that anybody of a run's family has settled: the parent and all of its children."""
    parent = parent_of(record.store.run(record.run))
    head = record if parent is None else RunRecord(record.store, parent)
    family = [head, *(RunRecord(record.store, c.name) for c in children(head))]
    return max((f.round or 0 for r in family for f in r.findings()), default=0)


def of_children(record: RunRecord, run: Run, count: Callable[[RunRecord, Run], Spent]) -> list[Spent]:
    """What each child has spent; what a branch took over cost it nothing. count: what one run has spent by itself."""
    mine = [c.name for c in children(record) if c.seq > branched_at(run)]
    return [count(RunRecord(record.store, name), record.store.run(name)) for name in mine]


def child_limits(limits: Limits, spent: Spent, share: int) -> Limits:
    """What a child may spend: its share of the experiments left, and as large a part of the minutes, tokens and dollars left.

    ToolInputError says how many experiments there are.
    """
    left = spent.left(limits)
    assert left is not None  # without a limit the tool is not offered
    if share > left:
        raise ToolInputError(f"share: {share} asked for, but {left} experiments are left that are not reserved")
    part = share / left

    def of(limit: float | None, used: float) -> float | None:
        return None if limit is None else max(0.0, limit - used) * part

    tokens = of(limits.tokens, spent.tokens)
    return Limits(
        share,
        of(limits.minutes, spent.minutes),
        None if tokens is None else int(tokens),
        of(limits.cost, spent.cost),
    )


def begin_child(
    record: RunRecord, run: Run, call: str, question: str, limits: Limits, tasks: Sequence[TaskData],
    questions: Sequence[Question],
) -> Run:  # fmt: skip
    """Put a child and the parent's word of it on record, all or nothing. questions: what its goal asks."""
    store = record.store
    number = 1 + len(children(record))
    kept = {k: v for k, v in run.settings.items() if k not in ("branch", "repeat", "continue_from")}
    child = Run(
        name=f"{run.name}-c{number}",
        goal=question,
        subject=run.subject,
        planner=run.planner,
        settings={
            **kept, "max_experiments": limits.experiments, "max_minutes": limits.minutes, "max_tokens": limits.tokens,
            "max_cost": limits.cost, "null_twins": 0, "parent": {"run": run.name, "call": call},
        },
    )  # fmt: skip
    with store.transaction():
        store.put_run(child)
        seq = store.put_event(child.name, "start", {"goal": question, "subject": run.subject, "planner": run.planner})
        for entry in (*questions, *tasks):
            store.put_entry(child.name, seq, entry)
        store.put_event(run.name, CHILD, {"run": child.name, "call": call, "goal": question})
    return child


def limits_of(settings: Mapping[str, Any]) -> Limits:
    """The budgets that a run's settings hold."""
    return Limits(*(settings[k] for k in ("max_experiments", "max_minutes", "max_tokens", "max_cost")))
