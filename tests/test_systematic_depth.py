"""The systematic planner's closer looks: routes, classes, sets before the answer, constants, kinds of head, and what to do
about a task that the model cannot do.
"""

import json
from dataclasses import replace

import pytest
from test_systematic import begin, calls, compiled, proceed, write_rows

from agent.loop.known import easier
from agent.planners.base import Answer
from agent.planners.systematic.asking import nearest
from agent.planners.systematic.candidates import Candidate, Desk, Examined
from agent.planners.systematic.routes import paths
from benchmarks.planted import programs
from benchmarks.planted.compiled import compile_case, write_case
from experiments_db.places import Component
from experiments_db.records import Measurement


def investigated(tmp_path, name, *, seed=0, spans=True, **options):
    """The truth about a compiled program, and what the planner's run on it has on record."""
    model, rows = compiled(tmp_path, name, seed)
    told = json.loads((model / "truth.json").read_text())
    # Each prompt counts as a problem: those of a program whose groups are single words are too few to show much.
    rows = [{**r, "group": r["prompt"]} for r in rows]
    if spans:
        rows = [{**r, "spans": told["places"][r["prompt"]]["spans"]} for r in rows]
    file = write_rows(tmp_path / "mine.jsonl", rows)
    ending, record = proceed(*begin(tmp_path, "find where it does mine", model, [file]), **options)
    return told["truth"], ending, record


def standing(record, kind):
    return [f.statement for f in record.findings() if f.stands and f.statement.kind == kind]


def facts(truth, kind):
    return [f for f in truth if f["kind"] == kind]


# -- routes -----------------------------------------------------------------------------------------------------------


def test_a_route_through_two_heads_is_found_link_by_link(tmp_path):
    truth, _, record = investigated(tmp_path, "relay")
    assert {s.path for s in standing(record, "sends")} == {f["components"][0] for f in facts(truth, "sends")}


def test_a_link_in_which_twins_are_alike_is_found_by_removing_what_goes_along_it(tmp_path):
    truth, _, record = investigated(tmp_path, "induction")
    (link,) = [f["components"][0] for f in facts(truth, "sends") if "logits" not in f["components"][0]]
    (found,) = [s for s in standing(record, "sends") if s.path == link]
    assert ".attn.k[" in link
    assert set(found.interventions) == {"resample(donor)", "zero"}


def test_paths_go_to_the_answer_and_to_whatever_can_read_them_at_the_sender_s_position():
    a, b, c, d = (
        Component.parse(t)
        for t in ("decoder.1.attn.z[0]@marker", "decoder.3.attn.z[2]@answer", "decoder.3.mlp.out@answer", "decoder.4.attn.z[1]@answer")
    )  # fmt: skip
    assert [str(p) for p in paths([a, b, c, d])] == [
        "decoder.1.attn.z[0]@marker -> decoder.3.attn.k[2]@marker",
        "decoder.1.attn.z[0]@marker -> decoder.3.attn.v[2]@marker",
        "decoder.1.attn.z[0]@marker -> decoder.4.attn.k[1]@marker",
        "decoder.1.attn.z[0]@marker -> decoder.4.attn.v[1]@marker",
        "decoder.3.attn.z[2]@answer -> decoder.logits@answer",
        "decoder.3.attn.z[2]@answer -> decoder.3.mlp.out@answer",
        "decoder.3.attn.z[2]@answer -> decoder.4.attn.q[1]@answer",
        "decoder.3.mlp.out@answer -> decoder.logits@answer",
        "decoder.3.mlp.out@answer -> decoder.4.attn.q[1]@answer",
        "decoder.4.attn.z[1]@answer -> decoder.logits@answer",
    ]


# -- classes, sets, constants -----------------------------------------------------------------------------------------


def test_what_only_a_small_class_of_examples_needs_is_found_among_it(tmp_path):
    truth, _, record = investigated(tmp_path, "routes")
    needed = {(s.components, s.among) for s in standing(record, "necessary") if s.among}
    of_class = {(c, f"class={f['class']}") for f in facts(truth, "necessary") for c in f["components"]}
    assert needed <= of_class
    assert {x for x in of_class if x[1] == "class=far"} <= needed


def doubled(rng):
    """`relay`, with two heads that hold the token at the marker: either is enough."""
    design = programs.PROGRAMS["relay"].design(rng)
    fetch, hand = design.steps
    team = [replace(fetch, name=n, backup="pair", covers=("zero",)) for n in ("fetch", "again")]
    return replace(design, steps=(*team, hand), flows=())


def test_heads_that_only_together_are_missed_before_the_answer_are_found_there(tmp_path, monkeypatch):
    monkeypatch.setitem(programs.PROGRAMS, "doubled", programs.Program("doubled", "", doubled))
    truth, _, record = investigated(tmp_path, "doubled")
    (joint,) = facts(truth, "jointly_necessary")
    assert all("@marker" in c for c in joint["components"])
    assert set(joint["components"]) in [{str(c) for c in s.members} for s in standing(record, "jointly_necessary")]


def test_a_constant_that_all_break_without_is_said_to_depend_on_how_it_is_removed_and_not_to_be_needed(tmp_path):
    truth, _, record = investigated(tmp_path, "constant")
    (constant,) = [f["components"][0] for f in facts(truth, "necessary") if f["ops"] == ["zero"]]
    assert constant not in {s.components for s in standing(record, "necessary")}
    (found,) = [f for f in record.findings() if f.stands and f.statement.kind == "disagree"]
    assert (found.statement.components, found.statement.label) == (constant, "zero")
    (claim,) = [c for c in record.claims() if c.finding == found.handle]
    assert "the same for every example" in claim.interpretation


# -- maps -------------------------------------------------------------------------------------------------------------


def test_maps_are_made_of_as_many_problems_as_their_intervals_take(tmp_path):
    _, _, record = investigated(tmp_path, "previous", experiments=14)
    maps = [e.handle for e in record.experiments() if e.experiment.tool == "patch"]
    seen = [m for handle in maps for m in record.measurements_of(handle)]
    assert {Component.parse(m.component).part for m in seen if m.component} == {"resid_pre", "attn.z"}
    assert all(m.groups >= 64 for m in seen)  # as many as a ratio's interval takes
    assert all(m.low is not None and m.control.difference_low is not None for m in seen if m.name == "flipped")


# -- kinds of head ----------------------------------------------------------------------------------------------------


def test_the_induction_head_is_found_in_a_model_that_cannot_read_a_copying_task(tmp_path):
    write_case("induction", 0, tmp_path / "model")
    case = compile_case("induction", 0)
    ending, record = proceed(*begin(tmp_path, "find the induction head", tmp_path / "model", []))
    block, head = case.plan.places["match"]
    assert ending.reason == "found"
    assert f"decoder.{block}.attn.pattern[{head}]" in {s.components for s in standing(record, "matches")}
    assert not any(tool in ("ablate", "patch") for tool, _ in calls(record))


# -- what it cannot do ------------------------------------------------------------------------------------------------


def test_a_task_beyond_the_model_is_met_halfway_by_the_nearest_version_that_it_can_do(tmp_path):
    asked = "addition:digits=3x3"
    ending, record = proceed(*begin(tmp_path, "find where 3-digit addition happens", "demo", []), experiments=17)
    found = {(f.statement.kind, f.statement.task): f.fate for f in record.findings()}
    assert ending.reason == "cannot"
    assert found["cannot", asked] == "confirmed"
    assert found["capability", "addition:digits=2x2"] == "confirmed"
    assert {args["task"] for tool, args in calls(record) if tool == "patch"} == {"addition:digits=2x2"}
    (said,) = [args for tool, args in calls(record) if tool == "mistakes"]
    assert said["task"] == asked
    (note,) = record.notes()
    assert "right_form" in note.text
    assert len(record.experiments()) <= 17


def test_a_null_that_has_no_easier_version_ends_with_what_it_answers_instead(tmp_path):
    _, ending, record = investigated(tmp_path, "unable")
    assert ending.reason == "cannot"
    assert [f.statement.kind for f in record.findings() if f.stands] == ["cannot"]
    assert [tool for tool, _ in calls(record)].count("mistakes") == 1
    (note,) = record.notes()
    assert "from_prompt" in note.text


def test_a_model_that_sees_what_follows_is_refused_and_nothing_is_found(tmp_path):
    model, rows = compiled(tmp_path, "skip")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "is_causal": False}))
    file = write_rows(tmp_path / "mine.jsonl", rows)
    ending, record = proceed(*begin(tmp_path, "find where it does mine", model, [file]))
    assert ending.reason == "unclear"
    assert not record.findings()


@pytest.mark.parametrize(
    ("gaps", "best"),
    [
        ({"t:digits=1x1,shots=8": 0.9, "t:digits=1x1": 0.9, "t:digits=2x2": 0.9}, "t:digits=2x2"),
        ({"t:digits=1x1": 0.9, "t:digits=2x2": 0.5}, "t:digits=1x1"),
        ({"t:digits=1x1,shots=8": 0.9, "t:shots=8": 0.5}, "t:digits=1x1,shots=8"),
    ],
)
def test_the_nearest_version_changes_least_among_those_done_about_as_well_as_any(gaps, best):
    assert nearest("t:digits=3x3", gaps) == best


def test_no_easier_version_asks_for_as_much_or_for_the_same_again():
    assert "addition:digits=2x2" in easier("addition:digits=3x3")
    assert not any("3x3" in v for v in easier("addition:digits=3x3") if "shots" not in v and "format" not in v)
    assert easier("key_value:pairs=3") == ("key_value:pairs=2",)
    assert set(easier("arithmetic")) == {"addition", "subtraction"}


# -- looking again ----------------------------------------------------------------------------------------------------


def examined(effect, power, probability, groups=128):
    def row(name, value):
        return Measurement(name=name, value=value, unit="", n=groups, groups=groups)

    rows = (row("smallest", 0.05), row("effect", effect), row("power", power), row("probability", probability))
    return Examined(Candidate("necessary", "t", ("decoder.0.mlp.out@answer",)), Answer("1", "", measurements=rows))


@pytest.mark.parametrize(
    ("seen", "again"),
    [
        (examined(0.3, 0.4, 0.3), True),
        (examined(0.3, 0.9, 0.9), False),  # shown already
        (examined(0.3, 0.05, 0.02), False),  # its control does as much: no number of examples helps
        (examined(0.06, 0.4, 0.3), False),  # hardly there
        (examined(0.3, 0.4, 0.3, groups=41), False),  # there are no more
    ],
)
def test_more_examples_are_asked_for_where_they_could_show_it(seen, again):
    desk = Desk(lambda _: None, frozenset({"necessary"}))
    steps = desk.insist([seen])
    assert seen.short(128) is again
    if again:
        (call,) = next(steps).calls
        assert call[1]["examples"] == 4 * 128
