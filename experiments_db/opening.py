"""Opening the file, and the right to write to it, also while other processes do the same."""

import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import sqlite_utils

from experiments_db.schema import known, migrations


class NewerVersionError(ValueError):
    """The file was made by a newer version of this program."""


def connect(path: Path) -> sqlite_utils.Database:
    """The database in a file, made if it is not there and brought up to date. sqlite3.Error, OSError, NewerVersionError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite_utils.Database(sqlite3.connect(path, timeout=60, check_same_thread=False))
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA synchronous = NORMAL")
    if not db.table_names():
        _begin_wal(db)  # for a new file only: one that was packed for reading stays as it is
    newer = {m.name for m in migrations.applied(db)} - known()
    if newer:
        raise NewerVersionError(f"{path} was made by a newer version ({', '.join(sorted(newer))}): update locus-agent")
    if migrations.pending(db):
        with writing(db):
            migrations.apply(db)
    return db


@contextmanager
def writing(db: sqlite_utils.Database) -> Generator[None]:
    """One transaction, all or nothing; may be nested. Other processes wait.

    The right to write is taken at the start: a transaction that reads first and then finds another writer would fail.
    """
    if db.conn.in_transaction:
        with db.atomic():
            yield
        return
    db.execute("BEGIN IMMEDIATE")
    with db.conn:  # commits, or rolls back
        yield


def _begin_wal(db: sqlite_utils.Database) -> None:
    """Write-ahead logging; another process may be making the same file."""
    for attempt in range(100):
        try:
            db.enable_wal()
        except sqlite3.OperationalError:  # the change of mode does not wait for locks by itself
            if attempt == 99:
                raise
            time.sleep(0.05)
        else:
            return
