"""A run in a terminal at which Ctrl-C is pressed twice ends soundly and goes on later."""

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
import scripts

from agent import run
from experiments_db.store import Store

ROOT = Path(__file__).parent.parent
STEPS = 8  # more experiments than are done before the terminal is gone


@pytest.fixture
def in_a_terminal(tmp_path):
    """Starts a run as the first program of a terminal of its own: (process, the terminal's other end)."""
    loss = {"name": "loss", "arguments": {"tasks": ["addition"], "examples": 8}}
    turns = [{"text": f"look {i}", "calls": [{**loss, "arguments": {**loss["arguments"], "examples": 8 + i}}]} for i in range(STEPS)]
    script = scripts.write(tmp_path / "s.jsonl", [*turns, {"text": "end", "calls": [{"name": "finish", "arguments": {"answer": "unclear", "words": "I only looked."}}]}])
    argv = ["--goal", "can the demo add", "--planner", f"scripted:{script}", "--db", tmp_path / "e.db", "--out", tmp_path / "t", "--device", "cpu", "--null-twins", "0"]
    plain = "import signal, sys\nfor s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.default_int_handler)\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    begin = "import fcntl, os, termios\nos.setsid()\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    code = f"{begin}{plain}from agent import run\nsys.exit(run.main(sys.argv[1:]))"
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, argv)], stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while b"look 1" not in shown:
        shown += os.read(ours, 4096)
    yield process, ours
    process.kill()
    process.wait()


def goes_on(folder, capsys):
    """The run is stopped and sound, says so, and ends as it would have."""
    store = Store(folder / "e.db")
    (name,) = store.runs()
    assert store.run(name).status == "stopped"
    assert store.verify() == []
    assert 0 < len(store.experiments(name)) < STEPS
    assert run.main(["--resume", name, "--db", str(folder / "e.db"), "--out", str(folder / "t"), "--quiet", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert store.run(name).status == "finished" and len(store.experiments(name)) == STEPS
    assert store.verify() == []


def test_ctrl_c_twice_leaves_a_run_that_goes_on(in_a_terminal, tmp_path, capsys):
    process, ours = in_a_terminal
    for _ in range(2):
        os.write(ours, b"\x03")
        time.sleep(0.02)
    shown = b""
    while process.poll() is None:  # a terminal that nobody reads from would keep the run waiting
        try:
            shown += os.read(ours, 4096)
        except OSError:  # nobody holds its other end any more
            break
    assert process.wait(60) == 130
    os.close(ours)
    assert b"Traceback" not in shown
    goes_on(tmp_path, capsys)
