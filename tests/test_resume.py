"""A run that is killed continues where it was, and its database is that of a run which was not."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
import scripts
from safetensors.torch import load_file, save_file

from agent import run
from agent.loop import session
from benchmarks.soak.equal import dump
from experiments_db import interrupts
from experiments_db.store import Store
from tools.subjects import DEMO


def arguments(folder, *more):
    script = folder / "script.jsonl"
    scripts.write(script)
    return ["--planner", f"scripted:{script}", "--null-twins", "0", "--quiet", *scripts.places(folder), *more]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert run.main(arguments(folder, "--goal", "can the demo add")) == 0
    return dump(folder / "e.db")


@pytest.mark.parametrize("events", [1, 2, 4, 6, 9, 13])
def test_a_killed_run_continues_and_leaves_the_same_database(events, uninterrupted, tmp_path):
    argv = arguments(tmp_path, "--goal", "can the demo add")
    process = subprocess.Popen([sys.executable, "-m", "agent.run", *argv], stdout=subprocess.DEVNULL)
    deadline = time.time() + 120
    while time.time() < deadline and process.poll() is None and _events(tmp_path / "e.db") < events:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert Store(tmp_path / "e.db", create=False).verify() == []
    if Store(tmp_path / "e.db").run(Store(tmp_path / "e.db").runs()[0]).status != "finished":
        assert run.main([*arguments(tmp_path), "--resume", "latest"]) == 0
    assert dump(tmp_path / "e.db") == uninterrupted


def _events(path):
    if not path.is_file():
        return 0
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            return db.execute("SELECT count(*) FROM events").fetchone()[0]
    except sqlite3.OperationalError:  # the tables are not there yet
        return 0


def test_a_budget_stops_a_run_with_a_report_and_more_budget_continues_it(tmp_path):
    argv = arguments(tmp_path, "--goal", "can the demo add")
    assert run.main([*argv, "--max-experiments", "2"]) == 0
    store = Store(tmp_path / "e.db")
    (name,) = store.runs()
    assert store.run(name).status == "stopped"
    assert len(store.experiments(name)) == 2
    report = tmp_path / "t" / name / "report.md"
    assert "budget of 2 experiments" in report.read_text()
    assert run.main([*arguments(tmp_path), "--resume", name, "--max-experiments", "50"]) == 0
    assert store.run(name).status in ("finished", "stopped")


def test_what_cannot_be_resumed_is_said_in_one_line(tmp_path, capsys):
    folder = tmp_path / "model"
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    assert (
        run.main(arguments(tmp_path, "--goal", "can it add", "--subject", str(folder), "--max-experiments", "1")) == 0
    )
    weights = load_file(folder / "model.safetensors")
    weights["transformer.ln_f.bias"][0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    capsys.readouterr()
    for word, says in (("latest", "weights or tokenizer have changed"), ("nobody", "runs are")):
        assert run.main([*arguments(tmp_path), "--resume", word]) == 2
        line = capsys.readouterr().err
        assert says in line
        assert line.count("\n") == 1


def test_ctrl_c_ends_with_a_report_and_nobody_else_may_drive_a_run_that_is_under_way(tmp_path):
    argv = ["--goal", "find where addition happens", *scripts.places(tmp_path)]
    command = [sys.executable, "-m", "agent.run"]
    interruptible = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from agent import run; sys.exit(run.main())"
    process = subprocess.Popen([sys.executable, "-c", interruptible, *argv, "--quiet"])
    deadline = time.time() + 120
    while time.time() < deadline and process.poll() is None and _events(tmp_path / "e.db") < 12:
        time.sleep(0.01)
    second = subprocess.run([*command, *argv[2:], "--resume", "latest"], capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert "driven by another process" in second.stderr
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    store = Store(tmp_path / "e.db")
    name = store.runs()[0]
    assert store.run(name).status == "stopped"
    assert "interrupted" in (tmp_path / "t" / name / "report.md").read_text()
    assert store.verify() == []


@pytest.mark.usefixtures("in_the_foreground")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_end_while_the_report_is_written_leaves_a_run_that_goes_on(name, tmp_path, monkeypatch, capsys):
    script = scripts.write(tmp_path / "s.jsonl")
    places = ["--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t"), "--quiet"]
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(session, "write_report", lambda *_: signal.raise_signal(getattr(signal, name)))
        given = ["--goal", "can it add?", "--planner", f"scripted:{script}", "--null-twins", "1", "--device", "cpu"]
        assert run.main([*given, *places]) == 130
    assert signal.getsignal(signal.SIGTERM) is before
    (made,) = Store(tmp_path / "e.db").runs()
    said = capsys.readouterr().err
    assert said.strip() == (
        f"agent.run: interrupted; what was done is on record. Go on: python -m agent.run --resume {made} --db {tmp_path / 'e.db'}"
    )
    assert not (tmp_path / "t" / made / "report.md").exists()
    assert run.main(["--resume", made, *places]) == 0
    assert "can it add" in (tmp_path / "t" / made / "report.md").read_text()
    assert Store(tmp_path / "e.db").verify() == []


def test_what_is_ignored_by_nohup_stays_ignored(in_the_foreground):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupts.working("test"):
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.usefixtures("in_the_foreground")
def test_an_interrupt_before_the_run_began_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(session, "load_subject", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    assert run.main(["--goal", "can it add?", "--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t"), "--quiet"]) == 130
    assert "interrupted before the run began" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
