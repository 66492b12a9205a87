"""Several processes with investigations of their own in one database, for minutes, each compared with the same one alone."""

import tempfile
import time
from pathlib import Path
from typing import TypedDict

from benchmarks.planted.cases import CASES
from benchmarks.planted.posed import write_task
from benchmarks.planted.running import GOAL
from benchmarks.planted.train import FOLDER
from benchmarks.soak.equal import exported, first_difference
from benchmarks.soak.forked import Running, start
from experiments_db.store import Store

BUDGET = 8  # experiments of each run


class Shared(TypedDict):
    """Processes, runs, experiments and events in the database; seconds; runs compared with themselves alone; what was wrong."""

    processes: int
    runs: int
    experiments: int
    events: int
    seconds: float
    compared: int
    wrong: list[str]


def play(processes: int, minutes: float, seed: int) -> Shared:
    """Let them investigate different models until the time is over, each at least once."""
    cases = [c for c in CASES if (FOLDER / c.name).is_dir()][:processes]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tasks = [write_task(c, folder) for c in cases]
        models = [FOLDER / c.name for c in cases]
        began = time.monotonic()
        end = began + 60 * minutes
        shared = [_start(folder, "all", m, t, end, seed) for m, t in zip(models, tasks, strict=True)]
        ended = [p.ended() for p in shared]
        seconds = time.monotonic() - began
        wrong = [
            f"{m.name}: exit status {e.status}: {_log(folder, 'all', m)}"
            for m, e in zip(models, ended, strict=True) if e.status != 0
        ]  # fmt: skip
        store = Store(folder / "all.db", create=False)
        wrong += store.verify()
        compared = 0
        for model, task in zip(models, tasks, strict=True):
            if _start(folder, model.name, model, task, began, seed).ended().status != 0:
                wrong.append(f"{model.name} alone: {_log(folder, model.name, model)}")
                continue
            alone = Store(folder / f"{model.name}.db", create=False)
            (first,) = alone.runs()
            same = next(
                (r for r in store.runs() if store.run(r).subject == str(model)), None
            )  # the first of this process
            if same is None:
                continue  # it failed, which is said above
            compared += 1
            if different := first_difference(exported(alone, first, folder), exported(store, same, folder)):
                wrong.append(f"{model.name}: {different}")
        counts = store.counts()
        return {
            "processes": len(cases), "runs": counts["runs"], "experiments": counts["experiments"], "events": counts["events"],
            "seconds": seconds, "compared": compared, "wrong": wrong,
        }  # fmt: skip


def _start(folder: Path, database: str, model: Path, task: Path, end: float, seed: int) -> Running:
    """A process that asks the same of a model, each time on other examples, until the time is over."""

    def work() -> int:
        from agent.run import main

        number, status = 0, 0
        while status == 0 and (number == 0 or time.monotonic() < end):
            status = main(
                [
                    "--goal", GOAL.format(task=task.stem), "--subject", str(model), "--task", str(task),
                    "--db", str(folder / f"{database}.db"), "--out", str(folder / database), "--seed", str(seed + number),
                    "--max-experiments", str(BUDGET), "--device", "cpu", "--null-twins", "0", "--quiet",
                ]
            )  # fmt: skip
            number += 1
        return status

    return start(work, folder / f"{database}-{model.name}.log")


def _log(folder: Path, database: str, model: Path) -> str:
    return (folder / f"{database}-{model.name}.log").read_text(encoding="utf-8")[-1000:]
