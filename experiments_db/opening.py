"""Opening the file, and the right to write to it, also while other processes do the same."""

import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from experiments_db._sqlite import sqlite_utils
from experiments_db.schema import known, migrations

WAIT_SECONDS = 60.0  # for another process that writes


class OtherVersionError(ValueError):
    """The file was made by a newer version of this program, or by an older one and may not be brought up to date."""


def connect(path: Path, *, read_only: bool = False) -> sqlite_utils.Database:
    """The database in a file, made if it is not there and brought up to date, or as it is. sqlite3.Error, OSError,
    OtherVersionError.
    """
    _check_whole(path)
    if read_only:
        found = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=WAIT_SECONDS, check_same_thread=False
        )
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = sqlite3.connect(path, timeout=WAIT_SECONDS, check_same_thread=False)
    db = sqlite_utils.Database(found)
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA synchronous = NORMAL")
    if not db.table_names() and not read_only:
        _begin_wal(db)  # for a new file only: one that was packed for reading stays as it is
    newer = {m.name for m in migrations.applied(db)} - known()
    if newer:
        raise OtherVersionError(f"{path} was made by a newer version ({', '.join(sorted(newer))}): update locus-agent")
    if migrations.pending(db):
        if read_only:
            mend = f"python -m experiments_db verify {path} brings an older one up to date"
            raise OtherVersionError(f"{path} is no experiments database of this version: {mend}")
        with writing(db):
            migrations.apply(db)
    return db


def _check_whole(path: Path) -> None:
    """sqlite3.DatabaseError for a file that ends within a page, which SQLite itself would fill up with zeros."""
    beside = path.with_name(path.name + "-wal")
    if not path.is_file() or (beside.exists() and beside.stat().st_size):
        return  # with a write-ahead log the file may be behind
    with path.open("rb") as file:
        head = file.read(18)
    size = int.from_bytes(head[16:18], "big")
    if head.startswith(b"SQLite format 3\0") and path.stat().st_size % (65536 if size == 1 else size or 1):
        error = sqlite3.DatabaseError("the file ends within a page")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


@contextmanager
def writing(db: sqlite_utils.Database) -> Generator[None]:
    """One transaction, all or nothing; may be nested. Other processes wait.

    The right to write is taken at the start: a transaction that reads first and then finds another writer would fail.
    """
    if db.conn.in_transaction:
        with db.atomic():
            yield
        return
    with db.conn:  # commits, or rolls back; also where an interrupt comes as soon as the right to write is there
        db.execute("BEGIN IMMEDIATE")
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
