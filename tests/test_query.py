"""One SELECT over many databases and exported runs says what each database says itself, and reaches nothing else."""

import csv
import gc
import hashlib
import io
import json
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest
from findings_made import typical

from experiments_db import __main__ as command
from experiments_db.answers import WRITERS
from experiments_db.query import QueryError, answered
from experiments_db.records import Experiment, Measurement, Result, Run
from experiments_db.store import Store

duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install 'locus-agent[query]'")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install 'locus-agent[query]'")

CURATED = Path(__file__).parent.parent / "transcripts" / "curated" / "experiments.db"
SOME = ("20261122-024300-where-does-subtraction-happen", "typical")
VIEWS = ("runs_view", "experiments_view", "measurements_view", "hypotheses_latest", "assertions_latest", "findings_view")


def put(path, run, values, goal="g"):
    """A run with one experiment that measured these."""
    store = Store(path)
    asked = Experiment(tool="loss", args={}, subject="f", seed=0, dtype="float32", code="c")
    made = tuple(Measurement(name="nll", value=v, unit="nats", n=3, variant=f"v{i}") for i, v in enumerate(values))
    store.put_run(Run(name=run, goal=goal, subject="demo", planner="p"))
    number = store.put_result(asked, Result(status="ok", text="first\nsecond", measurements=made))
    store.link_experiment(run, asked.id, number, cached=False, seq=store.put_event(run, "turn", {}))
    store.update_run(run, "finished")
    store.db.close()
    return path


def ask(sql, *sources, **options):
    with answered(sql, sources, **options) as answer:
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def content(folder):
    """Bytes by file; what SQLite notes of readers, the index of a log and a log without a byte, is not part of a database."""
    found = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.name.endswith("-shm")}
    return {p: content for p, content in found.items() if content or not p.name.endswith("-wal")}


def said(capsys, *words):
    capsys.readouterr()
    code = command.main([str(w) for w in words])
    return code, *capsys.readouterr()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the curated database with a run that has findings of every fate."""
    copied = Path(shutil.copy(CURATED, tmp_path_factory.mktemp("source") / "experiments.db"))
    typical(Store(copied))
    return copied


@pytest.fixture(scope="module")
def exports(source):
    """Two of the runs, each a folder of Parquet files."""
    for run in SOME:
        out = source.parent / "exports" / run
        out.parent.mkdir(exist_ok=True)
        assert command.main(["export", run, "--db", str(source), "--out", str(out), "--format", "parquet"]) == 0
    return out.parent


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two databases of which one has two runs, and a run of it as a folder."""
    folder = tmp_path_factory.mktemp("two")
    one, other = put(folder / "one.db", "r1", [1.0, 2.0]), put(folder / "two.db", "r2", [10.0])
    put(one, "r3", [100.0])
    words = ["export", "r3", "--db", str(one), "--out", str(folder / "r3"), "--format", "parquet"]
    assert command.main(words) == 0
    return one, other, folder / "r3"


# -- the same as in the database itself -------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_has_the_columns_and_rows_that_it_has_in_the_database(source, exports, view):
    some = f"WHERE {'name' if view == 'runs_view' else 'run'} IN {SOME}"
    with sqlite3.connect(source) as db:
        cursor = db.execute(f"SELECT * FROM {view} {some}")
        names = [d[0] for d in cursor.description]
        expected = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    shown = [n for n in names if n != "id"]  # a row's number means something in one database only
    assert expected
    for place in (source, exports):
        found = ask(f"SELECT * FROM {view} {some}", place)
        assert {r["source"] for r in found} == {str(place)}
        assert set(found[0]) == {"source", *shown}
        assert sorted(repr([r[n] for n in shown]) for r in found) == sorted(repr([r[n] for n in shown]) for r in expected)


def test_each_table_is_there_and_has_the_rows_of_all_runs(source, exports):
    names = [t["name"] for t in ask("SHOW TABLES", exports)]
    assert {*VIEWS, "runs", "experiments", "results", "measurements", "arrays", "events", "notes", "task_data"} < set(names)
    counts = " UNION ALL ".join(
        f"SELECT '{n}' AS name, count(*) AS n FROM {n} WHERE {'name' if n.startswith('runs') else 'run'} IN {SOME}" for n in names
    )
    found = ask(counts, exports)
    assert sorted(map(str, found)) == sorted(map(str, ask(counts, source)))
    assert sum(r["n"] for r in found) > 100


def test_an_identical_result_of_two_experiments_is_not_counted_twice(tmp_path):
    path = put(tmp_path / "e.db", "r1", [1.0, 2.0])
    store = Store(path)
    row = store.experiments("r1")[0]
    store.link_experiment("r1", row.experiment.id, row.result_id, cached=True, seq=2)
    by_itself = [tuple(r) for r in sqlite3.connect(path).execute("SELECT experiment, value FROM measurements_view ORDER BY 1, 2")]
    found = ask("SELECT experiment, value FROM measurements_view ORDER BY 1, 2", path)
    assert [tuple(r.values()) for r in found] == by_itself == [("E1", 1.0), ("E1", 2.0), ("E2", 1.0), ("E2", 2.0)]
    assert ask("SELECT count(*) AS n FROM measurements", path) == [{"n": 2}]


# -- many sources -----------------------------------------------------------------------------------------------------


def test_rows_of_all_sources_come_together_and_say_where_they_are_from(two):
    one, other, _ = two
    found = ask("SELECT source, run, sum(value) AS v FROM measurements_view GROUP BY ALL ORDER BY run", other, one)
    assert [tuple(r.values()) for r in found] == [(str(one), "r1", 3.0), (str(other), "r2", 10.0), (str(one), "r3", 100.0)]


def test_a_run_that_is_in_two_sources_counts_once_and_that_is_said(two, capsys):
    one, other, folder = two
    code, out, err = said(capsys, "query", "SELECT sum(value) AS v FROM measurements", folder, one, other, "--format", "csv")
    assert (code, out) == (0, "v\n113.0\n")
    assert err == f"1 run of {one} left out: the same in {folder}\n"


def test_two_runs_of_one_name_are_not_mixed(two, tmp_path, capsys):
    changed = put(tmp_path / "e.db", "r1", [5.0], goal="another")
    code, out, err = said(capsys, "query", "SELECT * FROM runs", two[0], changed)
    assert (code, out) == (2, "")
    assert "different runs r1: query them one at a time" in err


def test_only_what_is_needed_is_taken_out_of_a_database(two, monkeypatch):
    from experiments_db import query

    made = []
    monkeypatch.setattr(query, "write_table", lambda path, *a, f=query.write_table: (made.append(path.name), f(path, *a)))
    ask("SELECT count(*) FROM runs", two[0])
    ask("WITH measurements AS (SELECT 1) SELECT * FROM measurements", two[0])
    assert {n.split("-")[-1] for n in made} == {"runs.parquet"}
    ask("SELECT count(*) FROM query_table('measurements')", two[0])
    assert {n.split("-")[-1] for n in made} == {"runs.parquet", "measurements.parquet"}


def test_a_query_reads_while_a_run_is_writing_and_changes_no_byte(two):
    store = Store(two[1])
    store.update_run("r2", "finished")
    with store.transaction():
        store.put_event("r2", "turn", {})
        before = hashlib.sha256(two[1].read_bytes()).hexdigest()
        assert ask("SELECT count(*) AS n FROM events", two[1]) == [{"n": 1}]
        assert hashlib.sha256(two[1].read_bytes()).hexdigest() == before
    assert ask("SELECT count(*) AS n FROM events", two[1]) == [{"n": 2}]


# -- one SELECT, and no file but the sources' -------------------------------------------------------------------------


def refusals(folder):
    mine = folder / "mine.parquet"
    return {
        f"COPY (SELECT 1) TO '{folder / 'new.csv'}'": "one SELECT",
        f"COPY runs TO '{folder / 'r3' / 'runs.parquet'}'": "one SELECT",
        f"ATTACH '{folder / 'new.db'}'": "one SELECT",
        f"EXPORT DATABASE '{folder / 'new'}'": "one SELECT",
        "CREATE TABLE t AS SELECT 1": "one SELECT",
        "DROP VIEW runs": "one SELECT",
        "SET enable_external_access = true": "one SELECT",
        "INSTALL httpfs": "one SELECT",
        "PRAGMA version": "one SELECT",
        "SELECT 1; SELECT 2": "not 2 statements",
        "": "not 0 statements",
        "SELEC 1": "no SQL",
        f"SELECT * FROM '{mine}'": "Cannot access|does not exist",
        f"SELECT * FROM read_parquet('{mine}')": "read_parquet is not for queries",
        f"SELECT (SELECT count(*) FROM READ_TEXT('{mine}'))": "read_text is not for queries",
        "WITH a AS (SELECT * FROM glob('/*')) SELECT * FROM a": "glob is not for queries",
        "SELECT * FROM enable_logging()": "enable_logging is not for queries",
        f"SELECT * FROM query('FROM ''{mine}''')": "query is not for queries",
        f"SELECT * FROM query_table('{mine}')": "Cannot access|does not exist",
        "SELECT * FROM 'https://127.0.0.1:9/x.parquet'": "Cannot access|does not exist",
        "SELECT * FROM duckdb": "does not exist",
        "SELECT nope FROM runs": "nope",
        "SELECT getenv('HOME')": "does not exist",
    }


def test_nothing_but_a_select_over_the_sources_is_run(two, capsys):
    folder = two[0].parent
    pq.write_table(pq.read_table(two[2] / "runs.parquet"), folder / "mine.parquet")
    gc.collect()  # who wrote them lets go: the last to close a database puts its log away
    before = content(folder)
    for sql, says in refusals(folder).items():
        with pytest.raises(QueryError, match=says) as error:
            ask(sql, two[1], two[2])
        assert "\n" not in str(error.value), sql
    assert content(folder) == before
    code, out, err = said(capsys, "query", "DROP TABLE runs", two[2])
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_once_the_sources_are_open_the_door_is_shut(two, monkeypatch):
    """Were a statement or a function let through, the settings would still keep files and the configuration from it."""
    from experiments_db import query

    found = {}

    def define(db, *rest, f=query._define):
        f(db, *rest)
        for sql in (
            f"SELECT * FROM read_text('{__file__}')",
            f"COPY (SELECT 1) TO '{two[0].parent / 'new.csv'}'",
            f"COPY runs TO '{two[2] / 'runs.parquet'}'",
            f"ATTACH '{two[0]}'",
            "SET enable_external_access = true",
            "SET allowed_paths = ['/']",
            "SET memory_limit = '90GB'",
            "INSTALL sqlite",
        ):
            with pytest.raises(duckdb.Error) as error:
                db.execute(sql)
            found[sql] = str(error.value)

    monkeypatch.setattr(query, "_define", define)
    assert ask("SELECT count(*) AS n FROM runs", two[2]) == [{"n": 1}]
    assert len(found) == 8
    assert not (two[0].parent / "new.csv").exists()


def test_a_query_that_needs_more_memory_than_it_may_have_uses_the_folder_or_says_so(two, capsys):
    big = "SELECT count(*) AS n FROM (SELECT i, md5(i::VARCHAR) AS m FROM range(400000) t(i) ORDER BY m)"
    assert ask(big, two[2], memory_limit="100MB") == [{"n": 400000}]
    list_of_all = "SELECT len(list(md5(i::VARCHAR))) FROM range(3000000) t(i)"
    code, _, err = said(capsys, "query", list_of_all, two[2], "--memory-limit", "50MB")
    assert (code, err.count("\n")) == (2, 1)
    assert "memory" in err.lower()
    code, _, err = said(capsys, "query", "SELECT 1", two[2], "--memory-limit", "much")
    assert (code, err.count("\n")) == (2, 1)


# -- sources that cannot be used --------------------------------------------------------------------------------------


def test_what_is_no_source_is_said_in_one_line(two, tmp_path, capsys):
    (tmp_path / "text.db").write_text("no database " * 100)
    (tmp_path / "empty").mkdir()
    shutil.copytree(two[2], tmp_path / "part")
    (tmp_path / "part" / "measurements.parquet").unlink()
    shutil.copytree(two[2], tmp_path / "cut")
    whole = (tmp_path / "cut" / "measurements.parquet").read_bytes()
    (tmp_path / "cut" / "measurements.parquet").write_bytes(whole[: len(whole) // 2])
    shutil.copytree(two[2], tmp_path / "later")
    table = pq.read_table(two[2] / "runs.parquet")
    later = table.schema.metadata[b"locus-run"].replace(b'"version":2', b'"version":9')
    pq.write_table(table.replace_schema_metadata({b"locus-run": later}), tmp_path / "later" / "runs.parquet")
    shutil.copytree(two[2], tmp_path / "glob*")
    shutil.copytree(two[2], tmp_path / "less")
    measured = pq.read_table(two[2] / "measurements.parquet")
    pq.write_table(measured.drop_columns(["task"]), tmp_path / "less" / "measurements.parquet")
    older = shutil.copy(two[0], tmp_path / "older.db")
    with sqlite3.connect(older) as db:
        db.execute("DELETE FROM _sqlite_migrations WHERE name = 'm005_findings'")
    for name, says in {
        "none": "there is no", "text.db": "not a database", "empty": "no exported run", "part": "measurements.parquet is missing",
        "cut": "cannot be read", "later": "update locus-agent", "glob*": "characters", "less": "no column task",
        "older.db": "experiments_db verify",
    }.items():  # fmt: skip
        before = (tmp_path / name).read_bytes() if name.endswith(".db") else b""
        code, out, err = said(capsys, "query", "SELECT count(*) FROM measurements", tmp_path / name)
        assert (code, out, err.count("\n")) == (2, "", 1), name
        assert says in err, name
        assert not before or (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("missing", ["duckdb", "pyarrow"])
def test_without_duckdb_the_package_to_install_is_named(two, capsys, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    code, _, err = said(capsys, "query", "SELECT 1", two[0])
    assert (code, "pip install 'locus-agent[query]'" in err) == (2, True)


# -- how the answer is written ----------------------------------------------------------------------------------------


def written(form, sql):
    out = io.StringIO()
    with duckdb.connect() as db:
        cursor = db.execute(sql)
        WRITERS[form]([d[0] for d in cursor.description], iter(cursor.fetchall()), out)
    return out.getvalue()


def test_json_and_csv_hold_every_value():
    sql = "SELECT 1 AS a, NULL AS b, 'x,\"y\nz' AS c, 1.5::DOUBLE AS d, 'nan'::DOUBLE AS e, [1, 2] AS f, true AS g, 2 AS a"
    assert json.loads(written("json", sql)) == [
        {"a": 1, "b": None, "c": 'x,"y\nz', "d": 1.5, "e": "nan", "f": [1, 2], "g": True, "a_2": 2}
    ]
    head, row = csv.reader(io.StringIO(written("csv", sql)))
    assert (head, row) == (list("abcdefga"), ["1", "", 'x,"y\nz', "1.5", "nan", "[1, 2]", "True", "2"])
    assert json.loads(written("json", "SELECT 1 AS a WHERE false")) == []
    assert len(json.loads(written("json", "SELECT * FROM range(2500)"))) == 2500


def test_a_table_is_aligned_plain_and_says_what_it_leaves_out():
    lines = written("table", "SELECT 'a' || chr(27) || '[2J' AS name, 0.123456789::DOUBLE AS v UNION ALL SELECT repeat('x', 99), 12 ORDER BY 2").splitlines()
    assert [len(line) for line in lines] == [70] * 4
    assert "\x1b" not in "".join(lines)
    assert lines[2].endswith("0.123457")
    assert lines[3].split()[0] == "x" * 57 + "..."
    long = written("table", "SELECT * FROM range(1234)").splitlines()
    assert (len(long), long[-1]) == (1003, "... and 234 more rows: --format csv or json writes them all")


def test_every_ended_run_is_exported_and_those_that_are_there_are_left(tmp_path, capsys):
    db = put(put(tmp_path / "e.db", "r1", [1.0]), "r2", [2.0])
    Store(db).put_run(Run(name="r3", goal="g", subject="demo", planner="p"))
    words = ("export", "--all", "--db", db, "--out", tmp_path / "all", "--format", "parquet")
    assert said(capsys, *words)[:2] == (0, f"{tmp_path / 'all'}: 2 runs written\n")
    kept = (tmp_path / "all" / "r1" / "runs.parquet").stat().st_mtime_ns
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == ["r1", "r2"]
    Store(db).update_run("r3", "stopped")
    assert said(capsys, *words)[:2] == (0, f"{tmp_path / 'all'}: 1 runs written\n")
    assert (tmp_path / "all" / "r1" / "runs.parquet").stat().st_mtime_ns == kept
    assert ask("SELECT name FROM runs ORDER BY 1", tmp_path / "all") == [{"name": n} for n in ("r1", "r2", "r3")]
    code, _, err = said(capsys, "export", "--all", "--db", db)
    assert (code, "--out" in err) == (2, True)
