"""What was said to each example is kept beside a result: it agrees with the numbers, and changes none of them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import benches
import pytest
from findings_made import Investigation

from agent.lab import Lab
from agent.loop.executor import ToolRunner
from agent.loop.record import Reading, RunRecord, RunTasks
from agent.replay import array_values, compare
from agent.report import examples as review
from agent.report.conclusion import conclude
from agent.report.evidence import evidence_section
from agent.report.examples import condition_of, examples
from agent.report.headline import Sentence
from experiments_db.records import ANSWERS, ANSWERS_KEPT, SAID, Experiment, Result, kept_answers
from experiments_db.store import Store
from tools.methods import answers
from tools.methods.answers import INTACT
from tools.methods.effects import Condition, score_under
from tools.methods.tool import discover
from tools.tasks import get_task

CURATED = Path(__file__).parent.parent / "transcripts" / "curated" / "experiments.db"
ADDITION = "20261122-023421-find-where-addition-happens"
ABLATED = {"task": "addition", "components": ["mlp.out@answer"], "intervention": "resample(donor)", "examples": 72}


@pytest.fixture(scope="module")
def lab():
    return Lab("demo")


@pytest.fixture(scope="module")
def result(lab):
    return lab.run("ablate", **ABLATED).result


def asked(result, split="explore", status="finished", **more):
    x = Experiment(
        tool="ablate", args={**ABLATED, "split": split}, subject="s", tasks={f"addition {split}": "t"}, seed=0, dtype="float32", code="c"
    )
    return examples(x, result, status, **more)


def test_the_share_of_right_answers_is_the_accuracy_of_every_condition(result):
    shown = {c["name"]: c["number"] for c in asked(result)["conditions"]}
    accuracy = [m for m in result.measurements if m.name == "accuracy"]
    assert len(shown) == 6
    for m in accuracy[1:]:
        rows = asked(result, under=shown[condition_of(m)])["rows"]
        assert len(rows) == m.n
        assert sum(r["still"] for r in rows) / m.n == pytest.approx(m.value)
        assert sum(r["right"] for r in rows) / m.n == pytest.approx(accuracy[0].value)
        assert all((r["after"] == r["answer"]) == r["still"] for r in rows)


def test_the_broken_ones_are_those_that_the_model_itself_gets_wrong(lab, result):
    told = asked(result)
    under = next(c["number"] for c in told["conditions"] if "decoder.3" in c["name"])
    broken = {r["prompt"] for r in asked(result, under=under)["rows"] if r["came"] == "broke"}
    task = get_task("addition")
    ctx = benches.context(lab.subject, task)
    drawn = task.examples("explore", 72, 0)
    intact, cut = score_under(ctx, task, drawn, [Condition.of(m.place, m.done) for m in result.measurements if m.component and "decoder.3" in m.component][:1])
    assert broken == {e.prompt for e, a, b in zip(drawn, intact.correct, cut.correct, strict=True) if a and not b}
    assert len(broken) == 3


def test_it_is_said_where_not_all_conditions_had_room(lab, result, monkeypatch):
    assert not asked(result)["full"]
    monkeypatch.setattr(answers, "ANSWERS_KEPT", 3 * 72)
    monkeypatch.setattr(review, "ANSWERS_KEPT", 3 * 72)
    fewer = asked(Lab("demo").run("ablate", **ABLATED).result)
    assert fewer["full"]
    assert len(fewer["conditions"]) == 3
    most = sorted((c["broken"] for c in asked(result)["conditions"]), reverse=True)
    assert sorted((c["broken"] for c in fewer["conditions"]), reverse=True) == most[:3]


def test_an_ablation_of_what_does_nothing_breaks_nothing(lab):
    found = lab.run("ablate", task="addition", components=["decoder.5.attn.out@answer"], intervention="zero", examples=32).result
    (condition,) = asked(found)["conditions"]
    assert (condition["broken"], condition["mended"]) == (0, 0)
    assert all(r["came"] == "" and r["before"] == r["after"] for r in asked(found)["rows"])


def test_they_are_small_and_say_who_said_what(result):
    table, texts = kept_answers(result)
    assert table.name == f"{ANSWERS}addition"
    assert texts.name == f"{SAID}addition"
    assert table.axes[0].labels[1] == INTACT
    assert array_values(table).shape == (8, 2, 72)
    assert int(array_values(texts).sum()) == 7 * 72
    assert len(table.data) <= 4 * 2 * (ANSWERS_KEPT + 2 * 72)
    assert len(table.data) + len(json.dumps(table.axes[2].labels)) < 12_000


@pytest.mark.parametrize(
    ("tool", "args"),
    [
        ("loss", {"tasks": ["agreement"], "examples": 32}),
        ("lens", {"task": "agreement", "examples": 32}),
        ("patch", {"task": "addition", "components": ["decoder.0.resid_pre@operand1"], "examples": 32}),
        ("path_patch", {"task": "addition", "components": ["decoder.0.attn.z[3]@answer"], "receiver": "decoder.0.mlp.out", "examples": 32}),
        ("layer_program", {"tasks": ["addition"], "operation": "skip", "blocks": [2], "examples": 32}),
        ("examine", {"kind": "necessary", "task": "addition", "components": ["decoder.0.mlp.out@answer"], "examples": 32}),
    ],
)  # fmt: skip
def test_every_tool_that_scores_a_task_keeps_them_under_the_names_of_its_numbers(lab, tool, args):
    found = lab.run(tool, **args).result
    x = Experiment(tool=tool, args=args, subject="s", tasks={"t explore": "h"}, seed=0, dtype="float32", code="c")
    told = examples(x, found, "finished")
    named = {c["name"] for c in told["conditions"]}
    sited = {condition_of(m) for m in found.measurements if m.name in ("accuracy", "recovered", "effect")} - {""}
    assert told["rows"]
    assert named >= {c for c in sited if "intact" not in c}


def test_confirm_examples_are_shown_once_the_run_has_ended(result):
    assert asked(result, "confirm", "running")["rows"] == []
    assert "once the run has ended" in asked(result, "confirm", "running")["instead"]
    assert len(asked(result, "confirm", "finished")["rows"]) == 72
    assert asked(result, "explore", "running")["rows"]


def test_a_record_from_before_they_were_kept_says_so_and_replays_to_the_last_bit(result):
    old = result.model_copy(update={"arrays": tuple(a for a in result.arrays if a not in kept_answers(result))})
    assert "before the answers" in asked(old)["instead"]
    assert compare(old, result, exact=True, tolerance=1e-3)[0] == "equal"
    assert compare(result, result, exact=True, tolerance=1e-3)[0] == "equal"
    table, texts = kept_answers(result)
    moved = table.model_copy(update={"data": table.data[4:] + table.data[:4]})
    other = result.model_copy(update={"arrays": tuple(moved if a is table else a for a in result.arrays)})
    assert compare(result, other, exact=True, tolerance=1e-3)[0] == "DIFFERENT"
    assert compare(result, other, exact=False, tolerance=1e-3)[0] == "equal"
    bad = texts.model_copy(update={"axes": (texts.axes[0].model_copy(update={"labels": ("x",)}),)})
    broken = result.model_copy(update={"arrays": (table, bad)})
    assert "cannot be read" in asked(broken)["instead"]


def test_they_are_no_part_of_what_is_asked_or_measured(lab, tmp_path):
    i = Investigation(Store(tmp_path / "e.db"), "run")
    runner = ToolRunner(lab.subject, RunRecord(i.store, "run"), RunTasks(i.store, "run"), 0)
    tool = discover()["loss"]
    args = tool.parse({"tasks": ["agreement"], "examples": 16})
    done = runner.execute(tool, args)
    plain = tool.run(args, benches.context(lab.subject, get_task("agreement"), split="explore"))
    assert done.measurements == plain.measurements
    assert done.text == plain.text
    assert [a.name for a in plain.arrays] == [a.name for a in done.arrays if a not in kept_answers(done)]
    number = i.store.put_result(runner.experiment(tool, args), done)
    assert i.store.verify() == []
    assert kept_answers(i.store.result(number)) == kept_answers(done)
    assert isinstance(done, Result)


def shown_in_report(status="finished", arrays=True, kept=None):
    """The evidence section of the curated run about addition: of the findings named, with its arrays or without."""
    store = Store(CURATED, create=False)
    record = Reading(store, ADDITION)
    rows, c = record.experiments(), conclude(record)
    if kept is not None:
        c = replace(c, headline=(Sentence("", kept),))
    results = {r.handle: store.result(r.result_id, arrays=arrays) for r in rows}
    text = "\n".join(evidence_section(rows, results, {}, c, status))
    _, found, rest = text.partition("Unseen examples that were answered right and no longer are")
    return rest.partition("</details>")[0] if found else ""


def test_a_report_shows_examples_that_broke_under_its_main_findings_and_no_others():
    shown = shown_in_report()
    lines = [line.split(" | ") for line in shown.splitlines() if line.startswith("| ") and "what was done" not in line]
    assert len(lines) == 12
    store = Store(CURATED, create=False)
    for i, (what, *_) in enumerate(lines[::3]):
        finding, broke, n, handle = re.match(r"\| \[(F\d+)\].*: (\d+) of (\d+) broke, \[(E\d+)\]", what).groups()
        f = next(f for f in store.findings(ADDITION) if f.handle == finding)
        row = store.experiment(ADDITION, handle)
        assert f.experiment == handle
        assert row.experiment.args["split"] == "confirm"
        result = store.result(row.result_id)
        kept = kept_answers(result)
        said, texts = next(p for p in zip(kept[::2], kept[1::2], strict=True) if any(f"`{c}`" in what for c in p[0].axes[0].labels))
        under = next(i for i, c in enumerate(said.axes[0].labels) if f"`{c}`" in what)
        table, labels = array_values(said), texts.axes[0].labels
        right = table[:, 1].astype(bool)
        assert (int(broke), int(n)) == ((right[1] & ~right[under]).sum(), table.shape[2])
        for _, prompt, before, after in lines[3 * i : 3 * i + 3]:
            at = [p.replace("\n", "↵") for p in said.axes[2].labels].index(prompt.strip("`"))
            assert right[1, at]
            assert not right[under, at]
            assert (before, after.removesuffix(" |")) == tuple(f"`{labels[table[r, 0, at]]}`" for r in (1, under))
    assert [store.findings(ADDITION)[i].statement.kind for i in (4, 0)] == ["not_needed", "capability"]
    assert shown_in_report(kept=("F5", "F2")).count("broke") == 1
    assert shown_in_report(kept=("F5", "F1")) == ""
    assert shown_in_report("running") == ""
    assert shown_in_report(arrays=False) == ""
