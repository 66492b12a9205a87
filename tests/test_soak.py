"""The soak counts what is lost, and its comparison sees what a loss would look like."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak import __main__ as soak
from benchmarks.soak.equal import dump, exported, first_difference
from experiments_db.records import Experiment, Measurement, Note, Result, Run
from experiments_db.store import Store

ROOT = Path(__file__).parent.parent


def database(folder, name="r", *, value=0.5):
    folder.mkdir()
    store = Store(folder / "e.db")
    store.put_run(Run(name=name, goal="g", subject="s", planner="p", settings={"out": str(folder)}))
    asked = Experiment(tool="loss", args={}, subject="s", seed=0, dtype="float32", code="c")
    made = Result(status="ok", text="t", measurements=(Measurement(name="nll", value=value, unit="nats", n=3),), wall_seconds=value)
    seq = store.put_event(name, "turn", {"minutes": 3.5})
    store.link_experiment(name, asked.id, store.put_result(asked, made), cached=False, seq=seq)
    store.put_entry(name, seq, Note(text="t"))
    return store


def test_two_runs_are_equal_up_to_names_and_times_and_nothing_else(tmp_path):
    one, other = database(tmp_path / "a"), database(tmp_path / "b", "another")
    assert first_difference(dump(one.path), dump(other.path)) is None
    assert first_difference(exported(one, "r", tmp_path), exported(other, "another", tmp_path)) is None


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("UPDATE measurements SET value = 0.6", "measurements differs at row 1"),
        ("DELETE FROM notes", "notes differs at row 1 (1 and 0 rows)"),
        ("INSERT INTO events VALUES ('r', 2, 'answer', '{}', '')", "events differs at row 2 (1 and 2 rows)"),
        ("UPDATE measurements SET name = 'accuracy'", "measurements differs"),
        ("UPDATE run_experiments SET cached = 1", "run_experiments differs"),
    ],
)
def test_what_a_kill_could_lose_or_double_is_a_difference(sql, says, tmp_path):
    database(tmp_path / "a").db.close()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with sqlite3.connect(tmp_path / "b" / "e.db") as db:
        db.execute(sql)
    assert says in first_difference(dump(tmp_path / "a" / "e.db"), dump(tmp_path / "b" / "e.db"))


def test_what_was_lost_is_counted_and_ends_with_status_1(tmp_path, capsys):
    stretches = [{"experiments": 100, "turn": 1.0, "memory": 1.0, "database": 1.0}]
    shared = {"processes": 8, "runs": 9, "experiments": 9, "events": 9, "seconds": 1.0, "compared": 8, "wrong": []}
    good, bad = {"kills": [(0.1, 0), (0.2, 4)], "wrong": []}, {"kills": [(0.1, 3)], "wrong": ["events differs at row 2"]}
    assert soak.told([good], shared, stretches)[1] == 0
    text, lost = soak.told([good, bad], {**shared, "wrong": ["x"]}, stretches)
    assert lost == 2
    assert "of 2 runs (1 before anything was on record; up to 2 of one run) | 3 | 1 |" in text


def test_a_short_soak_loses_nothing_and_is_read_again_when_asked_again(tmp_path, capsys):
    words = ["--kills", "1", "--minutes", "0", "--processes", "2", "--experiments", "20", "--results", str(tmp_path / "r.jsonl")]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-m", "benchmarks.soak", *words]
    first = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, env=environ, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    kept = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert sum(len(k["value"]["kills"]) for k in kept if k["key"].startswith("kill ")) >= 1
    assert soak.main(words) == 0
    assert capsys.readouterr().out == first.stdout
    assert [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()] == kept
