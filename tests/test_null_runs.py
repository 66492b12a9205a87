"""What a run confirmed, tried again where it cannot be true: after the run, on record, replayed, and without any say in it."""

import json
import shutil
import sqlite3
from dataclasses import fields, replace

import numpy as np
import pytest
import scripts

from agent import mcp, replay, run
from agent.loop import null_twins, session
from agent.loop.budget import Spent
from agent.loop.executor import ToolRunner
from agent.loop.record import RunRecord, RunTasks
from agent.report import __main__ as report
from agent.report.null_twins import null_report
from experiments_db.findings import Finding, Statement
from experiments_db.store import Store
from tools.findings.contrast import Contrast, Quantity
from tools.findings.examining import bench_for, without_capability
from tools.findings.kind import NULLS, kinds
from tools.findings.null_report import SKIPPED, TRIAL
from tools.findings.null_tests import FIRST_SEED, ShuffledTasks, null_statement, plan
from tools.findings.sealing import arguments_of
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, ToolInputError, discover
from tools.subjects import load_subject

NEEDED, LOOKS, SPARED = "decoder.0.mlp.out@answer", "decoder.0.attn.pattern[0]@answer<-operand1", "decoder.4.attn.out@answer"


def asked(kind, place, **more):
    return scripts.call("examine", kind=kind, task="addition", components=[place], examples=80, **more)


TURNS = [
    {"text": "Look.", "calls": [
        scripts.call("loss", tasks=["addition"], examples=80), asked("necessary", NEEDED, interventions=["zero"]),
        asked("attends", LOOKS), asked("not_needed", SPARED, interventions=["zero"]),
    ]},
    {"text": "Predict.", "calls": [scripts.call("predict", experiment=e) for e in ("E2", "E3", "E4")]},
    {"text": "Confirm.", "calls": [scripts.call("confirm")]},
    {"text": "End.", "calls": [scripts.call("finish", answer="found")]},
]  # fmt: skip


def arguments(folder, twins):
    planner = f"scripted:{scripts.write(folder / 'script.jsonl', TURNS)}"
    return [
        "--goal", "where is addition done", "--subject", "demo", "--planner", planner, "--device", "cpu", "--null-twins", str(twins),
        *where(folder),
    ]  # fmt: skip


def where(folder):
    return ["--db", str(folder / "e.db"), "--out", str(folder / "t"), "--quiet"]


def record_of(folder):
    store = Store(folder / "e.db")
    return RunRecord(store, store.runs()[-1])


def checked(folder):
    return report.main(["latest", "--db", str(folder / "e.db"), "--out", str(folder / "t"), "--check"])


def written(folder):
    (file,) = (folder / "t").glob("*/report.md")
    return file.read_text()


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """A run that confirmed three findings, with two null twins of each kind."""
    folder = tmp_path_factory.mktemp("tried")
    assert run.main(arguments(folder, 2)) == 0
    return folder


@pytest.fixture
def copied(tried, tmp_path):
    shutil.copytree(tried, tmp_path / "copy")
    return tmp_path / "copy"


def test_what_is_true_of_the_model_is_confirmed_on_no_null_and_the_report_says_what_was_tried(tried):
    record = record_of(tried)
    assert [f.fate for f in record.findings()] == ["confirmed"] * 3
    found = null_report(record)
    assert found is not None
    assert (found.tried, found.confirmed, found.skipped) == (4, 0, "")
    assert [(t.kind, t.seed, t.tried) for t in found.apart] == [("random_init", 0, 1), ("random_init", 1, 1)]
    text = written(tried)
    assert "On 4 null twins, 0 of 4 tests would have confirmed a finding where there is none" in text.split("## ")[0]
    assert "## Null twins" in text
    assert "left out: F3 (not\\_needed: there nothing is needed, so that it is true)" in text
    assert "counted apart on random weights: F2 (attends: " in text
    assert checked(tried) == 0


def test_the_end_of_a_run_stands_before_its_null_twins(tried):
    events = record_of(tried).store.events(record_of(tried).run)
    kinds_ = [e.kind for e in events]
    assert kinds_.index("end") < kinds_.index("null_twins") < kinds_.index(TRIAL)
    assert kinds_.count(TRIAL) == 4


def test_replay_makes_the_tests_on_nulls_again_and_notices_a_changed_one(copied, capsys):
    assert replay.main(["latest", "--db", str(copied / "e.db"), "--out", str(copied / "t")]) == 0
    assert "6 of 6 tests on null twins came out as recorded" in capsys.readouterr().out
    (table,) = (copied / "t").glob("*/replay.jsonl")
    assert {json.loads(line)["verdict"] for line in table.read_text().splitlines()} == {"equal"}
    with sqlite3.connect(copied / "e.db") as db:
        ((seq, body),) = db.execute("SELECT seq, payload FROM events WHERE kind = ? ORDER BY seq LIMIT 1", [TRIAL]).fetchall()
        payload = json.loads(body)
        payload["tests"][0]["p"] = 1e-9
        db.execute("UPDATE events SET payload = ? WHERE seq = ? AND kind = ?", [json.dumps(payload), seq, TRIAL])
    assert replay.main(["latest", "--db", str(copied / "e.db"), "--experiment", "E1"]) == 0  # of one experiment, without nulls
    assert replay.main(["latest", "--db", str(copied / "e.db")]) == 1
    assert "p 1e-09 then" in capsys.readouterr().out


def test_no_twins_where_none_are_asked_for_and_a_finished_run_stays_finished(tmp_path, capsys):
    assert run.main(arguments(tmp_path, 0)) == 0
    assert null_report(record_of(tmp_path)) is None
    assert "ull twin" not in written(tmp_path)
    assert run.main(["--resume", "latest", *where(tmp_path)]) == 2
    assert "is finished" in capsys.readouterr().err
    assert run.main(["--resume", "latest", "--null-twins", "1", *where(tmp_path)]) == 0  # asked for afterwards
    found = null_report(record_of(tmp_path))
    assert found is not None
    assert found.tried == 2


def test_an_interrupt_skips_the_twins_and_leaves_the_run_finished_and_resume_completes_them(tried, tmp_path, monkeypatch, capsys):
    real, made = null_twins.trial, []

    def interrupted(*args):
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(real(*args))
        return made[-1]

    monkeypatch.setattr(null_twins, "trial", interrupted)
    assert run.main(arguments(tmp_path, 2)) == 0
    record = record_of(tmp_path)
    assert record.store.run(record.run).status == "finished"
    assert "2 of 6 tests made, then skipped" in written(tmp_path)
    assert checked(tmp_path) == 0
    assert record.store.events(record.run)[-1].kind == SKIPPED
    monkeypatch.setattr(null_twins, "trial", real)
    assert run.main(["--resume", "latest", *where(tmp_path)]) == 0
    assert "skipped" not in written(tmp_path)
    assert checked(tmp_path) == 0
    trials = [e.payload for e in record.store.events(record.run) if e.kind == TRIAL]
    uninterrupted = record_of(tried)
    assert trials == [e.payload for e in uninterrupted.store.events(uninterrupted.run) if e.kind == TRIAL]
    assert run.main(["--resume", "latest", *where(tmp_path)]) == 2
    assert "is finished" in capsys.readouterr().err


def test_a_false_finding_is_not_confirmed_on_nulls_and_a_test_that_confirms_everything_is(copied, monkeypatch):
    record, subject = record_of(copied), load_subject("demo")
    f = record.findings()[0]
    false = f.model_copy(update={"handle": "F4", "statement": f.statement.model_copy(update={"components": SPARED})})
    record.store.put_entry(record.run, 1, false)
    trials = [null_twins.trial(record, subject, 0, null, 0, ["F4"]) for null in NULLS]
    assert [t["confirmed"] for p in trials for t in p["tests"]] == [False, False]

    def everything(statement, bench):
        sure = Quantity("accuracy", "share of examples", np.ones(len(bench.examples)), (-1.0, 1.0))
        return [Contrast("effect", "exceed", 0.1, (sure,), bench.groups)]

    broken = {n: replace(k, measure=everything) if n == "necessary" else k for n, k in kinds().items()}
    monkeypatch.setattr("tools.findings.kind._kinds", lambda: tuple(broken.items()))
    trials = [null_twins.trial(record, subject, 0, null, 0, ["F1", "F4"]) for null in NULLS]
    assert [t["confirmed"] for p in trials for t in p["tests"]] == [True] * 4


def test_what_cannot_be_measured_on_a_null_is_left_out_with_its_reason(copied, monkeypatch):
    record = record_of(copied)
    monkeypatch.setattr("tools.findings.null_tests.null_twin", lambda *_: 1 / 0)
    payload = null_twins.trial(record, load_subject("demo"), 0, "random_init", 9, ["F1"])
    assert payload["tests"][0]["confirmed"] is False
    assert "no such null: ZeroDivisionError" in payload["tests"][0]["refused"]
    record.store.put_event(record.run, TRIAL, payload)
    found = null_report(record)
    assert found is not None
    assert found.tried == 4
    assert any("ZeroDivisionError" in r for r in found.reasons())


def test_a_record_from_elsewhere_with_odd_twins_is_shown_without_them(copied):
    record = record_of(copied)
    record.store.put_event(record.run, TRIAL, {"null": "random_init", "tests": 7})
    assert null_report(record) is None
    assert report.main(["latest", "--db", str(copied / "e.db"), "--out", str(copied / "t")]) == 0
    assert "Null twins" not in written(copied)


@pytest.fixture(scope="module")
def benches():
    """The demo model with right and with shuffled answers, the gate lifted or not: (context of each)."""
    subject, tasks = load_subject("demo"), OfflineTasks([])
    return {
        (shuffled, lifted): Context(subject, ShuffledTasks(tasks, 1) if shuffled else tasks, Nothing(), lifted=lifted)
        for shuffled in (False, True)
        for lifted in (False, True)
    }


STATEMENT = Statement(kind="necessary", task="addition", components=NEEDED, interventions=("zero",), examples=80)


def test_the_gate_refuses_what_a_model_cannot_do_and_lifted_it_is_measured_by_the_margin(benches):
    examine, args = discover()["examine"], arguments_of(STATEMENT)
    with pytest.raises(ToolInputError, match="better than chance"):
        examine.run(examine.parse(args), benches[True, False])
    rows = examine.run(examine.parse(args), benches[True, True]).measurements
    assert {m.unit for m in rows if m.name == "effect"} == {"logits, answer minus foil"}
    assert next(m.value for m in rows if m.name == "smallest") > 0


def test_lifting_the_gate_changes_nothing_about_the_gap_of_a_model_that_is_always_right(benches):
    told = STATEMENT.model_copy(update={"task": "copying", "objective": "margin"})
    gaps = [bench_for(told, benches[False, lifted]) for lifted in (False, True)]
    assert (gaps[0].objective.of(gaps[0].intact) > 0).all()
    assert gaps[0].gap == pytest.approx(gaps[1].gap)


def test_with_few_problems_a_bounded_quantity_takes_the_place_of_accuracy(benches):
    few = bench_for(STATEMENT.model_copy(update={"examples": 40}), benches[True, True])
    assert without_capability(few).statement.objective == "probability"
    kept = bench_for(STATEMENT.model_copy(update={"objective": "nll"}), benches[True, True])
    assert without_capability(kept).statement.objective == "nll"


def test_no_planner_and_no_command_line_can_lift_the_gate(tmp_path):
    assert not any("lift" in json.dumps(t.schema()) for t in discover().values())
    assert not any("lift" in o for p in (run.parser(), mcp.parser(), replay.parser()) for a in p._actions for o in a.option_strings)
    (default,) = (f.default for f in fields(Context) if f.name == "lifted")
    assert default is False
    store = Store(tmp_path / "e.db")
    keys = [
        ToolRunner(load_subject("demo"), RunRecord(store, "r"), RunTasks(store, "r"), 0, lifted=lifted).experiment(
            discover()["examine"], discover()["examine"].parse(arguments_of(STATEMENT))
        )
        for lifted in (False, True)
    ]
    assert keys[0].id != keys[1].id  # what was measured so is never found where it was not asked for


def test_shuffled_tasks_keep_prompts_groups_and_classes_and_no_problem_its_own_answer():
    plain = OfflineTasks([]).get("addition")
    shuffled = ShuffledTasks(OfflineTasks([]), 0).get("addition")
    for one, other in ((plain, shuffled), (plain.among("carry=1"), shuffled.among("carry=1"))):
        a, b = one.sample("confirm", 40, draw=3), other.sample("confirm", 40, draw=3)
        assert [(e.prompt, e.group, e.metadata) for e in a.examples] == [(e.prompt, e.group, e.metadata) for e in b.examples]
        assert sorted(e.answer for e in a.examples) == sorted(e.answer for e in b.examples)
        assert a.groups == b.groups
        assert sum(x.answer == y.answer for x, y in zip(a.examples, b.examples, strict=True)) < 20
    assert plain.sha("confirm", 40) != shuffled.sha("confirm", 40)


@pytest.mark.parametrize("name", sorted(kinds()))
def test_a_kind_says_why_it_is_tested_on_no_null_or_its_finding_is_false_there(name):
    kind = kinds()[name]
    assert set(kind.nulls.without) <= set(NULLS)
    assert all(kind.nulls.without.values())
    means = name in ("mixed", "one_concept", "quiet")  # what a unit goes with is false where nothing was learnt
    if not kind.locates and not means:  # what says that something is not, or that all of it is as well: true where nothing is
        assert set(kind.nulls.without) == set(NULLS)


def test_the_smallest_effect_is_taken_anew_where_it_is_a_part_of_what_a_model_has_to_lose():
    sealed = STATEMENT.model_copy(update={"smallest": 0.09})
    assert null_statement(sealed).smallest is None
    looks = Statement(kind="attends", task="addition", components=LOOKS, smallest=0.3)
    assert null_statement(looks).smallest == 0.3


def test_every_confirmed_finding_is_planned_on_each_null_that_is_one_for_it():
    def made(number, kind, fate="confirmed"):
        s = Statement(kind=kind, task="addition", components=NEEDED)
        return Finding(handle=f"F{number}", statement=s, seen="E1", smallest=0.1, probability=0.5, power=0.5, fate=fate, experiment="E2")

    findings = [made(1, "necessary"), made(2, "not_needed"), made(3, "attends"), made(4, "necessary", "absent")]
    planned = [(t.null, t.seed, t.finding) for t in plan(findings, 2)]
    assert planned == [
        ("random_init", 0, "F1"), ("random_init", 0, "F3"), ("random_init", 1, "F1"), ("random_init", 1, "F3"),
        ("shuffled_answers", 0, "F1"), ("shuffled_answers", 1, "F1"),
    ]  # fmt: skip
    assert plan(findings, 0) == []
    assert FIRST_SEED > 100


def test_twins_are_made_unasked_for_a_small_model_only(monkeypatch):
    monkeypatch.setattr(null_twins, "TWINS", 3)
    subject = load_subject("demo")
    assert null_twins.default_twins(subject) == 3
    monkeypatch.setattr(null_twins, "SMALL", 1000)
    assert null_twins.default_twins(subject) == 0


def test_a_negative_number_of_twins_is_refused(capsys):
    assert run.main(["--goal", "x", "--null-twins", "-1"]) == 2
    assert "--null-twins must be 0 or more" in capsys.readouterr().err


def test_twins_stay_within_the_minutes_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "spending", lambda *_: Spent(seconds_before=1e9))  # what the run itself took
    assert run.main([*arguments(tmp_path, 1), "--max-minutes", "1000"]) == 0
    assert null_report(record_of(tmp_path)).skipped == "0 of 3 tests made, then the budget of 1000 minutes was spent"
    assert checked(tmp_path) == 0
