"""Kill runs at random instants (SIGKILL), go on with them, and compare with the run that nobody killed."""

import random
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from benchmarks.soak.equal import Rows, dump, first_difference
from benchmarks.soak.forked import Ended, run
from experiments_db.store import Store

GOAL = ("--goal", "find where addition happens", "--max-experiments", "10")
AGAIN = 0.4  # how often a run that goes on is killed once more
MOST = 6  # kills of one run


class Try(TypedDict):
    """One run that was killed: seconds after its start and events on record at each kill; what was wrong afterwards."""

    kills: list[tuple[float, int]]
    wrong: list[str]


@dataclass(frozen=True)
class Whole:
    """The run that nobody kills: what its database says, and how long it takes."""

    rows: Rows
    seconds: float


def options(folder: Path) -> list[str]:
    """Where a run writes, and what makes it quick."""
    places = ["--db", str(folder / "e.db"), "--out", str(folder / "t")]
    return [*places, "--device", "cpu", "--null-twins", "0", "--quiet"]


def whole() -> Whole:
    """Run it once to its end. RuntimeError where it cannot be done."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        done = run([*GOAL, *options(folder)], folder / "log").ended()
        if done.status != 0:
            raise RuntimeError((folder / "log").read_text(encoding="utf-8")[-2000:])
        return Whole(dump(folder / "e.db"), done.seconds)


def killed(seed: int, number: int, intact: Whole) -> Try:
    """Begin a run, kill it at a random instant, go on with it and perhaps kill it again, until it is done."""
    rng = random.Random(f"{seed} {number}")
    kills: list[tuple[float, int]] = []
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "log"
        while True:
            asked = ["--resume", "latest"] if _begun(folder / "e.db") else list(GOAL)
            process = run([*asked, *options(folder)], log)
            if not kills or (len(kills) < MOST and rng.random() < AGAIN):
                after = rng.uniform(0, intact.seconds)
                done = process.killed(after)
                if done.status is None:
                    kills.append((round(after, 3), _events(folder / "e.db")))
                    wrong += _unsound(folder / "e.db", f"after kill {len(kills)}")
                    continue
            else:
                done = process.ended()
            break
        return {"kills": kills, "wrong": [*wrong, *_unequal(folder, done, intact, log)]}


def _unequal(folder: Path, done: Ended, intact: Whole, log: Path) -> list[str]:
    """What is wrong with a run that has gone on to its end."""
    told = log.read_text(encoding="utf-8")[-2000:]
    if done.status != 0 and not (done.status == 2 and "is finished; its report is" in told):
        return [f"exit status {done.status}: {told}"]
    wrong = _unsound(folder / "e.db", "at the end")
    if different := first_difference(intact.rows, dump(folder / "e.db")):
        wrong.append(different)
    (name,) = Store(folder / "e.db", create=False).runs()
    if not (folder / "t" / name / "report.md").is_file():
        wrong.append("there is no report")
    return wrong


def _unsound(path: Path, when: str) -> list[str]:
    """What does not verify in a database, if there is one."""
    if not path.is_file() or not path.stat().st_size:
        return []
    store = Store(path, create=False)
    try:
        return [f"{when}: {p}" for p in store.verify()]
    finally:
        store.db.close()


def _begun(path: Path) -> bool:
    """Whether a run is on record."""
    return _count(path, "runs") > 0


def _events(path: Path) -> int:
    return _count(path, "events")


def _count(path: Path, table: str) -> int:
    if not path.is_file():
        return 0
    try:
        with closing(sqlite3.connect(path)) as db:
            return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    except sqlite3.OperationalError:  # killed before there was a table
        return 0
