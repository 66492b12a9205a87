"""One run as a file, its rows table by table: JSON lines, or a folder of Parquet files with the same rows.

Numbers that mean something in one database only do not travel: results are counted anew, from 1, in the order in which
the run first used them. A file is not trusted: it is built up in a database of its own and verified there before the one
that it is meant for is opened.
"""

import base64
import math
import os
import re
import reprlib
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments_db.formats import (
    FORMAT,
    FORMATS,
    ExchangeError,
    Found,
    Header,
    check_replaceable,
    read,
    remove,
    write,
)
from experiments_db.run_tables import Column, Table, count, difference, merge, rows, tables, transaction
from experiments_db.store import Store

__all__ = ["FORMATS", "VERSION", "ExchangeError", "Imported", "check_header", "export_run", "import_run"]

VERSION = 2

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")  # a run's name becomes the name of a folder
_KINDS = {"TEXT": "text", "INTEGER": "a whole number of 64 bits", "REAL": "a finite number", "BLOB": "bytes, in base64"}


@dataclass(frozen=True)
class Imported:
    """What an import found in a file: the run, its rows by table, and whether the database did not have it before."""

    run: str
    rows: dict[str, int]
    new: bool


def export_run(store: Store, run: str, path: Path, form: str, *, force: bool = False) -> dict[str, int]:
    """Write a run as `jsonl` or `parquet`, whole or not at all; returns the number of rows by table.

    `force` replaces an earlier export in the same form. ExchangeError says why it cannot be done.
    """
    _check_name(run)
    if os.path.lexists(path) and not force:
        raise ExchangeError(f"{path} is there already; --force replaces it")
    check_replaceable(path, form)
    try:
        part = path.with_name(path.name + ".part")
        remove(part)
        try:
            with transaction(store, "BEGIN"):
                every = tables(store)
                counts = {t.name: count(store, t, run) for t in every}
                header = {"format": FORMAT, "version": VERSION, "run": run, "rows": counts}
                write(form, part, header, ((t.name, t.kinds, rows(store, t, run)) for t in every))
            if path.is_dir():
                remove(path)
            part.replace(path)
        finally:
            remove(part)
    except ExchangeError:
        raise
    except (TypeError, ValueError) as error:
        raise ExchangeError(f"{run} cannot be exported: {error}") from None
    return counts


def import_run(path: Path, database: Path) -> Imported:
    """Read what `export_run` wrote into a database, a new one if need be, in one transaction.

    ExchangeError in one line if anything in the file is not as it should be; the database is then as it was.
    """
    header, found = read(path)
    with tempfile.TemporaryDirectory(prefix="locus-") as folder:
        staged = Store(Path(folder) / "staged.db")
        try:
            every = {t.name: t for t in tables(staged)}
            run, counts = check_header(path, header, every)
            staged.db.execute("PRAGMA foreign_keys = OFF")  # a missing reference is found below, and named
            with transaction(staged, "BEGIN"):
                _stage(path, staged, every, found, counts)
            _check_staged(path, staged, every, run)
            return Imported(run, counts, _put(staged, run, database))
        finally:
            staged.db.close()


def _put(staged: Store, run: str, database: Path) -> bool:
    """Take over the run of a verified database; False if it is there already. What is made anew goes if that fails."""
    existed, done = database.exists(), False
    store = Store(database)
    try:
        store.db.execute("ATTACH DATABASE ? AS staged", (str(staged.path),))
        with transaction(store, "BEGIN IMMEDIATE"):
            new = run not in store.runs()
            if new:
                merge(store)
            elif table := difference(staged, store, run):
                raise ExchangeError(f"{database} has another run {run} already: its {table} are not those of the file")
        done = True
        return new
    finally:
        store.db.close()
        for suffix in () if existed or done else ("", "-wal", "-shm"):
            database.with_name(database.name + suffix).unlink(missing_ok=True)


def _check_name(name: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        what = "letters, digits, dots, dashes and underscores, and no dot or dash first"
        raise ExchangeError(f"{reprlib.repr(name)} cannot be the name of a run: it takes {what}")
    return name


def check_header(path: Path, header: Header, every: Mapping[str, Table]) -> tuple[str, dict[str, int]]:
    """The run's name, and how many rows a header says it has in each table; ExchangeError for one that is not sound."""
    if header.get("format") != FORMAT:
        raise ExchangeError(f"{path} is no exported run: it does not begin with the format {FORMAT!r}")
    if header.get("version") != VERSION:
        version = reprlib.repr(header.get("version"))
        older = isinstance(header.get("version"), int) and header["version"] < VERSION
        mend = (
            "import it with the version that wrote it, open that database here, export again"
            if older
            else "update locus-agent"
        )
        raise ExchangeError(f"{path} has version {version} of the format, and {VERSION} is known here: {mend}")
    counts = header.get("rows")
    if not isinstance(counts, dict):
        raise ExchangeError(f"{path} does not say how many rows it has")
    for name in counts:
        _check_known(path.name, "table", name, every)
    return _check_name(header.get("run")), counts


def _check_known(where: str, what: str, name: Any, known: Mapping[str, Any]) -> None:
    if not isinstance(name, str) or name not in known:
        raise ExchangeError(f"{where}: unknown {what} {reprlib.repr(name)}; update locus-agent if the file is sound")


def _stage(path: Path, staged: Store, every: Mapping[str, Table], found: Found, counts: Mapping[str, int]) -> None:
    """Take over each row as it stands; what the rows say is checked when all of them are there."""
    seen: Counter[str] = Counter()
    for where, name, row in found:
        _check_known(where, "table", name, every)
        try:
            values = _values(where, every[name], row)
            names, marks = ", ".join(f'"{c}"' for c in values), ", ".join("?" * len(values))
            staged.db.conn.execute(f'INSERT INTO "{name}" ({names}) VALUES ({marks})', tuple(values.values()))
        except ExchangeError:
            raise
        except (sqlite3.Error, ValueError, OverflowError) as error:
            raise ExchangeError(f"{where}: {error}") from None
        seen[name] += 1
    if dict(seen) != {name: n for name, n in counts.items() if n}:
        raise ExchangeError(f"{path} is cut short or was changed: it does not have as many rows as its header says")


def _values(where: str, table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values by column; a column that is left out takes its default. ValueError for a wrong one."""
    for name in row:
        _check_known(where, f"column of {table.name}:", name, table.columns)
    left_out = [n for n, c in table.columns.items() if n not in row and c.required and not c.default]
    if left_out:
        raise ValueError(f"a row of {table.name} needs {', '.join(left_out)}")
    return {n: _value(f"{table.name}.{n}", c, row[n]) for n, c in table.columns.items() if n in row}


def _value(name: str, column: Column, value: Any) -> Any:
    match column.kind, value:
        case _, None if not column.required:
            return None
        case ("TEXT", str()) | ("BLOB", bytes()):
            return value
        case "INTEGER", int() if not isinstance(value, bool) and -(2**63) <= value < 2**63:
            return value
        case "REAL", float() if math.isfinite(value):
            return value
        case "REAL", int() if not isinstance(value, bool) and abs(value) <= 2**53:
            return float(value)
        case "BLOB", str():
            return base64.b64decode(value, validate=True)
        case _:
            raise ValueError(f"{name} must be {_KINDS.get(column.kind, 'something else')}, not {reprlib.repr(value)}")


def _check_staged(path: Path, staged: Store, every: Mapping[str, Table], run: str) -> None:
    """Every hash, every reference, everything readable; and nothing but this one run."""
    if staged.runs() != [run]:
        raise ExchangeError(f"{path} should hold the run {run} and no other")
    if problems := staged.verify():
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ExchangeError(f"{path} is not sound: {problems[0]}{more}")
    for name, table in every.items():
        if staged.db.table(name).count != count(staged, table, run):
            raise ExchangeError(f"{path} has rows of {name} that do not belong to the run")
