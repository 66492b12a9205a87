"""At a terminal: Ctrl-C twice, or closing it, at any moment of a run ends it soundly, and it goes on later."""

import os
import pty
import random
import select
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from scripts import call, write

from agent import run
from experiments_db.__main__ import main as database
from experiments_db.store import Store

ROOT = Path(__file__).parent.parent
LOOKS = 6
EXPERIMENTS = LOOKS + 3
TURNS = [
    *({"text": f"look {i}", "calls": [call("loss", tasks=["addition"], examples=8 + i)]} for i in range(LOOKS)),
    {
        "text": "state it",
        "calls": [call("examine", kind="necessary", task="addition", components=["decoder.0.mlp.out@answer"], examples=48)],
    },
    {"text": "predict it", "calls": [call("predict", experiment=f"E{LOOKS + 1}", probability=0.8)]},
    {"text": "see it", "calls": [call("layer_program", tasks=["addition"], sweep="skip_each", examples=16)]},
    {"text": "confirm it", "calls": [call("confirm")]},
    {"text": "end", "calls": [call("finish", answer="found", words="It adds.")]},
]
# Run as the first program of a terminal, with signals as a shell leaves them.
BEGIN = """
import fcntl, os, signal, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(s, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *command):
        self.ours, theirs = pty.openpty()
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", BEGIN, *map(str, command)], stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=env
        )
        os.close(theirs)
        self.text, self.open = b"", True
        self.reader = threading.Thread(target=self._read, daemon=True)  # else the terminal is full, and the run waits
        self.reader.start()

    def _read(self):
        try:
            while self.open:
                if select.select([self.ours], [], [], 0.01)[0]:
                    self.text += os.read(self.ours, 4096)
        except OSError:  # nobody holds its other end any more
            pass
        os.close(self.ours)

    def wait_for(self, text):
        while text not in self.text and self.process.poll() is None:
            time.sleep(0.002)

    def press(self, times=2):
        for _ in range(times):
            if self.process.poll() is None:
                with suppress(OSError):  # it has just ended
                    os.write(self.ours, b"\x03")
            time.sleep(0.02)

    def hang_up(self):
        self.open = False
        self.reader.join()

    def end(self):
        """Exit status, as a shell has it, and what was shown."""
        try:
            status = self.process.wait(120)
        finally:
            self.process.kill()
            self.reader.join()
        return 128 - status if status < 0 else status, self.text.decode(errors="replace")


def arguments(folder, *more):
    script = write(folder / "script.jsonl", TURNS)
    places = ["--planner", f"scripted:{script}", "--db", folder / "e.db", "--out", folder / "t"]
    return [*map(str, places), "--device", "cpu", "--null-twins", "1", *more]


def begun(folder):
    return Terminal("-m", "agent.run", *arguments(folder, "--goal", "find where addition happens"))


def goes_on(folder, capsys):
    """Whatever is there is sound, and ends as a run to which nothing happened; the status that it was left with."""
    if not (folder / "e.db").exists():
        return None
    assert database(["verify", str(folder / "e.db")]) == 0
    store = Store(folder / "e.db")
    if not store.runs():
        return None
    (name,) = store.runs()
    left, report = store.run(name).status, folder / "t" / name / "report.md"
    again = run.main([*arguments(folder), "--resume", name, "--quiet"])
    said = capsys.readouterr().err
    assert again == 0 or (again == 2 and "is finished; its report is" in said)
    assert store.run(name).status == "finished"
    assert len(store.experiments(name)) == EXPERIMENTS
    assert "Necessary for addition" in report.read_text()
    assert not list(report.parent.glob("*.part*"))
    assert store.verify() == []
    return left


MOMENTS = [  # what is shown by then, and how many seconds may pass from there
    (b"", 0.0, 6.0), (b"loading", 0.0, 1.0), (b"loading", 1.0, 8.0), (b"goal  ", 0.0, 0.1), (b"look 1", 0.0, 0.02), (b"look 4", 0.0, 0.05),
    (b"state it", 0.0, 0.05), (b"confirm it", 0.0, 0.1), (b"writing the report", 0.0, 0.02), (b"writing the report", 0.1, 1.0),
    (b"nulls  ", 0.0, 0.02), (b"nulls  ", 0.0, 0.2), (b"skipped", 0.0, 0.2), (b"replay  ", 0.0, 1.0),
]  # fmt: skip


@pytest.mark.parametrize("moment", range(len(MOMENTS)))
def test_ctrl_c_twice_at_any_moment_says_so_once_and_leaves_a_run_that_goes_on(moment, tmp_path, capsys):
    shown, least, most = MOMENTS[moment]
    terminal = begun(tmp_path)
    terminal.wait_for(shown)
    time.sleep(random.Random(moment).uniform(least, most))
    terminal.press()
    status, text = terminal.end()
    assert "Traceback" not in text, text
    over = "\nreplay  " in text and "\ngo on  " not in text  # all was said before
    assert status == 130 or (over and status == 0), (status, text)
    said = text.count("agent.run: interrupted") + text.count("\ngo on  ")
    assert said == 1 or (over and said == 0), text
    left = goes_on(tmp_path, capsys)
    if left == "running":
        assert "--resume" in text


@pytest.mark.parametrize("shown", [b"goal  ", b"look 2", b"confirm it", b"writing the report", b"nulls  "])
def test_a_terminal_that_closes_leaves_a_run_that_goes_on(shown, tmp_path, capsys):
    terminal = begun(tmp_path)
    terminal.wait_for(shown)
    terminal.hang_up()
    status, _ = terminal.end()
    assert status == (0 if shown == b"nulls  " else 130)  # the run was over, and its null twins are skipped
    left = goes_on(tmp_path, capsys)
    assert left == ("stopped" if shown in (b"goal  ", b"look 2", b"confirm it") else "finished")


STUCK = """
import os, sys, time
from experiments_db import interrupts
interrupts.mind("agent.run")
with interrupts.working("agent.run", lambda: "interrupted; go on so"):
    print("working", flush=True)
    try:
        time.sleep(600)
    finally:
        print("putting away", flush=True)
        while True:
            {stuck}
"""


@pytest.mark.parametrize("stuck", ["time.sleep(600)", "sum(range(1000))"])
def test_the_third_ctrl_c_leaves_whatever_is_under_way(stuck, tmp_path):
    (tmp_path / "stuck.py").write_text(STUCK.replace("{stuck}", stuck))
    terminal = Terminal(tmp_path / "stuck.py")
    for shown in (b"working", b"putting away", b"once more leaves at once"):
        terminal.wait_for(shown)
        terminal.press(1)
    status, text = terminal.end()
    assert "Traceback" not in text, text
    assert status == 130
    assert text.count("interrupted; go on so") == 1


LOST = """
import sys, time
from experiments_db import interrupts
interrupts.mind("agent.run")

class Swallows:
    def __del__(self):
        print("in it", flush=True)
        time.sleep(600)

with interrupts.working("agent.run"):
    {where}
    while True:
        time.sleep(0.01)
"""


@pytest.mark.parametrize(
    "where", ["Swallows()", "sys.path.insert(0, sys.argv[1]); import slow"], ids=["in a destructor", "in an import"]
)
def test_an_interrupt_that_would_be_lost_comes_all_the_same(where, tmp_path):
    (tmp_path / "slow.py").write_text("import time\ntry:\n    print('in it', flush=True)\n    time.sleep(1)\nexcept BaseException:\n    pass\n")
    (tmp_path / "lost.py").write_text(LOST.replace("{where}", where))
    terminal = Terminal(tmp_path / "lost.py", tmp_path)
    terminal.wait_for(b"in it")
    terminal.press(1)
    status, text = terminal.end()
    assert "Traceback" not in text, text
    assert status == 130
    assert text.count("agent.run: interrupted") == 1


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    assert run.main(arguments(folder, "--goal", "find where addition happens", "--quiet")) == 0
    return folder


@pytest.mark.parametrize(
    ("command", "shown", "delay"),
    [
        (("agent.replay", "latest"), b"", 0.3),
        (("agent.replay", "latest"), b"same as on record", 0.0),
        (("agent.replay", "latest"), b"E3 ", 0.0),
        (("agent.review",), b"", 0.3),
        (("agent.review",), b"Ctrl-C ends it", 0.0),
        (("agent.review",), b"Ctrl-C ends it", 0.5),
        (("agent.workbench",), b"loading", 0.5),
        (("agent.workbench",), b"Ctrl-C ends it", 0.0),
        (("agent.workbench", "--goal", "what is it?"), b"Ctrl-C ends it", 0.5),
        (("agent.report", "latest"), b"", 0.5),
        (("agent", "report", "latest"), b"", 2.0),
        (("experiments_db", "verify"), b"", 0.2),
        (("experiments_db", "export", "latest", "--force"), b"", 0.3),
    ],
)
def test_every_command_ends_without_a_traceback(command, shown, delay, finished, capsys):
    out = ["--out", finished / "x"] if command[0] == "agent.workbench" else ["--out", finished / "x.jsonl"] if "export" in command else []
    terminal = Terminal("-m", *command, "--db", finished / "e.db", *out)
    terminal.wait_for(shown)
    time.sleep(delay)
    terminal.press()
    status, text = terminal.end()
    assert "Traceback" not in text, text
    assert "Error" not in text, text
    assert status in (0, 130)
    assert database(["verify", str(finished / "e.db")]) == 0
    assert not [f for f in finished.rglob("*") if ".part" in f.name]
