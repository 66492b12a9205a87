"""An anchor is the tokens that its name says, in every row and for every tokenizer, or it is an error."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.loop.task_check import check
from tools.methods.anchors import anchor_names, positions, span_positions
from tools.methods.layout import chosen_components
from tools.methods.offline import Nothing
from tools.methods.scoring import batch_of
from tools.methods.tool import Context, ToolInputError
from tools.ports.text import encode, tokens_of
from tools.subjects import load_subject, wrap
from tools.tasks import Example, from_records, get_task, to_records
from tools.tasks.spans import compose, fill, role_words

WORDS = ("the", "then", "cat", "cats", "on", "mat", "matter", "3", "37", "+", "x=", "ab")


@pytest.fixture(scope="module")
def demo():
    return load_subject("demo")


@pytest.fixture(scope="module")
def bytewise(model_named):
    """A subject with a tokenizer that merges bytes, blanks included, as GPT-2's does, and one special token in front."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    inner.train_from_iterator([" ".join(WORDS)] * 4, trainer)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return wrap(model_named("gpt2"), PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>"))


class Slow:
    """A tokenizer that does not tell where its tokens come from."""

    is_fast = False

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, *args, **kwargs):
        assert "return_offsets_mapping" not in kwargs
        return self.inner(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def at(subject, examples, anchor, **kwargs):
    found = positions(subject, batch_of(subject, examples), anchor, **kwargs)
    return None if found is None else found.tolist()


@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=6), data=st.data())
def test_a_span_is_the_fewest_tokens_that_hold_all_its_characters(bytewise, words, data):
    chosen = data.draw(st.integers(0, len(words) - 1))
    text = " ".join(words)
    start = len(" ".join(words[:chosen])) + (chosen > 0)
    end = start + len(words[chosen])
    ids = bytewise.tokens(text)
    found = tokens_of(bytewise, text, (start, end))
    assert found == list(range(found[0], found[-1] + 1))
    until = [len(bytewise.text(ids[1:i])) for i in range(1, len(ids) + 1)]  # characters before token i
    assert until[found[0] - 1] <= start < until[found[0]]
    assert until[found[-1] - 1] < end <= until[found[-1]]


@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=6), data=st.data())
def test_a_tokenizer_without_offsets_gives_the_same_tokens(bytewise, words, data):
    chosen = data.draw(st.integers(0, len(words) - 1))
    text, spans = compose([x for i, w in enumerate(words) for x in (" " * (i > 0), (f"w{i}", w))])
    slow = wrap(bytewise.model, Slow(bytewise.tokenizer))
    assert tokens_of(slow, text, spans[f"w{chosen}"]) == tokens_of(bytewise, text, spans[f"w{chosen}"])


def test_counted_anchors_count_from_the_prompts_ends_whatever_its_length(demo):
    examples = [Example.of_text("k f q | k f", " q"), Example.of_text("k f |", " k")]
    assert at(demo, examples, "-1") == [[5], [2]]
    assert at(demo, examples, "-3") == [[3], [0]]
    assert at(demo, examples, "0") == [[0], [0]]
    assert at(demo, examples, "2") == [[2], [2]]
    assert at(demo, examples, "all") is None
    with pytest.raises(ToolInputError, match="3 positions"):
        at(demo, examples, "-4")
    with pytest.raises(ToolInputError, match="3 positions"):
        at(demo, examples, "3")


def test_answer_is_every_position_that_predicts_one_of_its_tokens_and_short_rows_repeat_their_last(demo):
    examples = [Example.of_text("k f q | k f", " q"), Example.of_text("k f |", " k f s")]
    assert at(demo, examples, "answer") == [[5, 5, 5], [2, 3, 4]]
    assert at(demo, examples, "answer.first") == [[5], [2]]
    assert at(demo, examples, "answer.last") == [[5], [4]]


def test_each_leaves_out_a_position_that_is_named_beside_it(demo):
    examples = get_task("addition:digits=1x1,format=spaced,shots=0").examples("explore", 8)

    def chosen(*texts, engine=demo.engine):
        subject = demo.keeping(None)
        subject.engine = engine
        return [str(c).removeprefix("decoder.1.resid_pre@") for c in chosen_components(subject, [f"*.1.{t}" for t in texts], examples, 3)]

    assert chosen("resid_pre@each") == ["-1", "-2", "-3"]
    assert chosen("resid_pre@each", "resid_pre@answer") == ["-2", "-3", "answer"]
    assert chosen("resid_pre@answer", "resid_pre@each") == ["answer", "-2", "-3"]
    assert chosen("resid_pre@each", "resid_pre@-2") == ["-1", "-3", "-2"]
    assert chosen("resid_pre@each", "attn.z[0]@answer")[:3] == ["-1", "-2", "-3"]  # another part there is another place
    assert chosen("resid_pre@each", "resid_pre@operand1")[:3] == ["-1", "-2", "-3"]  # which lies further back
    assert chosen("resid_pre@each", "resid_pre@answer", engine=5) == ["-1", "-2", "-3", "answer"]  # as it was recorded


def test_a_role_is_found_in_every_row_and_its_policies_are_its_ends(demo):
    examples = [
        Example.of_text("the old boat is", " new", spans={"subject": (4, 12)}),
        Example.of_text("the dog is", " new", spans={"subject": (4, 7)}),
    ]
    assert at(demo, examples, "subject") == [[1, 2], [1, 1]]
    assert at(demo, examples, "subject.all") == [[1, 2], [1, 1]]
    assert at(demo, examples, "subject.first") == [[1], [1]]
    assert at(demo, examples, "subject.last") == [[2], [1]]
    with pytest.raises(ToolInputError, match="subject"):
        at(demo, examples, "object")
    with pytest.raises(ToolInputError, match="anchor"):
        at(demo, examples, "3rd")


def test_in_a_twin_a_role_is_where_the_twin_has_it_else_at_the_same_tokens(demo):
    for e in get_task("indirect_object").examples("explore", 20):
        (clean,), (corrupted,) = at(demo, [e], "giver.first"), at(demo, [e], "giver.first", twin=True)
        tokens, twin = demo.tokens(e.prompt), demo.tokens(e.twin)
        assert (
            demo.text([tokens[clean[0]]]).strip() == e.answer.strip() or demo.text([tokens[clean[0]]]) == e.foil.strip()
        )
        assert demo.text([tokens[clean[0]]]).strip() == e.foil.strip()  # who gives is the wrong answer
        assert demo.text([twin[corrupted[0]]]).strip() == e.answer.strip()  # and in the twin the other one gives
    for e in get_task("agreement").examples("explore", 20):  # the number of the subject moves all later characters
        assert at(demo, [e], "attractor", twin=True) == at(demo, [e], "attractor")


def test_operands_of_a_sum_are_the_tokens_of_its_numbers(demo):
    for spec in ("addition", "addition:format=compact", "subtraction:shots=0"):
        examples = get_task(spec).examples("explore", 30)
        for e in examples:
            tokens = demo.tokens(e.prompt)
            for role, key in (("operand1", "a"), ("operand2", "b")):
                (where,) = span_positions(demo, e, role)
                assert demo.text([tokens[where]]) == str(e.metadata[key])
        names = anchor_names(demo, get_task(spec), examples)
        assert names["-4"] == names["operand1"] == "the first operand"
        assert names["-1"] == "the equals sign"
        assert "0" not in names


def test_a_counted_position_has_a_name_only_where_all_examples_agree(demo):
    task = get_task("indirect_object")
    names = anchor_names(demo, task, task.examples("explore", 30))
    assert names["-2"] == "the object"
    assert not any(
        w in ("the giver", "the receiver") for k, w in names.items() if k.startswith("-")
    )  # either may come first
    two = [Example.of_text("the old boat is", " new", spans={"subject": (4, 12)})]
    assert anchor_names(demo, task, two)["-2"] == "the last token of the subject"
    assert anchor_names(demo, task, two)["-3"] == "the first token of the subject"


def test_text_and_roles_are_composed_together():
    text, spans = compose([("a", "x"), " ", ("b", "yz")])
    assert (text, spans) == ("x yz", {"a": (0, 1), "b": (2, 4)})
    assert fill("to {who} of {what}", {"who": "Ann", "what": "it"}) == (
        "to Ann of it",
        {"who": (3, 6), "what": (10, 12)},
    )
    assert role_words("operand2") == "the second operand"
    assert role_words("giver_again") == "the second mention of the giver"
    assert role_words("x2y") == "the x2y"


def test_positions_of_a_batch_fit_the_prompt_that_was_run(bytewise):
    example = Example.of_text("the cats on", " mat", spans={"subject": (4, 8)})
    prompt, _ = encode(bytewise, example.prompt, example.answer)
    (row,) = at(bytewise, [example], "subject")
    assert "".join(bytewise.text([prompt[i]]) for i in row).strip() == "cats"


def test_words_that_a_tokenizer_splits_are_named_with_how_many_tokens_they_take(bytewise):
    examples = to_records([{"prompt": p, "answer": " ab", "split": s} for s, p in (("explore", "the zq matter the"), ("confirm", "x")) for p in (p, p + " kkk")], "t")
    tasks = SimpleNamespace(get=lambda _: from_records("t", "", examples), made=list)
    said = next(f.says for f in check(Context(bytewise, tasks, Nothing()), "t") if f.about == "words")
    assert said == "of the 4 words of 2 examples 2 take several tokens: 'kkk' (3), 'zq' (2)"
