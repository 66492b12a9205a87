"""The masked subject needs the tree to fill a word, and its language says what the tree and the senses are."""

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from tools.subjects._splits import side
from tools.subjects.masked import data, grammar, train, words

FOLDER = Path(train.__file__).parent


@pytest.fixture(scope="module")
def model():
    return AutoModelForMaskedLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tok():
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def examples():
    return data.examples("explore", 300)


def accuracy(model, tok, **kind):
    return float(train.right(model, tok, data.examples("confirm", 80, seed=3, **kind)).float().mean())


@pytest.mark.parametrize("feature", ["number", "gender", "sense"])
@pytest.mark.parametrize("attractor", [True, False])
def test_it_fills_the_right_form_in_sentences_it_never_saw(model, tok, feature, attractor):
    assert accuracy(model, tok, feature=feature, attractor=attractor) >= 0.95


def test_what_decides_is_the_controller_alone(model, tok, examples):
    twins = [t for e in examples for t in data.masked(e.twin_sentence) if t.text == e.twin and t.answer == e.foil]
    assert len(twins) >= len(examples)
    assert train.right(model, tok, twins).float().mean() >= 0.93


def test_the_table_beside_it_says_what_is_measured(model, tok):
    readme = (FOLDER / "README.md").read_text()
    line = next(x for x in readme.splitlines() if x.startswith("| number, across an attractor"))
    measured = accuracy(model, tok, feature="number", attractor=True)
    assert abs(float(line.split("|")[3].split()[0]) - measured) <= 0.05


def test_tree_distance_is_not_distance_in_words():
    assert data.order_against_tree(data.sentences("explore", 400)) < 0.5


def test_trees_are_trees_and_depths_and_distances_are_theirs():
    for sentence in data.sentences("confirm", 200):
        roots = [i for i, w in enumerate(sentence.words) if w.head < 0]
        depths, distances = sentence.depths(), sentence.distances()
        assert len(roots) == 1
        assert sentence.words[roots[0]].relation == "root"
        assert (depths == distances[roots[0]]).all()
        assert (distances == distances.T).all()
        assert (distances.diagonal() == 0).all()
        for i, w in enumerate(sentence.words):
            assert w.head < 0 or (distances[i, w.head] == 1 and depths[i] == depths[w.head] + 1)


def test_every_construction_is_drawn_and_some_trees_cross():
    drawn = data.sentences("explore", 300)
    assert {s.construction for s in drawn} == set(grammar.CONSTRUCTIONS)

    def crosses(s):
        arcs = [tuple(sorted((i, w.head))) for i, w in enumerate(s.words)]  # the root's comes from before the sentence
        return any(a < c < b < d for a, b in arcs for c, d in arcs)

    assert any(crosses(s) for s in drawn if s.construction == "extraposed")
    assert not any(crosses(s) for s in drawn if s.construction == "object_relative")


def test_spans_say_where_words_are(examples):
    for e in examples:
        start, end = e.spans["masked"]
        assert e.text[start:end] == "[MASK]"
        assert e.text.replace("[MASK]", e.answer) == e.sentence.text
        for role, (start, end) in e.spans.items():
            assert role == "masked" or e.text[start:end] == e.sentence.words[e.positions[role]].form
        for word in e.sentence.words:
            assert e.sentence.text[slice(*word.span)] == word.form


def test_a_twin_is_as_long_in_tokens_differs_in_the_controller_alone_and_shares_the_side(tok, examples):
    unknown = tok.unk_token_id
    for e in examples:
        a, b = (tok(t)["input_ids"] for t in (e.text, e.twin))
        assert len(a) == len(b)
        assert unknown not in a + b
        differing = [i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
        assert differing == [e.positions["controller"] + 1]
        assert a[e.positions["masked"] + 1] == tok.mask_token_id
        assert len(tok(e.answer, add_special_tokens=False)["input_ids"]) == 1
        assert e.answer != e.foil
        assert side(*e.sentence.content) == side(*e.twin_sentence.content) == "explore"


def test_ambiguous_words_have_a_sense_and_both_are_met():
    found = {(w.form, w.sense) for s in data.sentences("explore", 1200) for w in s.words if w.sense}
    singular = {form for (form,) in words.LEXICON["ambiguous"]}
    assert {(form, sense) for form in singular for sense in words.SENSES} <= found
    assert not any(w.sense is None for s in data.sentences("explore", 200) for w in s.words if w.kind == "ambiguous")


def test_the_splits_share_no_content_and_training_draws_from_its_own():
    contents = {split: {s.content for s in data.sentences(split, 400)} for split in ("train", "explore", "confirm")}
    assert not contents["explore"] & contents["confirm"]
    assert not contents["train"] & (contents["explore"] | contents["confirm"])
    batches = train.Batches(5)
    assert all(side(*batches.pair()[i].content) == "train" for _ in range(100) for i in (0, 1))


def test_sentences_are_the_same_for_the_same_seed_and_can_be_written_again():
    first = data.sentences("explore", 20, seed=4)
    assert first == data.sentences("explore", 20, seed=4)
    assert first != data.sentences("explore", 20, seed=5)
    sentence = grammar.draw(random.Random(8))
    assert grammar.rewrite(sentence.construction, sentence.choices) == sentence


def test_it_is_an_ordinary_small_transformers_folder(tok):
    assert (FOLDER / "model.safetensors").stat().st_size < 3e6
    assert tok.convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]) == [0, 1, 2, 3, 4]
    assert tok.decode(tok("the King [MASK]")["input_ids"]) == "[CLS] the king [MASK] [SEP]"


def test_the_same_seed_trains_the_same_weights_and_another_does_not():
    def weights(seed):
        model, _ = train.train(seed, steps=2, log=False)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    first = weights(0)
    assert torch.equal(first, weights(0))
    assert not torch.equal(first, weights(1))
