"""What every port promises: batches are the model's own inputs, anchors stand where they say, scores are the example's own."""

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from transformers import GenerationMixin

from tests.ports_made import BUILT_IN, RANDOM, Case, built_in_case, by_hand, picture, random_case, sound, words
from tools.engine.executor import Variant
from tools.engine.sites import Edit, Site
from tools.findings.null_twins import null_twin
from tools.methods import scoring
from tools.methods.features import random_twin
from tools.methods.scoring import microbatches, score
from tools.ports import PortError, batch_of, port_of, ports, vocabulary
from tools.ports.seq2seq import edits, judged
from tools.ports.text import said_in
from tools.subjects import Subject, load_subject
from tools.tasks import Example, Signal, Task, get_task

TWO_STACKS = ("m2m100", "m2m100_front", "marian", "whisper", "translator", "speech")


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    """Without gradients."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def case_of(model_named: Callable[..., Any]) -> Callable[[str], Case]:
    """A case by name, made once."""
    made: dict[str, Case] = {}

    def get(name: str) -> Case:
        if name not in made:
            made[name] = built_in_case(name) if name in BUILT_IN else random_case(name, model_named)
        return made[name]

    return get


@pytest.fixture(params=(*RANDOM, *BUILT_IN))
def case(request: pytest.FixtureRequest, case_of: Callable[[str], Case]) -> Case:
    """Every case in turn."""
    return case_of(request.param)


@pytest.fixture(params=TWO_STACKS)
def across(request: pytest.FixtureRequest, case_of: Callable[[str], Case]) -> Case:
    """The cases with an encoder and a decoder."""
    return case_of(request.param)


def batch(case: Case) -> Any:
    return batch_of(port_of(case.subject), case.subject, case.examples)


def intact(subject: Subject) -> Variant:
    return subject.variant()


# -- inputs ------------------------------------------------------------------------------------------------------------


def test_every_port_has_cases() -> None:
    named = {"text", "masked", "translation", "speech", "image", "text-class"}
    assert named <= set(ports())


def test_logits_of_a_batch_are_those_of_plain_transformers_on_each_example_alone(case: Case) -> None:
    made = batch(case)
    logits = case.subject.run(made.inputs).logits
    for i, (e, encoded) in enumerate(zip(case.examples, made.encoded, strict=True)):
        fields, at = by_hand(case.subject, e)
        own = case.subject.model(**fields).logits[0]
        expected = own[None] if own.dim() == 1 else own[at]
        assert expected.std() > 0.1
        assert_close(logits[i, list(encoded.scored)], expected, atol=2e-5, rtol=1e-5)


def test_targets_are_what_is_asked_for_and_lengths_are_the_examples_own(case: Case) -> None:
    made, n_stacks = batch(case), set(case.subject.stacks)
    for e, encoded in zip(case.examples, made.encoded, strict=True):
        assert set(encoded.lengths) == n_stacks
        assert len(encoded.scored) == len(encoded.targets)
        assert max(encoded.scored) < encoded.lengths[case.subject.readout]
        assert encoded.foil is None or encoded.foil[1] != encoded.targets[encoded.foil[0]]
        labels = [port_of(case.subject).answer_label(case.subject, int(t)) for t in encoded.targets]
        joined = "".join(label.strip() for label in labels)
        assert joined.replace("</s>", "").replace("<|endoftext|>", "").startswith(e.target.replace(" ", ""))
    assert made.inputs.lengths == tuple(e.lengths[case.subject.readout] for e in made.encoded)


def test_scores_depend_on_neither_other_rows_nor_padding(case: Case) -> None:
    (together,), _ = score(case.subject, case.examples, lambda _: [intact(case.subject)])
    for i, e in enumerate(case.examples):
        (alone,), _ = score(case.subject, [e], lambda _: [intact(case.subject)])
        for name in ("nll", "foil_margin", "rank", "correct", "tokens"):
            one, all_ = getattr(alone, name)[0], getattr(together, name)[i]
            assert np.isclose(one, all_, atol=1e-5, rtol=1e-5, equal_nan=True), (name, one, all_)


def test_examples_and_twins_are_as_long_as_each_other_where_the_task_says_so(case: Case) -> None:
    """All but translations into another language, whose answers are as long as they are."""
    port = port_of(case.subject)
    for e in case.examples:
        if e.twin_inputs is None or e.foil is None:
            continue
        first, second = (
            port.encode(case.subject, x) for x in (replace(e, foil=None), replace(e.as_twin(e.target), foil=None))
        )
        assert first.lengths == second.lengths
        assert first.scored == second.scored
        assert first.identity != second.identity


def test_what_a_port_calls_a_position_there_is_one_for_each(case: Case) -> None:
    port = port_of(case.subject)
    for e in case.examples:
        encoded = port.encode(case.subject, e)
        assert len(port.labels(case.subject, e)) in (encoded.lengths[encoded.reads], encoded.before)
        if e.twin_inputs is not None:
            assert len(port.labels(case.subject, e, twin=True)) > 0
        for stack in case.subject.stacks if len(case.subject.stacks) > 1 else ():
            assert len(port.labels(case.subject, e, stack=stack)) == encoded.lengths[stack]


def test_noise_is_scored_like_an_example(case: Case) -> None:
    port = port_of(case.subject)
    drawn = port.noise(case.subject, 3, 6, torch.Generator().manual_seed(1))
    logits = case.subject.run(port.inputs(case.subject, drawn)).logits
    assert logits.isfinite().all()
    again = port.noise(case.subject, 3, 6, torch.Generator().manual_seed(1))
    assert [e.identity for e in drawn] == [e.identity for e in again]
    assert len({e.identity for e in drawn}) == 3


# -- identity ----------------------------------------------------------------------------------------------------------


def test_patching_an_example_with_itself_changes_nothing_anywhere(case: Case) -> None:
    made, subject = batch(case), case.subject
    sites = [Site(s.name, b, kind) for s in subject.stacks.values() for b in (0, len(s.blocks) - 1) for kind in s.kinds]
    assert not any(s.cross_o_proj for s in subject.stacks.values()) or any(s.kind == "cross.out" for s in sites)
    plain = subject.run(made.inputs, capture=sites)
    for site in sites:
        value = plain.captured[site]
        changed = subject.run(made.inputs, edits=[Edit(site, "set", value)]).logits
        assert_close(changed, plain.logits, atol=2e-5, rtol=1e-5)
        other = subject.run(made.inputs, edits=[Edit(site, "set", torch.zeros_like(value))]).logits
        at = made.rows, made.columns
        if site.kind in ("resid_pre", "cross.out") and site.block == 0:
            assert not torch.allclose(other[at], plain.logits[at], atol=1e-3), site


def test_a_sweep_over_both_stacks_is_separate_runs_and_runs_each_encoder_output_once(across: Case) -> None:
    made, subject = batch(across), across.subject
    first, last = (subject.spec(n) for n in ("encoder", "decoder"))
    n, m = len(first.blocks), len(last.blocks)
    generator = torch.Generator().manual_seed(0)

    def edit(stack: str, block: int, kind: Any) -> Edit:
        width = subject.spec(stack).width
        return Edit(Site(stack, block, kind), "add", torch.randn(width, generator=generator))

    inside, cross, late = (
        edit("encoder", n - 1, "mlp.out"),
        edit("decoder", 0, "cross.out"),
        edit("decoder", m - 1, "mlp.out"),
    )
    whole, shorter, skipping = tuple(range(n)), tuple(range(n - 1)), (0, *range(2, n))
    decoders = [(), (late,), (cross, late)]
    encoders = [(whole, ()), (shorter, ()), (skipping, ()), (whole, (inside,))]
    plans = [(blocks, (*e, *d)) for blocks, e in encoders for d in decoders]
    variants = [subject.variant({"encoder": blocks}, changes) for blocks, changes in plans]
    with_last = subject.variant({"encoder": whole, "decoder": tuple(range(m - 1))}, (inside,))
    finals, cost = subject.sweep(made.inputs, [*variants, with_last], lambda h, _: h.clone())
    for found, (blocks, changes) in zip(finals, plans, strict=False):
        run = subject.run(made.inputs, {"encoder": blocks}, changes)
        assert_close(found, run.final, atol=1e-4, rtol=1e-4)
    run = subject.run(made.inputs, {"encoder": whole, "decoder": tuple(range(m - 1))}, (inside,))
    assert_close(finals[-1], run.final, atol=1e-4, rtol=1e-4)
    apart = [finals[i] for i in range(len(finals))]
    assert all(not torch.allclose(a, b, atol=1e-3) for i, a in enumerate(apart) for b in apart[:i])
    # Encoder: the whole one with the shorter as its start, what follows the skipped block, and the edited last block.
    in_encoder = n + (n - 2) + 1
    in_decoder = len(encoders) * (
        m + 1 + m
    )  # the plain one, its late edit, and all of it where the first block is edited
    assert cost.edges == in_encoder + in_decoder  # the decoder without its last block is a start of the plain one


# -- anchors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stack", "found"),
    [
        ("gpt2", "decoder", {"second": [2], "middle": [2, 3]}),  # after <s> and the first word
        ("bert", "encoder", {"second": [2], "middle": [2, 3]}),
        ("m2m100", "encoder", {"second": [1], "middle": [1, 2]}),
        ("m2m100_front", "encoder", {"second": [2], "middle": [2, 3]}),  # after __a__ and the first word
        ("marian", "encoder", {"second": [2], "middle": [2, 3]}),
        ("whisper", "encoder", {"second": [2]}),  # positions of 111 ms
        ("vit", "encoder", {"second": [2]}),  # after [CLS] and the first patch of two rows of three
        ("bert_classifier", "encoder", {"second": [2], "middle": [2, 3]}),
        ("gpt2_classifier", "decoder", {"second": [2], "middle": [2, 3]}),
    ],
)
def test_a_span_is_the_positions_of_what_it_means(
    name: str, stack: str, found: dict[str, list[int]], case_of: Callable[[str], Case]
) -> None:
    case = case_of(name)
    port, e = port_of(case.subject), case.examples[0]
    assert {role: port.span(case.subject, e, role, stack) for role in e.spans} == found


@pytest.mark.parametrize(
    ("box", "patches"),
    [
        ((0, 0, 5, 5), [1]),
        ((10, 5, 15, 10), [6]),
        ((4, 4, 6, 6), [1, 2, 4, 5]),  # it touches four
        ((0, 5, 15, 6), [4, 5, 6]),
        ((0, 0, 15, 10), [1, 2, 3, 4, 5, 6]),
    ],
)
def test_a_box_is_the_patches_that_it_touches(box: Any, patches: list[int], case_of: Callable[[str], Case]) -> None:
    case = case_of("vit")
    e = replace(case.examples[0], spans={"part": box})
    assert port_of(case.subject).span(case.subject, e, "part", "encoder") == patches


def test_a_box_in_a_larger_image_or_a_larger_twin_is_the_same_part_of_it(case_of: Callable[[str], Case]) -> None:
    case = case_of("vit")
    port, large = port_of(case.subject), picture(1, 100, 150)
    e = Example(
        {"image": large},
        "LABEL_1",
        "LABEL_2",
        {"image": picture(2)},
        spans={"part": (50, 0, 100, 50)},
        twin_spans={"part": (5, 0, 10, 5)},
    )
    assert port.span(case.subject, e, "part", "encoder") == [2]
    assert port.span(case.subject, e, "part", "encoder", twin=True) == [2]
    swapped = e.as_twin("LABEL_2")
    assert port.span(case.subject, swapped, "part", "encoder") == [2]
    assert port.span(case.subject, swapped, "part", "encoder", twin=True) == [2]


@pytest.mark.parametrize(
    ("span", "positions"),
    [((0, 111), [0]), ((110, 112), [0, 1]), ((0, 999), list(range(9))), ((900, 5000), [8]), ((333, 444), [3])],
)
def test_a_stretch_of_time_is_the_positions_that_hear_it(
    span: Any, positions: list[int], case_of: Callable[[str], Case]
) -> None:
    case = case_of("whisper")
    e = replace(case.examples[0], spans={"part": span})
    assert port_of(case.subject).span(case.subject, e, "part", "encoder") == positions


def test_the_built_in_subjects_words_are_where_their_spans_say(case_of: Callable[[str], Case]) -> None:
    for name in ("demo", "masked", "translator", "translator-front"):
        case = case_of(name)
        port, stack = port_of(case.subject), next(iter(case.subject.stacks))
        for e in case.examples:
            labels, text = port.labels(case.subject, e, stack=stack), str(next(iter(e.inputs.values())))
            for role, (a, b) in e.spans.items():
                found = "".join(labels[i] for i in port.span(case.subject, e, role, stack)).strip()
                assert found.replace(" ", "") == re.sub(r"\s", "", text[a:b]) or role == "shots", (name, role)
    case = case_of("speech")  # a position is 20 ms
    e = replace(case.examples[0], spans={"word": (80, 338)})
    assert port_of(case.subject).span(case.subject, e, "word", "encoder") == list(range(4, 17))
    case = case_of("shapes")  # eight by eight patches of 4 x 4 pixels
    e = replace(case.examples[0], spans={"decoy": (24, 24, 32, 32)}, span_labels={})
    assert port_of(case.subject).span(case.subject, e, "decoy", "encoder") == [55, 56, 63, 64]


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_span_that_is_not_there_is_refused_with_those_there_are(case: Case) -> None:
    port, stack = port_of(case.subject), next(iter(case.subject.stacks))
    with pytest.raises(PortError) as error:
        port.span(case.subject, case.examples[0], "nowhere", stack)
    assert all(role in str(error.value) for role in case.examples[0].spans)


def test_a_span_of_the_source_is_not_in_the_decoder(across: Case) -> None:
    role = next(iter(across.examples[0].spans))
    with pytest.raises(PortError, match="encoder"):
        port_of(across.subject).span(across.subject, across.examples[0], role, "decoder")


def test_examples_of_another_modality_are_refused_with_what_is_read(case: Case) -> None:
    port, own = port_of(case.subject), case.subject
    others = [
        {"prompted": "w10"},
        *([] if port.name == "speech" else [{"audio": sound(1)}]),
        *([] if port.name == "image" else [{"image": picture(1)}]),
    ]
    for given in others:
        task = Task("other", "", lambda *_: iter(()))
        with pytest.raises(PortError, match=port.reads[0]):
            port.check(own, task, [Example(given, case.examples[0].target)])


@pytest.mark.parametrize(
    ("name", "example", "says"),
    [
        ("bert", Example({"masked": words(10, 11)}, "w40"), "0 of <mask>"),
        ("bert", Example({"masked": "w10 <mask>"}, "w40 w41"), "write one for each"),
        ("vit", Example({"image": picture(1)}, "LABEL_99"), "LABEL_0, LABEL_1"),
        ("vit", Example({"image": sound(1)}, "LABEL_1"), "height, width, channels"),
        ("vit", Example({"image": Signal(np.zeros((10, 15, 4), np.uint8), "four")}, "LABEL_1"), "3 channels"),
        ("vit", Example({"image": Signal(np.zeros((10, 15, 3), np.float32), "real")}, "LABEL_1"), "uint8"),
        ("whisper", Example({"audio": picture(1)}, "w40"), "one channel"),
        ("bert_classifier", Example({"text": "w10"}, "nonsense"), "LABEL_0, LABEL_1"),
        ("m2m100", Example({"source": "w10", "into": "__c__"}, "w40"), "__c__"),
        ("m2m100_front", Example({"source": "w10", "into": "__c__"}, "w40"), "__c__"),
        ("m2m100", Example({"source": "w10 lost", "into": "__a__"}, "w40"), "lost"),
        ("m2m100_front", Example({"source": "w10 lost", "into": "__a__"}, "w40"), "lost"),
        ("marian", Example({"source": "w10", "into": "__c__"}, "w40"), "__c__"),
        ("whisper", Example({"audio": sound(1)}, "w40 lost"), "lost"),
        ("bert", Example({"masked": "lost <mask>"}, "w40"), "lost"),
        ("gpt2", Example({"text": "w10 lost"}, " w40"), "lost"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_would_be_valid(
    name: str, example: Example, says: str, case_of: Callable[[str], Case]
) -> None:
    case = case_of(name)
    with pytest.raises(PortError, match=re.escape(says)):
        port_of(case.subject).check(case.subject, Task("mine", "", lambda *_: iter(())), [example])


def test_a_span_after_what_is_heard_and_a_span_of_another_kind_are_refused(case_of: Callable[[str], Case]) -> None:
    heard, seen = case_of("whisper"), case_of("vit")
    late = replace(heard.examples[0], spans={"part": (2000, 2100)})
    with pytest.raises(PortError, match="999 ms"):
        port_of(heard.subject).span(heard.subject, late, "part", "encoder")
    box = replace(heard.examples[0], spans={"part": (0, 0, 5, 5)})
    with pytest.raises(PortError, match="no such span of time"):
        port_of(heard.subject).span(heard.subject, box, "part", "encoder")
    outside = replace(seen.examples[0], spans={"part": (20, 0, 30, 5)})
    with pytest.raises(PortError, match="15 x 10"):
        port_of(seen.subject).span(seen.subject, outside, "part", "encoder")


# -- words -------------------------------------------------------------------------------------------------------------


def test_what_it_writes_is_what_the_models_own_generate_gives(case: Case) -> None:
    port, subject, examples = port_of(case.subject), case.subject, case.examples
    said = port.write(subject, examples)
    encoded = [port.encode(subject, e) for e in examples]
    for e, own, enc in zip(examples, said, encoded, strict=True):
        fields, at = by_hand(subject, e)
        if port.name in ("image", "text-class"):
            logits = subject.model(**fields).logits[0]
            assert own == subject.model.config.id2label[int(logits.argmax())]
            continue
        if port.name == "masked":
            ids = subject.model(**fields).logits[0][at].argmax(-1)
            assert own == subject.tokenizer.decode(ids).strip()
            continue
        settings: dict[str, Any] = {"do_sample": False, "num_beams": 1}
        if port.name == "text":
            n = len(enc.tokens)
            fields = {k: v[:, :n] for k, v in fields.items()}
            longest = max(len(x.targets) for x in encoded) + 1
            ids = subject.model.generate(**fields, max_new_tokens=longest, **settings)[0]
            text = subject.tokenizer.decode(ids).removeprefix(subject.tokenizer.decode(ids[:n]))
            assert own == said_in(text, e.target)
            continue
        prefix, limit = len(enc.fields["prefix"]), 5 + len(enc.targets) * 3 // 2
        if prefix == 2:
            settings["forced_bos_token_id"] = enc.fields["prefix"][1]
        fields.pop("decoder_input_ids")
        first = enc.fields["prefix"][0]
        start = torch.tensor([[first]])
        ids = GenerationMixin.generate(
            subject.model, **fields, decoder_input_ids=start, decoder_start_token_id=first,
            max_new_tokens=limit + prefix - 1, **settings
        )[0].tolist()[prefix:]  # fmt: skip
        end = subject.model.config.eos_token_id
        assert own == subject.tokenizer.decode(ids[: ids.index(end)] if end in ids else ids).strip()


def test_what_the_trained_ones_write_is_mostly_right(case_of: Callable[[str], Case]) -> None:
    for name in sorted(
        set(BUILT_IN) - {"masked", "shapes-decoy"}
    ):  # the one chooses between two words, the other is misled
        case = case_of(name)
        port = port_of(case.subject)
        right = [
            said.split() == e.target.split()
            for said, e in zip(port.write(case.subject, case.examples), case.examples, strict=True)
        ]
        assert sum(right) >= 3, name


def test_writing_under_a_program_and_edits_is_not_writing_without(across: Case) -> None:
    port, subject = port_of(across.subject), across.subject
    plain = port.write(subject, across.examples)
    whole = {name: tuple(range(len(s.blocks))) for name, s in subject.stacks.items()}
    assert port.write(subject, across.examples, program=whole) == plain
    assert port.write(subject, across.examples, program={"decoder": (0,)}) != plain
    assert port.write(subject, across.examples, max_tokens=1) == plain  # one by one


# -- judging -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "n"),
    [
        ("", "", 0),
        ("abc", "", 3),
        ("", "abc", 3),
        ("kitten", "sitting", 3),
        ("flaw", "lawn", 2),
        ("abc", "abc", 0),
        ("ab", "ba", 2),
        ("a b c".split(), "a x c d".split(), 2),
    ],
)
def test_the_edit_distance_is_the_least_number_of_edits(a: Any, b: Any, n: int) -> None:
    assert edits(a, b) == n == edits(b, a)


@pytest.mark.parametrize(
    ("target", "said", "expected"),
    [
        (
            "one two",
            "one two",
            {"exact": (1, 1), "wer": (0, 2), "cer": (0, 7), "repeated": (0, 2), "not_there": (0, 2)},
        ),
        ("one two", "", {"exact": (0, 1), "wer": (2, 2), "cer": (7, 7)}),
        (
            "one two",
            "one one two",
            {"exact": (0, 1), "wer": (1, 2), "cer": (4, 7), "repeated": (1, 3), "not_there": (0, 3)},
        ),
        ("a b a", "a b a", {"exact": (1, 1), "wer": (0, 3), "cer": (0, 5), "repeated": (0, 3), "not_there": (0, 3)}),
        ("one", "two two", {"exact": (0, 1), "wer": (2, 1), "cer": (6, 3), "repeated": (1, 2), "not_there": (2, 2)}),
        ("", "", {"exact": (1, 1)}),
        ("", "hum", {"exact": (0, 1), "repeated": (0, 1), "not_there": (1, 1)}),
    ],
)
def test_what_was_said_is_judged_by_counts(target: str, said: str, expected: dict[str, tuple[int, int]]) -> None:
    assert judged(target, said) == expected


def test_the_word_error_rate_is_errors_over_words_and_not_a_mean_of_ratios() -> None:
    pairs = [("one", "two"), ("a b c d e f g h i", "a b c d e f g h i")]
    found = [judged(*p)["wer"] for p in pairs]
    assert sum(n for n, _ in found) / sum(w for _, w in found) == pytest.approx(1 / 10)
    assert np.mean([n / w for n, w in found]) == pytest.approx(1 / 2)


def test_a_port_without_a_measure_of_its_own_says_right_or_wrong(case_of: Callable[[str], Case]) -> None:
    case = case_of("vit")
    e = case.examples[1]
    assert port_of(case.subject).judge(e, "LABEL_1") == {"right": (1.0, 1.0)}
    assert port_of(case.subject).judge(e, "LABEL_2") == {"right": (0.0, 1.0)}


def test_images_are_prepared_as_the_processors_settings_say(case_of: Callable[[str], Case]) -> None:
    plain, large = case_of("vit").subject, picture(3, 20, 30)

    def made(**settings: Any) -> Any:
        subject = copy.copy(plain)
        subject.processor = {**plain.processor, **settings}
        return port_of(subject).encode(subject, Example({"image": large}, "LABEL_1")).fields["read"]

    small = np.asarray(Image.fromarray(large.data).resize((15, 10), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert_close(made(resample=3, do_normalize=False), torch.tensor(small / 255).float())
    assert_close(made(resample=3, do_normalize=False, do_rescale=False), torch.tensor(small).float())
    with pytest.raises(PortError, match="do_center_crop"):
        made(do_center_crop=True)


# -- models of several languages -----------------------------------------------------------------------------------------


@pytest.fixture
def multilingual(case_of):
    """A Whisper of random weights whose generation settings are those of the models that know several languages."""
    case = case_of("whisper")
    settings = case.subject.model.generation_config
    told = {"lang_to_id": {"<|en|>": 10, "<|de|>": 11}, "task_to_id": {"translate": 12, "transcribe": 13}, "no_timestamps_token_id": 14}
    for name, value in told.items():
        setattr(settings, name, value)
    yield case
    for name in told:
        delattr(settings, name)


def test_a_model_of_several_languages_is_told_language_and_task_as_transformers_tells_it(multilingual):
    subject, port = multilingual.subject, port_of(multilingual.subject)
    (e, *_) = multilingual.examples
    features = torch.stack([port.encode(subject, e).fields["read"]])
    for into, code in (("<|de|>", "de"), ("de", "de"), (None, "en")):
        given = e if into is None else replace(e, inputs={**e.inputs, "into": into})
        settings = {**subject.model.generation_config.to_dict(), "language": code, "task": "transcribe", "return_timestamps": False}
        own = subject.model._retrieve_init_tokens(features, 1, SimpleNamespace(**settings), subject.model.config, 36, {})
        encoded = port.encode(subject, given)
        assert list(encoded.fields["prefix"]) == own[0].tolist()
        assert encoded.scored[0] == encoded.before - 1 == len(own[0]) - 1
    with pytest.raises(PortError, match=r"'fr' is no language token of .*; it knows <\|en\|>, <\|de\|>"):
        port.encode(subject, replace(e, inputs={**e.inputs, "into": "fr"}))


def test_a_twin_of_random_weights_is_told_the_language_that_its_model_is_told(multilingual):
    subject, e = multilingual.subject, replace(multilingual.examples[0], inputs={**multilingual.examples[0].inputs, "into": "de"})
    own = port_of(subject).encode(subject, e).fields["prefix"]
    assert 11 in own
    for twin in (null_twin(subject), random_twin(subject, 3)):
        assert port_of(twin).encode(twin, e).fields["prefix"] == own


def test_a_model_of_one_language_is_told_none(case_of):
    case = case_of("whisper")
    e = replace(case.examples[0], inputs={**case.examples[0].inputs, "into": "<|de|>"})
    with pytest.raises(PortError, match="it knows one language"):
        port_of(case.subject).encode(case.subject, e)


@pytest.mark.parametrize("name", ["whisper", "m2m100"])
def test_what_is_written_to_an_example_does_not_depend_on_those_beside_it(case_of, name):
    case = case_of(name)
    port = port_of(case.subject)
    together = port.write(case.subject, case.examples)
    assert together == [port.write(case.subject, [e])[0] for e in case.examples]
    assert len({len(t.split()) for t in together}) > 1  # answers of different lengths, none of which comes to an end


@pytest.mark.parametrize(("k", "vocab"), [(1, 9), (3, 9), (130, 2**15), (257, 2**14 + 3)])
def test_what_is_read_over_a_vocabulary_has_the_same_bits_in_any_number_of_pieces(k, vocab):
    logits = torch.randn(k, vocab, generator=torch.Generator().manual_seed(k))
    own = logits[:, :1].clone()
    whole, said, above = vocabulary.over_vocabulary(logits, own)
    assert k * vocab < vocabulary.PIECE or k * vocab >= 2 * vocabulary.PIECE
    assert torch.equal(whole, logits.logsumexp(-1))
    assert torch.equal(said, logits.argmax(-1))
    assert torch.equal(above, (logits > own).sum(-1))
    base, among = logits.flip(0)[:7].mul(0.5).log_softmax(-1), torch.arange(3, 3 + k) % min(7, k)
    wanted = (base[among].exp() * (base[among] - logits.log_softmax(-1))).sum(-1)
    assert torch.equal(vocabulary.divergence(base, among, logits), wanted)


@pytest.mark.parametrize(("k", "vocab"), [(1, 9), (3, 9), (130, 2**15), (257, 2**14 + 3)])
@pytest.mark.parametrize("compared", [False, True])
def test_what_is_read_quickly_is_the_same_and_does_not_depend_on_the_pieces(k, vocab, compared):
    logits = 4 * torch.randn(k, vocab, generator=torch.Generator().manual_seed(k))
    logits[0, 3:5] = 99.0  # two that are likeliest: the first counts, and neither is above the other
    targets = torch.arange(k) % 7 + 3
    base, among = logits.flip(0)[:7].mul(0.5).log_softmax(-1), torch.arange(3, 3 + k) % min(7, k)
    nll, said, above, kl = vocabulary.quickly(logits, targets, *(((base, base.exp()), among) if compared else (None, None)))
    own = logits.gather(1, targets[:, None])
    torch.testing.assert_close(nll, logits.double().logsumexp(-1).float() - own[:, 0], rtol=1e-5, atol=1e-5)
    assert torch.equal(said, logits.argmax(-1))
    assert torch.equal(above, (logits > own).sum(-1))
    if compared:
        torch.testing.assert_close(kl, vocabulary.divergence(base, among, logits), rtol=1e-5, atol=1e-5)
    else:
        assert kl.isnan().all()
    alone = [vocabulary.quickly(logits[i : i + 1], targets[i : i + 1], None, None) for i in range(min(k, 20))]
    for i, row in enumerate(alone):
        assert all(torch.equal(a[0], b[i]) for a, b in zip(row[:3], (nll, said, above), strict=True))


def test_batches_have_rows_of_nearly_one_length_but_for_the_first_few_and_as_they_were_in_earlier_records():
    subject = load_subject("demo").watched(lambda: None)
    examples = get_task("addition").examples("explore", 128)
    sizes = [port_of(subject).encode(subject, e).size for e in examples]
    for engine, alike in ((4, True), (3, False)):
        subject.engine = engine
        found = microbatches(subject, examples)
        assert sorted(i for b in found for i in b.indices) == list(range(128))
        spread = [max(sizes[i] for i in b.indices) / min(sizes[i] for i in b.indices) for b in found]
        assert (max(spread) <= 1.1) == alike
    subject.engine = 4
    few = [examples[i] for i in sorted(range(128), key=lambda i: sizes[i])[::12]]
    assert [len(b.indices) for b in microbatches(subject, few)] == [8, 3], "eight rows are enough for a batch, and no fewer"


def test_examples_of_several_tasks_share_batches_and_each_is_answered_as_by_itself(monkeypatch):
    subject = load_subject("demo").watched(lambda: None)
    names = ("addition", "agreement", "copying", "indirect_object")
    asked = [(get_task(n), get_task(n).examples("explore", 24)) for n in names]
    kinds = {None if (c := scoring.closed_tokens(subject, e, t.choices)) is None else c.shape[1] for t, e in asked}
    assert len(kinds) > 1, "some are chosen among choices, and others are not"
    variants = [subject.variant(), subject.variant({subject.readout: (0, 2, 3)})]
    ran = list[int]()
    sweep = Subject.sweep
    monkeypatch.setattr(Subject, "sweep", lambda s, inputs, *a, **k: ran.append(1) or sweep(s, inputs, *a, **k))
    alone = [score(subject, e, lambda _: variants, choices=t.choices)[0] for t, e in asked]
    apart, ran[:] = len(ran), []
    together = scoring.score_tasks(subject, asked, variants)
    assert len(ran) < apart
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(one, other, strict=True):
            for name in ("correct", "tokens", "rank", "token_owner"):
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)
            for name in ("nll", "foil_margin", "token_logits"):
                np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-4, err_msg=name)
            assert a.said == b.said
    subject.engine = 3
    before = [score(subject, e, lambda _: variants, choices=t.choices)[0] for t, e in asked]
    for one, other in zip(before, scoring.score_tasks(subject, asked, variants), strict=True):
        assert all(np.array_equal(a.nll, b.nll) for a, b in zip(one, other, strict=True))


def test_a_task_with_several_right_answers_shares_no_batch_with_one_whose_answers_are_several_tokens():
    subject = load_subject("demo")
    task, two = get_task("addition"), get_task("addition:digits=2x2")
    several = [replace(e, accepted=(e.target, " 0")) for e in task.examples("explore", 8)]
    found = scoring.score_tasks(subject, [(task, several), (two, two.examples("explore", 8))], [subject.variant()])
    assert [len(s[0].nll) for s in found] == [8, 8]
    assert "set_errors" in found[0][0].others and "set_errors" not in found[1][0].others
