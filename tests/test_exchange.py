"""A run that travels between databases is the same run, and a file that is not sound changes nothing."""

import base64
import copy
import hashlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from findings_made import typical
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.report import __main__ as report
from experiments_db import __main__ as command
from experiments_db import exchange
from experiments_db.records import (
    Array,
    Axis,
    Experiment,
    Measurement,
    Note,
    Result,
    Run,
    TaskData,
    canonical_json,
    tagged_hash,
)
from experiments_db.run_tables import tables
from experiments_db.store import Store

ROOT = Path(__file__).parent.parent
CURATED = ROOT / "transcripts" / "curated" / "experiments.db"
RUNS = [
    "20261122-023645-how-does-the-demo-model-choose-between-i",
    "20261122-023657-find-where-my-differences-are-done",  # has a task of its own
    "20261122-023421-find-where-addition-happens",
    "typical",  # has findings
]
WITH_TASK = RUNS[1]
METADATA = ROOT / "docs" / "datasette.json"
HOSTILE = [
    None,
    True,
    -1,
    2**63,
    10**400,
    1e308,
    0.5,
    "",
    "x",
    "\0",
    "\ud800",
    "[]",
    '{"a":NaN}',
    "[" * 5000,
    "../x",
    [],
    {},
    [1],
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the curated database with a run that has findings; the recording itself must never change."""
    before = hashlib.sha256(CURATED.read_bytes()).hexdigest()
    copied = Path(shutil.copy(CURATED, tmp_path_factory.mktemp("source") / "experiments.db"))
    typical(Store(copied))
    yield copied
    assert hashlib.sha256(CURATED.read_bytes()).hexdigest() == before


@pytest.fixture(scope="module")
def lines(source, tmp_path_factory):
    """The run with a task of its own, as the values of an export's lines."""
    out = tmp_path_factory.mktemp("lines") / "run.jsonl"
    assert command.main(["export", WITH_TASK, "--db", str(source), "--out", str(out)]) == 0
    return [json.loads(line) for line in out.read_bytes().decode().split("\n")[:-1]]


@pytest.fixture
def lab(tmp_path, capsys):
    return Lab(tmp_path, capsys)


class Lab:
    """A folder, and the command as a user sees it."""

    def __init__(self, folder, capsys):
        self.folder, self.capsys = folder, capsys
        self.db = folder / "target.db"

    def __call__(self, *words):
        """Exit code and what was said; an error is one line."""
        self.capsys.readouterr()
        code = command.main([str(w) for w in words])
        said = self.capsys.readouterr()
        assert (code == 2) == bool(said.err)
        assert said.err.count("\n") <= 1
        return code, said.out + said.err

    def file(self, rows, name="run.jsonl"):
        path = self.folder / name
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        return path

    def refuses(self, path, says):
        """Neither a database that exists nor one that does not is touched."""
        there = self.folder / "there.db"
        if not there.exists():
            put(Store(there), "other")
        before = dump(there)
        for database in (there, self.db):
            code, said = self("import", path, "--db", database)
            assert code == 2
            assert re.search(says, said), said
        assert dump(there) == before
        assert sorted(p.name for p in self.folder.iterdir() if p.name.startswith(self.db.name)) == []


def dump(database):
    with sqlite3.connect(database) as db:
        return list(db.iterdump())


def content(path):
    """Bytes of an export by file name."""
    return {p.name: p.read_bytes() for p in sorted(path.iterdir())} if path.is_dir() else {"": path.read_bytes()}


def put(store, run, value=0.5, seed=0):
    """A small run with one experiment, and its result's number."""
    asked = Experiment(tool="loss", args={"a": 1}, subject="f", seed=seed, dtype="float32", code="c")
    made = Result(
        status="ok",
        text="t",
        measurements=tuple(
            Measurement(name="nll", value=value + i, unit="nats", n=3, component=f"decoder.{i}.block") for i in range(3)
        ),
        arrays=(Array(name="a", dtype="float64", shape=(1,), data=b"12345678", axes=(Axis(name="i", labels=("x",)),)),),
    )
    with store.transaction():
        store.put_run(Run(name=run, goal="g", subject="demo", planner="p"))
        number = store.put_result(asked, made)
        store.link_experiment(run, asked.id, number, cached=False, seq=store.put_event(run, "turn", {}))
        for text in ("n", "m"):
            store.put_entry(run, 1, Note(text=text, experiments=("E1",)))
        store.put_entry(run, 1, TaskData(name="t", description="d", examples=({"prompt": "p"},), origin="file"))
    return number


def read(store, run):
    """Everything that the program can read of a run; results by content, since their numbers are local."""
    shown = [
        store.run(run),
        store.events(run),
        store.notes(run),
        store.questions(run),
        store.hypotheses(run),
        store.findings(run),
        store.claims(run),
        store.conclusion(run),
    ]
    rows = store.experiments(run)
    results = [(r.handle, r.experiment, r.cached, r.seq, r.why, store.result(r.result_id)) for r in rows]
    same = [[a.handle for a in rows if a.result_id == b.result_id] for b in rows]
    return [*shown, store.task_data(run), results, same]


def test_the_curated_runs_are_of_every_kind_of_planner():
    store = Store(CURATED, create=False)
    runs = [store.run(name) for name in store.runs()]
    kinds = {r.planner.partition(":")[0] for r in runs}
    assert kinds >= {"systematic", "openai", "person", "scripted"}
    code = [e.experiment.tool for r in runs if r.settings.get("allow_code") for e in store.experiments(r.name)]
    assert "experiment" in code
    repeated = [r.name for r in runs if r.settings.get("repeat")]
    assert len(repeated) == 3
    assert all((CURATED.parent / name / "report.md").is_file() for name in (*store.runs(), repeated[0].rpartition("-")[0]))
    readme = (CURATED.parent / "README.md").read_text()
    assert all(f"({r.name}/report.md)" in readme for r in runs if not r.settings.get("repeat"))


# -- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("run", RUNS)
def test_a_run_that_travels_is_the_same_run(lab, source, run, form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    first, again, back = (lab.folder / f"{name}.{form}" for name in ("first", "again", "back"))
    put(Store(lab.db), "other")  # so that numbers of results are taken
    assert lab("export", run[:15], "--db", source, "--out", first, "--format", form)[0] == 0
    assert lab("export", run, "--db", source, "--out", again, "--format", form)[0] == 0
    assert lab("import", first, "--db", lab.db)[0] == 0
    assert lab("export", run, "--db", lab.db, "--out", back, "--format", form)[0] == 0
    assert content(first) == content(again) == content(back)
    assert lab("verify", "--db", lab.db)[0] == 0
    assert read(Store(lab.db), run) == read(Store(source), run)


def test_both_forms_hold_the_same_rows(lab, source):
    pytest.importorskip("pyarrow")
    lab("export", WITH_TASK, "--db", source, "--out", lab.folder / "p", "--format", "parquet")
    assert lab("import", lab.folder / "p", "--db", lab.db)[0] == 0
    for db, name in ((source, "a.jsonl"), (lab.db, "b.jsonl")):
        lab("export", WITH_TASK, "--db", db, "--out", lab.folder / name)
    assert content(lab.folder / "a.jsonl") == content(lab.folder / "b.jsonl")


def test_every_row_of_a_run_is_in_the_file_and_no_local_number(lines, source):
    with sqlite3.connect(source) as db:
        assert not {t.name for t in tables(Store(source))} ^ (
            {r[0] for r in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            - {"_sqlite_migrations", "sqlite_sequence"}
        )
        events = db.execute("SELECT count(*) FROM events WHERE run = ?", [WITH_TASK]).fetchone()[0]
    by_table = {t: [] for t in lines[0]["rows"]}
    for row in lines[1:]:
        by_table[row["table"]].append(row)
    assert {t: len(rows) for t, rows in by_table.items()} == lines[0]["rows"]
    assert len(by_table["events"]) == events
    assert [r["id"] for r in by_table["results"]] == list(range(1, 1 + len(by_table["results"])))
    assert by_table["run_experiments"][0]["result"] == 1
    assert not any("id" in r for r in by_table["measurements"])


def test_results_are_counted_in_the_order_in_which_the_run_first_used_them(lab):
    store = Store(lab.folder / "a.db")
    for seed, run in enumerate(("late", "early", "r1")):
        put(store, run, seed=seed)
    for run in ("early", "late", "r1", "early"):
        e = store.experiments(run)[0]
        store.link_experiment("r1", e.experiment.id, e.result_id, cached=True, seq=store.put_event("r1", "turn", {}))
    lab("export", "r1", "--db", store.path, "--out", lab.folder / "r1.jsonl")
    assert lab("import", lab.folder / "r1.jsonl", "--db", lab.db)[0] == 0
    assert [r.result_id for r in store.experiments("r1")] == [3, 2, 1, 3, 2]
    assert [r.result_id for r in Store(lab.db).experiments("r1")] == [1, 2, 3, 1, 2]
    assert read(Store(lab.db), "r1") == read(store, "r1")


def test_every_column_has_a_type_that_both_forms_know(tmp_path):
    kinds = {k for t in tables(Store(tmp_path / "e.db")) for k in t.kinds.values()}
    assert kinds <= {"TEXT", "INTEGER", "REAL", "BLOB"}


def test_all_runs_share_one_database_in_any_order(lab, source):
    runs = Store(source).runs()
    for run in reversed(runs):
        lab("export", run, "--db", source, "--out", lab.folder / f"{run}.jsonl")
        assert lab("import", lab.folder / f"{run}.jsonl", "--db", lab.db)[0] == 0
    assert lab("verify", lab.db)[0] == 0
    assert Store(lab.db).counts() == Store(source).counts()  # two of the runs have results in common
    for run in runs:
        lab("export", run, "--db", lab.db, "--out", lab.folder / f"{run}.back.jsonl")
        assert content(lab.folder / f"{run}.jsonl") == content(lab.folder / f"{run}.back.jsonl")


def test_a_run_that_is_there_already_is_left_alone(lab, source, lines):
    for database in (source, lab.db):
        lab("import", lab.file(lines), "--db", database)
        before = dump(database)
        code, said = lab("import", lab.file(lines), "--db", database)
        assert code == 0
        assert "already there" in said
        assert dump(database) == before


@pytest.mark.parametrize(
    ("sql", "table"),
    [
        ("UPDATE runs SET goal = 'other'", "runs"),
        (
            f"INSERT INTO assertions VALUES ('{WITH_TASK}', 'Conclusion', 'C99', 1, '{{\"answer\":\"found\"}}', 1)",
            "assertions",
        ),
        ("UPDATE results SET wall_seconds = 77", "results"),
    ],
)
def test_another_run_of_the_same_name_is_refused(lab, lines, sql, table):
    lab("import", lab.file(lines), "--db", lab.db)
    with sqlite3.connect(lab.db) as db:
        db.execute(sql)
    before = dump(lab.db)
    code, said = lab("import", lab.file(lines), "--db", lab.db)
    assert code == 2
    assert f"has another run {WITH_TASK} already: its {table} are not" in said
    assert dump(lab.db) == before


def test_what_is_identical_is_shared_and_what_differs_is_kept_beside_it(lab):
    a, b = Store(lab.folder / "a.db"), Store(lab.db)
    number = put(a, "r1")
    a.put_run(Run(name="r2", goal="g", subject="demo", planner="p"))
    asked = a.experiments("r1")[0].experiment.id
    a.link_experiment("r2", asked, number, cached=True, seq=a.put_event("r2", "turn", {}))
    put(b, "own", value=7.0)  # another answer to the same question
    for run in ("r1", "r2"):
        lab("export", run, "--db", a.path, "--out", lab.folder / f"{run}.jsonl")
        assert lab("import", lab.folder / f"{run}.jsonl", "--db", lab.db)[0] == 0
    assert b.counts() == {"runs": 3, "experiments": 1, "results": 2, "measurements": 6, "arrays": 1, "events": 3}
    values = {run: b.measurements(b.experiments(run)[0].result_id)[0].value for run in b.runs()}
    assert values == {"own": 7.0, "r1": 0.5, "r2": 0.5}
    assert b.verify() == []


def test_two_equal_results_of_one_run_stay_two(lab):
    a = Store(lab.folder / "a.db")
    put(a, "r1")
    asked, made = a.experiments("r1")[0].experiment, a.result(1)
    a.link_experiment("r1", asked.id, a.put_result(asked, made), cached=False, seq=a.put_event("r1", "turn", {}))
    with sqlite3.connect(a.path) as db:
        db.execute("UPDATE results SET created = 'then'")
    lab("export", "r1", "--db", a.path, "--out", lab.folder / "r1.jsonl")
    assert lab("import", lab.folder / "r1.jsonl", "--db", lab.db)[0] == 0
    assert [r.result_id for r in Store(lab.db).experiments("r1")] == [1, 2]


# -- files that are not sound -----------------------------------------------------------------------------------------


def rows_of(lines, table):
    return [r for r in lines if r.get("table") == table]


def one(lines, table, column, change, index=0):
    row = rows_of(lines, table)[index]
    row[column] = change(row[column])


def drop(lines, table, index=0):
    lines.remove(rows_of(lines, table)[index])
    lines[0]["rows"][table] -= 1


def twice(lines, table, **changes):
    lines.append({**rows_of(lines, table)[0], **changes})
    lines[0]["rows"][table] += 1


def flipped(text):
    data = bytearray(base64.b64decode(text))
    data[-1] ^= 1
    return base64.b64encode(data).decode()


def hashed_anew(lines):
    """An array whose hash fits bytes that do not fit its shape."""
    row = rows_of(lines, "arrays")[0]
    old, data = row["sha"], base64.b64decode(row["data"])[:-4]
    header = canonical_json({"dtype": row["dtype"], "shape": json.loads(row["shape"])})
    row.update(data=base64.b64encode(data).decode(), sha=hashlib.sha256(header.encode() + b"\0" + data).hexdigest())
    for use in rows_of(lines, "result_arrays"):
        use["array"] = row["sha"] if use["array"] == old else use["array"]


def swap_results(lines):
    a, b = rows_of(lines, "run_experiments")[:2]
    a["result"], b["result"] = b["result"], a["result"]


TAMPERED = {
    "a measurement": (lambda x: one(x, "measurements", "value", lambda v: v + 1e-9), "result 1: its content"),
    "an interval": (lambda x: one(x, "measurements", "n", lambda v: v + 1), "result 1: its content"),
    "a key": (lambda x: one(x, "measurements", "key", lambda v: v + "x"), "measurement 1: its key"),
    "an array's byte": (lambda x: one(x, "arrays", "data", flipped), "array .*bytes"),
    "an array's shape": (lambda x: one(x, "arrays", "shape", lambda v: "[1]"), "array .*bytes"),
    "an array's length": (hashed_anew, "array .*bytes do not fit its hash and shape"),
    "a task's example": (
        lambda x: one(x, "task_data", "examples", lambda v: v.replace("=", "~", 1)),
        "task_data differences: its examples",
    ),
    "an argument": (
        lambda x: one(x, "experiments", "args", lambda v: v.replace("{", '{"x":1' + ("" if v == "{}" else ","), 1)),
        "experiment .*id",
    ),
    "a subject": (lambda x: one(x, "experiments", "subject", lambda v: "f" * 64), "experiment .*id"),
    "an answer": (lambda x: one(x, "results", "text", lambda v: v + "."), "result 1: its content"),
    "a status": (lambda x: one(x, "results", "status", lambda v: "fine"), "result 1: its content"),
    "a lost event": (lambda x: drop(x, "events", 3), "events of .* gaps"),
    "a lost array": (lambda x: drop(x, "arrays"), "refers to a missing arrays"),
    "a lost experiment": (lambda x: drop(x, "experiments"), "refers to a missing experiments"),
    "a lost measurement": (lambda x: drop(x, "measurements"), "result 1: its content"),
    "a lost task": (lambda x: drop(x, "task_data"), "refers to a missing task_data"),
    "another's result": (swap_results, "the result of E1 belongs to another experiment"),
    "a result of no use": (lambda x: drop(x, "run_experiments", -1), "rows of .* that do not belong to the run"),
    "a second run": (lambda x: twice(x, "runs", name="second"), "no other"),
    "an event of another run": (lambda x: twice(x, "events", run="second"), "refers to a missing runs"),
    "an event twice": (lambda x: twice(x, "events"), "UNIQUE"),
    "an axis": (lambda x: one(x, "result_arrays", "axes", lambda v: '[{"nome":1}]'), "axes of array 0 cannot be read"),
    "a payload": (lambda x: one(x, "events", "payload", lambda v: "{"), "events of .* cannot be read"),
    "a run's status": (lambda x: one(x, "runs", "status", lambda v: "odd"), "run of .* cannot be read: status"),
}
FINDINGS = {
    "a lost finding": (lambda x: one(x, "assertions", "handle", lambda v: "F99"), "assertions of .* cannot be read"),
    "a lost question": (lambda x: drop(x, "assertions"), "assertions of typical: Questions have gaps"),
    "a lost revision": (lambda x: drop(x, "assertions", 3), "assertions of typical: revisions of F1 have gaps"),
    "a probability": (
        lambda x: one(x, "assertions", "body", lambda v: v.replace('"probability":0.9', '"probability":1.5'), 3),
        "assertions of .* cannot be read",
    ),
    "a fate": (
        lambda x: one(x, "assertions", "body", lambda v: v.replace('"fate":"confirmed"', '"fate":"proven"'), 4),
        "assertions of .* cannot be read",
    ),
    "a handle with more in it": (lambda x: one(x, "assertions", "handle", lambda v: v + "<b>"), "cannot be read"),
    "a kind": (lambda x: one(x, "assertions", "kind", lambda v: "Proof"), "cannot be read"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_file_that_was_tampered_with_is_refused(lab, lines, what):
    change, says = TAMPERED[what]
    changed = copy.deepcopy(lines)
    change(changed)
    assert changed != lines
    lab.refuses(lab.file(changed), says)


@pytest.mark.parametrize("what", FINDINGS)
def test_findings_that_were_tampered_with_are_refused(lab, source, what):
    lab("export", "typical", "--db", source, "--out", lab.folder / "sound.jsonl")
    sound = [json.loads(line) for line in (lab.folder / "sound.jsonl").read_text().splitlines()]
    change, says = FINDINGS[what]
    changed = copy.deepcopy(sound)
    change(changed)
    assert changed != sound
    lab.refuses(lab.file(changed), says)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: x[0].update(version=3), "version 3 .*update locus-agent"),
        (lambda x: x[0].update(version=1), "version 1 .*export again"),
        (lambda x: x[0].update(version=10**400), "version 1000.*update locus-agent"),
        (lambda x: x[0].update(format="other"), "no exported run"),
        (lambda x: x.pop(0), "no exported run"),
        (lambda x: x[0].pop("rows"), "how many rows"),
        (lambda x: x[0]["rows"].update(plans=0), "unknown table 'plans'; update locus-agent"),
        (lambda x: x.append({"table": "plans", "a": 1}), "unknown table 'plans'; update locus-agent"),
        (lambda x: x.append({"table": "sqlite_master", "sql": "x"}), "unknown table 'sqlite_master'"),
        (lambda x: x.append({"table": "_sqlite_migrations", "name": "m999"}), "unknown table"),
        (lambda x: x.append({"table": ["runs"]}), "unknown table"),
        (lambda x: x.append({"name": "x"}), "unknown table None"),
        (lambda x: x.append(7), "no JSON object"),
        (lambda x: x[1].update(mood="good"), "unknown column of runs: 'mood'; update locus-agent"),
        (lambda x: x[1].update({"goal) VALUES (1); DROP TABLE runs; --": 1}), "unknown column of runs"),
        (lambda x: rows_of(x, "measurements")[0].update(id=1), "unknown column of measurements: 'id'"),
        (lambda x: x[1].pop("goal"), "a row of runs needs goal"),
        (lambda x: rows_of(x, "results")[0].pop("id"), "a row of results needs id"),
    ],
)
def test_what_a_file_may_not_say_is_refused(lab, lines, change, says):
    changed = copy.deepcopy(lines)
    change(changed)
    lab.refuses(lab.file(changed), says)


@pytest.mark.parametrize(
    ("table", "column", "value", "says"),
    [
        ("runs", "goal", 7, "runs.goal must be text, not 7"),
        ("runs", "goal", None, "runs.goal must be text, not None"),
        ("runs", "goal", "\ud800", "surrogates not allowed"),
        ("events", "seq", 2**63, "events.seq must be a whole number of 64 bits"),
        ("events", "seq", 10**400, "events.seq must be a whole number"),
        ("events", "seq", True, "events.seq must be a whole number"),
        ("events", "seq", 1.0, "events.seq must be a whole number"),
        ("measurements", "value", "0.5", "measurements.value must be a finite number, not '0.5'"),
        ("measurements", "value", float("nan"), "NaN is no number"),
        ("measurements", "low", float("-inf"), "-Infinity is no number"),
        ("measurements", "value", 10**400, "measurements.value must be a finite number"),
        ("measurements", "value", None, "measurements.value must be a finite number, not None"),
        ("arrays", "data", "no base64!", "base64|character"),
        ("arrays", "data", [1, 2], "arrays.data must be bytes"),
        ("experiments", "args", "[" * 100_000, "experiment .*id"),
        ("experiments", "args", '{"a":NaN}', "experiment .*id"),
    ],
)
def test_a_hostile_value_is_an_error_in_one_line(lab, lines, table, column, value, says):
    changed = copy.deepcopy(lines)
    one(changed, table, column, lambda _: value)
    lab.refuses(lab.file(changed), says)


def test_a_text_that_would_move_the_cursor_is_shown_in_one_plain_line(lab, lines):
    changed = copy.deepcopy(lines)
    one(changed, "task_data", "name", lambda _: "x\x1b[2J\nand another line")
    one(changed, "task_data", "examples", lambda _: "[]")
    code, said = lab("import", lab.file(changed), "--db", lab.db)
    assert code == 2
    assert "task_data x [2J and another line: its examples" in said


@pytest.mark.parametrize(
    "name", ["../x", "..", ".", ".hidden", "a/b", "a\\b", "/etc/x", "", "x\n", "-x", "é", "a b", "x" * 201, None, 7]
)
def test_a_name_that_leads_out_of_a_folder_is_refused(lab, name):
    put(Store(lab.folder / "a.db"), "r1")
    lab("export", "r1", "--db", lab.folder / "a.db", "--out", lab.folder / "a.jsonl")
    rows = [json.loads(line) for line in (lab.folder / "a.jsonl").read_text().splitlines()]
    for row in rows:
        row.update({k: name for k in ("run", "name") if row.get(k) == "r1"})
    lab.refuses(lab.file(rows), "cannot be the name of a run")


def test_a_name_of_the_store_that_leads_out_of_a_folder_is_not_exported(lab):
    put(Store(lab.folder / "a.db"), "../r1")
    code, said = lab("export", "latest", "--db", lab.folder / "a.db", "--out", lab.folder / "x.jsonl")
    assert code == 2
    assert "cannot be the name of a run" in said


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, "all but the last line", "all but the last sign"])
def test_a_file_that_is_cut_short_is_refused(lab, lines, kept):
    whole = lab.file(lines).read_bytes()
    end = {"all but the last line": whole[:-1].rfind(b"\n") + 1, "all but the last sign": len(whole) - 2}.get(kept)
    path = lab.folder / "cut.jsonl"
    path.write_bytes(whole[: int(kept * len(whole)) if end is None else end])
    lab.refuses(path, "cut short|no JSON|no exported run")


@pytest.mark.parametrize(
    "data", [b"\xff\xfe\x00", b"\0" * 50, b"[" * 100_000, b"SQLite format 3\0", b'{"format":"locus-run"', b"9" * 5000]
)
def test_a_file_that_is_something_else_is_refused(lab, data):
    (lab.folder / "odd.jsonl").write_bytes(data)
    lab.refuses(lab.folder / "odd.jsonl", "no JSON")


def test_a_path_that_does_not_exist_is_said_in_one_line(lab):
    lab.refuses(lab.folder / "none.jsonl", "none.jsonl")
    assert lab("export", "r1", "--db", lab.folder / "none.db")[0] == 2


@pytest.mark.long
@settings(max_examples=150)
@given(data=st.data())
def test_whatever_stands_in_a_file_is_taken_over_soundly_or_refused_in_one_line(lines, tmp_path_factory, data):
    changed = copy.deepcopy(lines)
    for _ in range(data.draw(st.integers(1, 3))):
        row = changed[data.draw(st.integers(0, len(changed) - 1))]
        row[data.draw(st.sampled_from(sorted(row)))] = copy.deepcopy(
            data.draw(st.sampled_from(HOSTILE) | st.text(max_size=5))
        )
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "run.jsonl").write_text("".join(json.dumps(r) + "\n" for r in changed))
    code = command.main(["import", str(folder / "run.jsonl"), "--db", str(folder / "e.db")])
    if code == 0:
        store = Store(folder / "e.db")
        assert store.verify() == []
        read(store, WITH_TASK)
    else:
        assert [p.name for p in folder.iterdir()] == ["run.jsonl"]


def test_a_file_from_before_a_column_was_added_is_taken_over(lab, lines):
    older = [{k: v for k, v in r.items() if (r.get("table"), k) != ("run_tasks", "seq")} for r in lines]
    assert older != lines
    assert lab("import", lab.file(older), "--db", lab.db)[0] == 0
    taken = Store(lab.db).rows("SELECT seq FROM run_tasks WHERE run = ?", WITH_TASK)
    assert taken
    assert {r["seq"] for r in taken} == {None}


def test_a_column_that_a_later_version_added_travels_and_an_earlier_version_says_to_update(lab):
    newer = lab.folder / "newer.db"
    put(Store(newer), "r1")
    with sqlite3.connect(newer) as db:
        db.execute("ALTER TABLE runs ADD COLUMN mood TEXT")
        db.execute(
            "CREATE TABLE plans (run TEXT REFERENCES runs(name), result INTEGER REFERENCES results(id), text TEXT)"
        )
        db.execute("INSERT INTO plans VALUES ('r1', 1, 'p')")
    lab("export", "r1", "--db", newer, "--out", lab.folder / "r1.jsonl")
    assert '{"table":"plans","run":"r1","result":1,"text":"p"}\n' in (lab.folder / "r1.jsonl").read_text()
    lab.refuses(lab.folder / "r1.jsonl", "unknown table 'plans'; update locus-agent")


# -- Parquet ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(lab):
    pytest.importorskip("pyarrow")
    put(Store(lab.folder / "a.db"), "r1")
    assert lab("export", "r1", "--db", lab.folder / "a.db", "--out", lab.folder / "p", "--format", "parquet")[0] == 0
    return lab.folder / "p"


def rewrite(path, change):
    """Put changed columns or metadata in the place of a Parquet file's own."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    pq.write_table(change(table), path)


def column(table, name, values):
    import pyarrow as pa

    return table.set_column(table.schema.get_field_index(name), name, pa.array(values)).replace_schema_metadata(
        table.schema.metadata
    )


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("measurements", lambda t: column(t, "value", [0.5, 1.5, 9.0]), "result 1: its content"),
        (
            "measurements",
            lambda t: column(t, "value", [0.5, 1.5, float("nan")]),
            "measurements.value must be a finite number",
        ),
        ("measurements", lambda t: column(t, "name", [1, 2, 3]), "measurements.name must be text"),
        ("measurements", lambda t: t.slice(0, 2), "cut short"),
        ("arrays", lambda t: column(t, "data", [b"12345679"]), "array .*bytes"),
        ("task_data", lambda t: column(t, "examples", ["[]"]), "task_data t: its examples"),
        ("experiments", lambda t: column(t, "args", ['{"a":2}']), "experiment .*id"),
        (
            "runs",
            lambda t: t.append_column("mood", column(t, "goal", ["x"])["goal"]),
            "unknown column of runs: 'mood'; update",
        ),
        ("runs", lambda t: column(t, "goal", [[1]]), "runs.goal must be text"),
        ("runs", lambda t: t.replace_schema_metadata({}), "different exports"),
    ],
)
def test_a_parquet_file_that_was_tampered_with_is_refused(lab, folder, file, change, says):
    rewrite(folder / f"{file}.parquet", change)
    lab.refuses(folder, says)


def test_a_parquet_folder_that_is_not_whole_is_refused(lab, folder):
    whole = content(folder)
    for change, says in (
        (lambda: (folder / "notes.parquet").unlink(), "cut short"),
        (lambda: (folder / "notes.parquet").write_bytes(whole["notes.parquet"][:-9]), "notes.parquet cannot be read"),
        (lambda: (folder / "plans.parquet").write_bytes(whole["notes.parquet"]), "unknown table 'plans'"),
        (lambda: [p.unlink() for p in folder.iterdir()], "no exported run"),
    ):
        change()
        lab.refuses(folder, says)
        for name, data in whole.items():
            (folder / name).write_bytes(data)
        (folder / "plans.parquet").unlink(missing_ok=True)
    assert lab("import", folder, "--db", lab.db)[0] == 0


def test_the_version_of_the_format_is_in_every_parquet_file(lab, folder):
    pq = pytest.importorskip("pyarrow.parquet")
    for path in folder.iterdir():
        assert json.loads(pq.read_schema(path).metadata[b"locus-run"])["version"] == exchange.VERSION
        rewrite(
            path,
            lambda t: t.replace_schema_metadata(
                {b"locus-run": t.schema.metadata[b"locus-run"].replace(b'"version":2', b'"version":3')}
            ),
        )
    lab.refuses(folder, "version 3 .*update locus-agent")


def test_without_pyarrow_the_package_to_install_is_named(lab, monkeypatch):
    put(Store(lab.folder / "a.db"), "r1")
    (lab.folder / "empty").mkdir()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, said = lab("export", "r1", "--db", lab.folder / "a.db", "--out", lab.folder / "p", "--format", "parquet")
    assert (code, "pip install 'locus-agent[parquet]'" in said) == (2, True)
    code, said = lab("import", lab.folder / "empty", "--db", lab.db)
    assert (code, "pip install 'locus-agent[parquet]'" in said) == (2, True)
    assert lab("export", "r1", "--db", lab.folder / "a.db", "--out", lab.folder / "r1.jsonl")[0] == 0
    assert sorted(p.name for p in lab.folder.iterdir() if not p.name.startswith("a.db")) == ["empty", "r1.jsonl"]


def test_reading_and_writing_json_lines_imports_nothing_heavy():
    before = "import sys, sqlite_utils; before = set(sys.modules); import experiments_db.exchange; "  # it may take pandas along
    code = before + "print({'torch', 'agent', 'tools', 'pyarrow'} & (set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"


# -- whole or not at all ----------------------------------------------------------------------------------------------


def test_the_file_is_named_after_the_run_if_it_is_not_named(lab, monkeypatch):
    monkeypatch.chdir(lab.folder)
    put(Store(lab.folder / "experiments.db"), "r1")
    assert lab("export", "latest")[0] == 0
    assert lab("import", "r1.jsonl")[0] == 0
    code, said = lab("export", "r1", "--out", "folder")
    assert code == 2
    assert "--format parquet" in said
    assert sorted(p.name for p in lab.folder.glob("[!e]*")) == ["r1.jsonl"]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_an_export_that_fails_leaves_no_file_and_keeps_an_earlier_one(lab, form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    db, out = lab.folder / "a.db", lab.folder / "x"
    put(Store(db), "r1")
    asked = ("export", "r1", "--db", db, "--out", out, "--format", form)
    assert lab(*asked)[0] == 0
    whole = content(out)
    with sqlite3.connect(db) as changed:
        changed.execute("UPDATE notes SET text = x'00ff'")  # found out when most is written already
    assert lab(*asked, "--force")[0] == 2
    assert content(out) == whole
    assert lab(*asked[:5], lab.folder / "y", *asked[6:])[0] == 2
    assert sorted(p.name for p in lab.folder.iterdir() if not p.name.startswith("a.db")) == ["x"]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_only_an_earlier_export_is_replaced_and_only_by_force(lab, form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    db, out = lab.folder / "a.db", lab.folder / "x"
    put(Store(db), "r1")
    put(Store(db), "r2", seed=1)
    for run, words, expected in (("r1", (), 0), ("r2", (), 2), ("r2", ("--force",), 0)):
        before = content(out) if out.exists() else None
        assert lab("export", run, "--db", db, "--out", out, "--format", form, *words)[0] == expected
        assert (content(out) == before) == (expected == 2)
    assert lab("import", out, "--db", lab.db)[0] == 0
    assert Store(lab.db).runs() == ["r2"]
    mine = lab.folder / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    (lab.folder / "thesis.txt").write_text("years of work")
    if form == "parquet":
        (out / "thesis.txt").write_text("years of work")
        kept_folder = content(out)
        assert lab("export", "r1", "--db", db, "--out", out, "--format", form, "--force")[0] == 2
        assert content(out) == kept_folder
    kept = dump(db)
    for path in (db, mine, lab.folder / "thesis.txt"):
        code, said = lab("export", "r1", "--db", db, "--out", path, "--format", form, "--force")
        assert code == 2
        assert "not replaced" in said
    assert dump(db) == kept
    assert (mine / "thesis.txt").read_text() == (lab.folder / "thesis.txt").read_text() == "years of work"


def test_an_import_that_fails_while_it_writes_leaves_nothing(lab, lines, monkeypatch):
    merge = exchange.merge

    def breaks(store):
        merge(store)
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr(exchange, "merge", breaks)
    lab.refuses(lab.file(lines), "disk full")


def test_a_process_that_dies_while_it_imports_leaves_the_database_as_it_was(lab, lines):
    put(Store(lab.db), "other")
    before = dump(lab.db)
    code = (
        "import os\nfrom pathlib import Path\nfrom experiments_db import exchange\nmerge = exchange.merge\n"
        "def dies(store):\n merge(store)\n os._exit(7)\n"
        f"exchange.merge = dies\nexchange.import_run(Path({str(lab.file(lines))!r}), Path({str(lab.db)!r}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 7
    assert dump(lab.db) == before
    assert lab("import", lab.file(lines), "--db", lab.db)[0] == 0


# -- verify -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ('UPDATE task_data SET examples = \'[{"prompt":"q"}]\'', "task_data t: its examples do not fit their hash"),
        ("UPDATE task_data SET examples = '{'", "task_data t: its examples do not fit their hash"),
        ("UPDATE events SET seq = 2", "events of r1: numbers have gaps"),
        ("UPDATE notes SET number = 2 * number - 2", "notes of r1: numbers have gaps"),
        ("UPDATE experiments SET args = '{'", "does not fit its id"),
        ("UPDATE experiments SET args = 5", "does not fit its id"),
        ("UPDATE measurements SET n = 'many'", "result 1: its content"),
        ("UPDATE arrays SET shape = '[-1,-1]'", "bytes do not fit"),
        ("UPDATE arrays SET dtype = 'object'", "bytes do not fit"),
        ("UPDATE results SET provenance = '{}'", "result 1: its content"),
        ("UPDATE result_arrays SET axes = '[7]'", "axes of array 0 cannot be read"),
        ("UPDATE result_arrays SET axes = '7'", "axes of array 0 cannot be read"),
        ("UPDATE notes SET experiments = '[7]'", "notes of r1 cannot be read"),
        (
            "INSERT INTO hypotheses VALUES ('r1', 'H1', 1, 's', 'odd', '[]', '[]', 1)",
            "hypotheses of r1: revision 1 of H1 cannot",
        ),
        ("UPDATE run_experiments SET experiment = (SELECT max(id) FROM experiments)", "belongs to another experiment"),
    ],
)
def test_verify_notices_what_was_changed_and_never_breaks(lab, sql, says):
    store = Store(lab.db)
    put(store, "r1")
    other = Experiment(tool="lens", args={}, subject="f", seed=0, dtype="float32", code="c")
    while other.id < store.experiments("r1")[0].experiment.id:
        other = other.model_copy(update={"seed": other.seed + 1})
    store.put_result(other, Result(status="ok", text=""))
    assert lab("verify", lab.db)[0] == 0
    with sqlite3.connect(lab.db) as db:
        db.execute(sql)
    code, said = lab("verify", "--db", lab.db)
    assert code == 1
    assert says in said


def test_verify_says_which_row_of_a_database_cannot_be_read(lab):
    put(Store(lab.db), "r1")
    with sqlite3.connect(lab.db) as db:
        db.execute("UPDATE notes SET text = CAST(x'ff' AS TEXT)")
    code, said = lab("verify", lab.db)
    assert code == 1
    assert "notes of r1 cannot be read" in said


def test_the_hash_of_examples_is_that_of_the_record():
    examples = ({"prompt": "p", "candidates": ("a", "b"), "n": 1.0},)
    sha = TaskData(name="t", description="", examples=examples, origin="file").sha
    assert sha == tagged_hash("task", json.loads(canonical_json([dict(e) for e in examples])))


# -- datasette --------------------------------------------------------------------------------------------------------


async def test_datasette_opens_every_table_and_view_and_knows_their_descriptions(source):
    datasette = pytest.importorskip("datasette.app")
    metadata = json.loads(METADATA.read_text())
    ds = datasette.Datasette([str(source)], metadata=metadata)
    await ds.invoke_startup()
    shown = (await ds.client.get("/experiments.json")).json()
    views = {v["name"] for v in shown["views"]}
    assert views == {
        "runs_view",
        "experiments_view",
        "measurements_view",
        "hypotheses_latest",
        "assertions_latest",
        "findings_view",
    }
    described = metadata["databases"]["experiments"]["tables"]
    assert set(described) == views | {t["name"] for t in shown["tables"]}
    assert {t["name"] for t in shown["tables"] if t["hidden"]} == {n for n, d in described.items() if d.get("hidden")}
    for name, of in described.items():
        page = await ds.client.get(f"/experiments/{name}")
        answer = await ds.client.get(f"/experiments/{name}.json?_shape=objects&_size=max")
        assert (page.status_code, answer.status_code) == (200, 200), name
        rows = answer.json()["rows"]
        assert rows or name.endswith("_of_0_1"), name  # kept from old databases only
        assert of.get("title", of["description"]) in page.text
        names = {
            *of.get("columns", ()),
            *of.get("units", ()),
            *of.get("facets", ()),
            *(of[k] for k in ("sort", "sort_desc") if k in of),
        }
        assert names <= set(answer.json()["columns"]), name
        key = of.get("sort") or of.get("sort_desc")
        values = [r[key] for r in rows] if key else []
        assert values == sorted(values, reverse="sort_desc" in of)
    assert {"title", "description"} <= set(metadata)


def test_what_the_metadata_says_is_what_datasette_understands():
    pytest.importorskip("datasette")
    known = {"title", "description", "columns", "units", "sort", "sort_desc", "facets", "hidden"}
    for name, of in json.loads(METADATA.read_text())["databases"]["experiments"]["tables"].items():
        assert set(of) <= known, name
        assert "description" in of
        assert not ("sort" in of and "sort_desc" in of)


def test_the_report_of_an_imported_run_is_not_written_where_the_file_says(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    source = Store(tmp_path / "a.db")
    source.put_run(Run(name="r1", goal="g", subject="demo", planner="p", settings={"out": str(elsewhere), "seed": 0}))
    exchange.export_run(source, "r1", tmp_path / "r.jsonl", "jsonl")
    exchange.import_run(tmp_path / "r.jsonl", tmp_path / "b.db")
    monkeypatch.chdir(tmp_path)
    assert report.main(["r1", "--db", "b.db"]) == 0
    assert (tmp_path / "transcripts" / "r1" / "report.md").is_file()
    assert not elsewhere.exists()
