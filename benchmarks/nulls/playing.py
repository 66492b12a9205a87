"""One investigation of a null: the systematic planner in the real loop, with the capability gate lifted."""

import asyncio
import resource
import tempfile
from pathlib import Path
from typing import Any

from agent.loop.budget import Limits
from agent.loop.executor import ToolRunner
from agent.loop.investigate import investigate
from agent.loop.record import RunRecord, RunTasks
from agent.planners.systematic import Systematic
from benchmarks.claims.stage import RUN, Silent, World, begin
from benchmarks.nulls.worlds import MAKERS, idle_of
from experiments_db.findings import Finding
from experiments_db.places import Component
from experiments_db.store import Store
from tools.findings.kind import kinds
from tools.methods.tool import discover

EXAMPLES = 96
LIMITS = Limits(experiments=40)
PLACED = ("necessary", "jointly_necessary")
Result = dict[str, Any]


def play(null: str, seed: int, number: int) -> Result:
    """What came of an investigation: what it confirmed that is false, what it confirmed that is true of the null too, how many
    experiments and findings it tried, and the seconds that this process computed.
    """
    began, world = _seconds(), MAKERS[null](seed, number)
    lifted = null != "elsewhere"
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "null.db")
        begin(store, world, number)
        record = RunRecord(store, RUN)
        runner = ToolRunner(world.subject, record, RunTasks(store, RUN), number, lifted=lifted)
        run = store.run(RUN)
        asyncio.run(investigate(Systematic(EXAMPLES), run, record, runner, discover(), LIMITS, Silent()))
        findings, experiments = record.findings(), len(record.experiments())
        run = store.run(RUN)
        store.db.conn.close()
    false, true = judged(null, world, findings)
    return {
        "world": world.name, "false": false, "true": true, "settled": sum(f.settled for f in findings),
        "located": sum(f.settled and kinds()[f.statement.kind].locates for f in findings), "experiments": experiments,
        "ended": f"{run.status}: {run.reason}", "seconds": round(_seconds() - began, 2),
    }  # fmt: skip


def judged(null: str, world: World, findings: list[Finding]) -> tuple[list[str], list[str]]:
    """(false, true) findings that stand and say where something is, each as kind and place."""
    standing = [f for f in findings if f.stands and kinds()[f.statement.kind].locates]
    if null == "elsewhere":
        idle, heads = idle_of(world.facts.truth), world.subject.spec().n_heads
        wrong = [
            f for f in standing if f.statement.kind in PLACED and any(_in(c, idle, heads) for c in f.statement.members)
        ]
        return _said(wrong), []
    tested = "random_init" if null == "random_init" else "shuffled_answers"
    nulls = {f.handle: kinds()[f.statement.kind].nulls for f in standing}
    true = [
        f for f in standing if tested in nulls[f.handle].without or (tested == "random_init" and nulls[f.handle].apart)
    ]
    return _said([f for f in standing if f not in true]), _said(true)


def _in(c: Component, idle: frozenset[str], heads: int) -> bool:
    """Whether a component takes no part: a whole attention, where none of its heads does."""
    units = [c] if c.part != "attn.out" else [c.but(part="attn.z", units=(h,)) for h in range(heads)]
    return all(str(u.but(anchor="")) in idle for u in units)


def _said(findings: list[Finding]) -> list[str]:
    return [
        f"{f.statement.kind} {f.statement.components or f.statement.path} (p {f.p:.2g} of {f.threshold:.2g})"
        for f in findings
    ]


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
