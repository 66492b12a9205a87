"""Whether two databases, or two runs, say the same: everything but what differs between any two runs of one command."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from experiments_db.exchange import export_run
from experiments_db.store import Store

TIMES = {"created", "ended", "time", "wall_seconds", "peak_memory_bytes", "provenance", "run", "name", "settings"}
NAMED = ("measurements", "result_arrays", "run_tasks")  # tables in which `name` is not that of a run
Rows = dict[str, list[list[Any]]]


def dump(path: Path) -> Rows:
    """Every row of every table without what differs between any two runs: times, memory, the run's name."""
    with closing(sqlite3.connect(path)) as db:
        names = [n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables: Rows = {}
        for table in (n for n in names if not n.startswith("_")):
            rows = db.execute(f'SELECT * FROM "{table}"')
            columns = [d[0] for d in rows.description]
            keep = [i for i, c in enumerate(columns) if c not in TIMES or (c == "name" and table in NAMED)]
            tables[table] = [[_timeless(row[i]) for i in keep] for row in rows]
        return tables


def exported(store: Store, run: str, folder: Path) -> Rows:
    """The rows of one run, numbered as if it were alone in its database, without the same."""
    path = folder / f"{run}.jsonl"
    export_run(store, run, path, "jsonl", force=True)
    tables: Rows = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        row = json.loads(line)
        table = row.pop("table")
        kept = {k: v for k, v in row.items() if k not in TIMES or (k == "name" and table in NAMED)}
        tables.setdefault(table, []).append([_timeless(v) for v in kept.values()])
    return tables


def first_difference(one: Rows, other: Rows) -> str | None:
    """Where two dumps differ first: the table, and how many rows each has; None where they are equal."""
    for table in sorted({*one, *other}):
        a, b = one.get(table, []), other.get(table, [])
        if a != b:
            at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            return f"{table} differs at row {at + 1} ({len(a)} and {len(b)} rows)"
    return None


def _timeless(value: Any) -> Any:
    if isinstance(value, str) and '"minutes"' in value:
        value = json.dumps({k: v for k, v in json.loads(value).items() if k != "minutes"})
    return value
