"""Replay notices whatever was changed; a branch shares what was done before; another planner gets the same question."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scripts
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from agent import replay, run
from agent.loop.branch import Branch, BranchError, turn_ends
from agent.loop.history import spending
from agent.loop.record import RunRecord
from agent.replay import allowed, compare
from agent.report import __main__ as report
from experiments_db.branch import copy_record
from experiments_db.records import REWORDED, Array, Control, Experiment, Measurement, Result, Run
from experiments_db.store import Store
from tools.findings.examining import WHOLE
from tools.subjects import DEMO
from tools.tasks import get_task

CURATED = Path(__file__).parent.parent / "transcripts" / "curated"


def script(folder, turns, name="script.jsonl"):
    return f"scripted:{scripts.write(folder / name, turns)}"


def where(folder):
    return ["--db", str(folder / "e.db"), "--out", str(folder / "t"), "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A finished run on a model in a folder and a task of the user's own."""
    folder = tmp_path_factory.mktemp("own")
    model = shutil.copytree(DEMO, folder / "model", ignore=shutil.ignore_patterns("*.py", "*.md", "__pycache__"))
    lines = [{"prompt": f"{a} + {b} =", "answer": f" {a + b}"} for a in range(1, 8) for b in range(3, 6)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    turns = [
        {"text": "Look.", "calls": [scripts.call("loss", tasks=["sums"], examples=16), scripts.call("loss", tasks=["addition"], examples=16)]},
        {"text": "Sweep.", "calls": [scripts.call("layer_program", tasks=["sums"], sweep="skip_each", examples=16), scripts.call("describe_subject")]},
        {"text": "End.", "calls": [scripts.call("finish", answer="unclear", words="It adds: {{E1.accuracy}}.")]},
    ]  # fmt: skip
    argv = [
        "--goal",
        "does it add",
        "--subject",
        str(model),
        "--task",
        str(folder / "sums.jsonl"),
        "--planner",
        script(folder, turns),
    ]
    assert run.main([*argv, *where(folder)]) == 0
    return folder


@pytest.fixture
def copied(own, tmp_path):
    """Its database, to be tampered with."""
    target = tmp_path / "copy.db"
    with sqlite3.connect(own / "e.db") as source, sqlite3.connect(target) as db:
        source.backup(db)
    return target


def tamper(path, sql, *values):
    with sqlite3.connect(path) as db:
        assert db.execute(sql, values).rowcount > 0


def test_an_untouched_run_comes_out_as_recorded_to_the_last_bit(own, copied, capsys, tmp_path):
    assert replay.main(["latest", "--db", str(copied), "--out", str(tmp_path / "t")]) == 0
    out = capsys.readouterr().out
    assert "4 of 4 experiments came out as recorded, 4 of them to the last bit" in out
    assert "same as on record: config, tokenizer, weights, seed, dtype, device, threads, platform, cpu" in out
    (table,) = (tmp_path / "t").glob("*/replay.jsonl")
    assert [json.loads(line)["verdict"] for line in table.read_text().splitlines()] == ["equal"] * 4


@pytest.mark.parametrize("column", ["value", "low", "high", "n", "unit"])
def test_a_tampered_measurement_is_caught_by_replay_and_by_verify(copied, column, capsys):
    new = {"n": "n + 1", "unit": "'nats'"}.get(column, f"{column} + 1e-6")
    tamper(
        copied,
        f"UPDATE measurements SET {column} = {new} WHERE id = (SELECT min(id) FROM measurements WHERE name = 'accuracy')",
    )
    assert replay.main(["latest", "--db", str(copied)]) == 1
    assert "E1    loss               DIFFERENT" in capsys.readouterr().out
    assert Store(copied).verify() != []


def test_a_tampered_task_example_is_caught_by_replay_and_by_verify(copied, capsys):
    tamper(copied, "UPDATE task_data SET examples = replace(examples, '\" 4\"', '\" 5\"') WHERE name = 'sums'")
    assert replay.main(["latest", "--db", str(copied)]) == 1
    out = capsys.readouterr().out
    assert out.count("the task's examples are not those on record") == 2  # E1 and E3 read it, E2 does not
    assert any("sums" in problem for problem in Store(copied).verify())


def test_a_tampered_weight_and_a_changed_tokenizer_are_named(own, copied, tmp_path, capsys):
    model = shutil.copytree(own / "model", tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    name = next(k for k in weights if k.endswith("mlp.c_proj.weight"))
    weights[name].view(-1)[0] += torch.finfo(weights[name].dtype).eps * weights[name].view(-1)[0].abs() + 1e-7
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    assert replay.main(["latest", "--db", str(copied), "--subject", str(model)]) == 1
    assert "its weights changed" in capsys.readouterr().err
    again = shutil.copytree(own / "model", tmp_path / "again")
    tokenizer = json.loads((again / "tokenizer.json").read_text())
    tokenizer["added_tokens"][0]["lstrip"] = True
    (again / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert replay.main(["latest", "--db", str(copied), "--subject", str(again)]) == 1
    assert "its tokenizer changed" in capsys.readouterr().err


def test_a_model_that_has_moved_is_found_where_the_user_says_and_a_missing_one_is_not_guessed(
    own, copied, tmp_path, capsys
):
    moved = (own / "model").rename(tmp_path / "moved")
    try:
        assert replay.main(["latest", "--db", str(copied)]) == 2
        assert "nothing can be compared" in capsys.readouterr().err
        assert replay.main(["latest", "--db", str(copied), "--subject", str(moved)]) == 0
        assert "4 of 4 experiments came out as recorded, 4 of them" in capsys.readouterr().out
    finally:
        moved.rename(own / "model")


def test_an_edited_digit_in_the_report_is_caught(own, tmp_path, capsys):
    name = Store(own / "e.db").runs()[-1]
    folder = shutil.copytree(own / "t", tmp_path / "t")
    argv = [name, "--db", str(own / "e.db"), "--out", str(folder), "--check"]
    assert report.main(argv) == 0
    file = folder / name / "report.md"
    text = file.read_text()
    at = text.index("It adds: [") + len("It adds: [")
    file.write_text(text[:at] + ("2" if text[at] != "2" else "3") + text[at + 1 :])
    assert report.main(argv) == 1
    assert "differs" in capsys.readouterr().out


def test_elsewhere_small_differences_are_within_tolerance_and_large_ones_are_not(own, copied, monkeypatch):
    store = Store(copied)
    old = store.result(1)
    for change, verdict in ((1e-5, "within tolerance"), (0.2, "DIFFERENT")):
        moved = tuple(m.model_copy(update={"value": m.value + change}) for m in old.measurements)
        new = old.model_copy(update={"measurements": moved})
        assert compare(old, new, exact=False, tolerance=1e-3)[0] == verdict
        assert compare(old, new, exact=True, tolerance=1e-3)[0] == "DIFFERENT"
    assert compare(old, old, exact=False, tolerance=1e-3)[0] == "equal"


def test_a_share_may_move_by_one_example_in_64_and_other_values_by_their_size():
    share = Measurement(name="a", value=0.5, unit="share of examples", n=128)
    assert allowed(share, 1e-3) == pytest.approx(2 / 128)
    assert allowed(share.model_copy(update={"n": 10}), 1e-3) == pytest.approx(1 / 10)
    assert allowed(Measurement(name="a", value=50.0, unit="nats", n=128), 1e-3) == pytest.approx(0.05)


def test_a_changed_control_or_count_is_never_within_tolerance():
    base = Measurement(name="a", value=0.5, unit="nats", n=8, control=Control(kind="random", value=0.1, n=8))
    assert base.control is not None
    for other in (
        base.model_copy(update={"control": None}),
        base.model_copy(update={"n": 9}),
        base.model_copy(update={"control": base.control.model_copy(update={"value": 0.4})}),
        base.model_copy(update={"low": 0.4}),
    ):
        results = [Result(status="ok", text="", measurements=(m,)) for m in (base, other)]
        assert compare(*results, exact=False, tolerance=1e-3)[0] == "DIFFERENT"


AGAIN = """
import json, sys
from agent.replay import main
for words in json.loads(sys.argv[1]):
    print(f"== {words[0]}: {main(words)}")
"""


def test_every_curated_transcript_replays_as_recorded_and_its_report_is_what_the_database_says(tmp_path):
    """In one other process, which has as many threads as those on record: as torch takes by itself."""
    shutil.copytree(CURATED, tmp_path / "c")
    db = tmp_path / "c" / "experiments.db"
    store = Store(db)
    assert store.verify() == []
    asked = [[n, "--db", str(db), *(["--allow-code"] if store.run(n).settings.get("allow_code") else [])] for n in store.runs()]
    environ = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, json.dumps(asked)], capture_output=True, text=True, cwd=CURATED.parent.parent, env=environ
    )  # fmt: skip
    said = re.split(r"^== (.*)\n", done.stdout, flags=re.MULTILINE)
    assert said[1::2] == [f"{name}: 0" for name in store.runs()], done.stdout + done.stderr
    for name, text in zip(store.runs(), said[::2], strict=False):
        n = len(store.experiments(name))
        assert f"{n} of {n} experiments came out as recorded" in text
        assert report.main([name, "--db", str(db), "--out", str(tmp_path / "c"), "--check"]) == 0


def test_arrays_and_words_are_compared_elsewhere_too():
    def made(values, text="a 1.0", dtype="<f4"):
        numbers = np.array(values, dtype=dtype)
        kind = {"<f4": "float32", "<i8": "int64"}[dtype]
        return Result(
            status="ok", text=text, arrays=(Array(name="x", dtype=kind, shape=numbers.shape, data=numbers.tobytes()),)
        )

    def verdict(a, b):
        return compare(a, b, exact=False, tolerance=1e-3)[0]

    assert verdict(made([1, 2, 3]), made([1, 2, 3.001])) == "within tolerance"
    assert verdict(made([1, 2, 3]), made([1, 2, 3], "a 1.1")) == "within tolerance"
    for other in (
        made([100, -5, 1e6]),
        made([1, 2, np.nan]),
        made([1, 2, np.inf]),
        made([1, 2, 3], "b 1.0"),
        made([1, 2, 3.001], "b 1.0"),
    ):
        assert verdict(made([1, 2, 3]), other) == "DIFFERENT"
    assert verdict(made([1, np.nan]), made([1, np.nan])) == "equal"
    ranks = made(range(128), dtype="<i8")
    assert verdict(ranks, made([9, 9, *range(2, 128)], dtype="<i8")) == "within tolerance"
    assert verdict(ranks, made([9, 9, 9, 9, *range(4, 128)], dtype="<i8")) == "DIFFERENT"


def test_odd_words_and_numbers_on_the_command_line_end_in_one_line_and_write_nothing(copied, tmp_path, capsys):
    count = Store(copied).counts()
    for more in (["--sample", "0"], ["--planner", "random_valid", "--max-experiments", "-5"], ["--planner", "random_valid", "--max-experiments", "0"],
                 ["--planner", "random_valid", "--experiment", "E1"], ["--planner", "no_such"], ["--from", "2"], ["--out", "/dev/null/x"],
                 ["--experiment", "E" + "9" * 40], ["--experiment", "E" + "9" * 5000], ["--experiment", "E0"]):  # fmt: skip
        assert replay.main(["latest", "--db", str(copied), *more]) == 2, more
        assert capsys.readouterr().err.count("\n") == 1
    assert Store(copied).counts() == count


def test_a_run_without_its_settings_cannot_be_run_again_and_says_what_is_missing(tmp_path, capsys):
    store = Store(tmp_path / "e.db")
    store.put_run(Run(name="bare", goal="g", subject="demo", planner="p", settings={"seed": 0}))
    argv = ["--db", str(tmp_path / "e.db")]
    assert replay.main(["bare", *argv]) == 2
    assert replay.main(["bare", *argv, "--planner", "systematic"]) == 2
    assert run.main(["--resume", "bare", *argv]) == 2
    assert run.main(["--resume", "bare", "--from", "0", *argv]) == 2
    err = capsys.readouterr().err
    assert err.count("has no device, dtype") == 4


def test_control_characters_of_a_record_do_not_reach_the_terminal(copied, capsys):
    tamper(copied, 'UPDATE runs SET settings = replace(settings, \'"platform":"\', \'"platform":"\\u001b[2J\')')
    replay.main(["latest", "--db", str(copied), "--experiment", "E1"])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[2J" in out


# -- branches -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A finished scripted run of six turns on the demo."""
    folder = tmp_path_factory.mktemp("parent")
    assert run.main(["--goal", "can the demo add", "--planner", script(folder, scripts.TURNS), *where(folder)]) == 0
    return folder


def branch(parent, *argv):
    return run.main(["--resume", "latest", *argv, *where(parent)])


def test_a_branch_goes_on_from_a_turn_under_another_script_goal_and_budget_and_shares_the_experiments(parent, tmp_path):
    store = Store(parent / "e.db")
    before = store.runs()[0]
    more = [
        {"text": "Again.", "calls": [scripts.call("loss", tasks=["addition"], examples=16)]},
        {"text": "More.", "calls": [scripts.call("loss", tasks=["agreement"], examples=16)]},
        {
            "text": "End.",
            "calls": [scripts.call("finish", answer="unclear", words="Both: {{E2.accuracy}} and {{E5.accuracy}}.")],
        },
    ]
    argv = ["--from", "3", "--planner", script(tmp_path, more), "--goal", "and what else", "--max-experiments", "2"]
    assert run.main(["--resume", before, *argv, *where(parent)]) == 0
    made = store.runs()[-1]
    assert store.run(made).goal == "and what else"
    assert store.run(made).settings["branch"] == {"run": before, "turn": 3, "seq": turn_ends(store, before)[3]}
    old, new = store.experiments(before), store.experiments(made)
    assert [(e.experiment.id, e.result_id) for e in new[:4]] == [(e.experiment.id, e.result_id) for e in old[:4]]
    assert all(e.cached for e in new[:4])
    assert [e.experiment.args["tasks"] for e in new[4:]] == [["agreement"]]
    assert [h.handle for h in store.hypotheses(made)] == ["H1"]
    assert store.findings(made) == []
    assert store.run(made).status == "finished"
    assert store.verify() == []
    text = (parent / "t" / made / "report.md").read_text()
    assert f"goes on from {before}".replace("-", "-") in text.replace("\\", "")
    assert replay.main([made, "--db", str(parent / "e.db")]) == 0


def test_an_experiments_handle_means_the_turn_that_ran_it(parent):
    store = Store(parent / "e.db")
    first = store.runs()[0]
    assert Branch.of(store, first, "E3").turn == 2
    assert Branch.of(store, first, "E4").turn == 3
    assert Branch.of(store, first, "E5").turn == 5
    assert Branch.of(store, first, "0").seq == 0


@pytest.mark.parametrize("step", ["7", "-1", "E9", "x", "", "6", "E", "1.5"])
def test_a_step_that_cannot_be_gone_on_from_is_refused_and_nothing_is_written(parent, step, capsys):
    store = Store(parent / "e.db")
    first, count = store.runs()[0], store.counts()
    with pytest.raises((BranchError, ValueError)):
        Branch.of(store, first, step)
    assert run.main(["--resume", first, f"--from={step}", *where(parent)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert store.counts() == count


def test_from_without_resume_and_another_goal_without_from_are_refused(parent, capsys):
    assert run.main(["--goal", "x", "--from", "2", *where(parent)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert branch(parent, "--goal", "x") == 2
    assert "--from" in capsys.readouterr().err


def test_a_branch_onto_another_model_is_refused(parent, own, capsys):
    first = Store(parent / "e.db").runs()[0]
    changed = shutil.copytree(own / "model", parent / "changed", dirs_exist_ok=True)
    (changed / "config.json").write_text(
        (changed / "config.json").read_text().replace('"layer_norm_epsilon": 1e-05', '"layer_norm_epsilon": 1e-04')
    )
    for argv in (["--subject", str(changed)], ["--goal", f"find addition in {changed}"]):
        assert run.main(["--resume", first, "--from", "2", *argv, *where(parent)]) == 2
        assert "another model" in capsys.readouterr().err


def test_the_systematic_planner_goes_on_from_its_own_run_and_refuses_anothers(parent, capsys):
    store = Store(parent / "e.db")
    first = store.runs()[0]
    assert run.main(["--resume", first, "--from", "2", "--planner", "systematic", *where(parent)]) == 2
    assert "--from 0" in capsys.readouterr().err
    goal = ["--goal", "find where key-value recall happens", "--planner", "systematic"]
    assert run.main([*goal, *where(parent)]) == 0
    whole = store.runs()[-1]
    assert run.main(["--resume", whole, "--from", "3", *where(parent)]) == 0
    again = store.runs()[-1]
    explored = [[e.result_id for e in store.experiments(r) if "split" not in e.experiment.args] for r in (again, whole)]
    assert explored[0] == explored[1]  # what is confirmed is confirmed on other examples
    assert store.run(again).reason == store.run(whole).reason == "cannot"


def test_a_systematic_run_does_not_go_on_under_another_goal(parent, capsys):
    store = Store(parent / "e.db")
    whole = next(r for r in store.runs() if store.run(r).planner == "systematic" and store.run(r).status == "finished")
    count = store.counts()
    for goal in ("find where addition happens", "find where subtraction happens"):
        assert run.main(["--resume", whole, "--from", "3", "--goal", goal, *where(parent)]) == 2
        assert "--from 0" in capsys.readouterr().err
    assert store.counts() == count


def test_a_turn_that_was_not_finished_is_not_gone_on_from(tmp_path):
    store = Store(tmp_path / "e.db")
    store.put_run(Run(name="killed", goal="g", subject="demo", planner="p"))
    call = {"name": "loss", "arguments": "{}"}
    usage = {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0}, "minutes": 0, "text": ""}
    asked = Experiment(tool="loss", args={}, subject="s", seed=0, dtype="float32", code="c")
    result = store.put_result(asked, Result(status="ok", text=""))
    for turn in (1, 2):
        store.put_event("killed", "turn", {"calls": [{**call, "id": f"{turn}.{i}"} for i in range(2)], **usage})
        for i in range(2 if turn == 1 else 1):
            store.put_event("killed", "answer", {"call_id": f"{turn}.{i}", "text": "", "status": "ok", "handle": None})
    store.link_experiment("killed", asked.id, result, cached=False, seq=5)
    assert turn_ends(store, "killed") == [0, 3]
    for step in ("2", "E1"):
        with pytest.raises(BranchError):
            Branch.of(store, "killed", step)


def test_another_seed_dtype_or_an_empty_goal_is_refused_for_a_branch(parent, capsys):
    first, count = Store(parent / "e.db").runs()[0], Store(parent / "e.db").counts()
    for more in (["--seed", "9"], ["--dtype", "bfloat16"], ["--goal", "   "], ["--goal", ""]):
        assert run.main(["--resume", first, "--from", "2", *more, *where(parent)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert Store(parent / "e.db").counts() == count


def test_tasks_made_after_the_step_are_not_taken_along(tmp_path):
    made = scripts.call(
        "make_task",
        name="mine",
        description="d",
        prompts=[f"{i} + 1 =" for i in range(1, 9)],
        answers=[f" {i + 1}" for i in range(1, 9)],
    )
    turns = [
        {"text": "1", "calls": [scripts.call("describe_subject")]},
        {"text": "2", "calls": [made]},
        {"text": "3", "calls": [scripts.call("finish", answer="unclear", words="Nothing.")]},
    ]
    assert run.main(["--goal", "g", "--planner", script(tmp_path, turns), *where(tmp_path)]) == 0
    store = Store(tmp_path / "e.db")
    first = store.runs()[0]
    for step, names in (("1", []), ("2", ["mine"])):
        assert (
            run.main(
                [
                    "--resume",
                    first,
                    "--from",
                    step,
                    "--planner",
                    script(tmp_path, turns[2:], "end.jsonl"),
                    *where(tmp_path),
                ]
            )
            == 0
        )
        assert [t.name for t in store.task_data(store.runs()[-1])] == names


def test_a_branch_that_was_killed_is_resumed_with_its_own_budget(parent, tmp_path):
    store = Store(parent / "e.db")
    first = store.runs()[0]
    turns = [
        {"text": "a", "calls": [scripts.call("loss", tasks=[t], examples=16)]}
        for t in ("agreement", "copying", "brackets", "brackets")
    ]
    turns.append({"text": "z", "calls": [scripts.call("finish", answer="unclear", words="Done.")]})
    spec = script(tmp_path, turns)
    assert (
        run.main(["--resume", first, "--from", "2", "--planner", spec, "--max-experiments", "2", *where(parent)]) == 0
    )
    made = store.runs()[-1]
    assert store.run(made).reason == "the budget of 2 experiments is spent"
    assert len(store.experiments(made)) == 5
    assert run.main(["--resume", made, "--max-experiments", "9", *where(parent)]) == 0
    assert store.run(made).status == "finished"
    assert [e.experiment.args["tasks"] for e in store.experiments(made)[3:]] == [
        ["agreement"],
        ["copying"],
        ["brackets"],
    ]


def test_what_a_branch_took_over_counts_against_none_of_its_budgets(tmp_path):
    store = Store(tmp_path / "e.db")
    usage = {"prompt_tokens": 400, "completion_tokens": 100, "cost": 0.5}
    turn = {"calls": [], "text": "", "usage": usage, "minutes": 7.0}
    store.put_run(Run(name="first", goal="g", subject="demo", planner="p"))
    for _ in range(3):
        store.put_event("first", "turn", turn)
    store.put_run(
        Run(
            name="second",
            goal="g",
            subject="demo",
            planner="p",
            settings={"branch": {"run": "first", "turn": 2, "seq": 2}},
        )
    )
    copy_record(store, "first", "second", 2)
    store.put_event("second", "turn", {**turn, "usage": {**usage, "prompt_tokens": 1}, "minutes": 0.25})
    first, second = (spending(RunRecord(store, n), store.run(n)) for n in ("first", "second"))
    assert (first.tokens, first.cost, first.seconds_before) == (1500, 1.5, 420.0)
    assert (second.tokens, second.cost, second.seconds_before) == (101, 0.5, 15.0)


def test_another_planner_gets_the_same_question_and_both_conclusions_are_shown(parent, capsys):
    store = Store(parent / "e.db")
    first = store.runs()[0]
    capsys.readouterr()
    argv = [first, "--db", str(parent / "e.db"), "--out", str(parent / "t")]
    assert replay.main([*argv, "--planner", "random_valid:3", "--max-experiments", "3"]) == 0
    out = capsys.readouterr().out
    made = store.runs()[-1]
    assert store.run(made).goal == store.run(first).goal
    assert store.run(made).planner.startswith("random_valid")
    left_and_right = [line for line in out.splitlines() if " | " in line]
    assert first in left_and_right[0]
    assert made in left_and_right[0]
    assert any("Found. The model does addition" in line for line in left_and_right)
    assert any("No conclusion." in line.partition(" | ")[2] for line in left_and_right)
    assert replay.main([*argv, "--planner", "no_such"]) == 2
    assert replay.main([*argv, "--from", "2"]) == 2
    assert replay.main([*argv, "--sample", "0"]) == 2


def test_a_picture_that_has_changed_or_gone_since_is_named(tmp_path, capsys):
    rows = []
    for split in ("explore", "confirm"):
        for e in get_task("shape").examples(split, 8):
            name = f"{len(rows)}.png"
            Image.fromarray(e.inputs["image"].data).save(tmp_path / name)
            rows.append({"image": name, "answer": e.target, "split": split})
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    turns = [
        {"text": "Look.", "calls": [scripts.call("loss", tasks=["mine"], examples=8)]},
        {"text": "End.", "calls": [scripts.call("finish", answer="unclear")]},
    ]
    argv = ["--goal", "what is it", "--subject", "shapes", "--task", str(tmp_path / "mine.jsonl"), "--planner", script(tmp_path, turns)]
    assert run.main([*argv, *where(tmp_path), "--null-twins", "0"]) == 0
    again = ["latest", "--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t")]
    assert replay.main(again) == 0
    capsys.readouterr()
    for change, says in ((lambda p: shutil.copy(tmp_path / "1.png", p), "has changed since"), (Path.unlink, "is gone")):
        change(tmp_path / "0.png")
        assert replay.main(again) == 1
        said = " ".join("".join(capsys.readouterr()).split())
        assert f"{tmp_path / '0.png'} {says}" in said
        assert "put the file back, or begin a new run" in said


def test_a_text_is_compared_in_the_words_of_today():
    ((before, now),) = REWORDED.items()

    def verdict(old, new):
        return compare(*(Result(status="ok", text=t) for t in (old, new)), exact=True, tolerance=1e-3)[0]

    assert now == f"\n{WHOLE}"
    assert verdict(f"a{before}0.1\nb", f"a{now}0.1\nb") == "equal"
    for other in (f"a{now}0.2\nb", f"a{now}0.1\nc", "a\nb"):
        assert verdict(f"a{before}0.1\nb", other) == "DIFFERENT"
