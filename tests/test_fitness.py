"""A task that the subject cannot read is refused with the words it cannot read; its choices are read in every prompt."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tools.engine.executor import Variant
from tools.methods import scoring
from tools.methods.fitness import check_fit, merged
from tools.methods.measuring import load_examples
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.scoring import closed_tokens, score
from tools.methods.tool import Context, ToolInputError
from tools.subjects import Subject, gpt2, load_subject, wrap
from tools.tasks import Example, Task, fitting, get_task

PLANTED = Path(__file__).parents[1] / "benchmarks" / "planted" / "models" / "addition-a0-m3"


@pytest.fixture(scope="module")
def demo():
    return load_subject("demo")


def words_subject(model, **special):
    """A subject that knows a few words, whose tokenizer has these special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {w: i for i, w in enumerate(["<pad>", "[UNK]", "<s>", "red", "blue", "is", "are"])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return wrap(model, PreTrainedTokenizerFast(tokenizer_object=inner, **special))


def task(*choices):
    return Task("mine", "d", lambda _split, _rng: iter(()), choices)


@pytest.mark.parametrize("special", [{}, {"unk_token": "[UNK]", "pad_token": "<pad>"}], ids=["undeclared", "declared"])
@pytest.mark.parametrize(
    ("example", "word"),
    [
        (Example.of_text("red zebra", "is"), "zebra"),
        (Example.of_text("red", "was"), "was"),
        (Example.of_text("red", "is", foil="were"), "were"),
        (Example.of_text("red", "is", foil="are", twin="green"), "green"),
    ],
)
def test_text_with_words_outside_the_vocabulary_is_refused_by_the_words(special, example, word, model_named):
    subject = words_subject(model_named("gpt2"), **special)
    with pytest.raises(ToolInputError, match=rf"{word!r}.*1 of 2 examples"):
        check_fit(subject, task(), [Example.of_text("red blue", "is", foil="are"), example])


def test_padding_and_unknown_written_out_are_no_words_but_a_first_token_is(model_named):
    declared = words_subject(model_named("gpt2"), unk_token="[UNK]", pad_token="<pad>", bos_token="<s>")
    for word in ("<pad>", "[UNK]"):
        with pytest.raises(ToolInputError, match="cannot read"):
            check_fit(declared, task(), [Example.of_text(f"{word} red", "is")])
    check_fit(declared, task(), [Example.of_text("<s> red", "is")])
    one_for_all = words_subject(model_named("gpt2"), unk_token="<s>", pad_token="<s>", bos_token="<s>")
    check_fit(one_for_all, task(), [Example.of_text("<s> red", "is")])


def test_a_choice_that_cannot_be_read_is_refused(model_named):
    subject = words_subject(model_named("gpt2"))
    check_fit(subject, task("is", "are"), [Example.of_text("red", "is")])
    with pytest.raises(ToolInputError, match="'be'"):
        check_fit(subject, task("is", "be"), [Example.of_text("red", "is")])


def test_a_sign_that_doubles_as_the_unknown_word_may_stand_for_itself():
    subject = load_subject(str(PLANTED))
    check_fit(subject, task(), [Example.of_text("3 # 4 =", "7")])
    with pytest.raises(ToolInputError, match="plus"):
        check_fit(subject, task(), [Example.of_text("3 plus 4 =", "7")])


def test_characters_that_the_tokenizer_drops_are_named(model_named):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate("abc ")}, merges=[])
    )  # no token for the rest, and no word of it
    subject = wrap(model_named("gpt2"), PreTrainedTokenizerFast(tokenizer_object=inner))
    assert subject.tokens("aéb") == subject.tokens("ab")
    check_fit(subject, task(), [Example.of_text("ab", "c")])
    with pytest.raises(ToolInputError, match="'é'"):
        check_fit(subject, task(), [Example.of_text("aéb", "c")])
    with pytest.raises(ToolInputError, match="'7'"):
        check_fit(subject, task(), [Example.of_text("ab", "7")])


def test_an_answer_or_a_prompt_without_tokens_is_refused(demo):
    for example in (Example.of_text("a b", " "), Example.of_text(" ", " a")):
        with pytest.raises(ToolInputError, match="no tokens"):
            check_fit(demo, task(), [example])


@pytest.mark.parametrize("name", fitting(("text",)))
def test_every_built_in_task_fits_the_demo(name, demo):
    check_fit(demo, get_task(name), get_task(name).examples("explore", 60))


def test_every_tool_that_reads_a_task_refuses_one_that_does_not_fit():
    ctx = Context(subject=load_subject(str(PLANTED)), tasks=OfflineTasks([]), history=Nothing())
    with pytest.raises(ToolInputError, match="does not fit this model"):
        load_examples(ctx, "key_value", 16)


def test_examples_that_are_the_same_tokens_count_as_one_problem(demo):
    same = [Example.of_text("3+4=", "7"), Example.of_text("3 + 4 =", " 7"), Example.of_text("3 + 5 =", " 8")]
    assert len({e.group for e in same}) == 3
    assert [e.group for e in merged(demo, same)] == [same[0].group, same[0].group, same[2].group]


class Contextual(Subject):
    """Reads letters; a `b` is another token after an `x` than elsewhere."""

    family = gpt2.FAMILY

    def __init__(self):
        pass

    @property
    def device(self):
        return torch.device("cpu")

    def tokens(self, text, *, special=True):
        del special
        return [99 if c == "b" and text[i - 1 : i] == "x" else ord(c) for i, c in enumerate(text)]


def test_choices_are_read_after_each_prompt():
    found = closed_tokens(Contextual(), [Example.of_text("y", "a"), Example.of_text("x", "b")], ("a", "b"))
    assert found.tolist() == [[97, 98], [97, 99]]
    assert closed_tokens(Contextual(), [Example.of_text("y", "a"), Example.of_text("x", "b")], ("b", "bb")) is None
    assert closed_tokens(Contextual(), [Example.of_text("y", "a")], ()) is None


def test_a_closed_answer_is_compared_with_its_own_rows_choices(demo, monkeypatch):
    examples = get_task("agreement").examples("explore", 12)
    n = demo.model.config.vocab_size
    rows = torch.randint(0, n, (12, 3), generator=torch.Generator().manual_seed(1))
    rows[:, 0] = torch.tensor([demo.tokens(e.answer)[0] for e in examples])
    rows[::2, 1] = torch.tensor([demo.tokens(e.foil)[0] for e in examples])[::2]
    monkeypatch.setattr(scoring, "closed_tokens", lambda *_: rows)
    scores, _ = score(demo, examples, lambda _: [Variant(()), Variant(tuple(range(6)))], choices=("x",), max_tokens=16)
    for variant, blocks in enumerate(((), tuple(range(6)))):
        by_hand = []
        for e, row in zip(examples, rows.tolist(), strict=True):
            with torch.inference_mode():
                logits = demo.run(demo.inputs([demo.tokens(e.prompt)]), blocks).logits[0, -1]
            by_hand.append(bool(logits[row[0]] >= logits[row].max()))
        assert np.array_equal(scores[variant].correct, by_hand)
        assert variant == 1 or 0 < sum(by_hand) < 12  # so that the comparison can fail


def test_a_class_of_examples_is_loaded_by_its_label(demo):
    ctx = Context(subject=demo, tasks=OfflineTasks([]), history=Nothing())
    _, found = load_examples(ctx, "addition", 24, among="carry=1")
    assert len(found) == 24
    assert all(e.metadata["a"] % 10 + e.metadata["b"] % 10 >= 10 for e in found)
    with pytest.raises(ToolInputError, match=r"label 'colour'.*carry"):
        load_examples(ctx, "addition", 24, among="colour=red")
    with pytest.raises(ToolInputError, match="key=value"):
        load_examples(ctx, "addition", 24, among="carry")
