"""Speech: what blocks are needed, what is written without them, where the decoder listens; and none of it without training."""

from typing import Any

import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from tools.methods.features import random_twin
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, ToolInputError, discover
from tools.subjects import Subject, load_subject, wrap

TASK = "transcription"


@pytest.fixture(scope="module")
def speech() -> Subject:
    return load_subject("speech")


@pytest.fixture(scope="module")
def untrained(speech: Subject) -> Subject:
    return random_twin(speech, 0)


def run(subject: Subject, name: str, **arguments: Any) -> Any:
    tool = discover()[name]
    return tool.run(tool.parse(arguments), Context(subject=subject, tasks=OfflineTasks([]), history=Nothing()))


def found(outcome: Any, name: str, **where: Any) -> Any:
    rows = [m for m in outcome.measurements if m.name == name and all(getattr(m, k) == v for k, v in where.items())]
    assert len(rows) == 1, (name, where, [m.key for m in outcome.measurements if m.name == name][:12])
    return rows[0]


def dropped(subject: Subject, stack: str, **more: Any) -> dict[str, list[Any]]:
    """By rate: its measurements with none, one, two ... of the last blocks dropped."""
    swept = run(subject, "layer_program", tasks=[TASK], sweep="drop_last", stack=stack, written=True, examples=96, **more)
    n = len(subject.spec(stack).blocks)
    labels = ["intact", *(f"{'encoder: ' if stack == 'encoder' else ''}drop last {k}" for k in range(1, n + 1))]
    return {
        name: [m for label in labels for m in swept.measurements if (m.name, m.program) == (name, label)]
        for name in ("cer", "wer", "repeated", "not_there", "accuracy")
    }


def test_it_transcribes_and_each_stack_is_needed_to_its_own_depth(speech: Subject) -> None:
    encoder, decoder = dropped(speech, "encoder"), dropped(speech, "decoder")
    for rates in (encoder, decoder):
        cer = rates["cer"]
        assert cer[0].value < 0.05
        assert cer[0].high < 0.1
        assert cer[-1].low > 0.4
        assert cer[-1].low > cer[0].high
    values = [m.value for m in encoder["cer"]]
    assert values == sorted(values)
    assert decoder["cer"][1].value > encoder["cer"][2].value  # the decoder bears less than the encoder
    assert decoder["repeated"][-1].low > 0.5 > decoder["repeated"][0].high
    assert all(m.n == 96 and m.groups and m.low is not None for m in encoder["wer"])


def test_errors_are_counted_over_words_and_not_averaged_over_answers(speech: Subject) -> None:
    from tools.methods.measuring import groups_of, load_examples, recoveries
    from tools.ports import port_of

    ctx = Context(subject=speech, tasks=OfflineTasks([]), history=Nothing())
    _, examples = load_examples(ctx, TASK, 96)
    port = port_of(speech)
    judged = [port.judge(e, s)["wer"] for e, s in zip(examples, port.write(speech, examples), strict=True)]
    pooled = sum(a for a, _ in judged) / sum(b for _, b in judged)
    (estimate,) = recoveries([a for a, _ in judged], [b for _, b in judged], groups_of(examples))
    assert dropped(speech, "decoder")["wer"][0].value == pytest.approx(pooled) == pytest.approx(estimate.value)


def test_words_are_heard_where_nobody_speaks(speech: Subject) -> None:
    said = run(speech, "layer_program", tasks=[f"{TASK}:kind=nothing"], operation="skip", blocks=[3], written=True, examples=8)
    assert not [m for m in said.measurements if m.name in ("wer", "cer")]  # there is no right answer to count errors over
    assert found(said, "exact", program="intact").value >= 0.5


def test_the_first_word_is_heard_at_its_own_time(speech: Subject, untrained: Subject) -> None:
    def shares(subject: Subject) -> dict[str, dict[str, Any]]:
        """By head and word: how much of its attention is there."""
        heads = ["decoder.*.cross.pattern[*]"]
        seen = run(subject, "attention", task=TASK, components=heads, at="answer.first", keys=["word1", "word2"], examples=64)
        out: dict[str, dict[str, Any]] = {}
        for m in seen.measurements:
            if m.name == "attention":
                out.setdefault(m.component.partition("@")[0], {})[m.component[-5:]] = m
        return out

    trained, none = (max(shares(s).values(), key=lambda at: at["word1"].control.difference_low) for s in (speech, untrained))
    assert trained["word1"].control.difference_low > 0.3
    assert trained["word1"].low > trained["word2"].high
    assert none["word1"].control.difference_low < 0.1


def test_what_it_listens_to_while_it_repeats_itself_is_told_apart_from_when_it_does_not(speech: Subject) -> None:
    looked = run(
        speech, "attention", task=TASK, components=["decoder.0.cross.pattern[*]"], at="answer", keys=["word1"], examples=96,
        program="decoder: skip 1-3", written=True,
    )
    variants = {m.variant for m in looked.measurements if m.name == "entropy"}
    assert variants == {"its own answers", "answers that repeat words", "answers that repeat none"}
    assert all(m.program == "decoder: skip 1-3" and m.n >= 4 for m in looked.measurements if m.name == "entropy")
    with pytest.raises(ToolInputError, match="does not run under this program"):
        run(speech, "attention", task=TASK, components=["decoder.2.cross.pattern[*]"], at="answer", program="decoder: skip 2")


def test_the_deepest_lens_is_the_model_and_the_decoder_forms_its_answer_in_its_last_blocks(speech: Subject) -> None:
    read = run(speech, "lens", task=TASK, examples=64)
    by_depth = [m for m in read.measurements if m.name == "accuracy"]
    assert by_depth[-1].value == found(run(speech, "loss", tasks=[TASK], examples=64), "accuracy").value
    assert by_depth[2].value < 0.5 < by_depth[-1].value
    assert [m for m in read.measurements if m.name == "top1" and m.component.endswith("@-1")]


def test_an_untrained_model_of_the_class_transcribes_nothing_and_misses_no_block(untrained: Subject) -> None:
    rates = dropped(untrained, "encoder")
    assert all(m.low > 0.8 for m in rates["wer"])
    assert all(m.value < 0.05 for m in rates["accuracy"])


def test_a_random_model_of_the_shape_that_others_publish_is_studied_by_the_same_calls(speech: Subject) -> None:
    """A Whisper of the usual window, bands and width: half a minute of sound in 1500 positions, and nothing that it knows."""
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(speech.tokenizer), d_model=384, encoder_layers=1, decoder_layers=1, pad_token_id=0, eos_token_id=0,
        bos_token_id=1, decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    heard = {"feature_size": 80, "sampling_rate": 16000, "hop_length": 160, "chunk_length": 30, "n_fft": 400}
    usual = wrap(WhisperForConditionalGeneration(config).eval(), speech.tokenizer, "usual", heard)
    swept = run(usual, "layer_program", tasks=[TASK], sweep="drop_last", stack="encoder", written=True, examples=8)
    rates = [m for m in swept.measurements if m.name == "cer"]
    assert len(rates) == 2
    assert all(m.value > 0.5 for m in rates)
    assert all(m.value == 0 for m in swept.measurements if m.name == "accuracy.delta")
    lens = run(usual, "lens", task=TASK, examples=8)
    assert max(m.value for m in lens.measurements if m.name == "accuracy") == 0
    looks = run(usual, "attention", task=TASK, components=["decoder.*.cross.pattern[*]"], at="answer.first", keys=["word1"], examples=8)
    assert max(m.value for m in looks.measurements if m.name == "attention") < 0.1  # of fifteen hundred positions
