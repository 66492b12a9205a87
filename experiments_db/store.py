"""The append-only store: one SQLite file, readable by any SQLite browser, also while a run is writing to it."""

import json
import re
import sqlite3
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from experiments_db import select
from experiments_db.faults import FaultError, StoreError, explained
from experiments_db.findings import Claim, Conclusion, Finding, Question
from experiments_db.opening import OtherVersionError, connect, writing
from experiments_db.records import (
    Array,
    Axis,
    Entry,
    Event,
    Experiment,
    Hypothesis,
    Measurement,
    Note,
    Provenance,
    Result,
    Run,
    TaskData,
    canonical_json,
)
from experiments_db.rows import (
    MEASUREMENT_COLUMNS,
    MEASUREMENT_FIELDS,
    ExperimentRow,
    experiment_of,
    lists_of,
    measurement_from,
    measurement_row,
    result_sha,
)

__all__ = ["FaultError", "Store", "StoreError", "now"]
_Asserted = TypeVar("_Asserted", Finding, Claim, Question, Conclusion)


def now() -> str:
    """The present time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Store:
    """An experiments database. Safe to use from several threads; other processes may read at the same time."""

    def __init__(self, path: Path | str, *, create: bool = True, read_only: bool = False) -> None:
        """Open (or create) the file and bring it up to date, or leave it as it is. StoreError in one line if that cannot be."""
        self.path = Path(path)
        if not create and not self.path.is_file():
            raise StoreError(f"there is no experiments database {self.path}; agent.run makes one, --db names another")
        self._lock = threading.RLock()
        try:
            with explained(self.path):
                self.db = connect(self.path, read_only=read_only)
        except FaultError:
            raise
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"experiments database {self.path} cannot be used: {error}") from None
        except OtherVersionError as error:
            raise StoreError(str(error)) from None

    @contextmanager
    def transaction(self) -> Generator[None]:
        """All or nothing; may be nested. Other threads and processes wait. FaultError where the machine does not let it."""
        with self._lock, explained(self.path), writing(self.db):
            yield

    # -- runs and events ----------------------------------------------------------------------------------------------

    def put_run(self, run: Run) -> None:
        """Begin a run; its name must be new."""
        values = (run.name, run.goal, run.subject, run.planner, canonical_json(run.settings), run.status, run.reason)
        with self.transaction():
            if self._one("SELECT 1 FROM runs WHERE name = ?", run.name):
                raise StoreError(f"there is a run {run.name!r} already")
            self._write("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)", *values, run.created or now())

    def update_run(self, name: str, status: str, reason: str = "") -> None:
        """Set how a run stands; `ended` is set unless it is running."""
        ended = None if status == "running" else now()
        with self.transaction():
            self._write("UPDATE runs SET status = ?, reason = ?, ended = ? WHERE name = ?", status, reason, ended, name)

    def run(self, name: str) -> Run:
        """A run by its name."""
        row = self._one(
            "SELECT name, goal, subject, planner, settings, status, reason, created FROM runs WHERE name = ?", name
        )
        if row is None:
            raise StoreError(f"there is no run {name!r} in {self.path}")
        return Run.model_validate({**row, "settings": json.loads(row["settings"])})

    def runs(self) -> list[str]:
        """Names of all runs, oldest first."""
        return [r["name"] for r in self.rows("SELECT name FROM runs ORDER BY created, rowid")]

    def resolve_run(self, word: str) -> str:
        """The name of the run that `word` means: a name, an unambiguous prefix, or `latest`; of a child run its whole name.

        The latest is the one that came here last: a clock may go backwards.
        """
        names = self.runs()
        own = self.rows("SELECT name FROM runs WHERE json_extract(settings, '$.parent') IS NULL ORDER BY rowid")
        mine = [r["name"] for r in own]
        if word == "latest" and mine:
            return mine[-1]
        found = [n for n in names if n == word] or [n for n in mine or names if n.startswith(word)]
        if len(found) != 1:
            what = "is ambiguous" if found else "is unknown"
            raise StoreError(f"run {word!r} {what}; runs are {', '.join((found or names)[-12:]) or 'none yet'}")
        return found[0]

    def put_event(self, run: str, kind: str, payload: Mapping[str, Any]) -> int:
        """Append to a run's timeline; returns its number, counted from 1."""
        with self.transaction():
            seq = self.last_seq(run) + 1
            self._write("INSERT INTO events VALUES (?, ?, ?, ?, ?)", run, seq, kind, canonical_json(payload), now())
            return seq

    def last_seq(self, run: str) -> int:
        """Number of the last event of a run; 0 before the first."""
        return self._number("SELECT coalesce(max(seq), 0) AS n FROM events WHERE run = ?", run)

    def events(self, run: str, after: int = 0, until: int | None = None) -> list[Event]:
        """A run's timeline beyond a number, to its end or to another number."""
        asked = "SELECT seq, kind, payload, time FROM events WHERE run = ? AND seq > ? AND seq <= ? ORDER BY seq"
        rows = self.rows(asked, run, after, 2**62 if until is None else until)
        return [Event.model_validate({**r, "payload": json.loads(r["payload"])}) for r in rows]

    # -- experiments --------------------------------------------------------------------------------------------------

    def put_result(self, experiment: Experiment, result: Result) -> int:
        """Keep what one execution gave; returns the result's number."""
        with self.transaction():
            x = experiment
            self._write(
                "INSERT OR IGNORE INTO experiments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                x.id, x.tool, canonical_json(x.args), x.subject, canonical_json(x.tasks), x.seed, x.dtype, x.code, now(),
            )  # fmt: skip
            arrays = [(a.name, a.sha) for a in result.arrays]
            provenance = canonical_json(result.provenance.model_dump()) if result.provenance else None
            cursor = self.db.execute(
                "INSERT INTO results (experiment, status, text, wall_seconds, peak_memory_bytes, provenance, sha, created) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (x.id, result.status, result.text, result.wall_seconds, result.peak_memory_bytes, provenance,
                 result_sha(result, arrays), now()),
            )  # fmt: skip
            number = int(cursor.lastrowid or 0)
            marks = ", ".join("?" * len(MEASUREMENT_COLUMNS))
            self.db.conn.executemany(
                f"INSERT INTO measurements ({', '.join(MEASUREMENT_COLUMNS)}) VALUES ({marks})",
                [measurement_row(number, m) for m in result.measurements],
            )
            for position, a in enumerate(result.arrays):
                shape = canonical_json(list(a.shape))
                self._write("INSERT OR IGNORE INTO arrays VALUES (?, ?, ?, ?)", a.sha, a.dtype, shape, a.data)
                axes = canonical_json([x.model_dump() for x in a.axes])
                self._write(
                    "INSERT INTO result_arrays VALUES (?, ?, ?, ?, ?, ?)", number, position, a.name, a.sha, axes, a.unit
                )
            return number

    def cached(self, experiment_id: str) -> tuple[int, Result] | None:
        """The last usable result of an experiment; a failed one is never used again."""
        row = self._one(
            "SELECT id FROM results WHERE experiment = ? AND status != 'failed' ORDER BY id DESC LIMIT 1", experiment_id
        )
        return (row["id"], self.result(row["id"])) if row else None

    def link_experiment(
        self, run: str, experiment_id: str, result_id: int, *, cached: bool, seq: int, why: str = ""
    ) -> str:
        """Give an experiment its handle in a run: E1, E2 ..."""
        with self.transaction():
            number = self._next(run, "run_experiments")
            values = (run, number, experiment_id, result_id, int(cached), seq, why)
            self._write("INSERT INTO run_experiments VALUES (?, ?, ?, ?, ?, ?, ?)", *values)
            return f"E{number}"

    def experiments(self, run: str, number: int | None = None, *, since: int = 1) -> list[ExperimentRow]:
        """A run's experiments in order, those from number `since` on, or the one with this number."""
        wanted = [since] if number is None else [number]
        rows = self.rows(
            "SELECT r.number, r.result, r.cached, r.seq, r.why, x.tool, x.args, x.subject, x.tasks, x.seed, x.dtype, x.code "
            "FROM run_experiments r JOIN experiments x ON x.id = r.experiment WHERE r.run = ?"
            f" AND r.number {'>=' if number is None else '='} ? ORDER BY r.number",
            run,
            *wanted,
        )
        return [
            ExperimentRow(f"E{r['number']}", experiment_of(r), r["result"], bool(r["cached"]), r["seq"], r["why"])
            for r in rows
        ]

    def experiment(self, run: str, handle: str) -> ExperimentRow:
        """One experiment by its handle."""
        number = int(handle[1:]) if re.fullmatch(r"E[1-9][0-9]{0,8}", handle) else 0
        for row in self.experiments(run, number):
            return row
        last = self._next(run, "run_experiments") - 1
        raise StoreError(f"run {run} has no experiment {handle!r}; it has {f'E1 to E{last}' if last else 'none'}")

    def result(
        self, result_id: int, *, arrays: bool = True, measurements: Sequence[Measurement] | None = None
    ) -> Result:
        """A result by its number; `measurements` are its own, where they have been read already."""
        row = self._one("SELECT * FROM results WHERE id = ?", result_id)
        if row is None:
            raise StoreError(f"there is no result {result_id}")
        provenance = Provenance.model_validate_json(row["provenance"]) if row["provenance"] else None
        found = self.measurements(result_id) if measurements is None else measurements
        return Result.model_construct(  # its parts are valid records already, and it was checked when it was written
            status=row["status"],
            text=row["text"],
            measurements=tuple(found),
            arrays=tuple(self._arrays(result_id)) if arrays else (),
            wall_seconds=row["wall_seconds"],
            peak_memory_bytes=row["peak_memory_bytes"],
            provenance=provenance,
        )

    def measurements(self, result_id: int) -> list[Measurement]:
        """The measurements of a result, in the order in which they were taken."""
        sql = f"SELECT {MEASUREMENT_FIELDS} FROM measurements WHERE result = ? ORDER BY id"
        with self._lock, explained(self.path):
            return [measurement_from(r) for r in self.db.execute(sql, [result_id]).fetchall()]

    def select(
        self,
        where: Mapping[str, Mapping[str, Any]] | None = None,
        group_by: Sequence[str] = (),
        aggregate: str = "mean",
        order_by: str | None = None,
        *,
        descending: bool = False,
        limit: int = 1000,
        run: str | None = None,
    ) -> list[dict[str, Any]]:
        """Measurements filtered, grouped and aggregated. where: {column: {operator: value}}. StoreError on bad names."""
        try:
            sql, values = select.build(where or {}, group_by, aggregate, order_by, descending, limit, run)
        except select.SelectError as error:
            raise StoreError(str(error)) from None
        return self.rows(sql, *values)

    # -- what the researcher writes -----------------------------------------------------------------------------------

    def put_entry(self, run: str, seq: int, entry: Entry) -> str:
        """Keep a note, hypothesis, finding, claim, question, conclusion or task; returns its handle."""
        dumped = entry.model_dump()
        as_json = {k: canonical_json(list(v)) for k, v in dumped.items() if isinstance(v, tuple)}
        with self.transaction():
            match entry:
                case Note():
                    number = self._next(run, "notes")
                    self._write(
                        "INSERT INTO notes VALUES (?, ?, ?, ?, ?)", run, number, entry.text, as_json["experiments"], seq
                    )
                    return f"N{number}"
                case Hypothesis():
                    self._write(
                        "INSERT INTO hypotheses VALUES (?, ?, ?, ?, ?, ?, ?, ?)", run, entry.handle,
                        self._revision(run, "hypotheses", entry.handle), entry.statement, entry.status,
                        as_json["evidence_for"], as_json["evidence_against"], seq,
                    )  # fmt: skip
                    return entry.handle
                case Finding() | Question():
                    return self._assert(run, entry.handle, entry, seq)
                case Claim():
                    return self._assert(run, f"C{len(self._asserted(run, Claim)) + 1}", entry, seq)
                case Conclusion():
                    return self._assert(run, "conclusion", entry, seq)
                case TaskData():
                    self._write(
                        "INSERT OR IGNORE INTO task_data VALUES (?, ?, ?, ?, ?)", entry.sha, entry.name, entry.description,
                        entry.origin, canonical_json([dict(e) for e in entry.examples]),
                    )  # fmt: skip
                    self._write("INSERT INTO run_tasks VALUES (?, ?, ?, ?)", run, entry.name, entry.sha, seq)
                    return entry.name

    def notes(self, run: str, since: int = 1, most: int = -1) -> list[Note]:
        """A run's notes in order: N1, N2 ...; those from number `since` on, `most` of them where that is not negative."""
        sql = "SELECT text, experiments FROM notes WHERE run = ? AND number >= ? ORDER BY number LIMIT ?"
        rows = self.rows(sql, run, since, most)
        return [Note.model_validate(lists_of(r, "experiments")) for r in rows]

    def findings(self, run: str) -> list[Finding]:
        """The latest state of each finding: F1, F2 ..."""
        return self._asserted(run, Finding)

    def claims(self, run: str) -> list[Claim]:
        """A run's claims in order: C1, C2 ..."""
        return self._asserted(run, Claim)

    def questions(self, run: str) -> list[Question]:
        """What the run's goal asks: Q1, Q2 ..."""
        return self._asserted(run, Question)

    def conclusion(self, run: str) -> Conclusion | None:
        """How the run ended, in its planner's words."""
        return next(iter(self._asserted(run, Conclusion)), None)

    def _assert(self, run: str, handle: str, entry: BaseModel, seq: int) -> str:
        self._write(
            "INSERT INTO assertions VALUES (?, ?, ?, ?, ?, ?)", run, type(entry).__name__, handle,
            self._revision(run, "assertions", handle), canonical_json(entry.model_dump(mode="json")), seq,
        )  # fmt: skip
        return handle

    def _asserted(self, run: str, record: type[_Asserted]) -> list[_Asserted]:
        rows = self.rows(
            "SELECT body FROM assertions_latest WHERE run = ? AND kind = ? ORDER BY CAST(substr(handle, 2) AS INTEGER)",
            run,
            record.__name__,
        )
        return [record.model_validate_json(r["body"]) for r in rows]

    def hypotheses(self, run: str) -> list[Hypothesis]:
        """The latest state of each hypothesis."""
        rows = self.rows(
            "SELECT handle, statement, status, evidence_for, evidence_against FROM hypotheses_latest WHERE run = ? "
            "ORDER BY CAST(substr(handle, 2) AS INTEGER)",
            run,
        )
        return [Hypothesis.model_validate(lists_of(r, "evidence_for", "evidence_against")) for r in rows]

    def task_data(self, run: str) -> list[TaskData]:
        """Tasks that belong to a run and not to the program."""
        rows = self.rows(
            "SELECT r.name, t.description, t.examples, t.origin FROM run_tasks r JOIN task_data t ON t.sha = r.sha "
            "WHERE r.run = ? ORDER BY r.rowid",
            run,
        )
        return [TaskData.model_validate(lists_of(r, "examples")) for r in rows]

    # -- checks -------------------------------------------------------------------------------------------------------

    def verify(self) -> list[str]:
        """Everything whose content does not fit its hash, or that refers to nothing; one line each."""
        from experiments_db.verify import problems

        return problems(self)

    def counts(self) -> dict[str, int]:
        """Rows of the main tables."""
        tables = ("runs", "experiments", "results", "measurements", "arrays", "events")
        return {t: self.db.table(t).count for t in tables}

    # -- parts --------------------------------------------------------------------------------------------------------

    def _arrays(self, result_id: int) -> list[Array]:
        rows = self.rows(
            "SELECT r.name, r.axes, r.unit, a.dtype, a.shape, a.data FROM result_arrays r JOIN arrays a ON a.sha = r.array "
            "WHERE r.result = ? ORDER BY r.position",
            result_id,
        )
        return [
            Array(
                name=r["name"], dtype=r["dtype"], shape=tuple(json.loads(r["shape"])), data=r["data"], unit=r["unit"],
                axes=tuple(Axis.model_validate(x) for x in json.loads(r["axes"])),
            )
            for r in rows
        ]  # fmt: skip

    def _next(self, run: str, table: str) -> int:
        return self._number(f"SELECT coalesce(max(number), 0) + 1 AS n FROM {table} WHERE run = ?", run)

    def _revision(self, run: str, table: str, handle: str) -> int:
        sql = f"SELECT coalesce(max(revision), 0) + 1 AS n FROM {table} WHERE run = ? AND handle = ?"
        return self._number(sql, run, handle)

    def _number(self, sql: str, *values: Any) -> int:
        return int(self.rows(sql, *values)[0]["n"])

    def _write(self, sql: str, *values: Any) -> None:
        self.db.execute(sql, values)

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of a query as dictionaries; for reading only."""
        with self._lock, explained(self.path):
            cursor = self.db.execute(sql, values)
            names = [d[0] for d in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _one(self, sql: str, *values: Any) -> dict[str, Any] | None:
        rows = self.rows(sql, *values)
        return rows[0] if rows else None
