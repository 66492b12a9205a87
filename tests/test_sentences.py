"""What findings are said in: English that says what was measured, whichever components, task and numbers it is about."""

import re

import benches
import pytest
from findings_made import Investigation, rows

from agent.loop.record import Reading
from agent.report.build import render
from agent.report.conclusion import conclude
from agent.report.headline import compose
from agent.report.summary import plain as plain_text
from agent.report.tested import statement_words
from experiments_db.findings import Finding, Statement
from experiments_db.places import Component, ComponentSet, display, is_plural
from experiments_db.store import Store
from tools.findings.examining import examine
from tools.findings.kind import kind_of, kinds
from tools.findings.phrases import roles_of
from tools.findings.settling import sentence
from tools.tasks.spans import anchor_words

HEADS = "decoder.0.attn.z[0]@answer + decoder.0.attn.z[3]@answer"
ATTENTIONS = " + ".join(f"decoder.{b}.attn.out@answer" for b in range(1, 6))
LOOKS = "decoder.0.attn.pattern[0]@answer<-operand1"
OWN = {  # what a kind's statement needs beyond components
    "capability": {"components": ""}, "cannot": {"components": ""}, "differs": {"other_task": "subtraction"},
    "attends": {"components": LOOKS}, "moves": {"components": LOOKS},
    "matches": {"components": "decoder.0.attn.pattern[0]", "label": "after same token"},
    "readable": {"components": "decoder.2.resid_post@answer"}, "decodable": {"label": "carry"},
    "similar": {"other_task": "subtraction"},
    "steers": {"label": "answer", "interventions": ("add(label, 2)",)}, "tolerates": {"components": "", "program": "skip 3"},
    "breaks": {"components": "", "program": "skip 3"}, "own": {"program": "code:0123456789abcdef"},
    "disagree": {"label": "zero", "interventions": ("zero", "resample(donor)")}, "computes": {"label": "operand1, operand2"},
    "encodes_tree": {"components": "decoder.2.resid_post"}, "used": {"components": "decoder.2.resid_post@-1", "label": "carry"},
    "decides": {"components": "", "label": "operand1"},
    "elicits": {"components": "decoder.2.attn.z[1,3]@answer", "interventions": ("add(truth, 4)",)},
    "mixed": {"components": "decoder.2.mlp.act[37]", "other_task": "copying"},
    "one_concept": {"components": "decoder.2.mlp.act[37]", "other_task": "copying"},
    "quiet": {"components": "decoder.2.mlp.act[37]", "other_task": "copying"},
    "aligns": {"components": "decoder.0.attn.pattern[0]", "label": "token"},
    "reads_better": {"components": "decoder.2.resid_post@-1", "label": "carry, a"},
    "sends": {"components": "", "path": "decoder.0.attn.z[1]@operand1 -> decoder.logits@answer", "interventions": ("resample(twin)",)},
}  # fmt: skip


def said(kind, components="", **more):
    given = {"components": components, **more} if components else more
    s = Statement(
        **{"kind": kind, "task": "addition", "components": "decoder.0.mlp.out@answer", **OWN.get(kind, {}), **given}
    )
    f = Finding(handle="F1", statement=s, seen="E1", smallest=0.1, probability=0.5, power=0.5)
    return sentence(f, "E2", rows(s, "confirm", dict.fromkeys(s.interventions or ("",), 0.5), 1e-6))


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_every_sentence_is_filled_in_and_begins_and_ends_as_one(kind):
    text = re.sub(r"\{\{.*?\}\}", "0", said(kind))
    assert re.fullmatch(r"[A-Z][^{}]*[^. ]\.", text), text
    assert not re.search(r"operand\d|@|  |share of attention of|\bdoes 0", text), text
    assert "E2." in said(kind), "no number from the record"


@pytest.mark.parametrize(("objective", "word"), [("accuracy", "falls"), ("nll", "grows"), ("cer", "gets worse")])
@pytest.mark.parametrize("kind", ["necessary", "jointly_necessary"])
def test_what_is_an_error_never_falls_where_the_answers_get_worse(kind, objective, word):
    text = re.sub(r"\{\{.*?\}\}", "0", said(kind, HEADS, objective=objective))
    assert f" {word} by 0" in text
    assert (" falls " in text) == (word == "falls")


@pytest.mark.parametrize(
    ("components", "verb"),
    [(HEADS, "are"), (ATTENTIONS, "is"), ("decoder.0.mlp.out@answer", "is"), (f"{HEADS} + decoder.1.mlp.out@answer", "are"),
     ("decoder.1.mlp.out@answer + decoder.2.mlp.out@answer", "are"), ("decoder.1.attn.z@answer", "are")],
)  # fmt: skip
def test_the_verb_agrees_with_the_place(components, verb):
    assert f" at the answer {verb} not needed" in said("not_needed", components, interventions=("zero",))
    assert is_plural(ComponentSet.parse(components).members) == (verb == "are")


@pytest.mark.parametrize("kind", ["necessary", "suppresses", "attends", "matches", "moves"])
def test_of_several_components_a_sentence_says_that_each_was_tested_by_itself(kind):
    two = {"components": "decoder.0.attn.pattern[0,1]"} if kind == "matches" else {}
    two = (
        {"components": f"{LOOKS} + decoder.0.attn.pattern[3]@answer<-operand2"} if kind in ("attends", "moves") else two
    )
    text = said(kind, **{"components": HEADS, **two})
    assert "by itself" in text
    assert "at once" not in text
    assert "each by itself" in statement_words(
        Statement(**{"kind": kind, "task": "addition", "components": HEADS, **two})
    )
    assert kind_of(kind).each


@pytest.mark.parametrize("kind", ["not_needed", "jointly_necessary", "sufficient", "carries", "differs", "disagree"])
def test_of_several_components_a_sentence_says_that_they_were_changed_at_once(kind):
    assert "at once" in said(kind, HEADS)
    assert "by itself" not in said(kind, HEADS)
    assert "at once" not in said(kind, "decoder.0.mlp.out@answer") or kind in ("jointly_necessary", "sufficient")
    assert ", all at once" in statement_words(Statement(kind=kind, task="addition", components=HEADS))


def test_a_head_looks_from_somewhere_at_something_with_a_share_of_its_attention():
    text = re.sub(r"\{\{E2\.effect\.control.*?\}\}", "7%", said("attends"))
    assert re.sub(r"\{\{.*?\}\}", "52%", text) == (
        "For addition, head 0 of block 0 looks from the answer at the first operand: 52% of its attention; attention spread evenly "
        "would put 7% there."
    )


def test_where_the_answer_is_first_read_is_said_by_blocks():
    assert "after block 2 and from there on, not after block 1" in said("readable")
    before = said("readable", components="decoder.1.resid_pre@answer")
    assert "after block 0 and from there on, not before block 0" in before


def test_what_a_user_calls_a_span_is_quoted_and_what_a_task_calls_it_is_said():
    assert anchor_words("operand2") == "the second operand"
    assert anchor_words("src2") == "the span “src2”"
    s = Statement(kind="necessary", task="t", components="decoder.0.mlp.out@src2")
    assert "the MLP of block 0 at the span “src2”" in statement_words(s)
    assert roles_of(s) == {"src2": "the span “src2”"}


def test_a_counted_position_is_said_by_its_distance_from_the_answer():
    places = {
        n: display(Component.parse(f"decoder.0.mlp.out@{n}")).removeprefix("the MLP of block 0 ") for n in (-1, -2, -21)
    }
    assert places == {
        -1: "at the last token of the prompt",
        -2: "two tokens before the answer",
        -21: "at position 21 from the end",
    }


def test_the_answer_in_brief_is_what_the_model_can_do_and_one_thing_about_places(tmp_path):
    store = Store(tmp_path / "x.db")
    i = Investigation(store, "brief")
    i.confirmed("capability", effects=0.92)
    i.confirmed("carries", "decoder.1.resid_pre@answer", interventions=())
    i.confirmed("necessary", "decoder.0.mlp.out@answer")
    i.settled(i.predicted("not_needed", "decoder.4.mlp.out@answer"), 0.01, control=None)
    i.end()
    c = conclude(Reading(store, "brief"))
    assert [s.findings for s in c.headline if s.leads] == [("F1",), ("F3",)]
    text = render(store, "brief", None)
    brief, _, rest = text.partition("Also confirmed:")
    assert "Necessary for addition is" in brief
    assert "all 4 predictions were confirmed" in brief
    assert rest.count("\n- ") >= 2
    assert text.count("95% intervals and") == 1
    assert "95% interval " not in text.partition("## Evidence")[0]
    assert compose([]) == ()


def test_what_a_set_leaves_is_compared_with_what_others_leave():
    # Of a small loss the control is a large one: the loss with nothing kept, not the loss taken from it.
    case, subject, task = benches.compiled("induction")
    prev, match = (f"decoder.{b}.attn.z[{h}]" for b, h in (case.plan.places["prev"], case.plan.places["match"]))
    kept = f"{prev}@value + {match}@answer"
    s = Statement(kind="sufficient", task="t", components=kept, universe=f"{kept} + {match}@key", examples=80)
    (effect,) = [m for m in examine(s, benches.context(subject, task)).measurements if m.name == "effect"]
    assert effect.control is not None
    assert effect.value < 0.1 < 0.4 < effect.control.value <= 1
    assert effect.control.difference == pytest.approx(effect.value - effect.control.value)
    assert effect.control.difference_low <= effect.control.difference <= effect.control.difference_high


def test_a_stricter_smallest_effect_stands_in_the_sentence_and_the_headline_and_others_do_not(tmp_path):
    store = Store(tmp_path / "x.db")
    i = Investigation(store, "strict")
    plain = i.confirmed("necessary", "decoder.0.mlp.out@answer")
    strict = i.confirmed("necessary", "decoder.0.attn.out@answer", smallest=0.3)
    below = i.settled(i.predicted("not_needed", "decoder.4.mlp.out@answer", smallest=0.02), 0.01, control=None)
    record = Reading(store, "strict")
    assert "shown to" not in plain.sentence
    assert strict.sentence.endswith(" (shown to exceed {{E4.smallest[task=addition, split=confirm]}}).")
    assert below.sentence.endswith(" (shown to stay below {{E6.smallest[task=addition, split=confirm]}}).")
    shown = [re.sub(r" \[.*?\]", "", plain_text(s.text, record)) for s in conclude(record).headline]
    assert [s.endswith("(shown to exceed 30%).") for s in shown] == [False, True, False]
    assert shown[2].endswith("(shown to stay below 2.0%).")
    assert [t.words.endswith(("; more than 30%", "; less than 2.0%")) for t in conclude(record).findings] == [False, True, True]


def test_versions_of_one_statement_are_one_sentence_of_the_headline(tmp_path):
    store = Store(tmp_path / "x.db")
    i = Investigation(store, "again")
    for examples, smallest in ((96, None), (128, None), (128, 0.3), (112, 0.2)):
        i.confirmed("necessary", "decoder.0.mlp.out@answer", examples=examples, smallest=smallest)
    two = "decoder.0.mlp.out@answer + decoder.1.mlp.out@answer"
    for examples in (96, 128):
        i.confirmed("sufficient", "decoder.0.mlp.out@answer", 0.05, examples=examples, universe=two)
    said = conclude(Reading(store, "again")).headline
    assert [s.findings for s in said] == [("F1", "F2", "F3", "F4"), ("F5", "F6")]
    assert "{{E6.smallest" in said[0].text
    assert "E12." in said[1].text
    assert said[0].text.count("the MLP of block 0") == said[1].text.count("the MLP of block 0") == 1
