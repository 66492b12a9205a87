"""Which rows of which tables belong to a run, and how they get from one database into another.

Tables and columns are read from the database itself, so that a migration needs no change here.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from sqlite3 import Cursor

from experiments_db.store import Store

_USED = (
    "WITH used AS (SELECT result AS old, row_number() OVER (ORDER BY min(number)) AS new FROM run_experiments "
    "WHERE run = :run GROUP BY result) "
)
_ROWS = {  # in an order that copying keeps; a table that refers to the run itself needs no entry
    "runs": "WHERE t.name = :run",
    "experiments": "JOIN (SELECT experiment, min(number) AS first FROM run_experiments WHERE run = :run "
    "GROUP BY experiment) f ON f.experiment = t.id ORDER BY f.first",
    "results": "JOIN used u ON u.old = t.id ORDER BY u.new",
    "measurements": "JOIN used u ON u.old = t.result ORDER BY u.new, t.id",
    "arrays": "WHERE t.sha IN (SELECT r.array FROM result_arrays r JOIN used u ON u.old = r.result) ORDER BY t.sha",
    "result_arrays": "JOIN used u ON u.old = t.result ORDER BY u.new, t.position",
    "task_data": "WHERE t.sha IN (SELECT sha FROM run_tasks WHERE run = :run) ORDER BY t.sha",
}
_SHARED = {"experiments": "id", "arrays": "sha", "task_data": "sha"}  # kept once, under the hash of their content


@dataclass(frozen=True)
class Column:
    """A column as the database declares it."""

    kind: str
    required: bool
    default: bool


@dataclass(frozen=True)
class Table:
    """A table with the columns that mean something outside its database; `number` is the one with a result's number."""

    name: str
    columns: dict[str, Column]
    number: str | None
    of_run: str

    @property
    def kinds(self) -> dict[str, str]:
        """Declared type by column."""
        return {name: column.kind for name, column in self.columns.items()}

    @property
    def query(self) -> str:
        """The rows of run `:run`; results are counted from 1 in the order in which the run first used them."""
        shown = ", ".join("u.new" if c == self.number else f't."{c}"' for c in self.columns)
        return f'SELECT {shown} FROM main."{self.name}" t {self.of_run}'


def tables(store: Store) -> list[Table]:
    """The tables that hold runs, in the order in which they were made."""
    found: list[Table] = []
    for row in store.rows("SELECT name FROM main.sqlite_master WHERE type = 'table' ORDER BY rowid"):
        name = row["name"]
        refers = {r["from"]: r["table"] for r in store.rows(f'PRAGMA main.foreign_key_list("{name}")')}
        if name not in _ROWS and refers.get("run") != "runs":
            continue
        info = store.rows(f'PRAGMA main.table_info("{name}")')
        number = "id" if name == "results" else next((c for c, of in refers.items() if of == "results"), None)
        keys = [(r["name"], r["type"]) for r in info if r["pk"]]
        local = {c for c, kind in keys if len(keys) == 1 and kind == "INTEGER" and c != number}
        columns = {
            r["name"]: Column(r["type"], bool(r["notnull"] or r["pk"]), r["dflt_value"] is not None)
            for r in info
            if r["name"] not in local
        }
        used = f'JOIN used u ON u.old = t."{number}" ' if number else ""
        found.append(Table(name, columns, number, _ROWS.get(name, f"{used}WHERE t.run = :run ORDER BY t.rowid")))
    return found


def rows(store: Store, table: Table, run: str) -> Cursor:
    """The rows of a run in one table, one at a time."""
    return store.db.execute(_USED + table.query, {"run": run})


def count(store: Store, table: Table, run: str) -> int:
    """How many rows a run has in one table."""
    return store.db.execute(f"{_USED}SELECT count(*) FROM ({table.query})", {"run": run}).fetchone()[0]


@contextmanager
def transaction(store: Store, begin: str) -> Generator[None]:
    """One view of the database ("BEGIN"), or the only one who writes ("BEGIN IMMEDIATE")."""
    try:
        store.db.execute(begin)
        yield
    except BaseException:
        store.db.conn.rollback()
        raise
    store.db.conn.commit()


def difference(store: Store, other: Store, run: str) -> str | None:
    """The first table in which a run differs between two verified databases; None if it is the same run."""
    for t in tables(store):
        compared = [list(t.columns).index(_SHARED[t.name])] if t.name in _SHARED else range(len(t.columns))
        for a, b in zip_longest(rows(store, t, run), rows(other, t, run)):
            if a is None or b is None or any(a[i] != b[i] for i in compared):
                return t.name
    return None


def merge(store: Store) -> None:
    """Copy everything from the attached database `staged`, which holds one new run, within a transaction.

    Content that is there already under its hash is shared, and so is an identical result.
    """
    store.db.execute("PRAGMA defer_foreign_keys = ON")
    store.db.execute("CREATE TEMP TABLE numbers (old INTEGER PRIMARY KEY, new INTEGER UNIQUE, fresh INTEGER NOT NULL)")
    every = tables(store)
    _merge_results(store, next(t for t in every if t.name == "results"))
    for t in every:
        if t.name == "results":
            continue
        names = ", ".join(f'"{c}"' for c in t.columns)
        taken = ", ".join("n.new" if c == t.number else f't."{c}"' for c in t.columns)
        how = "INSERT OR IGNORE" if t.name in _SHARED else "INSERT"
        fresh = "" if "run" in t.columns else "AND n.fresh"  # what is part of a result came once with it
        numbers = f'JOIN temp.numbers n ON n.old = t."{t.number}" {fresh}' if t.number else ""
        store.db.execute(
            f'{how} INTO main."{t.name}" ({names}) SELECT {taken} FROM staged."{t.name}" t {numbers} ORDER BY t.rowid'
        )


def _merge_results(store: Store, table: Table) -> None:
    """Find or make each result and note its number here. Two equal results of one run stay two."""
    names = [f'"{c}"' for c in table.columns if c != table.number]
    same = " AND ".join(f"t.{c} IS s.{c}" for c in names)
    copied = ", ".join(names)
    for row in store.rows("SELECT id FROM staged.results ORDER BY id"):
        found = store.rows(
            f"SELECT t.id FROM staged.results s JOIN main.results t ON {same} "
            "WHERE s.id = ? AND t.id NOT IN (SELECT new FROM temp.numbers) ORDER BY t.id LIMIT 1",
            row["id"],
        )
        copy = f"INSERT INTO main.results ({copied}) SELECT {copied} FROM staged.results WHERE id = ?"
        number = found[0]["id"] if found else store.db.execute(copy, (row["id"],)).lastrowid
        store.db.execute("INSERT INTO temp.numbers VALUES (?, ?, ?)", (row["id"], number, not found))
