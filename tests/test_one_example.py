"""One example laid open on models that read something else than text to continue."""

import pytest

from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, ToolInputError, discover
from tools.subjects import load_subject


def opened(subject, **given):
    tool = discover()["illustrate"]
    return tool.run(tool.parse(given), Context(subject, OfflineTasks([]), Nothing()))


def of(outcome, name, variant="as it is"):
    return next(m.value for m in outcome.measurements if m.name == name and m.variant == variant)


@pytest.fixture(scope="module")
def masked():
    return load_subject("masked")


def test_a_gap_of_ones_own_is_filled_and_the_gap_alone_answers(masked):
    own = opened(masked, text="the cats near the house [MASK] loud")
    said = own.text.splitlines()[0].rpartition("'")[0].rpartition("'")[2]
    assert of(own, "rank") == 1
    named = opened(masked, text="the cats near the house [MASK] loud", answer=said)
    assert of(named, "probability") == pytest.approx(of(own, "probability"))
    with pytest.raises(ToolInputError, match=r"\[MASK\]"):
        opened(masked, text="the cats near the house are loud")


def test_an_image_is_picked_and_its_twin_patched_in_whole_gives_the_twins_class():
    shapes = load_subject("shapes")
    seen = opened(shapes, task="shape", patch=["encoder.0.resid_pre@all"])
    (what,) = [line for line in seen.text.splitlines() if line.startswith("resample(twin)")]
    assert of(seen, "rank") == 1 < of(seen, "rank", "changed")
    assert of(seen, "logit_margin", "changed") < 0 < of(seen, "logit_margin"), what
    with pytest.raises(ToolInputError, match="pick an example"):
        opened(shapes, task="shape", text="a square")


def test_a_source_sentence_of_ones_own_is_translated_and_an_encoder_block_skipped():
    translator = load_subject("translator")
    picked = opened(translator, task="translation")
    source = picked.text.splitlines()[0].partition("'")[2].partition("'")[0].rpartition(" ")[0]
    own = opened(translator, task="translation", text=source, programs=["encoder: skip 0"])
    assert of(own, "probability") == pytest.approx(of(picked, "probability"), rel=1e-3)
    assert of(own, "probability", "changed") < of(own, "probability")
    assert {a.name for a in own.arrays} == {"decoder.attn.pattern as it is", "decoder.attn.pattern changed"}
    assert {a.shape[2:] for a in opened(translator, task="translation", attention="decoder.cross").arrays} != {a.shape[2:] for a in own.arrays}
