"""Nothing that is not so can be claimed, and what ends, costs and seals a run holds however its planner writes its turns."""

import gc
import random

import numpy as np
import pytest
from findings_made import Investigation

from agent.loop.budget import Limits
from agent.loop.executor import ToolRunner
from agent.loop.record import RunRecord, RunTasks
from agent.report.conclusion import conclude
from benchmarks.claims.__main__ import CLASSES, Score, play, table
from benchmarks.claims.case import about, settled
from benchmarks.claims.nulls import null_world
from benchmarks.claims.results import Results
from benchmarks.claims.stage import Stage, go_on
from benchmarks.claims.worlds import Worlds, idle, needed
from experiments_db.records import Note
from experiments_db.store import Store
from tools.findings.contrast import Contrast, Quantity
from tools.findings.sureness import features, probability
from tools.methods.effects import Condition, score_under
from tools.methods.tool import Context, discover

SEED = 7


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    gc.freeze()
    return Worlds(tmp_path_factory.mktemp("worlds"))


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return Stage(tmp_path_factory.mktemp("stage"))


@pytest.fixture(scope="module")
def world(worlds):
    return worlds.get("previous-0")


@pytest.mark.parametrize("make", CLASSES, ids=lambda make: make.__name__)
def test_a_hostile_claim_is_not_accepted_and_its_true_twin_is(stage, worlds, make):
    for case in make(worlds, random.Random(f"{SEED}/{make.__name__}"), 1):
        assert play(stage, worlds, case) == (False, False), f"{case.world}: {case.words}"


def test_each_class_makes_as_many_claims_as_are_asked_for_and_the_same_for_one_seed(worlds):
    for make in CLASSES:
        first, again = ([(c.world, c.words) for c in make(worlds, random.Random("1"), 3)] for _ in range(2))
        assert len(first) == 3
        assert first == again


def test_the_table_counts_what_got_through_and_what_was_lost():
    said = table({"a": Score(3, ["x"], []), "b": Score(2, [], ["y", "z"])})
    assert said.splitlines()[-1] == "| all | 5 | 1 | 2 |"


def test_a_suite_that_was_stopped_goes_on_where_it_was_and_with_other_code_begins_anew(tmp_path):
    calls = []
    first = Results(tmp_path / "r.jsonl", "a")
    assert first.get("x", lambda: calls.append(1) or [True, False]) == ([True, False], False)
    with (tmp_path / "r.jsonl").open("a") as file:
        file.write('{"key": "y | co')  # a process that was killed while it wrote
    again, other = Results(tmp_path / "r.jsonl", "a"), Results(tmp_path / "r.jsonl", "b")
    assert again.get("x", lambda: calls.append(2)) == ([True, False], True)
    assert other.get("x", lambda: [False, False]) == ([False, False], False)
    assert calls == [1]


def test_a_null_has_the_smallest_effect_that_counts_and_no_more(world):
    rows = [e for i in range(20) for e in null_world(world, random.Random(i), i).data[0].examples]
    right = sum(r["answer"] == r["candidates"][0] for r in rows) / len(rows)
    assert right == pytest.approx(0.25 + 0.1 * 0.75, abs=0.01)
    assert all(r["answer"] in r["candidates"] and len(set(r["candidates"])) == 4 for r in rows)


# -- the end --------------------------------------------------------------------------------------------------------------


def test_nothing_is_run_or_written_after_the_end(stage, world):
    note, end = ("note", {"text": "It is so."}), ("finish", {"answer": "unclear"})
    after = [note, ("loss", {"tasks": [world.task]}), ("finish", {"answer": "not_found"})]
    played = stage.play(world, ([note, end, *after],))
    assert [a.status for _, a in played.answers] == ["ok", "ok", "rejected", "rejected", "rejected"]
    assert played.ending.status == "finished"
    assert (len(played.record.notes()), played.record.experiments()) == (1, [])
    assert played.store.conclusion(played.run).answer == "unclear"


def test_finish_found_needs_a_finding_that_answers(stage, world):
    spare = settled(about(world.task, "not_needed", [idle(world)[0]]))
    found, unclear = ("finish", {"answer": "found"}), ("finish", {"answer": "unclear"})
    played = stage.play(world, ([("loss", {"tasks": [world.task]})], [found], *spare, [found], [unclear]))
    assert [f.fate for f in played.record.findings()] == ["confirmed"]
    assert [a.status for c, a in played.answers if c.name == "finish"] == ["rejected", "rejected", "ok"]


@pytest.mark.parametrize("words", ["", "As N1 says.", "N1: found", "not_found: F1, as N1 and E1 show"])
def test_what_the_words_at_the_end_mention_changes_no_verdict(tmp_path, words):
    i = Investigation(Store(tmp_path / "e.db"), "said")
    i.settled(i.predicted("cannot"), 0.0, control=None)
    i.store.put_entry("said", 2, Note(text="It reads the last word."))
    i.end("cannot", words)
    assert conclude(RunRecord(i.store, "said")).verdict == "The model cannot do it"


def test_a_model_without_any_block_is_not_the_whole_model(tmp_path, world):
    # What cannot be read before block 0 is first read after it, and a model that skips every block bears nothing.
    i = Investigation(Store(tmp_path / "e.db"), "blocks")
    for data in world.data:
        i.store.put_entry("blocks", 0, data)
    book = RunTasks(i.store, "blocks")
    ctx, task = Context(world.subject, book, RunRecord(i.store, "blocks")), book.get(world.task)
    intact, whole, none = score_under(ctx, task, task.examples("explore", 40), [Condition(), Condition(programs=(("decoder", ()),))])
    assert intact.correct.all()
    assert (intact.nll == whole.nll).all()
    assert none.correct.mean() < 0.5


# -- what is predicted ----------------------------------------------------------------------------------------------------


def test_no_text_of_a_planner_holds_a_typed_number(stage, world):
    calls = [
        ("note", {"text": "It is right for {}."}), ("hypothesis", {"statement": "Without the head {} is left."}),
        ("finish", {"answer": "unclear", "words": "It is right for {}."}),
    ]  # fmt: skip

    def said(word):
        return [(tool, {k: v.replace("{}", word) for k, v in args.items()}) for tool, args in calls]

    played = stage.play(world, (said("97 percent"), said("most of them")))
    assert [a.status for _, a in played.answers] == ["rejected"] * 3 + ["ok"] * 3


def test_a_finding_says_what_its_own_experiment_measured(stage, world):
    right, spare = needed(world)[0], idle(world)[0]
    examined = [("examine", about(world.task, "necessary", [place], examples=40)) for place in (right, spare)]
    played = stage.play(world, (examined, [("predict", {"experiment": "E1"}), ("predict", {"experiment": "E2"})]))
    assert [f.statement.components for f in played.record.findings()] == [right, spare]


def test_a_stricter_repeat_says_what_it_was_tested_against_and_the_same_again_is_refused(stage, world):
    asked = about(world.task, "necessary", needed(world)[:1])
    again = [("examine", asked)], [("predict", {"experiment": "E1"})]
    played = stage.play(world, (*settled(asked), *settled({**asked, "smallest": 0.3}), *again))
    first, second = played.record.findings()
    assert [f.stands for f in (first, second)] == [True, True]
    assert [("shown to exceed" in f.sentence, f.stricter) for f in (first, second)] == [(False, False), (True, True)]
    assert played.answers[-1][1].status == "rejected"
    assert "F1 says exactly this" in played.answers[-1][1].text
    (needs,) = [s for s in played.concluded.headline if "Necessary" in s.text]
    assert needs.findings == ("F1", "F2")
    assert "shown to exceed" in needs.text


def test_how_sure_a_prediction_is_follows_from_the_evidence():
    def said(*values):
        q = Quantity("accuracy", "share of examples", np.array(values), (-1.0, 1.0))
        return probability(
            features([Contrast("effect", "exceed", 0.1, (q,), [str(i) for i in range(len(values))])], 0.01)
        )

    clear, doubtful, absent = said(*[1.0] * 80), said(*[1.0] * 12, *[0.0] * 68), said(*[0.0] * 80)
    assert clear > 0.9 > doubtful >= absent
    assert absent < 0.1


def test_what_so_few_problems_could_never_show_is_no_prediction(stage, world):
    # Of a margin, which has no bounds, fewer than 64 problems can show nothing: it would come out one way only.
    asked = about(world.task, "necessary", needed(world)[:1], objective="margin")
    for examples, status in ((40, "rejected"), (80, "ok")):
        played = stage.play(
            world, ([("examine", {**asked, "examples": examples})], [("predict", {"experiment": "E1"})])
        )
        assert [a.status for _, a in played.answers] == ["ok", status]


# -- the budget -----------------------------------------------------------------------------------------------------------


def test_what_settles_a_sealed_finding_is_reserved_and_the_rest_is_free(stage, world):
    right, spare = needed(world)[0], idle(world)[0]
    script = (
        [("examine", about(world.task, "necessary", [right])), ("examine", about(world.task, "not_needed", [spare]))],
        [("predict", {"experiment": "E1"}), ("predict", {"experiment": "E2"})],
        [("loss", {"tasks": [world.task]}), ("hypothesis", {"statement": "It copies."})],
        [("confirm", {})],
        [("note", {"text": "So it is."}), ("claim", {"finding": "F1"})],
        [("retract", {"finding": "F1", "reason": "The donors were odd."})],
        [("finish", {"answer": "unclear"})],
    )
    played = stage.play(world, script, limits=Limits(experiments=3))
    said = [(c.name, a.status) for c, a in played.answers]
    assert said == [
        ("examine", "ok"), ("examine", "ok"), ("predict", "ok"), ("predict", "budget"), ("loss", "budget"), ("hypothesis", "ok"),
        ("confirm", "ok"), ("note", "ok"), ("claim", "ok"), ("retract", "ok"), ("finish", "ok"),
    ]  # fmt: skip
    assert played.ending.status == "finished"
    assert len(played.record.experiments()) == 3
    assert "reserved" not in played.answers[3][1].text or "spent" in played.answers[3][1].text


def test_a_refusal_beside_finish_is_read_before_the_run_ends_and_ends_it_where_no_other_turn_comes(stage, world):
    refused, finish = ("claim", {"finding": "F9"}), ("finish", {"answer": "unclear"})
    note = ("note", {"text": "There is no such finding."})
    for script, status, statuses in (
        (([refused, finish], [note], [finish]), "finished", ["rejected", "rejected", "ok", "ok"]),
        (([refused, finish],), "finished", ["rejected", "rejected"]),  # as recorded scripts end
        (([refused, finish], [note]), "stopped", ["rejected", "rejected", "ok"]),
        (([("loss", {"tasks": ["no such task"]}), finish],), "finished", ["rejected", "ok"]),  # nothing that is concluded depends on it
    ):
        played = stage.play(world, script)
        assert [a.status for _, a in played.answers] == statuses
        assert played.ending.status == status
        assert ((c := played.record.store.conclusion(played.record.run)) is not None) == (status == "finished")
        assert c is None or c.answer == "unclear"
        if statuses[:2] == ["rejected", "rejected"]:
            assert "claim (call 1) was refused in this turn" in played.answers[1][1].text


def test_more_budget_goes_on_where_less_had_stopped(stage, world):
    loss = ("loss", {"tasks": [world.task], "examples": 16})
    other = ("loss", {"tasks": [world.task], "examples": 17})
    played = stage.play(world, ([loss], [other], [other]), limits=Limits(experiments=1))
    assert (played.ending.status, played.ending.reason) == ("stopped", "the budget of 1 experiments is spent")
    assert [a.status for _, a in played.answers] == ["ok", "budget"]
    more = go_on(played.store, world, ([other], [("finish", {"answer": "unclear"})]), Limits(experiments=2))
    assert [a.status for _, a in more.answers] == ["ok", "ok"]


def test_a_planner_that_only_writes_notes_is_stopped_once_its_experiments_are_spent(stage, world):
    notes = [[("note", {"text": "Well."})] for _ in range(20)]
    played = stage.play(world, ([("loss", {"tasks": [world.task]})], *notes), limits=Limits(experiments=1))
    assert played.ending.status == "stopped"
    assert len(played.record.notes()) == 5


# -- what is sealed -------------------------------------------------------------------------------------------------------


def test_a_round_says_so_where_no_new_examples_are_left(stage, world):
    right = needed(world)[0]
    rounds = [settled({**about(world.task, "necessary", [right]), "examples": n}) for n in (210, 209, 208)]
    played = stage.play(world, tuple(turn for r in rounds for turn in r))
    assert [f.reused for f in played.record.findings()] == [False, False, True]
    told = [a.text for c, a in played.answers if c.name == "confirm"]
    assert ["had been used before" in text for text in told] == [False, False, True]


def test_what_its_findings_came_to_decides_over_a_hypothesis_and_its_words(stage, world):
    wrong = about(world.task, "not_needed", needed(world))
    before = ([("hypothesis", {"statement": "The head is spared."})], *settled(wrong, hypothesis="H1"))
    script = (
        [
            ("hypothesis", {"handle": "H1", "evidence_for": ["E1"]}),
            ("hypothesis", {"handle": "H1", "status": "supported"}),
        ],
        [("hypothesis", {"handle": "H1", "statement": "The head is needed."})],
    )
    played = stage.play(world, script, before)
    (kept,) = played.record.hypotheses()
    assert (kept.status, kept.statement) == ("refuted", "The head is spared.")
    assert [a.status for _, a in played.answers] == ["ok", "rejected", "rejected"]


def test_what_other_runs_measured_on_confirm_examples_is_in_no_query(tmp_path):
    i = Investigation(Store(tmp_path / "e.db"), "first")
    i.confirmed("capability")
    j = Investigation(i.store, "second")
    j.predicted("capability")
    record = RunRecord(i.store, "second")

    def splits(where, *, this_run):
        return {r["split"] for r in record.select(where, [], "mean", None, False, 100, this_run)}

    for where in ({}, {"split": {"=": "confirm"}}, {"split": {"!=": "explore"}}, {"run": {"=": "first"}}):
        assert splits(where, this_run=False) <= {"explore"}
    assert splits({}, this_run=False) == {"explore"}


def test_nothing_is_predicted_from_what_settled_a_finding(stage, world):
    so = settled(about(world.task, "necessary", needed(world)[:1], examples=64))
    played = stage.play(world, (*so, [("predict", {"experiment": "E2"})]))
    assert [f.experiment for f in played.record.findings()] == ["E2"]
    assert "on explore examples" in played.answers[-1][1].text


def test_the_key_of_what_is_settled_holds_both_halves_of_its_tasks(tmp_path, world):
    i = Investigation(Store(tmp_path / "e.db"), "keys")
    for data in world.data:
        i.store.put_entry("keys", 0, data)
    runner = ToolRunner(world.subject, RunRecord(i.store, "keys"), RunTasks(i.store, "keys"), 0)
    examine = discover()["examine"]
    args = examine.parse(about(world.task, "capability"))
    assert set(runner.experiment(examine, args).tasks) == {f"{world.task} explore"}
    both = runner.experiment(examine, args, "confirm").tasks
    assert set(both) == {f"{world.task} explore", f"{world.task} confirm"}
