"""What goes along a path, what is fitted on activations, and how programs are read: closed forms and invariances."""

import contextlib
from dataclasses import replace

import benches
import numpy as np
import pytest
import torch

from experiments_db.places import Component, Intervention, Path
from tools.engine.programs import OPERATIONS, SWEEPS, ProgramError, parse
from tools.engine.sites import Site
from tools.methods.effects import Condition, score_under
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.paths import Sending, check_path, score_along
from tools.methods.readings import tokens_at, weights
from tools.methods.scoring import batch_of
from tools.methods.tool import Context, ToolInputError, discover
from tools.methods.twins import donor_inputs, load_pairs
from tools.subjects import load_subject
from tools.tasks import get_task

EDGES = "decoder.2.attn.z[0]@marker -> decoder.5.attn.v[2]@marker"


@pytest.fixture(scope="module")
def relay():
    """A model that routes a token through two heads, its task, and examples with their twins."""
    _, subject, task = benches.compiled("relay")
    return subject, task, task.examples("explore", 24)


def along(relay, *sendings):
    subject, task, examples = relay
    return score_along(benches.context(subject, task), task, examples, sendings)


def test_sent_straight_to_the_logits_a_change_is_added_to_the_last_state(relay):
    subject, _, examples = relay
    _, direct = along(relay, Sending(Path.parse("decoder.1.mlp.out@answer -> decoder.logits@answer")))
    batch, site = batch_of(subject, examples), Site("decoder", 1, "mlp.out")
    with torch.inference_mode():
        clean = subject.run(batch.inputs, capture=[site])
        twin = subject.run(donor_inputs(subject, batch), capture=[site])
        moved = clean.final + twin.captured[site] - clean.captured[site]
        logits = subject.unembed(moved[torch.arange(len(examples)), batch.last[:, 0]])
    answers = torch.tensor([e.targets[0] for e in batch.encoded])
    foils = torch.tensor([e.foil[1] for e in batch.encoded])
    rows = torch.arange(len(examples))
    assert direct.foil_margin == pytest.approx((logits[rows, answers] - logits[rows, foils]).numpy(), abs=1e-3)


def test_with_nothing_in_between_a_path_is_the_patch_itself(relay):
    subject, task, examples = relay
    last = len(subject.spec().blocks) - 1
    place = f"decoder.{last}.mlp.out@answer"
    _, sent = along(relay, Sending(Path.parse(f"{place} -> decoder.logits")))
    patch = Condition.of(Component.parse(place), "resample(twin)")
    _, patched = score_under(benches.context(subject, task), task, examples, [patch])
    assert sent.foil_margin == pytest.approx(patched.foil_margin, abs=1e-3)


def test_a_twin_that_is_the_same_sends_nothing(relay):
    subject, task, examples = relay
    same = [replace(e, twin_inputs=e.inputs) for e in examples]
    path = Path.parse(f"{EDGES} -> decoder.logits@answer")
    intact, sent = score_along(benches.context(subject, task), task, same, [Sending(path)])
    assert sent.nll == pytest.approx(intact.nll, abs=1e-4)


def test_a_chain_hands_on_what_its_first_edge_brings(relay):
    # The second head does nothing but read the marker, so that what arrives at its values is what the chain brings.
    edge, chain = (Sending(Path.parse(t)) for t in (EDGES, f"{EDGES} -> decoder.logits@answer"))
    intact, one, whole = along(relay, edge, chain)
    assert (one.foil_margin < 0).mean() > 0.9 > 0.1 > (intact.foil_margin < 0).mean()
    assert whole.foil_margin == pytest.approx(one.foil_margin, abs=1e-2)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("decoder.5.attn.z[2]@answer -> decoder.2.attn.v[0]@marker", "come before"),
        ("decoder.2.resid_pre@marker -> decoder.5.attn.v[2]@marker", "cannot send"),
        ("decoder.2.mlp.out@marker -> decoder.2.attn.v[0]@marker", "come before"),
        ("decoder.2.attn.z[0]@marker -> decoder.5.resid_post", "cannot receive"),
        ("decoder.2.attn.z[0]@marker -> decoder.9.attn.v[0]", "does not exist"),
    ],
)
def test_a_path_that_cannot_be_is_refused(relay, path, message):
    with pytest.raises(ToolInputError, match=message):
        along(relay, Sending(Path.parse(path)))


@pytest.mark.parametrize("name", ["previous", "backup"])  # a GPT-2, and a GPT-NeoX with parallel sublayers
def test_within_a_block_attention_reaches_the_mlp_only_in_sequence(name):
    case, subject, task = benches.compiled(name)
    send = Sending(Path.parse("decoder.1.attn.out@answer -> decoder.1.mlp.out@answer"))
    refused = pytest.raises(ToolInputError, match="come before") if case.plan.parallel else contextlib.nullcontext()
    with refused:
        score_along(benches.context(subject, task), task, task.examples("explore", 4), [send])


def test_both_arrangements_of_sublayers_are_tried_here():
    assert {benches.compiled(name)[0].plan.parallel for name in ("previous", "backup")} == {True, False}


# -- directions of one's own ------------------------------------------------------------------------------------------


def test_each_example_is_pushed_along_its_own_direction(relay):
    subject, task, examples = relay
    width = subject.spec().width
    directions = torch.zeros(len(examples), width)
    directions[3] = torch.randn(width, generator=torch.Generator().manual_seed(0)) * 50
    push = Condition.of(Component.parse("decoder.3.resid_post@answer"), Intervention.parse("add(dir:x~abcd, 1)"))
    ctx = replace(benches.context(subject, task), max_tokens=16)  # several microbatches
    intact, pushed = score_under(ctx, task, examples, [push], directions={"dir:x~abcd": directions})
    changed = np.abs(pushed.nll - intact.nll) > 1e-4
    assert changed.tolist() == [i == 3 for i in range(len(examples))]


def test_a_twin_whose_role_has_other_tokens_gives_one_for_one(relay):
    subject, task, examples = relay
    # In the twin the role is two tokens where the example's has all: the last one stands for those beyond.
    wide = [replace(e, spans={"r": (0, len(e.prompt))}, twin_spans={"r": (0, 4)}) for e in examples]
    patch = Condition.of(Component.parse("decoder.3.resid_post@r"), "resample(twin)")
    assert len(score_under(benches.context(subject, task), task, wide, [patch])) == 2


# -- attention --------------------------------------------------------------------------------------------------------


def test_all_that_can_be_seen_has_all_of_the_attention(relay):
    subject, task, examples = relay
    whole = [replace(e, spans={"w": (0, len(e.prompt))}) for e in examples]
    given, even = weights(benches.context(subject, task), whole, Component.parse("decoder.0.attn.pattern[0]@answer<-w"))
    assert given == pytest.approx(np.ones_like(given), abs=1e-5)
    assert even == pytest.approx(np.ones(len(examples)))
    _, one = weights(benches.context(subject, task), examples, Component.parse("decoder.0.attn.pattern[0]@answer<-0"))
    assert one == pytest.approx([1 / len(subject.tokens(e.prompt)) for e in examples])


def test_tokens_at_an_anchor_are_those_of_the_prompt(relay):
    subject, task, examples = relay
    found = tokens_at(benches.context(subject, task), examples, "item")
    assert found == [tuple(subject.tokens(e.answer.strip())) for e in examples]  # the item is the answer


# -- programs as texts ------------------------------------------------------------------------------------------------

MADE = [p for name in ("skip_each", "skip_ranges", "repeat_each", "swap_adjacent") for p in SWEEPS[name](6)]
MADE += [OPERATIONS["reverse"]([1, 4], 6), OPERATIONS["keep"]([0, 2], 6), OPERATIONS["permute"]([1, 0, 2, 3, 5, 4], 6)]


@pytest.mark.parametrize("program", MADE, ids=lambda p: p.label)
def test_a_program_is_read_from_its_own_label(program):
    assert parse(program.label, 6)[1] == program


@pytest.mark.parametrize(
    "text", ["", "skip", "skip 6", "skip x", "drop 1", "swap 1", "swap 2 2", "repeat 1 x1", "permute 0 1", "skip -1"]
)
def test_a_text_that_is_no_program_is_refused(text):
    with pytest.raises(ProgramError):
        parse(text, 6)


# -- several stacks ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def translator():
    """The translator, and sentences whose twins ask for another language."""
    subject = load_subject("translator-front")
    task = get_task("translation:twin=language")
    ctx = Context(subject, OfflineTasks([]), Nothing())
    return ctx, load_pairs(ctx, task.name, 16)[1], task


def test_a_path_in_the_encoder_is_followed_through_the_decoder(translator):
    ctx, examples, task = translator
    last = len(ctx.subject.stacks["encoder"].blocks) - 1
    place = f"encoder.{last}.mlp.out"
    names = [f"{place} -> decoder.{b}.cross.{k}" for b in range(len(ctx.subject.spec().blocks)) for k in "kv"]
    chain = f"encoder.0.mlp.out -> encoder.{last}.mlp.out -> decoder.0.cross.v"
    sent = [Sending(Path.parse(t)) for t in (f"encoder.0.mlp.out -> {place}", chain, *names)]
    intact, within, _, *into = score_along(ctx, task, examples, sent)
    patch = Condition.of(Component.parse(place), "resample(twin)")
    _, patched = score_under(ctx, task, examples, [patch])
    # All that the decoder reads of the last block goes through its keys and values: each alone does part of the patch.
    whole = np.mean(patched.foil_margin - intact.foil_margin)
    parts = [np.mean(x.foil_margin - intact.foil_margin) for x in into]
    assert whole < min(parts) < -0.1
    assert not np.allclose(within.foil_margin, intact.foil_margin)


def test_a_twin_that_is_the_same_sends_nothing_into_the_decoder(translator):
    ctx, examples, task = translator
    same = [replace(e, twin_inputs=e.inputs) for e in examples]
    for text in ("encoder.0.mlp.out -> decoder.1.cross.out", "decoder.0.cross.z@answer -> decoder.1.cross.q@answer -> decoder.logits"):
        intact, sent = score_along(ctx, task, same, [Sending(Path.parse(text))])
        assert sent.nll == pytest.approx(intact.nll, abs=1e-4)


def test_with_nothing_between_the_decoders_cross_attention_sends_what_its_patch_does(translator):
    ctx, examples, task = translator
    last = len(ctx.subject.spec().blocks) - 1
    place = f"decoder.{last}.cross.z@answer"
    _, sent = score_along(ctx, task, examples, [Sending(Path.parse(f"{place} -> decoder.{last}.cross.out@answer"))])
    _, patched = score_under(ctx, task, examples, [Condition.of(Component.parse(place), "resample(twin)")])
    assert sent.foil_margin == pytest.approx(patched.foil_margin, abs=1e-3)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("encoder.0.mlp.out -> decoder.1.mlp.out", "read by decoder through cross.k, cross.v, cross.z, cross.out"),
        ("encoder.0.mlp.out -> decoder.logits", "name one of these in between"),
        ("decoder.0.mlp.out -> encoder.1.mlp.out", "nothing reads decoder but its own blocks and the logits"),
        ("decoder.0.mlp.out -> decoder.1.cross.k", "that reads encoder alone"),
    ],
)
def test_a_way_that_there_is_not_between_stacks_is_refused_with_the_reason(translator, path, message):
    with pytest.raises(ToolInputError, match=message):
        check_path(translator[0].subject, Path.parse(path))


def test_the_tool_follows_the_encoder_into_the_decoder_and_says_what_cannot(translator):
    tool, ctx = discover()["path_patch"], translator[0]
    given = {"task": translator[2].name, "components": ["encoder.*.mlp.out", "cross.out@answer"], "examples": 16}
    out = tool.run(tool.parse({**given, "receiver": "decoder.1.cross.v"}), ctx)
    assert {m.place.nodes[0].stack for m in out.measurements} == {"encoder"}
    assert "named components do not come before the receiver" in out.text
    assert out.measurements[0].place.frozen == ("attn.out", "cross.out", "mlp.out")
    with pytest.raises(ToolInputError, match="one at a time"):
        tool.run(tool.parse({**given, "receiver": "*.*.mlp.out"}), ctx)
