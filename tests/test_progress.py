"""What a person sees while a run is under way."""

import io
import re
import time

import pytest
import scripts
from findings_made import Investigation

from agent import run
from agent.loop.budget import Limits
from agent.loop.progress import Progress, cut
from agent.loop.record import RunRecord
from agent.planners.base import Answer, ToolCall
from experiments_db.records import Control, Measurement
from experiments_db.store import Store
from tools.subjects import load_subject


def test_the_console_counts_every_experiment_those_that_settle_findings_too(tmp_path, capsys):
    script = scripts.write(tmp_path / "s.jsonl")
    argv = ["--goal", "where is addition done", "--planner", f"scripted:{script}", "--device", "cpu"]
    assert run.main([*argv, "--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t"), "--max-experiments", "9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    counted = [(m[1], int(m[2])) for line in lines if (m := re.match(r" +(\w+): .*; (\d+)/9 experiments", line))]
    assert counted[-2:] == [("examine", counted[-1][1] - 1), ("confirm", counted[-1][1])]
    assert [n for _, n in counted] == list(range(1, len(counted) + 1))
    settled = next(line for line in lines if line.lstrip().startswith("confirm: "))
    assert "round 1: 1 " in settled
    assert "writing the report" in lines


class Terminal(io.StringIO):
    """A terminal that keeps what was written."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(tmp_path, monkeypatch):
    """Progress on a terminal of 80 columns, half of four experiments into a run, after a minute."""
    monkeypatch.setenv("COLUMNS", "80")
    store = Store(tmp_path / "a b.db")
    i = Investigation(store, "live")
    for _ in range(2):
        i.experiment(())
    out = Terminal()
    made = Progress(store.run("live"), Limits(experiments=4), load_subject("demo"), RunRecord(store, "live"), quiet=False, out=out)
    made.started = time.monotonic() - 60
    return made, i, out


def test_a_line_that_is_overwritten_has_a_bar_the_share_of_the_budget_and_the_time_left(terminal):
    progress, _, out = terminal
    progress.working(ToolCall(id="1", name="patch", arguments="{}"), "a long message " * 20)
    line = out.getvalue().removeprefix("\r\033[K")
    assert line.startswith("██████░░░░░░ 50% at most 60 s left  patch a long message")
    assert len(line) <= 80
    assert line.endswith(" …")
    progress.closing()
    assert "writing the report" in out.getvalue()


def test_a_step_says_the_effect_that_was_found_in_one_line_cut_at_a_word(terminal):
    progress, i, out = terminal
    i.experiment(())
    control = Control(kind="a random vector", value=0.9, n=64)
    found = Measurement(name="accuracy", value=0.02, unit="share of examples", n=64, component="decoder.0.mlp.out@answer", control=control)
    progress.answered(ToolCall(id="1", name="ablate", arguments="{}"), Answer(call_id="1", text="E3: zero of each", handle="E3", measurements=(found,)), 1.25)
    (line,) = out.getvalue().replace("\r\033[K", "").splitlines()
    assert line.lstrip().startswith("ablate: E3: accuracy 0.02 (control 0.9")
    assert line.endswith("[3/4]")
    assert 60 < len(line) <= 80


def test_lines_are_cut_where_a_word_ends():
    assert cut("one two three", 40) == "one two three"
    assert cut("one two three", 11) == "one two…"
    assert cut("x" * 30, 10) == "x" * 9 + "…"


def test_a_stopped_run_ends_with_the_command_that_resumes_it(terminal, tmp_path):
    progress, i, out = terminal
    i.store.update_run("live", "stopped", "interrupted")
    progress.end(i.store.run("live"), tmp_path / "report.md", i.store.path)
    assert f"go on     python -m agent.run --resume live --db '{tmp_path}/a b.db'" in out.getvalue().splitlines()
