"""What reports got wrong when they were tried, each wrong once, on the models and records that showed it."""

import re
from collections import defaultdict
from pathlib import Path

import pytest
from findings_made import Investigation

from agent.lab import Lab
from agent.loop.known import easier
from agent.loop.record import Reading
from agent.report.build import render
from agent.report.conclusion import conclude
from experiments_db.store import Store
from tools.findings.examining import WHOLE

CURATED = Path(__file__).parent.parent / "transcripts" / "curated" / "experiments.db"


def p_of(text):
    return float(re.search(rf"{re.escape(WHOLE)}(\S+)", text)[1])


@pytest.fixture(scope="module")
def lab():
    return Lab("demo")


def test_a_forced_choice_that_first_crosses_one_half_is_no_place_to_read_the_answer(lab):
    lens = lab.run("lens", task="agreement", examples=64)
    right, rank = (
        {m.component: m.value for m in lens.measurements if m.name == name} for name in ("accuracy", "rank")
    )
    early, late = "decoder.0.resid_post@answer", "decoder.4.resid_post@answer"
    assert right[early] > 0.5  # of two answers: what a coin gets
    assert rank[early] > 8
    said = {place: lab.run("examine", kind="readable", task="agreement", components=[place], examples=64).text for place in (early, late)}
    assert f"{WHOLE}1\n" in said[early]
    assert p_of(said[early]) == 1 > 0.01 > p_of(said[late])


def test_a_set_padded_with_a_member_that_changes_nothing_does_not_hold(lab):
    needed = ["decoder.3.mlp.out@answer", "decoder.4.mlp.out@answer"]
    asked = {"kind": "jointly_necessary", "task": "addition", "interventions": ["resample(donor)"], "examples": 64}
    said = [lab.run("examine", components=c, **asked).text for c in (needed, [*needed, "decoder.5.attn.out@answer"])]
    true, padded = map(p_of, said)
    assert true < 1e-6
    assert padded > 0.5


def test_a_comparison_is_not_answered_with_one_of_the_two_and_shows_the_maps_of_both(tmp_path):
    i = Investigation(Store(tmp_path / "e.db"), "compared")
    i.confirmed("necessary", "decoder.0.mlp.out@answer")
    assert "Q3" in {a.question.handle for a in conclude(Reading(i.store, "compared")).unanswered}
    i.confirmed("necessary", "decoder.1.mlp.out@answer", task="subtraction")
    assert "Q3" in {a.question.handle for a in conclude(Reading(i.store, "compared")).unanswered}
    i.confirmed("differs", "decoder.0.mlp.out@answer", other_task="subtraction")
    assert "Q3" not in {a.question.handle for a in conclude(Reading(i.store, "compared")).unanswered}
    i.end()
    render(i.store, "compared", tmp_path / "figures")
    drawn = (tmp_path / "figures" / "circuit.svg").read_text()
    assert {"addition", "subtraction"} <= set(re.findall(r'font-weight="600">([^<]+)<', drawn))


def test_arithmetic_that_is_too_hard_leads_to_the_arithmetic_that_is_not():
    assert set(easier("arithmetic")) == {"addition", "subtraction"}


def test_no_sentence_names_a_position_that_its_finding_did_not_test():
    store, told = Store(CURATED), 0
    for run in store.runs():
        for t in conclude(Reading(store, run)).findings:
            f = t.finding
            if not f.sentence or not (f.statement.components or f.statement.path):
                continue
            tested = f"{f.statement.components} {f.statement.path}"
            words = {"operand1": "the first operand", "operand2": "the second operand", "answer": "at the answer"}
            for role, name in words.items():
                assert (name in f.sentence) <= (role in tested), f.sentence
            assert "earlier position" not in f.sentence
            told += "at the answer" in f.sentence
    assert told > 10


def test_shares_of_attention_sum_to_at_most_one_where_prompts_differ_in_length(lab):
    found = lab.run("attention", task="indirect_object", components=["decoder.0.attn.pattern[*]"], examples=32)
    shares, numbers = defaultdict(float), {m.n for m in found.measurements if m.name == "attention"}
    for m in found.measurements:
        if m.name == "attention":
            shares[m.place.units] += m.value
    assert len(shares) == 4
    assert all(0 <= s <= 1 + 1e-6 for s in shares.values())
    assert len(numbers) == 1  # each share is one of the same examples


def test_heads_are_never_answered_with_the_sublayers_they_belong_to(lab):
    found = lab.run("attribute", task="addition", method="direct", components=["head"], examples=16)
    places = [m.place for m in found.measurements if m.name == "direct" and m.place.part != "embed"]
    assert len(places) == 24
    assert all(p.part == "attn.z" and p.units for p in places)
