"""No quantity reaches the report but through a reference; names of places, handles, tasks and examples may hold figures."""

import re

import pytest

from tools.findings.wording import check_references
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, ToolInputError
from tools.subjects import load_subject


class Record(Nothing):
    """A history with one experiment on addition."""

    def unresolved(self, text):
        return []

    def handles(self, letter):
        return ["E1"] if letter == "E" else []

    def measurements_of(self, handle):
        from experiments_db.records import Measurement

        return [Measurement(name="accuracy", value=0.97, unit="share of examples", n=4, task="addition")]

    def select(self, *_):
        return []


@pytest.fixture(scope="module")
def ctx():
    return Context(load_subject("demo"), OfflineTasks([]), Record())


@pytest.mark.parametrize(
    "text",
    [
        "accuracy 0.97", "0.97 and it's clear", "it's 0.97 and that's so", "it's .97 there", "97 percent of examples", "97% of them", "nine out of ten",
        "half of the time", "two thirds", "it falls by 3", "'0.97'", "`97%`", "n = 128", "twice as many", "a tenfold drop", "1e-5",
        "accuracy is 0.3", "about 1.0 of the effect", "seven in eight sums", "１２", "effect of 0.5 nats", "0.9 % there", "block 3: 97%",
        "score:value=0.97", "“97 percent”", "1,000 examples", "a hundred sums", "-2.5 logits", "heads 0.97",
        "zero of them", "zero accuracy", "drops under zero", "near zero", "the mean and zero digits", "tens of sums", "hundreds of sums",
        "half a nat", "a dozen", "several dozen sums", "½ of them", "about ¾", "② of them", "Ⅳ in all", "fourfold", "three-fold", "hundredfold", "it falls to zero", "nought", "5 ‰",
    ],
)  # fmt: skip
def test_a_quantity_typed_by_hand_is_refused(ctx, text):
    with pytest.raises(ToolInputError, match="typed by hand"):
        check_references(ctx, text, digits=True)


@pytest.mark.parametrize(
    "text",
    [
        "The MLP of block 0 adds.", "Heads 0 and 3 of block 0 read the operands.", "Head 1.0 looks at the operands.",
        "heads 0.3, 1.0 and 5.2 do it", "MLPs 1 to 5 refine it", "Attention of blocks 1-5 is spared.", "It rests on E3 and F2 (Q1).",
        "decoder.0.attn.z[0,3]@answer carries it", "position -2 decides", "addition:digits=1x1 is easier", "{{E1.accuracy}} of examples",
        "The two heads work together.", "One of them is enough.", "Under zero ablation it fails.",
        "Zero and resample ablation agree.", "Under zero it fails.", "Zeroed, it is missed.", "Both zero and resample agree.",
        "Resampled or zero, it is missed.", "Zero-ablating it breaks both.", "zero/resample", "with `zero` it fails",
        "the intervention zero", "needed under mean and zero", "L1H3 copies", "the 2nd block and MLP3", "block #2", "1.0 attends to the operator.", "It's the model's own way: that's all.",
    ],
)  # fmt: skip
def test_names_may_hold_figures(ctx, text):
    check_references(ctx, text, digits=True)


def test_only_a_quotation_of_the_examples_may_hold_figures(ctx):
    prompt = ctx.tasks.get("addition").examples("explore", 4, 0)[0].prompt
    check_references(ctx, f"On '{prompt}' it hesitates.", digits=True)
    with pytest.raises(ToolInputError, match="typed by hand"):
        check_references(ctx, f"On '{prompt} 0.97' it hesitates.", digits=True)


@pytest.mark.parametrize(
    "text",
    [
        "a dozen heads", "dozens of heads", "a handful of examples", "half the heads", "half of the heads", "a couple of sums",
        "two thirds of heads", "it doubled", "it doubles and triples", "accuracy is halved", "quadrupled", "fifteen percentage points", "the tenth percentile",
        "vierzig Prozent", "siebenundneunzig Prozent", "in fünf von sechs", "die Hälfte", "doppelt so viel", "ein Dutzend",
        "douze sur vingt", "quarante pour cent", "la moitié", "une douzaine", "cuarenta por ciento", "la mitad", "noventa y siete",
        "veintitrés", "quaranta per cento", "novantasette", "una dozzina", "noventa por cento", "três quartos", "metade", "veertig procent",
        "zevenennegentig", "de helft", "dziewięćdziesiąt", "połowa z dwa", "fyrtio procent", "сорок процентов", "половина",
        "٩٧", "۹۷", "९७", "九十七", "x²", "⁹⁷", "₉", "Ⅳ", "ⅷ", "①", "𝟗𝟕", "XCVII", "VIII of X", "nine\u00adty", "nine\u200bty",
        "fü\u00adnf", "‱",
    ],
)  # fmt: skip
def test_a_quantity_in_other_words_signs_and_languages_is_refused(ctx, text):
    with pytest.raises(ToolInputError, match="typed by hand"):
        check_references(ctx, text, digits=True)


@pytest.mark.parametrize(
    "text",
    [
        "Most of it is due to the MLP, and once it is removed little is left.", "Someone might seize on that: it is often so.",
        "None of the others weighs as much.", "It zig-zags from Leipzig to Trenton.", "Quarantine and ventilation are words.",
        "An elf dozes; a cent is a coin.", "The heads couple to one another, and one of them is alone.", "Meta-learning is no part of it.",
        "The content of the context is attended to.", "A type III error, or an MLP's CLI.", "The third head and the first block.",
        "Two heads, three MLPs and the second operand.", "Both tasks rest on it; neither is freighted by height.",
        "Many examples fail, some hold, several are mixed.", "The tender is often eventually attended.", "Otto gave Sven a mil.",
        "A trenchant, tiered word: no.", "The stream is extended; the residual is attenuated.", "The attention heads agree.",
        "It is a score of the head, not a share.", "Señor Núñez étudie l'espèce.", "Three attention heads write it.", "A quint and a sextet.",
    ],
)  # fmt: skip
def test_ordinary_words_are_let_through(ctx, text):
    check_references(ctx, text, digits=True)


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("heads 95 does it", "heads 0 to 3"), ("block 40 adds", "blocks are 0 to 5"), ("Layer 6 is the last.", "blocks are 0 to 5"),
        ("decoder.99.mlp carries it", "decoder has blocks 0 to 5"), ("decoder.99.mlp.out@answer", "decoder has blocks 0 to 5"),
        ("encoder.0.mlp.out", "no stack 'encoder'; it has decoder"), ("decoder.0.mlp.sideways", "parts of a block are"),
        ("decoder.0.attn.z[9]@answer", "heads are 0 to 3"), ("Heads 1 and 7 of block 2", "heads 0 to 3"), ("MLP 6 adds", "blocks are 0 to 5"),
        ("MLPs 2, 3 and 8", "blocks are 0 to 5"), ("blocks 4-9", "blocks are 0 to 5"), ("head 2.7 copies", "heads 0 to 3"),
        ("head 7.1 copies", "blocks are 0 to 5"), ("attention 11", "blocks are 0 to 5"), ("the ninth block", "blocks are 0 to 5"),
        ("the fortieth layer", "blocks are 0 to 5"), ("the fifth head", "heads 0 to 3"), ("all ninety heads", "heads 0 to 3"),
        ("seven MLPs", "blocks are 0 to 5"), ("L9H1 copies", "no L9H1 in demo: blocks are 0 to 5"), ("L1H7", "heads 0 to 3"),
        ("MLP9 adds", "blocks are 0 to 5"), ("block nine adds", "no block nine in demo: blocks are 0 to 5"), ("head seven", "heads 0 to 3"),
        ("the 9th block", "blocks are 0 to 5"), ("layer-9", "blocks are 0 to 5"), ("block #9", "blocks are 0 to 5"), ("neuron 99999", "neurons 0 to"), ("`block 40`", "blocks are 0 to 5"),
    ],
)  # fmt: skip
def test_a_place_that_does_not_exist_is_refused_with_what_does(ctx, text, there):
    with pytest.raises(ToolInputError, match=re.escape(there)):
        check_references(ctx, text, digits=True)


@pytest.mark.parametrize(
    "text",
    [
        "block 5 and head 3.2", "heads 0 to 3 of blocks 0-5", "decoder.5.attn.z[3]@answer", "decoder.0.mlp", "decoder.0.attn.out and mine.jsonl",
        "e.g. MLP 0, i.e. the first", "position 40 and token 9", "the sixth block", "six MLPs and four heads", "{{E1.accuracy}} at layer 3",
        "decoder.1.attn.pattern[0]@answer<-operand1",
    ],
)  # fmt: skip
def test_a_place_that_exists_may_be_named(ctx, text):
    check_references(ctx, text, digits=True)
