"""What every model family promises: runs and captures agree with the plain transformers model, which never changes."""

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tools.engine import programs
from tools.engine.sites import HEADED, Edit, Site
from tools.subjects import CapabilityError, Inputs, Subject, SubjectError, families, wrap

Batch = Callable[[Subject, Sequence[Sequence[int]]], Inputs]
BERT = {"bert", "bert_classifier"}
POST_NORM = {*BERT, "marian", "opt_350m_kind"}
BLOCKS = (0, 2, 3)
LAST = 3


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    """Without gradients."""
    with torch.inference_mode():
        yield


def plain(model: Any, inputs: Inputs) -> Tensor:
    """The logits of transformers' own forward pass."""
    return model(**inputs.fields).logits


def read(subject: Subject, logits: Tensor) -> Tensor:
    """Logits at every position as transformers would give them, of rows without padding."""
    return {"every": logits, "first": logits[:, 0], "last": logits[:, -1]}[subject.family.read]


def sites(subject: Subject, blocks: Sequence[int] = BLOCKS) -> list[Site]:
    """Every kind of site of every stack, at some blocks."""
    return [Site(s.name, b, kind) for s in subject.stacks.values() for b in blocks for kind in s.kinds]


# -- the model as it is -----------------------------------------------------------------------------------------------


def test_every_class_that_a_family_names_has_a_random_model(
    model_kinds: list[str], model_named: Any
) -> None:
    tested = {type(model_named(kind)).__name__ for kind in model_kinds}
    assert {a for family in families() for a in family.architectures} == tested


def test_logits_are_those_of_plain_transformers(subject: Subject, batch: Batch, rows: list[list[int]]) -> None:
    inputs = batch(subject, rows)
    expected = plain(subject.model, inputs)
    assert expected.std() > 0.1
    assert_close(read(subject, subject.run(inputs).logits), expected, atol=1e-5, rtol=0)


def test_the_identity_program_is_the_model(subject: Subject, batch: Batch, rows: list[list[int]]) -> None:
    inputs = batch(subject, rows)
    expected = plain(subject.model, inputs)
    n = len(subject.spec().blocks)
    assert_close(read(subject, subject.run(inputs, programs.identity(n)).logits), expected, atol=1e-5, rtol=0)
    by_stack = {name: range(len(spec.blocks)) for name, spec in subject.stacks.items()}
    assert_close(read(subject, subject.run(inputs, by_stack).logits), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("blocks", [(1, 2, 3), (0, 1, 1, 2, 3), (3, 1, 0, 2), (2, 2), ()])
def test_a_program_is_the_model_with_its_list_of_blocks_replaced(
    subject: Subject, batch: Batch, rows: list[list[int]], blocks: tuple[int, ...]
) -> None:
    if subject.name == "qwen2":
        pytest.skip("transformers gives Qwen2 blocks the attention window of the place where they run, not their own")
    inputs = batch(subject, rows)
    for paths in subject.family.stacks:
        model = copy.deepcopy(subject.model)
        body = model.get_submodule(paths.body)
        owner_path, _, attribute = paths.blocks.rpartition(".")
        owner = body.get_submodule(owner_path)
        old = getattr(owner, attribute)
        setattr(owner, attribute, nn.ModuleList([old[b] for b in blocks]))
        model.config.num_hidden_layers = len(blocks)  # some families run only that many blocks
        model.config.use_cache = False  # its entries belong to the blocks' own numbers: repeats would share one
        if hasattr(model.config, "layer_types"):  # one entry for each; all are alike here
            model.config.layer_types = model.config.layer_types[:1] * len(blocks)
        logits = read(subject, subject.run(inputs, {paths.name: blocks}).logits)
        assert_close(logits, plain(model, inputs), atol=1e-5, rtol=1e-5)


def test_blocks_keep_their_own_attention_window_wherever_they_run(
    subject_named: Callable[[str], Subject], batch: Batch
) -> None:
    subject = subject_named("qwen2")  # blocks 0 and 1 see everything, 2 and 3 the last three tokens
    first, second = [3, 10, 11, 12, 13, 14], [4, 10, 11, 12, 13, 14]

    def reach(blocks: tuple[int, ...]) -> list[bool]:
        a, b = (subject.run(batch(subject, [row]), blocks).final for row in (first, second))
        return [not torch.equal(x, y) for x, y in zip(a[0], b[0], strict=True)]

    assert reach((2,)) == [True, True, True, False, False, False]
    assert reach((3, 2)) == [True, True, True, True, True, False]
    assert reach((0,)) == [True] * 6
    assert reach((2, 0)) == [True] * 6


def test_unembedding_the_last_state_gives_the_logits(subject: Subject, batch: Batch, rows: list[list[int]]) -> None:
    trace = subject.run(batch(subject, rows), capture=[Site(subject.readout, LAST, "resid_post")])
    assert_close(subject.unembed(trace.final), trace.logits, atol=0, rtol=0)
    assert_close(trace.captured[Site(subject.readout, LAST, "resid_post")], trace.final, atol=0, rtol=0)
    assert_close(subject.unembed(trace.final[:, -1]), trace.logits[:, -1], atol=1e-5, rtol=1e-5)


def test_stacks_that_are_not_read_out_as_tokens_refuse_to_be(subject_named: Callable[[str], Subject]) -> None:
    with pytest.raises(CapabilityError, match="only 'decoder' is"):
        subject_named("whisper").unembed(torch.zeros(1, 32), "encoder")


def test_a_later_token_changes_earlier_logits_in_a_bidirectional_stack_only(
    subject: Subject, batch: Batch, rows: list[list[int]]
) -> None:
    changed = [[*row[:4], (row[4] + 7) % 50 + 3, *row[5:]] for row in rows]
    before, after = (subject.run(batch(subject, r)).logits for r in (rows, changed))
    assert not torch.equal(before[:, 4:], after[:, 4:])
    if subject.spec().causal:
        assert_close(before[:, :4], after[:, :4], atol=1e-6, rtol=0)
    else:
        assert (before[:, :4] - after[:, :4]).abs().amax(dim=(1, 2)).min() > 1e-3


def test_neither_other_rows_nor_padding_change_a_row(subject: Subject, batch: Batch, rows: list[list[int]]) -> None:
    mixed = [rows[0][:3], rows[1], rows[2][:1], rows[0]]
    together = batch(subject, mixed)
    assert together.lengths == ((7, 7, 7, 7) if subject.name == "vit" else (3, 7, 1, 7))  # images are of one size
    logits = subject.run(together).logits
    for i, row in enumerate(mixed):
        alone = subject.run(batch(subject, [row])).logits
        assert_close(logits[i, : together.lengths[i]], alone[0], atol=1e-5, rtol=1e-5)
        assert_close(read(subject, alone), plain(subject.model, batch(subject, [row])), atol=1e-5, rtol=0)


def test_bfloat16_is_as_plain_transformers_in_bfloat16(
    subject: Subject, batch: Batch, rows: list[list[int]], model_named: Any
) -> None:
    low = wrap(model_named(subject.name, torch.bfloat16), name=subject.name)
    assert low.dtype == torch.bfloat16
    inputs = batch(low, rows)
    site = Site(low.readout, 1, "mlp.out")
    logits = low.run(inputs, edits=[Edit(site, "scale", torch.tensor(1.0))], capture=[site]).logits
    assert logits.dtype == torch.bfloat16
    exact = subject.family.read == "every"  # a matrix product over one position may round otherwise than over all
    assert_close(read(low, logits), plain(low.model, inputs), atol=0 if exact else 0.02, rtol=0)


def test_families_that_cannot_predict_the_next_token_say_why(subject: Subject) -> None:
    if "next_token" in subject.capabilities:
        assert subject.generate([[5, 6]], 1)
        return
    with pytest.raises(CapabilityError, match="cannot do next_token: .{20,}") as caught:
        subject.generate([[5, 6]], 1)
    assert dict(subject.family.refusals)["next_token"] in str(caught.value)


def test_batches_that_cannot_be_made_are_refused_with_the_limit(subject_named: Callable[[str], Subject]) -> None:
    subject = subject_named("gpt2")
    with pytest.raises(SubjectError, match="41 tokens are more than the 40 positions"):
        subject.inputs([[5] * 41])
    for empty in ([], [[5], []]):
        with pytest.raises(SubjectError, match="at least one"):
            subject.inputs(empty)


# -- captures ---------------------------------------------------------------------------------------------------------


def test_captured_sites_have_the_promised_shapes(subject: Subject, batch: Batch, rows: list[list[int]]) -> None:
    inputs = batch(subject, rows)
    heads_wide = 4 * (12 if subject.name == "qwen3" else 8)
    channels = dict.fromkeys(HEADED, heads_wide) | {"mlp.act": 56}
    captured = subject.run(inputs, capture=sites(subject)).captured
    assert set(captured) == set(sites(subject))
    for site, value in captured.items():
        lengths = {("whisper", "encoder"): 9, ("m2m100", "encoder"): 8, ("marian", "encoder"): 8}
        length = lengths.get((subject.name, subject.spec(site.stack).lies_in(site.kind)), 7)
        keys = lengths.get((subject.name, subject.spec(site.stack).keys_in(site.kind)), 7)
        width = 4 * keys if site.kind.endswith("pattern") else channels.get(site.kind, 32)
        assert value.shape == (3, length, width), site


def test_capturing_changes_nothing(subject: Subject, batch: Batch, rows: list[list[int]]) -> None:
    inputs = batch(subject, rows)
    assert torch.equal(subject.run(inputs, capture=sites(subject)).logits, subject.run(inputs).logits)


def test_what_leaves_a_block_enters_the_next(subject: Subject, batch: Batch, rows: list[list[int]]) -> None:
    captured = subject.run(batch(subject, rows), capture=sites(subject, range(4))).captured
    for stack in subject.stacks:
        for b in range(LAST):
            assert torch.equal(captured[Site(stack, b, "resid_post")], captured[Site(stack, b + 1, "resid_pre")])


def test_the_residual_stream_is_what_attention_and_mlp_add_to_it(
    subject: Subject, batch: Batch, rows: list[list[int]]
) -> None:
    captured = subject.run(batch(subject, rows), capture=sites(subject)).captured
    for stack, spec in subject.stacks.items():
        for b in BLOCKS:
            read = {kind: captured[Site(stack, b, kind)] for kind in spec.kinds}
            if subject.name in BERT:
                block = spec.blocks[b]
                middle = block.attention.output.LayerNorm(read["resid_pre"] + read["attn.out"])
                expected = block.output.LayerNorm(middle + read["mlp.out"])
            elif subject.name in POST_NORM:
                block = spec.blocks[b]
                middle = block.self_attn_layer_norm(read["resid_pre"] + read["attn.out"])
                if "cross.out" in read:
                    middle = block.encoder_attn_layer_norm(middle + read["cross.out"])
                expected = block.final_layer_norm(middle + read["mlp.out"])
            else:
                expected = sum(read[k] for k in ("resid_pre", "attn.out", "cross.out", "mlp.out") if k in read)
            assert_close(read["resid_post"], expected, atol=1e-5, rtol=1e-5)


def test_projections_lead_from_z_to_attention_out_and_from_act_to_mlp_out(
    subject: Subject, batch: Batch, rows: list[list[int]]
) -> None:
    captured = subject.run(batch(subject, rows), capture=sites(subject)).captured
    for stack, spec in subject.stacks.items():
        for before, after, path in [
            ("attn.z", "attn.out", spec.o_proj),
            ("cross.z", "cross.out", spec.cross_o_proj),
            ("mlp.act", "mlp.out", spec.down_proj),
        ]:
            if path is not None:
                module = spec.blocks[2].get_submodule(path)
                expected = module(captured[Site(stack, 2, before)])
                assert_close(captured[Site(stack, 2, after)], expected, atol=1e-5, rtol=1e-5)


# -- the model is never changed ---------------------------------------------------------------------------------------


def anatomy(model: nn.Module) -> dict[str, object]:
    """Everything about the modules that a run could leave behind."""
    return {
        name: (
            module.training,
            sorted(module.__dict__),
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            [(k, id(p), p._version if not p.is_inference() else 0) for k, p in module.named_parameters(recurse=False)],
        )
        for name, module in model.named_modules()
    }


def test_a_run_leaves_no_trace_in_the_model_even_when_it_fails(
    subject: Subject, batch: Batch, rows: list[list[int]]
) -> None:
    model, inputs, stack = subject.model, batch(subject, rows), subject.readout
    before, weights = anatomy(model), {k: v.clone() for k, v in model.state_dict().items()}
    everywhere = [Edit(s, "scale", torch.tensor(0.5)) for s in sites(subject)]
    subject.run(inputs, (3, 0, 0), everywhere, sites(subject))
    unfit = Edit(Site(stack, 2, "mlp.act"), "set", torch.zeros(5))  # five channels fit nowhere
    with pytest.raises(RuntimeError):
        subject.run(inputs, edits=[unfit])
    key = next(k for k in ("decoder_input_ids", "input_ids", "pixel_values") if k in inputs.fields)
    bad = inputs.fields[key][:, :2] if key == "pixel_values" else inputs.fields[key] + 1000
    with pytest.raises((IndexError, ValueError)):  # no such token or image: the model's own code fails while recorded
        subject.run(Inputs({**inputs.fields, key: bad}, inputs.lengths))
    assert anatomy(model) == before
    assert not any("forward" in module.__dict__ for module in model.modules())
    for key, value in model.state_dict().items():
        assert torch.equal(value, weights[key]), key
    assert_close(read(subject, subject.run(inputs).logits), plain(model, inputs), atol=1e-5, rtol=0)


def test_threads_do_not_meet_each_others_edits(
    subject_named: Callable[[str], Subject], batch: Batch, rows: list[list[int]]
) -> None:
    subject = subject_named("gpt2")
    inputs = batch(subject, rows)
    edits = [[Edit(Site("decoder", b, "mlp.out"), "scale", torch.tensor(f))] for b, f in [(1, 0.0), (1, 3.0), (2, 0.0)]]
    expected = [subject.run(inputs, edits=e).logits for e in edits]
    wrong: list[int] = []

    def work(i: int) -> None:
        with torch.inference_mode():
            for _ in range(25):
                try:
                    if not torch.allclose(subject.run(inputs, edits=edits[i]).logits, expected[i], atol=1e-5):
                        wrong.append(i)
                except Exception:
                    wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(edits))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
