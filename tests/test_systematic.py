"""The systematic planner: what it finds is what was planted, it says no more than was confirmed, and it keeps to its budget."""

import asyncio
import json

import pytest

from agent.loop import goal as goals
from agent.loop.budget import Limits
from agent.loop.executor import ToolRunner
from agent.loop.history import history
from agent.loop.investigate import investigate
from agent.loop.known import easier, known
from agent.loop.record import RunRecord, RunTasks
from agent.planners.base import Answer, Known, PlannerError, View
from agent.planners.systematic import Systematic
from agent.planners.systematic.asking import heads_asked
from agent.planners.systematic.exploring import set_of
from agent.planners.systematic.reading import Ability, Flip, Judged, Pair, carrying
from benchmarks.planted.__main__ import GOAL, task_name, write_task
from benchmarks.planted.cases import CASES
from benchmarks.planted.compiled import write_case
from benchmarks.planted.scoring import claimed
from benchmarks.planted.train import FOLDER
from experiments_db.places import Component
from experiments_db.records import Control, Measurement, Run, TaskData
from experiments_db.store import Store
from tools.methods.offline import OfflineTasks
from tools.methods.tool import discover
from tools.subjects import load_subject
from tools.tasks import read_jsonl

CASE = {c.name: c for c in CASES}


class Silent:
    """Watches nothing."""

    def turn(self, turn):
        del turn

    def working(self, call, message):
        del call, message

    def answered(self, call, answer, seconds):
        del call, answer, seconds


class Tiring(Systematic):
    """The planner, giving up after some turns."""

    def __init__(self, turns):
        super().__init__()
        self.turns = turns

    async def propose(self, view):
        self.turns -= 1
        if self.turns < 0:
            raise PlannerError("enough")
        return await super().propose(view)


def begin(folder, goal, subject, files):
    store, loaded = Store(folder / "e.db"), load_subject(str(subject), device="cpu")
    settings = {"fingerprint": loaded.fingerprint, "seed": 0}
    store.put_run(Run(name="r", goal=goal, subject=str(subject), planner="systematic", settings=settings))
    for question in goals.questions(goal, tuple(f.stem for f in files)):
        store.put_entry("r", 1, question)
    for f in files:
        data = TaskData(name=f.stem, description="", examples=tuple(read_jsonl(f)), origin="file")
        store.put_entry("r", 1, data)
    return store, loaded


def proceed(store, loaded, planner=None, experiments=80):
    record, tasks = RunRecord(store, "r"), RunTasks(store, "r")
    runner = ToolRunner(loaded, record, tasks, 0)
    run = investigate(
        planner or Systematic(), store.run("r"), record, runner, discover(), Limits(experiments), Silent()
    )
    return asyncio.run(run), record


def planted(tmp_path, name, **options):
    case = CASE[name]
    store, loaded = begin(tmp_path, GOAL.format(task=task_name(case)), FOLDER / name, [write_task(case, tmp_path)])
    ending, record = proceed(store, loaded, **options)
    return case, ending, record


def compiled(folder, name, seed=0):
    """A model folder and its task file."""
    write_case(name, seed, folder / "model")
    rows = [json.loads(line) for line in (folder / "model/task.jsonl").read_text().splitlines()]
    return folder / "model", rows


def write_rows(file, rows):
    file.write_text("\n".join(json.dumps(r) for r in rows))
    return file


def calls(record):
    return [(e.experiment.tool, e.experiment.args) for e in record.experiments()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return planted(tmp_path_factory.mktemp("whole"), "copy-h3.1")


# -- what it finds ----------------------------------------------------------------------------------------------------


def test_the_planted_head_and_nothing_else_is_found_to_be_needed(whole):
    case, ending, record = whole
    assert (ending.status, ending.reason) == ("finished", "found")
    assert set(claimed(record.findings(), case)) == case.truth


def test_only_what_its_examination_makes_likely_is_predicted_and_only_what_was_confirmed_is_claimed(whole):
    _, _, record = whole
    findings = {f.handle: f for f in record.findings()}
    for f in findings.values():
        (seen,) = [m.value for m in record.measurements_of(f.seen) if m.name == "probability"]
        assert f.probability == seen >= 0.5
    assert record.claims()
    assert all(findings[c.finding].fate == "confirmed" for c in record.claims())
    assert all(f.settled for f in findings.values())


def test_heads_that_only_together_are_missed_are_found_as_a_set(tmp_path):
    case, _, record = planted(tmp_path, "copy-two-heads")
    assert set(claimed(record.findings(), case)) == case.truth


def test_a_mechanism_at_an_earlier_position_is_found_there(tmp_path):
    model, rows = compiled(tmp_path, "relay")
    places = json.loads((model / "truth.json").read_text())["places"]
    file = write_rows(tmp_path / "mine.jsonl", [{**r, "spans": places[r["prompt"]]["spans"]} for r in rows])
    ending, record = proceed(*begin(tmp_path, "find where it does mine", model, [file]))
    needed = {
        str(m) for f in record.findings() if f.stands and f.statement.kind == "necessary" for m in f.statement.members
    }
    truth = json.loads((model / "truth.json").read_text())["truth"]
    assert needed == {c for fact in truth if fact["kind"] == "necessary" for c in fact["components"]}
    assert any("@marker" in place for place in needed)
    assert ending.reason == "found"


def test_a_model_that_cannot_do_the_task_ends_in_that_with_no_place_named(tmp_path):
    _, ending, record = planted(tmp_path, "cannot-copy")
    assert ending.reason == "cannot"
    assert [f.statement.kind for f in record.findings()] == ["cannot"]
    assert not any(tool in ("ablate", "patch", "minimal_set") for tool, _ in calls(record))


def test_a_task_without_twins_is_localised_too(tmp_path):
    case = CASE["copy-h3.1"]
    rows = [json.loads(line) for line in write_task(case, tmp_path).read_text().splitlines()]
    bare = [{k: r[k] for k in ("prompt", "answer", "split")} for r in rows]
    file = write_rows(tmp_path / "mine.jsonl", bare)
    _, record = proceed(*begin(tmp_path, "find where the model does mine", FOLDER / case.name, [file]))
    assert set(claimed(record.findings(), case)) == case.truth


def test_whether_is_answered_by_capability_alone(tmp_path):
    case = CASE["copy-h3.1"]
    file = write_task(case, tmp_path)
    ending, record = proceed(*begin(tmp_path, f"can the model do {file.stem}?", FOLDER / case.name, [file]))
    assert ending.reason == "found"
    assert [f.statement.kind for f in record.findings()] == ["capability"]
    assert {tool for tool, _ in calls(record)} == {"describe_subject", "loss", "examine"}


def test_a_comparison_names_what_one_task_needs_and_the_other_does_not(tmp_path):
    model, rows = compiled(tmp_path, "routes")
    files = []
    for of_class in ("near", "far"):
        mine = [r for r in rows if r["metadata"]["class"] == of_class]
        files.append(write_rows(tmp_path / f"{of_class}.jsonl", mine))
    ending, record = proceed(*begin(tmp_path, "compare near and far", model, files), experiments=120)
    differs = [f.statement for f in record.findings() if f.stands and f.statement.kind == "differs"]
    assert ending.reason == "found"
    assert differs
    facts = [f for f in json.loads((model / "truth.json").read_text())["truth"] if f["kind"] == "necessary"]
    needed = {of: {c for f in facts if f["class"] == of for c in f["components"]} for of in ("near", "far")}
    for s in differs:
        assert s.components in needed[s.task] - needed[s.other_task]


# -- how it goes on ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [1, 4, 7])
def test_a_run_that_was_stopped_goes_on_to_the_same_findings(tmp_path, whole, turns):
    _, _, uninterrupted = whole
    case = CASE["copy-h3.1"]
    opened = begin(tmp_path, GOAL.format(task=task_name(case)), FOLDER / case.name, [write_task(case, tmp_path)])
    ending, record = proceed(*opened, planner=Tiring(turns))
    assert (ending.status, len(history(record)[0])) == ("stopped", turns)
    ending, record = proceed(*opened)
    assert ending.status == "finished"
    assert calls(record) == calls(uninterrupted)
    assert record.findings() == uninterrupted.findings()


@pytest.mark.parametrize("experiments", [5, 10, 16])
def test_a_small_budget_leaves_out_experiments_and_still_settles_what_it_predicted(tmp_path, experiments):
    _, ending, record = planted(tmp_path, "copy-h3.1", experiments=experiments)
    assert ending.status == "finished"
    assert len(record.experiments()) <= experiments
    assert record.findings()
    assert all(f.settled for f in record.findings())


def test_a_run_resumed_with_a_larger_budget_retraces_what_the_smaller_one_left_out(tmp_path):
    case = CASE["copy-h3.1"]
    opened = begin(tmp_path, GOAL.format(task=task_name(case)), FOLDER / case.name, [write_task(case, tmp_path)])
    proceed(*opened, planner=Tiring(4), experiments=8)
    ending, record = proceed(*opened, experiments=80)
    assert ending.status == "finished"
    assert all(f.settled for f in record.findings())


def test_a_record_that_another_planner_made_is_refused(whole):
    _, _, record = whole
    exchanges, _ = history(record)
    other = [*exchanges[1:2], *exchanges[1:]]
    view = View(
        goal=f"where is {task_name(CASE['copy-h3.1'])} done?",
        subject="",
        tools=(),
        exchanges=other,
        tasks=["planted_item"],
    )
    with pytest.raises(PlannerError):
        asyncio.run(Systematic().propose(view))


# -- reading ----------------------------------------------------------------------------------------------------------


def flip(share):
    return Flip(share, share)


def test_a_place_where_only_the_embedding_decides_and_another_name_of_the_answer_carry_nothing():
    def at(anchor, *shares):
        return {Component.parse(f"decoder.{b}.resid_pre@{anchor}"): flip(s) for b, s in enumerate(shares)}

    found = {
        **at("answer", 0.1, 0.2, 1.0), **at("equals", 0.1, 0.2, 1.0), **at("operand1", 0.9, 0.8, 0.0),
        **at("operand2", 0.9, 0.05, 0.0), **at("-1", 0.1, 0.2, 1.0), **at("late", 0.0, 0.3, 0.0),
    }  # fmt: skip
    assert carrying(found) == ["operand1", "late"]


def test_a_model_just_above_chance_by_less_than_counts_is_not_able():
    def ability(value, low):
        rows = (
            Measurement(name="accuracy", value=value, unit="share", n=64, low=low, high=1),
            Measurement(name="chance", value=0.5, unit="share", n=64),
        )
        return Ability.read(Answer("1", "", measurements=rows))

    assert ability(0.9, 0.8).able
    assert not ability(0.9, 0.5).able
    assert not ability(0.54, 0.52).able
    assert Ability.read(Answer("1", "no such task", "rejected")) is None


def removed(**controls):
    """What removing places does, each of which loses 0.6: by place the accuracy that its control loses, None where it has none."""
    return Answer("1", "", measurements=tuple(
        Measurement(
            name="accuracy.delta", value=-0.6, low=-0.7, high=-0.5, unit="share", n=72, component=f"decoder.{place[1:]}.mlp.out@answer",
            control=None if lost is None else Control(kind="noise", value=-lost, n=72, difference=lost - 0.6),
        )
        for place, lost in controls.items()
    ))  # fmt: skip


@pytest.mark.parametrize(("gap", "kept"), [(1.0, [0, 2]), (0.65, [0, 1, 2])])  # where there was hardly more to lose, nobody can tell
def test_what_noise_of_its_size_does_as_well_is_not_examined(gap, kept):
    pair = Pair.read(removed(b0=0.1, b1=0.6, b2=None), removed(b0=0.5, b1=0.2, b2=None), gap, Judged())
    places = [f"decoder.{b}.mlp.out@answer" for b in (0, 1, 2)]
    assert sorted(pair.both) == places
    assert sorted(pair.specific) == [places[b] for b in kept]
    less = Pair.read(removed(b0=0.1, b1=0.2), removed(b0=0.1, b1=0.7), gap, Judged())
    assert less.specific == ([places[0]] if gap == 1.0 else places[:2])


def test_a_search_that_found_nothing_has_no_set():
    none = Measurement(name="size", value=0, unit="components", n=8)
    assert set_of(Answer("1", "", measurements=(none,))) == ()
    assert set_of(Answer("1", "", "rejected")) == ()


@pytest.mark.parametrize(
    ("goal", "labels"),
    [
        ("find the induction head", ["after same token"]),
        ("which are the previous-token heads?", ["previous"]),
        ("find duplicate token heads and induction heads", ["after same token", "same token"]),
        ("where does induction happen", []),
        ("find where addition happens", []),
    ],
)
def test_goals_that_name_a_kind_of_head_ask_for_it(goal, labels):
    assert [label for _, _, label in heads_asked(goal)] == labels


def test_roles_and_classes_are_read_from_explore_examples(tmp_path):
    rows = [
        {"prompt": f"{'a ' * 9}x{i} = ", "answer": "1", "split": "explore", "labels": {"parity": i % 2, "i": i},
         "spans": {"x": f"x{i}", "most": "a a a a a a a a a"}}
        for i in range(64)
    ]  # fmt: skip
    rows += [{"prompt": f"y{i} =", "answer": "1", "split": "confirm", "labels": {"parity": 7}} for i in range(4)]
    file = write_rows(tmp_path / "mine.jsonl", rows)
    found = known(OfflineTasks([file]), "mine", 0)
    assert found.roles == ("x",)
    assert dict(found.classes) == {"parity": ("parity=0", "parity=1")}
    assert known(OfflineTasks([file]), "nothing", 0) == Known()


def test_easier_versions_are_of_the_same_family_and_never_the_task_itself():
    versions = easier("addition")
    assert "addition:digits=1x1" in versions
    assert all(v.startswith("addition:") for v in versions)
    assert easier("addition:digits=1x1")
    assert not any("digits=1x1,digits" in v for v in easier("addition:digits=1x1"))
    assert easier("no such family") == ()
