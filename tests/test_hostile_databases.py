"""A database that somebody sent: whatever was changed in it, it is read, or refused in one line, and nothing else is touched."""

import contextlib
import io
import shutil
import sqlite3

import pytest
from findings_made import typical
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import replay
from agent.report import __main__ as report
from experiments_db import __main__ as command
from experiments_db.faults import StoreError, held_to_records
from experiments_db.store import Store

STRANGE = [
    None, -1, 2**63 - 1, 1e308, float("inf"), "", "x", "\0", "[]", "{}", '{"a":NaN}', b"\xff\xfe", "a" * 3000, '"\\ud800"', "[[" * 5000, "E99",
    "decoder.99.zz", "../../x", 0,
]  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A database with findings of every fate, and its tables with their columns and numbers of rows."""
    path = tmp_path_factory.mktemp("sound") / "e.db"
    typical(Store(path))
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        names = [r[0] for r in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
        columns = {t: [r[1] for r in db.execute(f"PRAGMA table_info('{t}')")] for t in names}
        rows = {t: db.execute(f"SELECT count(*) FROM '{t}'").fetchone()[0] for t in names}
    return path, [(t, c, rows[t]) for t in names if rows[t] for c in columns[t]]


def changed(path, table, column, row, value):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA ignore_check_constraints = 1")
        with contextlib.suppress(sqlite3.Error):  # what SQLite itself does not take cannot be sent
            db.execute(f"UPDATE '{table}' SET \"{column}\" = ? WHERE rowid = (SELECT rowid FROM '{table}' LIMIT 1 OFFSET ?)", (value, row))
            db.commit()


def asked(main, *argv):
    """(status, standard error) of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(a) for a in argv])
    return status, err.getvalue()


def in_one_line(path, folder):
    """Ask every command that reads a database; what it refuses it refuses in one line."""
    for main, *argv in (
        (command.main, "verify", path), (command.main, "export", "typical", "--db", path, "--out", folder / "o.jsonl"),
        (report.main, "typical", "--db", path, "--out", folder / "t"), (report.main, "typical", "--db", path, "--out", folder / "t", "--check"),
        (replay.main, "typical", "--db", path),
    ):  # fmt: skip
        status, said = asked(main, *argv)
        assert status in ((0, 1) if not said else (1, 2)), said
        assert said.count("\n") == (1 if status == 2 else said.count("\n")), said
    assert {f.name for f in folder.iterdir()} <= {"e.db", "e.db-wal", "e.db-shm", "o.jsonl", "t"}
    assert not (folder / "t").exists() or {f.name for f in (folder / "t").iterdir()} <= {"typical"}


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_value_stands_in_a_row_is_read_or_refused_in_one_line(sound, data, tmp_path_factory):
    path, places = sound
    folder = tmp_path_factory.mktemp("sent")
    shutil.copy(path, folder / "e.db")
    for table, column, rows in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=2)):
        changed(folder / "e.db", table, column, data.draw(st.integers(0, rows - 1)), data.draw(st.sampled_from(STRANGE)))
    in_one_line(folder / "e.db", folder)


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_bytes_stand_in_a_file_it_is_read_or_refused_in_one_line(sound, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sent")
    content = bytearray(sound[0].read_bytes())
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=20)):
        content[at] = byte
    (folder / "e.db").write_bytes(content)
    in_one_line(folder / "e.db", folder)


@pytest.mark.parametrize(
    ("table", "column", "value", "says"),
    [
        ("runs", "status", "../../x", "is not sound: "), ("notes", "experiments", '{"a": 1}', "is not sound: "),
        ("experiments", "tasks", 1e308, "is not sound: "), ("measurements", "control_kind", "x", "is not sound: "),
        ("runs", "created", b"\xff\xfe", "is not sound: "),
    ],
)  # fmt: skip
def test_a_report_of_records_that_are_none_says_of_the_database_that_it_is_not_sound(table, column, value, says, sound, tmp_path):
    shutil.copy(sound[0], tmp_path / "e.db")
    changed(tmp_path / "e.db", table, column, 0, value)
    status, said = asked(report.main, "typical", "--db", tmp_path / "e.db", "--out", tmp_path / "t")
    assert status == 2 and said.startswith("agent.report: ") and said.count("\n") == 1
    assert says in said and "experiments_db verify" in said
    assert not list(tmp_path.rglob("report.md"))


def test_an_error_that_a_sound_database_leads_to_is_the_programs_own(sound):
    with pytest.raises(ZeroDivisionError), held_to_records(sound[0]):
        raise ZeroDivisionError
    with pytest.raises(StoreError, match=r"^ours$"), held_to_records(sound[0]):
        raise StoreError("ours")
