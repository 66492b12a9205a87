"""A run played by itself, so that what it will ask for is computed before it is asked: `--repeat N --executor ray`.

The run that counts comes later, in its turn and in the one database. It asks for the same where nothing depends on the runs before
it; what does, such as which examples are unseen, is computed then. So a rehearsal decides nothing, and nothing of it is kept but
answers, each under everything that determines it (`Job.key`).
"""

import argparse
import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.loop.executor import ToolRunner
from agent.loop.investigate import investigate
from agent.loop.jobs import Done, Job
from agent.loop.progress import Progress
from agent.loop.record import RunTasks
from agent.loop.session import Session
from agent.loop.workers import HERE
from experiments_db.records import Result
from tools.methods.tool import discover
from tools.subjects import Subject

FREE = frozenset({"systematic", "random_valid", "scripted"})  # planners that may be asked twice: they cost nothing


class Rehearsal:
    """Computes jobs in this process, and keeps what came of each: an `Elsewhere` that is here."""

    def __init__(self, compute: Callable[[Job], Done]) -> None:
        self.compute, self.made = compute, dict[tuple[Any, ...], Done]()

    def takes(self, tool: str) -> bool:
        """As for workers: not a planner's own code."""
        return tool not in HERE

    def begin(self, job: Job) -> None:
        """There is nobody else to begin it."""

    def finish(self, job: Job, check: Callable[[], None]) -> tuple[Result, str]:
        """Compute a job, or tell again what came of it."""
        check()
        if job.key not in self.made:
            self.made[job.key] = self.compute(job)
        return self.made[job.key].told()


def rehearse(
    asked: argparse.Namespace, subject: Subject, compute: Callable[[Job], Done], before: Session | None
) -> tuple[dict[tuple[Any, ...], Done], Session]:
    """What came of each job of a run by itself, without its null twins, which stand on examples that are unseen by then; and the
    session, which saves the next one here (`before`) from checking the model.

    asked: the options of agent.run. compute: computes a job on the subject.
    """
    with tempfile.TemporaryDirectory(prefix="locus-") as folder:
        places = {"db": Path(folder) / "e.db", "out": Path(folder) / "t", "null_twins": 0}
        alone = {"executor": "local", "workers": None, "continue_from": None, "allow_code": False, "quiet": True}
        args = argparse.Namespace(**{**vars(asked), **places, **alone})
        session = Session.begin(args, {}, subject=subject, ready=before)
        played, tasks = Rehearsal(compute), RunTasks(session.store, session.run.name)
        runner = ToolRunner(session.subject, session.record, tasks, session.run.settings["seed"], elsewhere=played)
        viewer = Progress(session.run, session.limits, session.subject, session.record, quiet=True)
        asyncio.run(
            investigate(session.planner, session.run, session.record, runner, discover(), session.limits, viewer)
        )
        session.store.db.close()
    return played.made, session
