"""What the machine does to a database: a full disk, a lock, damage. In one line that says how to go on."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


class StoreError(ValueError):
    """The store cannot be opened, or does not hold what was asked for; the message says what there is."""


class FaultError(StoreError):
    """The file can be read or written no longer. What was committed before is on record, and nothing of what was not."""


WORDS = {  # by SQLite's primary result code
    sqlite3.SQLITE_FULL: "the disk (or a quota) is full: make room",
    sqlite3.SQLITE_READONLY: "it is read-only: make the file and its folder writable",
    sqlite3.SQLITE_PERM: "it may not be opened: make the file and its folder readable and writable",
    sqlite3.SQLITE_CANTOPEN: "it or a file beside it cannot be opened: make the file and its folder readable and writable",
    sqlite3.SQLITE_BUSY: "another process has it locked: end that process or wait for it",
    sqlite3.SQLITE_LOCKED: "it is locked: end what holds it or wait for it",
    sqlite3.SQLITE_PROTOCOL: "its locks do not work: move it to a disk of this machine",
    sqlite3.SQLITE_IOERR: "the disk fails: see to it that it can be read and written",
    sqlite3.SQLITE_CORRUPT: "it is damaged: `python -m experiments_db verify FILE` says where; use a copy, or import its exports",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database, or its beginning is damaged: use a copy, or import its exports",
}
NO_TEXT = "Could not decode to UTF-8"  # how sqlite3 begins where a text was overwritten


def fault(error: BaseException | None) -> str | None:
    """In words what the machine did, if that is where an error comes from; None for an error of the program."""
    while error is not None:
        if isinstance(error, sqlite3.Error):
            words = WORDS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
            if words:
                return words
        if isinstance(error, UnicodeDecodeError) or NO_TEXT in str(error):
            return WORDS[sqlite3.SQLITE_CORRUPT]
        error = error.__context__  # such as a savepoint that went with the transaction
    return None


@contextmanager
def explained(path: Path) -> Generator[None]:
    """Faults of the machine as FaultError; other errors of SQLite are bugs and stay what they are."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if words := fault(error):
            raise FaultError(f"experiments database {path} cannot be used: {words} (SQLite: {error})") from error
        raise


@contextmanager
def held_to_records(path: Path) -> Generator[None]:
    """Errors that come of a database whose records are not sound, such as one that somebody sent, as StoreError.

    Whether that is so, `verify` says once something went wrong; an error that a sound database leads to is the program's own.
    """
    try:
        with explained(path):
            yield
    except StoreError:
        raise
    except Exception as error:
        if why := _unsound(path, error):
            mend = f"`python -m experiments_db verify {path}` says more; use a copy, or import its exports"
            raise StoreError(f"experiments database {path} is not sound: {why}. {mend}") from None
        raise


def _unsound(path: Path, error: Exception) -> str:
    from pydantic import ValidationError

    from experiments_db.store import Store

    try:
        problems = Store(path, create=False).verify()
    except Exception as other:  # noqa: BLE001  # it cannot even be verified
        problems = [str(other)]
    if not problems and isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        problems = [f"a record of the kind {error.title} cannot be read: {first['msg']}"]
    return " ".join(problems[0].split()) if problems else ""
