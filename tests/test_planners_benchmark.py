"""The score for planners: cases without telling names, findings counted against what was planted, results kept."""

import argparse
import json
import re

import pytest
import scripts

from agent.planners.scripted import Scripted
from benchmarks import planners
from benchmarks.keeping import Kept
from benchmarks.planted.posed import Posed

CASE = "relay-0"


@pytest.fixture(scope="module")
def posed(tmp_path_factory) -> Posed:
    folder = tmp_path_factory.mktemp("posed")
    return planners.anonymous(planners.posed(CASE, folder / "made"), folder / "anonymous")


@pytest.fixture(scope="module")
def recorded(posed, tmp_path_factory):
    """A planner driven by hand, as a script: what the model can do, and a place that is not needed."""
    task = posed.task.stem
    capable = {"kind": "capability", "task": task, "examples": 64}
    turns = [
        {"text": "", "calls": [scripts.call("examine", **capable)]},
        {"text": "", "calls": [scripts.call("predict", experiment="E1", probability=0.9)]},
        {"text": "", "calls": [scripts.call("confirm")]},
        {"text": "", "calls": [scripts.call("finish", answer="found", words="Done.")]},
    ]
    folder = tmp_path_factory.mktemp("recorded") / "somebody"
    folder.mkdir()
    scripts.write(folder / f"{CASE}.jsonl", turns)
    return folder.parent


@pytest.fixture(scope="module")
def scored(recorded, tmp_path_factory):
    """(rows, file of results, what it took to make them again)."""
    work = tmp_path_factory.mktemp("work")
    asked = argparse.Namespace(case=[CASE], planner=[], recorded=recorded, seed=0, max_experiments=6, prices=None)
    rows = list(planners.collect(asked, Kept(work / "r.jsonl", "c"), work))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planners, "play", lambda *_: pytest.fail("it was played again"))
        again = list(planners.collect(asked, Kept(work / "r.jsonl", "c"), work))
    return rows, work / "r.jsonl", again


def test_no_name_that_a_planner_sees_tells_what_was_planted(posed):
    seen = f"{posed.model} {posed.task}".rpartition("anonymous")[2]
    assert not any(word in seen for word in ("relay", "copy", "planted", "compiled"))
    assert (posed.model / "config.json").is_file()
    assert posed.targets
    files = [f for f in posed.model.parent.rglob("*") if f.is_file()]
    assert {f.name for f in files if f.suffix != ".safetensors"} <= {
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", posed.task.name
    }  # fmt: skip
    for f in files:
        text = f.read_bytes().decode(errors="ignore").lower()
        assert not [w for w in ("truth", "planted", "compiled", "benchmark", "relay", "necessary", *planners.known_cases()) if w in text], f


def test_a_case_may_be_asked_for_by_the_sign_that_says_nothing(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(planners, "collect", lambda args, *_: asked.extend(args.case) or [])
    assert planners.main(["--case", planners.sign(CASE)]) == 0
    assert asked == [CASE]
    capsys.readouterr()


def test_what_is_confirmed_is_counted_with_its_cost_commit_seed_and_date(scored):
    ((planner, row),) = scored[0]
    assert planner == "somebody (recorded)"
    assert (row["right"], row["false"], row["missed"]) == (1, 0, row["targets"])
    assert (row["experiments"], row["tokens"], row["dollars"], row["exact"]) == (2, 0, 0.0, False)
    assert row["made"].startswith("Commit ")
    assert "seed 0, 20" in row["made"]


def test_what_was_kept_is_not_played_again(scored):
    assert scored[2] == scored[0]
    assert len(scored[1].read_text().splitlines()) == 1


def test_the_table_has_a_line_for_each_planner_and_divides_by_what_was_confirmed():
    row = dict.fromkeys(("exact", "right", "false", "unjudged", "missed", "targets", "experiments", "tokens", "dollars", "seconds"), 0)
    rows = [
        ("a", {**row, "right": 3, "false": 1, "tokens": 8000, "dollars": 0.02, "targets": 5, "missed": 2, "exact": 1}),
        ("a", {**row, "tokens": 2000, "experiments": 10}),
        ("b", row),
    ]
    lines = planners.table(rows).splitlines()
    assert lines[2] == "| a | 2 | 1 | 3 | 1 | 0 | 2 of 5 | 5 | 2500 | 0.0050 | 0 |"
    assert "nothing confirmed" in lines[3]


def test_an_unknown_case_is_answered_with_what_there_is(capsys):
    with pytest.raises(SystemExit) as stop:
        planners.main(["--case", "addition-everywhere"])
    assert stop.value.code == 2
    assert "copy-h3.1" in capsys.readouterr().err


def test_a_recording_has_rows_only_for_its_cases(recorded, tmp_path):
    assert planners.recordings(recorded) == {"somebody (recorded)": {CASE: recorded / "somebody" / f"{CASE}.jsonl"}}
    asked = argparse.Namespace(case=["random-copy"], planner=[], recorded=recorded, seed=0, max_experiments=6, prices=None)
    assert list(planners.collect(asked, Kept(tmp_path / "r.jsonl", "c"), tmp_path)) == []
    assert json.dumps(planners.recordings(tmp_path)) == "{}"


def test_what_is_recorded_can_be_played_on_the_case_it_is_named_for():
    scripts_by_case = planners.recordings()["language_model (recorded)"]
    assert set(scripts_by_case) <= set(planners.known_cases())
    for case, script in scripts_by_case.items():
        calls = [c for turn in Scripted.from_file(script).turns for c in turn.calls]
        assert calls[-1].name == "finish"
        assert {t for c in calls for t in re.findall(r"task_[0-9a-f]{8}", c.arguments)} == {f"task_{planners.sign(case)}"}
