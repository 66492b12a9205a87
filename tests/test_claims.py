"""Nothing that is not so can be claimed, and what ends, costs and seals a run holds however its planner writes its turns."""

import gc
import random

import pytest

from agent.loop.budget import Limits
from benchmarks.claims.__main__ import CLASSES, Score, play, table
from benchmarks.claims.case import about, settled
from benchmarks.claims.nulls import null_world
from benchmarks.claims.stage import Stage, go_on
from benchmarks.claims.worlds import Worlds, idle, needed

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
        first, again = ([(c.world, c.words) for c in make(worlds, random.Random("1"), 10)] for _ in range(2))
        assert len(first) == 10
        assert first == again


def test_the_table_counts_what_got_through_and_what_was_lost():
    said = table({"a": Score(3, ["x"], []), "b": Score(2, [], ["y", "z"])})
    assert said.splitlines()[-1] == "| all | 5 | 1 | 2 |"


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
