"""Ray workers compute the bits that this process computes, whatever becomes of them; only this process writes."""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from scripts import call, write

from agent.run import main, parser
from experiments_db.exchange import export_run
from experiments_db.store import Store

ROOT = Path(__file__).parent.parent
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'locus-agent[ray]'")

SEVERAL = [
    {"text": "What is it?", "calls": [call("describe_subject")]},
    {
        "text": "Several at once; one is wrong, one asks again, one has to wait for the first.",
        "calls": [
            call("loss", tasks=["addition"], examples=16),
            call("loss", tasks=["additoin"], examples=16),
            call("ablate", task="addition", components=["decoder.0.mlp.out@answer"], intervention="zero", examples=16),
            call("loss", tasks=["addition"], examples=16),
            call("layer_program", tasks=["addition"], sweep="skip_each", examples=16),
            call("no_such_tool"),
        ],
    },
    {
        "text": "State them.",
        "calls": [
            call("examine", kind="capability", task="addition", examples=48),
            call("examine", kind="necessary", task="addition", components=["decoder.0.mlp.out@answer"], examples=48),
        ],
    },
    {"text": "Predict them.", "calls": [call("predict", experiment=e, probability=0.8) for e in ("E5", "E6")]},
    {"text": "Confirm them.", "calls": [call("confirm")]},
    {"text": "Conclude.", "calls": [call("finish", answer="found", words="It adds.")]},
]
TIMES = {"seconds", "wall_seconds", "peak_memory_bytes", "created", "ended", "time", "minutes"}


@pytest.fixture(scope="module")
def investigated(tmp_path_factory):
    """A run of the script, by a name; with arguments of the command line, or with these workers."""
    folder = tmp_path_factory.mktemp("workers")
    script = write(folder / "script.jsonl", SEVERAL)

    def run(name, *more, workers=None):
        from agent.loop.session import Session

        words = ["--goal", "can the demo do addition?", "--planner", f"scripted:{script}", "--null-twins", "1", "--quiet"]
        words += ["--db", str(folder / name / "e.db"), "--out", str(folder / name), *more]
        if workers is None:
            assert main(words) == 0
        else:
            session = Session.open(argparse.Namespace(**vars(parser().parse_args(words))), os.environ)
            session.elsewhere = workers
            assert session.investigate() == 0
        return rows(Store(folder / name / "e.db"), folder / name)

    return run


def rows(store, folder):
    """Every row of the store's run, field by field, but for its name, where it lies, and the columns that tell time."""
    (run,) = store.runs()
    export_run(store, run, folder / "run.jsonl", "jsonl")
    lines = (folder / "run.jsonl").read_text().replace(run, "RUN").replace(str(folder), "FOLDER").splitlines()
    assert store.verify() == []
    return [timeless(json.loads(line)) for line in lines[1:]]


def timeless(value):
    """A value, with texts that hold JSON read, without what tells time."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        value = json.loads(value)
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def here(investigated):
    """What this process computes by itself."""
    return investigated("here")


@pytest.fixture(scope="module")
def workers():
    """Four workers with the demo; a test uses as many as it wants."""
    import ray

    from agent.loop import workers
    from tools.subjects import load_subject

    before = signal.getsignal(signal.SIGTERM)
    workers._start(ray, 7)
    assert signal.getsignal(signal.SIGTERM) == before  # which ends a run with its report
    yield workers.Workers("demo", "cpu", "float32", load_subject("demo"), {}, 4)
    ray.shutdown()


def of(workers, n):
    """The first n of them."""
    from agent.loop.workers import Workers

    some = object.__new__(Workers)
    some.started, some.actors, some.pending, some.rehearsing, some.foreseen = False, workers.actors[:n], {}, {}, {}
    return some


def process(actor):
    """The process of a worker."""
    import ray

    return int(ray.get(actor.handle.about.remote())["process"])


def kill(actor):
    """SIGKILL to the process of a worker."""
    os.kill(process(actor), signal.SIGKILL)


@needs_ray
@pytest.mark.parametrize("n", [1, 2, 4])
def test_so_many_workers_leave_the_store_that_one_process_leaves(investigated, here, workers, n):
    mine = of(workers, n)
    begun = []
    mine.begin = lambda job: (begun.append(job.key), type(mine).begin(mine, job))
    assert investigated(f"of {n}", workers=mine) == here
    assert sum(r["table"] == "results" for r in here) == 8
    nulls = [key[8] for key in set(begun)]
    assert (nulls.count(None), set(nulls)) == (8, {None, ("random_init", 0), ("shuffled_answers", 0)})
    assert not mine.pending


@needs_ray
def test_a_worker_that_is_killed_in_the_middle_is_started_again_and_nothing_doubles(investigated, here, workers):
    mine = of(workers, 2)
    killed = []

    def begin(job):
        type(mine).begin(mine, job)
        if job.tool == "layer_program" and not killed:
            killed.append(kill(mine.pending[job.key][0]))

    mine.begin = begin
    assert investigated("killed", workers=mine) == here
    assert killed


# -- runs of a repeat ---------------------------------------------------------------------------------------------------


def repeated(folder, script, workers, monkeypatch):
    """Every row that three repeats of the script leave, with these workers or none; and their combined report."""
    from agent.loop import session

    words = ["--goal", "can the demo do addition?", "--planner", f"scripted:{script}", "--null-twins", "1", "--quiet", "--repeat", "3"]
    words += ["--seed", "4", "--device", "cpu", "--db", str(folder / "e.db"), "--out", str(folder / "t")]
    with monkeypatch.context() as patch:
        patch.setattr(session, "workers_for", lambda *_: workers)
        assert main(words) == 0
    store, found = Store(folder / "e.db"), []
    names = store.runs()
    group = names[0].removesuffix("-r1")
    assert [n.removeprefix(group) for n in names] == ["-r1", "-r2", "-r3"]
    for name in names:
        export_run(store, name, folder / "run.jsonl", "jsonl", force=True)
        lines = (folder / "run.jsonl").read_text().replace(group, "GROUP").replace(str(folder), "FOLDER").splitlines()
        found.append([timeless(json.loads(line)) for line in lines[1:]])
    assert store.verify() == []
    counts = dict(store.counts())
    return found, counts, (folder / "t" / group / "report.md").read_text().replace(group, "GROUP").replace(str(folder), "FOLDER")


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory):
    """What repeats leave without workers, and their script."""
    folder = tmp_path_factory.mktemp("in-turn")
    script = write(folder / "script.jsonl", SEVERAL)
    with pytest.MonkeyPatch.context() as patch:
        return script, repeated(tmp_path_factory.mktemp("in-turn-store"), script, None, patch)


def counting(workers):
    """Notes which jobs are computed when they are asked for, though they might have been foreseen."""
    asked, begin = [], workers.begin

    def begun(job):
        if job.key not in workers.foreseen and job.null is None:
            asked.append((job.seed, job.split, job.draw))
        begin(job)

    workers.begin = begun
    return asked


@needs_ray
@pytest.mark.parametrize("n", [1, 2, 4])
def test_repeats_that_workers_play_ahead_leave_what_they_leave_one_after_the_other(in_turn, workers, n, tmp_path, monkeypatch):
    script, expected = in_turn
    mine = of(workers, n)
    asked = counting(mine)
    assert repeated(tmp_path, script, mine, monkeypatch) == expected
    assert not mine.pending
    assert not mine.rehearsing
    if n > 1:  # but for what is unseen because of the runs before, all was there
        assert {(seed, split) for seed, split, _ in asked} == {(5, "confirm"), (6, "confirm")}
        assert all(draw > 0 for _, _, draw in asked)
    else:
        assert (4, "explore", 0) in asked


@needs_ray
def test_a_worker_that_is_killed_while_it_plays_a_run_ahead_plays_it_again(in_turn, workers, tmp_path, monkeypatch):
    script, expected = in_turn
    mine = of(workers, 2)
    asked, rehearse = counting(mine), mine.rehearse
    killed = []

    def rehearsing(number, one):
        rehearse(number, one)
        if number == 2:
            busy = [a for a in mine.actors if mine.rehearsing[2] in a.waiting]
            threading.Timer(0.3, lambda: killed.append(end(busy[0]))).start()

    processes = {id(a): process(a) for a in mine.actors}
    end = lambda actor: os.kill(processes[id(actor)], signal.SIGKILL)
    mine.rehearse = rehearsing
    assert repeated(tmp_path, script, mine, monkeypatch) == expected
    assert len(killed) == 1
    assert {split for _, split, _ in asked} == {"confirm"}


@needs_ray
def test_a_run_that_cannot_be_played_ahead_is_computed_when_it_is_asked_for(in_turn, workers, tmp_path, monkeypatch):
    script, expected = in_turn
    mine = of(workers, 2)
    asked, rehearse = counting(mine), mine.rehearse
    mine.rehearse = lambda number, one: rehearse(number, argparse.Namespace(**{**vars(one), "planner": "scripted:/nowhere"}))
    assert repeated(tmp_path, script, mine, monkeypatch) == expected
    assert (4, "explore", 0) in asked


@needs_ray
def test_a_job_that_is_cancelled_ends_and_the_worker_goes_on(workers):
    from agent.loop.jobs import Job
    from tools.methods.tool import Cancelled

    mine = of(workers, 1)
    job = Job("loss", json.dumps({"tasks": ["addition"], "examples": 16}), "explore", 0, 0, 2048, False, False, (), None)

    def stop():
        raise Cancelled("enough")

    first, _ = mine.finish(job, lambda: None)
    slow = Job("patch", json.dumps({"task": "addition", "examples": 128}), "explore", 0, 0, 2048, False, False, (), None)
    with pytest.raises(Cancelled):
        mine.finish(slow, stop)
    again, _ = mine.finish(job, lambda: None)
    assert first.measurements == again.measurements
    assert first.measurements


@needs_ray
def test_a_worker_with_other_weights_is_refused(workers, model_named):
    import ray

    from agent.loop.workers import WorkersError
    from tools.subjects import wrap

    with pytest.raises(WorkersError, match="has other weights than this process"):
        of(workers, 1)._agree(ray, wrap(model_named("gpt2")), 1, 0)


@needs_ray
def test_a_job_that_kills_its_worker_each_time_is_a_failed_result(workers):
    import ray

    from agent.loop.jobs import Job
    from agent.loop.workers import _Actor

    class Deadly:
        def compute(self, job):
            os._exit(1)

    mine = of(workers, 1)
    mine.actors = [_Actor(ray.remote(max_restarts=1, max_task_retries=1, num_cpus=0)(Deadly).remote())]
    job = Job("loss", "{}", "explore", 0, 0, 2048, False, False, (), None)
    result, trace = mine.finish(job, lambda: None)
    assert (result.status, result.measurements) == ("failed", ())
    assert "loss failed: its worker died" in result.text
    assert trace


@needs_ray
def test_independent_calls_come_back_in_order_though_a_process_dies(workers, tmp_path):
    import torch

    from agent.loop.workers import in_order

    def compute(i, folder):
        mark = Path(folder) / f"tried-{i}"
        if i == 1 and not mark.exists():
            mark.touch()
            os._exit(1)
        return i, torch.get_num_threads()

    assert list(in_order(compute, ((i, str(tmp_path)) for i in range(4)))) == [(i, 1) for i in range(4)]
    assert (tmp_path / "tried-1").exists()


@needs_ray
def test_the_command_line_starts_workers_and_leaves_the_same_store(investigated, here, workers):
    assert investigated("by command", "--executor", "ray", "--workers", "1") == here


# -- without Ray ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--workers", "2"], "--workers N says how many workers --executor ray has"),
        (["--executor", "ray", "--workers", "0"], "at least 1"),
        (["--executor", "ray"], "pip install 'locus-agent[ray]'"),
    ],
)
def test_what_cannot_be_is_said_at_once(words, says, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["--goal", "find where addition happens", *words]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert not said.out


def test_the_default_path_imports_no_ray():
    code = "import sys, agent.loop.repeating, agent.loop.workers; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"
