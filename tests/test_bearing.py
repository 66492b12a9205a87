"""A planner's own words beside what was tested: which places they name, and what the findings say of each."""

import pytest
from findings_made import Investigation, typical

from agent.loop.record import Reading
from agent.report.bearing import bearing, beside, places_named
from agent.report.build import render
from agent.report.conclusion import conclude
from experiments_db.records import Hypothesis
from experiments_db.store import Store

MLP0 = "decoder.0.mlp.out@answer"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "e.db")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("MLP 3 adds what heads 1.0 and 1.2 bring, 4.1 too", ["head 1.0", "head 1.2", "MLP 3", "head 4.1"]),
        ("heads 1 to 3 of block 2", ["head 2.1", "head 2.2", "head 2.3"]),
        ("Block 4, head 1 and the MLP of block 5, then block 6's attention", ["head 4.1", "MLP 5", "attention 6"]),
        ("L1H3, blocks 2 and 3", ["head 1.3", "block 2", "block 3"]),
        ("decoder.3.attn.z[1,2]@-1 and decoder.0.resid_post@answer", ["block 0", "head 3.1", "head 3.2"]),
        ("neuron 37 of block 2, head 7", ["head 7", "neuron 2.37"]),
        ("accuracy is 0.97 after 3 steps {{E3.effect[component=decoder.9.mlp.out]}} of addition:digits=1x1; E3, F2", []),
        ("The operands meet and are added.", []),
    ],
)
def test_the_places_that_words_name(text, named):
    assert [str(place) for place in places_named(text)] == named


def test_beside_words_stands_what_the_findings_say_of_each_place(store):
    typical(store)
    findings = Reading(store, "typical").findings()
    said = bearing("MLP 0 adds, heads 0.0 and 0.1 bring it, block 1 carries it, MLP 3 too, MLP 2 perhaps; MLP 5 is needed.", findings)
    assert said == (
        "Of what it names, head 0.0: F3 (necessary together); head 0.1: nothing was settled; MLP 0: F2 (necessary); "
        "block 1: F4 (carries the answer); MLP 2: F8 (inconclusive, necessary), F9 (void, matters more); "
        "MLP 3: F7 (absent, necessary); MLP 5: F6 (contradicted, necessary)."
    )
    assert bearing("It adds where they meet.", findings) == ""


def test_a_conclusion_that_names_what_was_not_tested_is_told_so_on_the_first_screen(store):
    i = Investigation(store, "beyond")
    i.confirmed("necessary", MLP0)
    i.end("found", "Head 3.2 fetches the operands and MLP 0 adds them.")
    text = render(store, "beyond", None)
    first = text[: text.index("## ")]
    assert "MLP 0 adds them. *Of what it names, MLP 0: F1 (necessary); head 3.2: nothing was settled.*" in first


def test_a_hypothesis_whose_findings_are_about_another_place_is_shown_as_such(store):
    i = Investigation(store, "aside")
    stated = [
        Hypothesis(handle="H1", statement="Head 3.2 fetches the operands.", status="supported"),
        Hypothesis(handle="H2", statement="MLP 0 adds.", status="supported"),
        Hypothesis(handle="H3", statement="MLP 5 adds."),
    ]
    for h in stated:
        store.put_entry("aside", 1, h)
    i.confirmed("necessary", MLP0, hypothesis="H1")
    i.confirmed("necessary", MLP0, hypothesis="H2", examples=64)
    i.end()
    findings = Reading(store, "aside").findings()
    assert [beside(h, findings) for h in stated] == ["none of its findings is about head 3.2", "", ""]
    text = render(store, "aside", None)
    assert text.count("its findings held; none of its findings is about head 3.2") == 1


def test_whether_a_task_is_done_is_told_from_the_examples_of_other_findings_where_nobody_asked(store):
    i = Investigation(store, "unasked")
    f = i.confirmed("necessary", MLP0)
    i.end()
    (whether, *_) = conclude(Reading(store, "unasked")).questions
    assert not whether.by  # nothing was predicted of it: it is said, and is no answer
    text = render(store, "unasked", None)
    assert "on the unseen examples of F1 [97% \\[93%, 99%; n=128\\]](#" in text
    assert "were right as the model is, chance [5.0%](#" in text
    assert str(f.experiment).lower() in text
    i = Investigation(store, "nothing")
    i.end("unclear")
    assert "right as the model is" not in render(store, "nothing", None)
