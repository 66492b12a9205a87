"""No quantity reaches the report but through a reference; names of places, handles, tasks and examples may hold figures."""

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
        "½ of them", "about ¾", "② of them", "Ⅳ in all", "fourfold", "three-fold", "hundredfold", "it falls to zero", "nought", "5 ‰",
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
        "Zero and resample ablation agree.", "1.0 attends to the operator.", "It's the model's own way: that's all.",
    ],
)  # fmt: skip
def test_names_may_hold_figures(ctx, text):
    check_references(ctx, text, digits=True)


def test_only_a_quotation_of_the_examples_may_hold_figures(ctx):
    prompt = ctx.tasks.get("addition").examples("explore", 4, 0)[0].prompt
    check_references(ctx, f"On '{prompt}' it hesitates.", digits=True)
    with pytest.raises(ToolInputError, match="typed by hand"):
        check_references(ctx, f"On '{prompt} 0.97' it hesitates.", digits=True)
