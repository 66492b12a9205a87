"""A run that continues another one from an earlier point: its record up to there, copied; its results, shared."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments_db.store import Store

_WRITTEN = ("run_experiments", "notes", "hypotheses", "assertions")


def copy_record(store: "Store", parent: str, child: str, seq: int) -> None:
    """Copy everything `parent` had written by event `seq` to `child`, an empty run; 0 copies the user's tasks only.

    Experiments keep their handles and results, marked as known from an earlier run. Events keep their numbers and times.
    """
    with store.transaction():
        for table in ("events", *_WRITTEN):
            names = [r["name"] for r in store.rows(f"PRAGMA table_info({table})")]
            taken = ["?" if n == "run" else "1" if n == "cached" else n for n in names]
            store.db.execute(
                f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(taken)} FROM {table} "
                "WHERE run = ? AND seq <= ? ORDER BY rowid",
                (child, parent, seq),
            )
        store.db.execute(
            "INSERT INTO run_tasks (run, name, sha, seq) SELECT ?, r.name, r.sha, r.seq FROM run_tasks r "
            "JOIN task_data t ON t.sha = r.sha WHERE r.run = ? AND (t.origin = 'file' OR coalesce(r.seq, 1) <= ?) "
            "ORDER BY r.rowid",
            (child, parent, seq),
        )
