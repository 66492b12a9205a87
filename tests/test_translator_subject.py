"""The shipped translators: both know the pairs they were taught; one carries that over to pairs it never saw, the other mostly does not."""

import random
import re

import pytest
import torch
from transformers import AutoTokenizer, MarianMTModel

from tools.subjects import load_subject
from tools.subjects.translator import data, train

MODELS = {"": False, "front": True}


@pytest.fixture(scope="module", params=MODELS, ids=["decoder", "front"])
def shipped(request):
    folder = train.FOLDER / request.param
    return folder, *train.load(folder), MODELS[request.param]


# -- the models -------------------------------------------------------------------------------------------------------


def test_new_meanings_are_translated_in_the_pairs_that_were_trained(shipped):
    _, model, tok, front = shipped
    assert train.accuracy(model, tok, data.TRAINED, "confirm", 30, front=front) > 0.97


def test_the_pair_that_was_never_trained_is_as_its_card_says(shipped):
    folder, model, tok, front = shipped
    found = re.search(r"\| never trained, both \| [\d.]+ \| ([\d.]+) \|", (folder / "README.md").read_text())
    assert found
    measured = train.accuracy(model, tok, data.UNSEEN, "confirm", train.TESTED, front=front)
    assert float(found[1]) == pytest.approx(measured, abs=0.02)
    assert measured < 0.4 if front else measured > 0.97


def test_each_is_an_ordinary_small_transformers_folder(shipped):
    folder, _, _, front = shipped
    assert (folder / "model.safetensors").stat().st_size < 3e6
    model = MarianMTModel.from_pretrained(folder, dtype=torch.float32)
    tok = AutoTokenizer.from_pretrained(folder)
    item = data.items("confirm", "kel", "mun", 1)[0]
    given = tok(train.source_text(item, front=front), return_tensors="pt")
    told = {} if front else {"decoder_start_token_id": tok.convert_tokens_to_ids("__mun__")}
    ids = model.generate(
        input_ids=given.input_ids, attention_mask=given.attention_mask, do_sample=False, num_beams=1, **told
    )
    assert tok.decode(ids[0], skip_special_tokens=True) == item.target.text


def test_the_program_loads_them_as_marian(shipped):
    subject = load_subject(str(shipped[0]))
    assert subject.family.name == "marian"
    assert {name: len(spec.blocks) for name, spec in subject.stacks.items()} == {"encoder": 3, "decoder": 3}


def test_every_word_is_one_token_and_has_a_span():
    tok = train.tokenizer()
    for language in data.LANGUAGES.values():
        made = tok(" ".join(language.lexicon()), add_special_tokens=False)["input_ids"]
        assert len(made) == len(set(made)) == len(language.lexicon())
        assert tok.unk_token_id not in made


# -- the languages ----------------------------------------------------------------------------------------------------


def test_no_two_languages_share_a_word_and_no_word_has_two_meanings():
    words = [w for language in data.LANGUAGES.values() for w in language.lexicon()]
    assert len(words) == len(set(words))


def test_a_sentence_says_one_meaning_only():
    """No two meanings of a thousand are said alike in any language, so that each translation is the right one."""
    rng = random.Random(2)
    meanings = {data.draw("train", rng) for _ in range(1000)}
    for language in data.LANGUAGES.values():
        assert len({language.say(m).words for m in meanings}) == len(meanings)


def test_the_four_grammars_are_as_the_table_says():
    m = data.Meaning("dog", "many", "red", "see", "past", "cat", "one", "")
    said = {name: language.say(m) for name, language in data.LANGUAGES.items()}
    phrase = ["subject_adjective", "subject", "subject_number"]
    assert list(said["kel"].roles) == ["article", *phrase, "verb", "tense", "article", "object"]
    phrase = ["subject_number", "subject", "subject_adjective"]
    assert list(said["mun"].roles) == ["article", *phrase, "article", "object", "tense", "verb"]
    assert list(said["sor"].roles) == ["tense", "verb", "subject", "subject_number", "subject_adjective", "object"]
    assert list(said["tiv"].roles) == ["object", "verb", "tense", "subject_adjective", "subject_number", "subject"]
    agreeing = {"kel": [], "mun": ["verb"], "sor": [], "tiv": ["verb"]}
    for name, sentence in said.items():
        assert [r for w, r in zip(sentence.words, sentence.roles) if w.endswith("u")] == agreeing[name]


def test_spans_are_where_the_words_are():
    for item in data.items("explore", "mun", "tiv", 20):
        for sentence in (item.source, item.target):
            cut = sorted((a, sentence.text[a:b]) for spans in sentence.spans.values() for a, b in spans)
            assert [w for _, w in cut] == list(sentence.words)
            word = data.LANGUAGES[sentence.language].word(item.meaning.verb, many=item.meaning.subject_number == "many")
            ((a, b),) = sentence.spans["verb"]
            assert sentence.text[a:b] == word


def test_splits_share_no_meaning_and_a_seed_gives_the_same_items():
    drawn = {
        split: {i.meaning for i in data.items(split, "kel", "sor", 300)} for split in ("train", "explore", "confirm")
    }
    assert not drawn["train"] & drawn["explore"]
    assert not drawn["train"] & drawn["confirm"]
    assert not drawn["explore"] & drawn["confirm"]
    assert data.items("explore", "kel", "sor", 5) == data.items("explore", "kel", "sor", 5)
    assert data.items("explore", "kel", "sor", 5) != data.items("explore", "kel", "sor", 5, seed=1)


def test_the_unseen_pairs_are_not_trained_but_each_of_their_languages_is():
    assert len(data.TRAINED) == 10
    assert not set(data.TRAINED) & set(data.UNSEEN)
    for language in data.LANGUAGES:
        assert any(a == language for a, _ in data.TRAINED)
        assert any(b == language for _, b in data.TRAINED)


def test_the_same_seed_trains_the_same_weights_and_another_does_not():
    def weights(seed):
        model, _ = train.train(seed, steps=2, log=False)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    first = weights(0)
    assert torch.equal(first, weights(0))
    assert not torch.equal(first, weights(1))
