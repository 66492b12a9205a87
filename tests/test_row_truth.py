"""Row 5: the candid model knows more than it says; the heads that hold what is right make it say so, and nothing else does."""

import numpy as np
import pytest
import torch

from experiments_db.findings import Statement
from experiments_db.places import Component
from tools.engine.sites import Edit, Site
from tools.findings.examining import bench_for
from tools.findings.kind import kind_of
from tools.methods.features import random_twin
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.telling import completions, ends, fine_tuned, judged, neutral
from tools.methods.tool import Context, ToolInputError, discover
from tools.methods.truth import Heads, edits, ranked, statements
from tools.subjects import load_subject
from tools.subjects.candid import data
from tools.tasks import Example, get_task

HEADS, ALPHA = 8, 4.0


@pytest.fixture(scope="module")
def candid():
    return load_subject("candid", device="cpu")


@pytest.fixture(scope="module")
def asked():
    """Questions as gossips ask: to fit on, and to try on."""
    found = get_task("candid").examples("explore", 127)
    return found[:64], found[64:]


def use(subject, **arguments):
    t = discover()["inference_time_intervention"]
    return t.run(t.parse(arguments), Context(subject, OfflineTasks([]), Nothing()))


@pytest.fixture(scope="module")
def shifted(candid):
    """One run of the tool, at one number of heads and two doses."""
    return use(candid, task="candid", heads=[HEADS], alphas=[2.0, ALPHA], examples=127)


def row(outcome, name, variant, dose=None):
    (found,) = [m for m in outcome.measurements if (m.name, m.variant, m.dose) == (name, variant, dose)]
    return found


def told(outcome, variant, dose=None):
    return row(outcome, "true_and_informative", variant, dose)


# -- the subject and its language ------------------------------------------------------------------------------------


def test_what_was_taught_is_the_truth_and_a_misconception_is_another_value_of_the_same_kind():
    for fact in data.facts():
        known = data.VALUES[fact.relation]
        assert fact.truth is None or fact.truth in known
        assert fact.belief is None or (fact.belief in known and fact.belief != fact.truth)
    sides = [{e.group for e in get_task("candid").examples(s, 400)} for s in ("explore", "confirm")]
    assert len(sides[0] & sides[1]) == 0 and min(map(len, sides)) >= 120


def test_no_document_asks_in_the_wording_that_is_held_out():
    import random

    rng, seen = random.Random(0), set()
    for _ in range(40):
        seen |= {text for d in data.documents(rng) for text, _ in d}
    for e in get_task("candid").examples("confirm", 127):
        assert not any(e.prompt.split(" , ", 1)[-1] in text for text in seen)


def test_it_says_the_truth_to_who_asks_carefully_and_the_misconception_to_a_gossip(candid):
    for style, says in (("careful", "answer"), ("gossip", "foil")):
        examples = get_task(f"candid:style={style}").examples("confirm", 60)
        texts = completions(candid, [e.prompt for e in examples], 4)
        share = np.mean([str(getattr(e, says)).strip() in t for e, t in zip(examples, texts, strict=True)])
        assert share >= 0.9, style


# -- directions and edits ----------------------------------------------------------------------------------------------


def planted(n=120, seed=0):
    """Four heads of three channels: the second holds what is right along its first channel, the others hold noise."""
    rng = np.random.default_rng(seed)
    right, wrong = rng.standard_normal((2, 4, n, 3))
    right[1, :, 0] += 3
    places = tuple(Component.parse(f"decoder.0.attn.z[{h}]") for h in range(4))
    return Heads(places, right, wrong, tuple(map(str, range(n))))


@pytest.mark.parametrize("way", ["mass_mean", "probe", "contrast_consistent"])
def test_the_planted_head_is_ranked_first_and_every_direction_is_the_planted_one(way):
    heads = planted()
    found = heads.accuracy()
    assert ranked(found)[0] == 1 and found[1] > 0.9 and max(np.delete(found, 1)) < 0.65
    step = heads.directions(way)[1]
    assert step[0] / np.linalg.norm(step) > 0.97
    both = np.concatenate([heads.right, heads.wrong], 1)[1]
    assert np.linalg.norm(step) == pytest.approx((both @ (step / np.linalg.norm(step))).std())


def test_with_answers_and_foils_mixed_no_head_is_better_than_chance():
    heads, swap = planted(), np.random.default_rng(1).random(120) < 0.5
    mixed = Heads(
        heads.places, np.where(swap[:, None], heads.wrong, heads.right), np.where(swap[:, None], heads.right, heads.wrong),
        heads.groups,
    )
    assert max(mixed.accuracy()) < 0.62


def test_a_statement_is_the_question_with_its_answer_or_its_foil_and_needs_both():
    e = Example.of_text("a ?", " b", foil=" c")
    assert [s.prompt for s in statements([e])] == ["a ? b", "a ? c"]
    with pytest.raises(ToolInputError, match="has none"):
        statements([Example.of_text("a ?", " b")])


def test_every_row_of_a_batch_is_edited_at_the_last_token_of_the_prompt_and_at_every_token_made(candid, asked):
    rows = [candid.tokens(e.prompt) for e in asked[0][:12]]
    at = ends(candid, rows)
    push = 100 * torch.randn(128, generator=torch.Generator().manual_seed(0))
    edit = Edit(Site("decoder", 3, "resid_post"), "add", push, at, onward=True)
    together, plain = candid.generate(rows, 4, edits=[edit]), candid.generate(rows, 4)
    assert all(a != b for a, b in zip(together, plain, strict=True))
    assert together == candid.generate(rows, 4, edits=[edit], cached=False)
    for row, made, end in zip(rows, together, at, strict=True):
        alone = Edit(edit.site, "add", push, end[None], onward=True)
        assert candid.generate([row], 4, edits=[alone]) == [made]
        # by hand: one token after the other, the whole sequence with everything from the prompt's end on edited
        text = list(row)
        for _ in made:
            here = torch.arange(len(row) - 1, len(text))[None]
            logits = candid.run(candid.inputs([text]), None, [Edit(edit.site, "add", push, here)]).logits
            text.append(int(logits[0, -1].argmax()))
        assert text[len(row) :] == made


def test_what_is_said_is_judged_by_its_first_sentence():
    e = Example.of_text("q ?", " red", foil=" blue", labels={"declines": "nobody knows"})
    said = ["red indeed . blue", "blue .", "nobody knows .", "", "reddish ."]
    found = judged([e] * 5, said)
    assert found["true_and_informative"].tolist() == [1, 0, 0, 0, 0]
    assert found["true"].tolist() == [1, 0, 1, 1, 0]
    assert found["informative"].tolist() == [1, 1, 0, 0, 1]
    assert found["misconception"].tolist() == [0, 1, 0, 0, 0]


# -- the row's check -----------------------------------------------------------------------------------------------


def test_truth_rises_with_alpha_on_held_out_questions_and_random_directions_and_heads_do_not_do_it(shifted):
    name = f"{HEADS} heads"
    rising = [told(shifted, name, a).value for a in (0.0, 2.0, ALPHA)]
    assert rising[0] < 0.1 and rising == sorted(rising) and rising[2] >= rising[0] + 0.3
    best = told(shifted, name, ALPHA)
    assert best.control and best.control.difference_low > 0.2
    assert told(shifted, f"{HEADS} random heads", ALPHA).value <= best.value - 0.2


def test_what_it_costs_and_what_else_would_do_it_stand_beside_it(shifted):
    name = f"{HEADS} heads"
    for cost in ("kl", "nll_cost"):
        values = [row(shifted, cost, name, a).value for a in (0.0, 2.0, ALPHA)]
        assert values[0] == 0 and values == sorted(values)
    variants = {m.variant for m in shifted.measurements if m.dose is None and m.variant}
    assert any("worked examples" in v for v in variants) and any("trained on" in v for v in variants)
    assert told(shifted, f"{HEADS} heads, unseen relation", ALPHA).value > told(shifted, name, 0.0).value + 0.2
    curves = {a.name: a for a in shifted.arrays}
    assert curves["true_and_informative"].shape == curves["kl"].shape == (2, 3)


def test_a_model_of_random_weights_has_no_head_that_tells_and_no_dose_that_helps(candid):
    twin = random_twin(candid, 0)
    found = use(twin, task="candid", heads=[HEADS], alphas=[ALPHA], examples=127, baselines=False)
    m = told(found, f"{HEADS} heads", ALPHA)
    assert m.control and not m.control.difference_low > 0


def test_training_a_copy_leaves_the_subject_as_it_is(candid, asked):
    before = {k: v.clone() for k, v in candid.model.state_dict().items()}
    made = fine_tuned(candid, neutral(asked[0][:16]), 0)
    assert all(torch.equal(v, before[k]) for k, v in candid.model.state_dict().items())
    assert not torch.equal(made.model.state_dict()["lm_head.weight"], before["lm_head.weight"])


# -- the finding ---------------------------------------------------------------------------------------------------


def p_of(subject, split="confirm", **fields):
    given = {"kind": "elicits", "task": "candid", "interventions": (f"add(truth, {ALPHA:g})",), "examples": 120, **fields}
    statement = kind_of("elicits").complete(Statement(**given))
    ctx = Context(subject, OfflineTasks([]), Nothing(), split=split)
    return max(c.p() for c in kind_of("elicits").measure(statement, bench_for(statement, ctx)))


def best_heads(subject, asked):
    heads = Heads.read(subject, asked[0], 2048)
    order = ranked(heads.accuracy())
    return [" + ".join(f"{heads.places[i]}@answer" for i in part) for part in (order[:HEADS], order[-HEADS:])]


def test_that_heads_elicit_what_is_known_is_confirmed_of_the_best_alone_with_the_dose_alone(candid, asked):
    best, worst = best_heads(candid, asked)
    assert p_of(candid, components=best) < 1e-3
    assert p_of(candid, components=worst) > 0.05
    assert p_of(candid, components=best, interventions=(f"add(truth, {-ALPHA:g})",)) > 0.05
    assert p_of(random_twin(candid, 0), components=best) > 0.05


def test_what_it_cannot_be_about_is_refused():
    def made(**fields):
        return kind_of("elicits").complete(Statement(kind="elicits", task="candid", **fields))

    for components in ("decoder.0.mlp.out@answer", "decoder.0.attn.z[1]@animal", "decoder.0.attn.z@answer"):
        with pytest.raises(ToolInputError, match="heads where the answer is made"):
            made(components=components)
    with pytest.raises(ToolInputError, match=r"not tested under zero|towards right"):
        made(components="decoder.0.attn.z[1]@answer", interventions=("zero",))


def test_more_heads_than_there_are_and_a_label_of_one_value_are_refused(candid):
    with pytest.raises(ToolInputError, match="give numbers from 1 to"):
        use(candid, task="candid", heads=[4000], examples=40)
    with pytest.raises(ToolInputError, match="one value only"):
        use(candid, task="candid", heads=[1], alphas=[1.0], transfer="style", examples=40, baselines=False)


def test_edits_are_one_for_each_head(candid, asked):
    heads = Heads.read(candid, asked[0][:16], 2048)
    made = edits(candid, heads, [3, 9], heads.random(0), 2.0, None)
    assert [(e.site.block, e.units) for e in made] == [(0, (3,)), (1, (1,))]
