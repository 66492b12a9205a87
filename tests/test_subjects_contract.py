"""What every model family promises: runs, captures and edits agree with the plain transformers model."""

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tools.engine import programs
from tools.engine.sites import Edit, Site, SiteError
from tools.subjects import CapabilityError, Inputs, Subject, SubjectError, families, wrap

Batch = Callable[[Subject, Sequence[Sequence[int]]], Inputs]
POST_NORM = {"bert", "opt_350m_kind"}
BLOCKS = (0, 2, 3)
LAST = 3


@pytest.fixture(autouse=True)
def inference(request: pytest.FixtureRequest) -> Iterator[None]:
    """Without gradients, save for the test that is about them."""
    with torch.inference_mode("gradient" not in request.node.name):
        yield


def plain(model: Any, inputs: Inputs) -> Tensor:
    """The logits of transformers' own forward pass."""
    return model(**inputs.fields, use_cache=False).logits if _takes_cache(model) else model(**inputs.fields).logits


def _takes_cache(model: Any) -> bool:
    return type(model).__name__ != "BertForMaskedLM"


def sites(subject: Subject, blocks: Sequence[int] = BLOCKS) -> list[Site]:
    """Every kind of site of every stack, at some blocks."""
    return [Site(s.name, b, kind) for s in subject.stacks.values() for b in blocks for kind in s.kinds]


def same_positions(inputs: Inputs, *positions: int) -> Tensor:
    """The same token positions for every row."""
    return torch.tensor([positions] * inputs.size)


# -- the model as it is -----------------------------------------------------------------------------------------------


def test_every_class_that_a_family_names_has_a_random_model_in_conftest(
    model_kinds: list[str], model_named: Any
) -> None:
    tested = {type(model_named(kind)).__name__ for kind in model_kinds}
    assert {a for family in families() for a in family.architectures} == tested


def test_logits_are_those_of_plain_transformers(subject: Subject, batch: Batch, rows: list[list[int]]) -> None:
    inputs = batch(subject, rows)
    expected = plain(subject.model, inputs)
    assert expected.std() > 0.1
    assert_close(subject.run(inputs).logits, expected, atol=1e-5, rtol=0)


def test_the_identity_program_is_the_model(subject: Subject, batch: Batch, rows: list[list[int]]) -> None:
    inputs = batch(subject, rows)
    expected = plain(subject.model, inputs)
    n = len(subject.spec().blocks)
    assert_close(subject.run(inputs, programs.identity(n)).logits, expected, atol=1e-5, rtol=0)
    by_stack = {name: range(len(spec.blocks)) for name, spec in subject.stacks.items()}
    assert_close(subject.run(inputs, by_stack).logits, expected, atol=1e-5, rtol=0)


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
        if hasattr(model.config, "layer_types"):  # one entry for each; all are alike here
            model.config.layer_types = model.config.layer_types[:1] * len(blocks)
        assert_close(subject.run(inputs, {paths.name: blocks}).logits, plain(model, inputs), atol=1e-5, rtol=1e-5)


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
    assert together.lengths == (3, 7, 1, 7)
    logits = subject.run(together).logits
    for i, row in enumerate(mixed):
        alone = subject.run(batch(subject, [row])).logits[0]
        assert_close(logits[i, : len(row)], alone, atol=1e-5, rtol=1e-5)
        assert_close(alone, plain(subject.model, batch(subject, [row]))[0], atol=1e-5, rtol=0)


def test_bfloat16_is_as_plain_transformers_in_bfloat16(
    subject: Subject, batch: Batch, rows: list[list[int]], model_named: Any
) -> None:
    low = wrap(model_named(subject.name, torch.bfloat16), name=subject.name)
    assert low.dtype == torch.bfloat16
    inputs = batch(low, rows)
    site = Site(low.readout, 1, "mlp.out")
    logits = low.run(inputs, edits=[Edit(site, "scale", torch.tensor(1.0))], capture=[site]).logits
    assert logits.dtype == torch.bfloat16
    assert_close(logits, plain(low.model, inputs), atol=0, rtol=0)


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
    channels = {"attn.z": heads_wide, "cross.z": heads_wide, "mlp.act": 56}
    captured = subject.run(inputs, capture=sites(subject)).captured
    assert set(captured) == set(sites(subject))
    for site, value in captured.items():
        length = 9 if (subject.name, site.stack) == ("whisper", "encoder") else 7
        assert value.shape == (3, length, channels.get(site.kind, 32)), site


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
            if subject.name == "bert":
                block = spec.blocks[b]
                middle = block.attention.output.LayerNorm(read["resid_pre"] + read["attn.out"])
                expected = block.output.LayerNorm(middle + read["mlp.out"])
            elif subject.name in POST_NORM:
                block = spec.blocks[b]
                middle = block.self_attn_layer_norm(read["resid_pre"] + read["attn.out"])
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


# -- edits ------------------------------------------------------------------------------------------------------------


def test_putting_an_activation_back_where_it_was_changes_nothing(
    subject: Subject, batch: Batch, rows: list[list[int]]
) -> None:
    inputs = batch(subject, rows)
    clean = subject.run(inputs, capture=sites(subject))
    at = same_positions(inputs, 1, 4)
    for site, value in clean.captured.items():
        heads = (None, 2) if site.kind.endswith(".z") else (None,)
        for head in heads:
            width = value.shape[-1] // 4
            part = value if head is None else value[..., head * width : (head + 1) * width]
            for edit in (Edit(site, "set", part, None, head), Edit(site, "set", part[:, [1, 4]], at, head)):
                assert_close(subject.run(inputs, edits=[edit]).logits, clean.logits, atol=1e-5, rtol=0)


def test_edits_that_do_nothing_change_nothing(subject: Subject, batch: Batch, rows: list[list[int]]) -> None:
    inputs = batch(subject, rows)
    expected = subject.run(inputs, edits=()).logits
    edits = [Edit(s, "add", torch.zeros(())) for s in sites(subject)]
    edits += [Edit(s, "scale", torch.ones(())) for s in sites(subject)]
    assert_close(subject.run(inputs, edits=edits).logits, expected, atol=1e-5, rtol=0)


def test_an_edit_at_every_site_changes_the_logits(subject: Subject, batch: Batch, rows: list[list[int]]) -> None:
    inputs = batch(subject, rows)
    clean = subject.run(inputs).logits
    for site, value in subject.run(inputs, capture=sites(subject)).captured.items():
        # Not a multiple of the activation nor the same for all channels: norms would take that out again.
        edited = subject.run(inputs, edits=[Edit(site, "add", torch.linspace(-1, 1, value.shape[-1]))]).logits
        assert (edited - clean).abs().max() > 1e-4, site


@pytest.mark.parametrize("kind", ["attn.z", "cross.z", "mlp.act"])
def test_zeroing_an_input_of_a_projection_is_zeroing_its_weights(
    subject: Subject, batch: Batch, rows: list[list[int]], kind: Any
) -> None:
    inputs = batch(subject, rows)
    for stack, spec in subject.stacks.items():
        if kind not in spec.kinds:
            continue
        path = {"attn.z": spec.o_proj, "cross.z": spec.cross_o_proj, "mlp.act": spec.down_proj}[kind]
        model = copy.deepcopy(subject.model)
        weight = subject.family.build(model)[stack].blocks[1].get_submodule(str(path)).weight
        columns = weight if type(model).__name__ == "GPT2LMHeadModel" else weight.T  # GPT-2 stores (in, out)
        head, channels = (None, slice(None))
        if kind.endswith(".z"):
            width = columns.shape[0] // 4
            head, channels = 3, slice(3 * width, 4 * width)
        columns[channels] = 0
        edit = Edit(Site(stack, 1, kind), "scale", torch.zeros(()), head=head)
        assert_close(subject.run(inputs, edits=[edit]).logits, plain(model, inputs), atol=1e-5, rtol=1e-5)


def test_editing_all_heads_one_by_one_is_editing_the_whole_site(
    subject: Subject, batch: Batch, rows: list[list[int]]
) -> None:
    inputs = batch(subject, rows)
    for site in (s for s in sites(subject, [1]) if s.kind.endswith(".z")):
        whole = subject.run(inputs, edits=[Edit(site, "scale", torch.tensor(0.3))], capture=[site])
        each = [Edit(site, "scale", torch.tensor(0.3), head=h) for h in range(4)]
        assert_close(subject.run(inputs, edits=each).logits, whole.logits, atol=1e-5, rtol=0)
        one = subject.run(inputs, edits=each[2:3], capture=[site]).captured[site]
        clean = subject.run(inputs, capture=[site]).captured[site]
        width = clean.shape[-1] // 4
        moved = (one != clean).any(dim=0).any(dim=0).view(4, width)
        assert moved.all(dim=1).tolist() == moved.any(dim=1).tolist() == [False, False, True, False]


def test_an_edit_at_positions_changes_those_and_in_causal_stacks_nothing_before(
    subject: Subject, batch: Batch, rows: list[list[int]]
) -> None:
    inputs = batch(subject, rows)
    at = torch.tensor([[3], [5], [6]])
    for site in (s for s in sites(subject, [1]) if s.stack == subject.readout):
        clean = subject.run(inputs, capture=[site])
        change = torch.linspace(-1, 1, clean.captured[site].shape[-1])
        edited = subject.run(inputs, edits=[Edit(site, "add", change, at)], capture=[site])
        for row, position in enumerate(at[:, 0].tolist()):
            difference = edited.captured[site][row] - clean.captured[site][row]
            expected = torch.zeros_like(difference)
            expected[position] = change
            assert_close(difference, expected, atol=1e-5, rtol=0)
            moved = (edited.logits[row] - clean.logits[row]).abs().amax(-1)
            assert moved[position] > 1e-4, site
            if subject.spec().causal:
                assert moved[:position].max() < 1e-6


def test_what_the_operations_do_to_an_activation(subject_named: Callable[[str], Subject], batch: Batch) -> None:
    subject = subject_named("gpt2")
    inputs = batch(subject, [[5, 6, 7], [8, 9, 10]])
    site = Site("decoder", 1, "attn.out")
    before = subject.run(inputs, capture=[site]).captured[site]
    direction = torch.linspace(-1, 2, 32)

    def after(*edits: Edit) -> Tensor:
        return subject.run(inputs, edits=edits, capture=[site]).captured[site]

    assert_close(after(Edit(site, "set", direction)), direction.expand_as(before))
    assert_close(after(Edit(site, "add", direction)), before + direction)
    assert_close(after(Edit(site, "scale", torch.tensor(-2.0))), -2 * before)
    removed = after(Edit(site, "project_out", direction))
    assert_close(removed @ direction, torch.zeros(2, 3), atol=1e-5, rtol=0)
    along = (before - removed) @ direction / direction.dot(direction)
    assert_close(before - removed, along[..., None] * direction, atol=1e-5, rtol=1e-5)
    assert_close(after(Edit(site, "project_out", 7 * direction)), removed)
    in_turn = after(Edit(site, "add", direction), Edit(site, "scale", torch.tensor(3.0)))
    assert_close(in_turn, 3 * (before + direction))


def test_an_edit_acts_each_time_its_block_runs(subject: Subject, batch: Batch, rows: list[list[int]]) -> None:
    inputs = batch(subject, rows)
    site = Site(subject.readout, 1, "mlp.out")
    model = copy.deepcopy(subject.model)
    down = subject.family.build(model)[subject.readout].blocks[1].get_submodule(subject.spec().down_proj)
    down.weight.mul_(0.5)
    if down.bias is not None:
        down.bias.mul_(0.5)
    halved = wrap(model, name="halved").run(inputs, (0, 1, 1, 2)).logits
    edited = subject.run(inputs, (0, 1, 1, 2), [Edit(site, "scale", torch.tensor(0.5))]).logits
    assert_close(edited, halved, atol=1e-5, rtol=1e-5)


def test_sites_and_heads_that_do_not_exist_are_refused_with_those_that_do(
    subject: Subject, batch: Batch, rows: list[list[int]]
) -> None:
    inputs, stack = batch(subject, rows), subject.readout
    zero = torch.zeros(())
    for edit, message in [
        (Edit(Site(stack, 4, "mlp.out"), "scale", zero), "blocks 0 to 3"),
        (Edit(Site(stack, 0, "attn.z"), "scale", zero, head=4), "heads 0 to 3"),
        (Edit(Site(stack, 0, "mlp.out"), "scale", zero, head=1), "has no heads"),
    ]:
        with pytest.raises(SiteError, match=message):
            subject.run(inputs, edits=[edit])
    with pytest.raises(SubjectError, match=f"it has .*{stack}"):
        subject.run(inputs, edits=[Edit(Site("vision", 0, "mlp.out"), "scale", zero)])
    with pytest.raises(SiteError, match="blocks 0 to 3"):
        subject.run(inputs, capture=[Site(stack, 9, "attn.z")])
    with pytest.raises(programs.ProgramError, match="0 to 3"):
        subject.run(inputs, (0, 4))


@pytest.mark.parametrize("text", ["decoder.3", "decoder.x.mlp.out", "decoder.².mlp.out", "decoder.1.mlp", ".1.mlp.out"])
def test_text_that_names_no_site_is_refused_with_the_form_of_one(text: str) -> None:
    with pytest.raises(SiteError, match=r"write stack.block.kind, for example decoder\.3\.mlp\.out"):
        Site.parse(text)
    assert str(Site.parse("decoder.3.attn.z")) == "decoder.3.attn.z"


def test_the_gradient_of_a_logit_is_its_slope(model_named: Any, batch: Batch) -> None:
    subject = wrap(model_named("gpt2", torch.float64), name="gpt2")
    inputs, site = batch(subject, [[5, 6, 7]]), Site("decoder", 1, "resid_pre")
    direction = torch.linspace(-1, 1, 32, dtype=torch.float64)

    def logit(amount: Tensor) -> Tensor:
        return subject.run(inputs, edits=[Edit(site, "add", amount * direction)]).logits[0, -1, 4]

    amount = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(logit(amount), amount)
    step = torch.tensor(1e-5, dtype=torch.float64)
    assert slope.item() == pytest.approx(((logit(step) - logit(-step)) / 2e-5).item(), rel=1e-5)


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
    key = "decoder_input_ids" if "decoder_input_ids" in inputs.fields else "input_ids"
    with pytest.raises(IndexError):  # no such token: the model's own code fails while it is being recorded
        subject.run(Inputs({**inputs.fields, key: inputs.fields[key] + 1000}, inputs.lengths))
    assert anatomy(model) == before
    assert not any("forward" in module.__dict__ for module in model.modules())
    for key, value in model.state_dict().items():
        assert torch.equal(value, weights[key]), key
    assert_close(subject.run(inputs).logits, plain(model, inputs), atol=1e-5, rtol=0)


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
