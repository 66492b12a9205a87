"""One run of a planner on a case, scored; lines of results are kept, so that a benchmark that was stopped goes on."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent import run as agent_run
from benchmarks.planted.posed import Posed
from benchmarks.planted.scoring import Said, Scored, score
from experiments_db.store import Store

GOAL = "find where the model does what the examples of {task} ask for"


def investigate(posed: Posed, planner: str, work: Path, experiments: int) -> Scored:
    """One run of the agent, read back from its database. RuntimeError where it fails."""
    folder = work / planner.replace(":", "-") / posed.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    db = folder / "experiments.db"
    argv = [
        "--goal", GOAL.format(task=posed.task.stem), "--subject", str(posed.model), "--task", str(posed.task),
        "--planner", planner, "--db", str(db), "--out", str(folder / "out"), "--device", "cpu",
        "--max-experiments", str(experiments), "--null-twins", "0", "--quiet",
    ]  # fmt: skip
    started = time.perf_counter()
    if agent_run.main(argv) != 0:
        raise RuntimeError(f"the run on {posed.name} failed")
    return read(posed, planner, db, time.perf_counter() - started)


def read(posed: Posed, planner: str, db: Path, seconds: float = 0.0) -> Scored:
    """A run's score from its database."""
    store = Store(db)
    name = store.resolve_run("latest")
    run, findings = store.run(name), store.findings(name)
    said, missed, exact = score(findings, posed.judge, posed.targets)
    tokens = sum(_tokens(e.payload) for e in store.events(name) if e.kind == "turn")
    settled = tuple((f.probability, f.fate == "confirmed") for f in findings if f.settled and f.fate != "void")
    return Scored(
        posed.name, posed.origin, planner, len(posed.targets), len(posed.targets) - len(missed), exact, said, missed,
        settled, run.reason if run.status == "finished" else "", len(store.experiments(name)), tokens, seconds,
        made=posed.made,
    )  # fmt: skip


def _tokens(payload: Any) -> int:
    usage = payload.get("usage") or {}
    return int(usage.get("prompt_tokens", 0)) + int(usage.get("completion_tokens", 0))


def keep(file: Path, row: Scored) -> None:
    """Add a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(row)) + "\n")


def kept(file: Path, stamp: Mapping[str, Any]) -> Iterator[Scored]:
    """The lines of a file that were made under the same stamp (commit, seed, set)."""
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        data = json.loads(line)
        if data["stamp"] == dict(stamp):
            data["said"] = tuple(Said(**s) for s in data["said"])
            data["settled"] = tuple((p, bool(y)) for p, y in data["settled"])
            data["missed"] = tuple(data["missed"])
            yield Scored(**data)
