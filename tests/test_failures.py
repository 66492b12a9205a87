"""What goes wrong inside a tool, a budget or a wait stays there: it is on record, and the investigation goes on."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import scripts
import torch

from agent import run
from agent.loop.executor import ToolRunner, tool_arguments
from agent.loop.record import RunRecord, RunTasks
from agent.loop.session import Session
from agent.planners.base import View
from agent.planners.external import External
from agent.replay import main as replay
from experiments_db.records import Run
from experiments_db.store import Store
from tools.engine.executor import Variant
from tools.engine.sites import Edit, Site
from tools.methods import scoring, translators
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.scoring import score
from tools.methods.tool import Context, DeadlineReached, ToolInputError, discover
from tools.subjects import load_subject
from tools.tasks import get_task

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def demo():
    return load_subject("demo")


@pytest.fixture
def runner(demo, tmp_path):
    store = Store(tmp_path / "e.db")
    store.put_run(Run(name="r", goal="g", subject="demo", planner="p", settings={}))
    return ToolRunner(demo, RunRecord(store, "r"), RunTasks(store, "r"), 0)


def investigated(folder, turns, *more):
    script = scripts.write(folder / "script.jsonl", turns)
    argv = ["--planner", f"scripted:{script}", "--quiet", *scripts.places(folder)]
    status = run.main(["--goal", "can the demo add", *argv, *more])
    store = Store(folder / "e.db")
    (name,) = store.runs()
    return status, store, name


# -- a tool that fails ------------------------------------------------------------------------------------------------

BREAKING = [
    {"text": "Break it.", "calls": [
        scripts.call("loss", tasks=["agreement"], examples=40),
        scripts.call("steer", task="agreement", label="answer", value="are", components=["decoder.2.resid_post@-1"], doses=[1e30], toward=" are", examples=40),
        scripts.call("note", text="It goes on."),
    ]},
    {"text": "End.", "calls": [scripts.call("finish", answer="unclear", words="Nothing.")]},
]  # fmt: skip


def test_a_dose_that_no_record_can_hold_is_refused_and_the_run_goes_on(tmp_path):
    status, store, name = investigated(tmp_path, BREAKING)
    assert status == 0
    assert store.run(name).status == "finished"
    answers = [e.payload for e in store.events(name) if e.kind == "answer"]
    assert [a["status"] for a in answers] == ["ok", "rejected", "ok", "ok"]
    assert "dose" in answers[1]["text"]
    assert len(store.experiments(name)) == 1
    assert store.verify() == []


def test_any_error_in_a_tool_is_a_failed_result_but_arguments_and_interruptions_are_not(runner):
    tool = discover()["loss"]
    args = tool.parse({"tasks": ["addition"], "examples": 16})

    def raising(error):
        def fail(args, ctx):
            raise error

        return fail

    for error in (RuntimeError("shapes do not fit\nsecond line"), ZeroDivisionError("division by zero"), KeyError("x")):
        done = runner.run(replace(tool, run=raising(error)), args)
        assert (done.outcome.status, done.result.status) == ("failed", "failed")
        assert type(error).__name__ in done.outcome.text
        assert "second line" not in done.outcome.text
        assert "Traceback" in done.traceback
    for error in (ToolInputError("say it otherwise"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            runner.run(replace(tool, run=raising(error)), args)


@pytest.mark.parametrize("raw", ['{"threshold": Infinity}', '{"threshold": 1e999}', '{"a": [NaN]}', '{"a": -Infinity}'])
def test_arguments_hold_finite_numbers_only(raw):
    with pytest.raises(ToolInputError, match="finite"):
        tool_arguments(raw)


def test_a_number_in_quotes_is_held_to_the_same(demo):
    given = {"experiment": "E1", "probability": "nan"}
    with pytest.raises(ToolInputError, match="finite"):
        discover()["predict"].parse(given)


# -- memory -----------------------------------------------------------------------------------------------------------


def test_no_more_states_become_logits_at_once_than_a_batch_has_tokens(demo, monkeypatch):
    seen = []
    own = type(demo).unembed

    def unembed(self, h, *more, **named):
        seen.append(h.shape[0])
        return own(self, h, *more, **named)

    monkeypatch.setattr(type(demo), "unembed", unembed)
    examples = get_task("addition").examples("explore", 24)
    variants = [Variant((*range(6), *[5] * k)) for k in range(24)]
    scores = {}
    for tokens in (64, 2048):
        seen.clear()
        scores[tokens], _ = score(demo, examples, lambda _: variants, max_tokens=tokens)
        assert max(seen) <= tokens
    assert max(seen) > 64  # and a larger batch does use them
    for small, large in zip(scores[64], scores[2048], strict=True):
        assert abs(small.nll - large.nll).max() < 1e-3
    assert scoring.UNEMBED_ROWS == 2048


# -- minutes ----------------------------------------------------------------------------------------------------------


def test_a_deadline_ends_a_sweep_between_two_blocks(demo):
    calls = []

    def check():
        calls.append(1)
        if len(calls) > 10:
            raise DeadlineReached

    watched = demo.watched(check)
    examples = get_task("addition").examples("explore", 8)
    variants = [Variant((*range(6), *[5] * k)) for k in range(40)]
    with pytest.raises(DeadlineReached):
        score(watched, examples, lambda _: variants)
    assert len(calls) == 11
    with torch.inference_mode():
        demo.run(demo.inputs([[5, 6]]))  # the subject itself has none


@pytest.mark.parametrize("call", [
    lambda s: s.run(s.inputs([[5, 6]])),
    lambda s: s.generate([[5, 6]], 3),
    lambda s: s.generate([[5, 6]], 3, cached=False),
    lambda s: s.run(s.inputs([[5, 6]]), edits=[Edit(Site("decoder", 1, "mlp.out"), "scale", torch.tensor(0.0))]),
], ids=["run", "generate", "generate without a cache", "edit"])  # fmt: skip
def test_whatever_computes_looks_at_the_deadline(call, demo):
    def over():
        raise DeadlineReached

    with pytest.raises(DeadlineReached):
        call(demo.watched(over))


def test_minutes_stop_a_tool_at_work_and_the_run_has_its_report(tmp_path, monkeypatch):
    tool = discover()["loss"]
    reached = []

    def endless(args, ctx):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            ctx.subject.run(ctx.subject.inputs([[5, 6]]))
        reached.append("the end")

    monkeypatch.setitem(tool.__dict__, "run", endless)
    turns = [{"text": "Forever.", "calls": [scripts.call("loss", tasks=["addition"], examples=16)]}] * 3
    status, store, name = investigated(tmp_path, turns, "--max-minutes", "0.03")
    assert status == 0
    assert not reached
    stored = store.run(name)
    assert (stored.status, stored.reason) == ("stopped", "the budget of 0.03 minutes is spent")
    (answer,) = [e.payload for e in store.events(name) if e.kind == "answer"]
    assert (answer["status"], answer["handle"]) == ("budget", None)
    assert "stopped while it ran" in answer["text"]
    assert store.experiments(name) == []  # what was cut short is no result, and nobody meets it in the cache
    assert "0.03 minutes" in (tmp_path / "t" / name / "report.md").read_text()


# -- waiting for somebody outside -------------------------------------------------------------------------------------


def in_time(work, seconds=20):
    """Run `work` in a thread and fail, not hang, where it takes longer."""
    out = []
    thread = threading.Thread(target=lambda: out.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert out, "it hangs"
    return out[0]


def test_a_wait_for_a_call_that_is_given_up_ends_and_swallows_no_call():
    planner, view = External(), View("g", "s", [], [])

    async def impatient():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(planner.propose(view), 0.05)

    async def patient():
        return await asyncio.wait_for(planner.propose(view), 10)

    in_time(lambda: asyncio.run(impatient()) or True)
    future = planner.submit("list_tasks", {})
    time.sleep(0.2)  # for whoever still waits from before: nobody should
    turn = in_time(lambda: asyncio.run(patient()))
    assert turn.calls[0].name == "list_tasks"
    assert not future.done()


def test_a_call_that_comes_while_somebody_waits_is_taken_at_once():
    planner, view = External(), View("g", "s", [], [])

    async def wait():
        return await asyncio.wait_for(planner.propose(view), 10)

    timer = threading.Timer(0.1, lambda: planner.submit("list_tasks", {}))
    timer.start()
    assert in_time(lambda: asyncio.run(wait())).calls[0].name == "list_tasks"


def test_a_run_over_mcp_ends_with_its_minutes_though_the_client_says_nothing(tmp_path):
    from agent import mcp

    words = ["--goal", "g", "--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t"), "--device", "cpu", "--quiet"]
    args = mcp.parser().parse_args([*words, "--max-minutes", "0.001"])
    args.planner = "mcp"
    planner = External()
    session = Session.begin(args, {}, planner)
    assert in_time(session.investigate, 60) == 0
    planner.close(None)
    assert planner.submit("list_tasks", {}).result(1).status == "budget"
    assert "minutes is spent" in session.store.run(session.run.name).reason


# -- budgets of a run that goes on ------------------------------------------------------------------------------------


def test_a_run_that_is_resumed_keeps_the_budgets_it_began_with_unless_others_are_given(tmp_path):
    turns = [{"text": "One.", "calls": [scripts.call("loss", tasks=["addition"], examples=16)]}]
    _, store, name = investigated(tmp_path, turns, "--max-experiments", "200", "--max-tokens", "5000")
    assert store.run(name).status == "stopped"
    words = ["--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t"), "--quiet", "--resume", name]
    script = ["--planner", f"scripted:{tmp_path / 'script.jsonl'}"]

    def limits(*more):
        return Session.open(run.parser().parse_args([*words, *script, *more]), {}).limits

    assert (limits().experiments, limits().tokens) == (200, 5000)
    store.update_run(name, "stopped", "")
    assert (limits("--max-experiments", "7").experiments, limits().minutes) == (7, None)


def test_a_new_run_may_make_60_experiments(tmp_path):
    turns = [{"text": "End.", "calls": [scripts.call("finish", answer="unclear", words="Nothing.")]}]
    _, store, name = investigated(tmp_path, turns)
    assert store.run(name).settings["max_experiments"] == 60


# -- replay -----------------------------------------------------------------------------------------------------------


def test_a_replay_fits_its_lens_and_leaves_the_kept_ones_alone(demo, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(translators, "_loaded", {})
    rows = [tuple(demo.tokens(e.prompt)) for e in get_task("addition").examples("explore", 20)]

    def lens(*, fresh):
        ctx = Context(demo, OfflineTasks([]), Nothing(), fresh=fresh)
        return translators.fitted(ctx, rows, 0)

    own = lens(fresh=False)
    (file,) = (tmp_path / "cache").rglob("*.safetensors")
    file.write_bytes(b"spoilt")
    translators._loaded.clear()
    assert torch.equal(lens(fresh=True), own)
    assert file.read_bytes() == b"spoilt"


def test_replay_asks_for_everything_anew(tmp_path, monkeypatch, capsys):
    turns = [
        {"text": "One.", "calls": [scripts.call("loss", tasks=["addition"], examples=16)]},
        {"text": "End.", "calls": [scripts.call("finish", answer="unclear", words="Nothing.")]},
    ]
    _, _, name = investigated(tmp_path, turns)
    asked = []
    own = ToolRunner._context
    monkeypatch.setattr(ToolRunner, "_context", lambda self, *more: asked.append(self.fresh) or own(self, *more))
    assert replay([name, "--db", str(tmp_path / "e.db")]) == 0
    assert asked == [True]


# -- the gate, in a run -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("compared_anew")
def test_a_run_begins_with_the_gate_and_its_report_shows_it(tmp_path, capsys):
    turns = [{"text": "End.", "calls": [scripts.call("finish", answer="unclear", words="Nothing.")]}]
    script = scripts.write(tmp_path / "script.jsonl", turns)
    assert run.main(["--goal", "can the demo add", "--planner", f"scripted:{script}", *scripts.places(tmp_path)]) == 0
    assert "comparisons with the plain model" in capsys.readouterr().out
    store = Store(tmp_path / "e.db")
    (name,) = store.runs()
    kept = store.run(name).settings["integrity"]
    assert all(c["verdict"] == "holds" for c in kept["checks"])
    report = (tmp_path / "t" / name / "report.md").read_text()
    assert "## Integrity" in report
    assert "all hold" in report
    json.dumps(kept, allow_nan=False)


@pytest.mark.usefixtures("compared_anew")
def test_what_the_gate_refuses_is_out_of_reach_in_the_run_its_resumption_and_its_replay(tmp_path, monkeypatch):
    from tools.subjects import gpt2

    (paths,) = gpt2.FAMILY.stacks
    monkeypatch.setitem(paths.__dict__, "equation", lambda _: ())  # a family that declares nothing of its block
    look = scripts.call(
        "probe", task="addition", label="a", components=["decoder.1.attn.out@-1"], examples=40, dimensions=2
    )
    end = scripts.call("finish", answer="unclear", words="Nothing.")
    turns = [{"text": "Look.", "calls": [look]}, {"text": "End.", "calls": [end]}]
    _, store, name = investigated(tmp_path, turns, "--max-experiments", "5")
    answers = [e.payload for e in store.events(name) if e.kind == "answer"]
    assert answers[0]["status"] == "rejected"
    report = (tmp_path / "t" / name / "report.md").read_text()
    assert "decoder.attn.out" in report
    assert "declares no equation" in report
    monkeypatch.undo()  # the family is whole again, but the run's own gate still holds
    store.update_run(name, "stopped", "")
    again = Session.open(
        run.parser().parse_args(
            ["--resume", name, "--db", str(tmp_path / "e.db"), "--planner", f"scripted:{tmp_path / 'script.jsonl'}"]
        ),
        {},
    )
    assert "attn.out" not in again.subject.spec().kinds


@pytest.mark.usefixtures("compared_anew")
def test_a_model_that_the_gate_refuses_as_a_whole_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    from tools.subjects.family import Family

    monkeypatch.setattr(Family, "finish", lambda self, model, stack, h: h)
    assert run.main(["--goal", "can the demo add", "--quiet", *scripts.places(tmp_path)]) == 2
    line = capsys.readouterr().err
    assert "demo cannot be studied: the identity program" in line
    assert line.count("\n") == 1
    assert not (tmp_path / "e.db").exists()


def test_a_pipe_that_is_closed_at_the_other_end_does_not_end_the_run(tmp_path):
    code = f"from agent.run import main; main(['--goal', 'can the demo model do addition?', '--db', r'{tmp_path / 'e.db'}', "
    code += f"'--out', r'{tmp_path}', '--max-experiments', '4', '--null-twins', '0'])"
    ran = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True)
    assert ran.stdout is not None and ran.stderr is not None
    ran.stdout.readline()
    ran.stdout.close()
    said = ran.stderr.read()
    assert ran.wait(timeout=300) == 0, said
    assert "Traceback" not in said
    store = Store(tmp_path / "e.db", create=False)
    (name,) = store.runs()
    assert store.run(name).reason == "the budget of 4 experiments is spent"
    assert (tmp_path / name / "report.md").is_file()
