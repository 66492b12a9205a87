"""Edits: what they do to an activation and to the logits, in every family; closed forms where there are any."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tools.engine import programs
from tools.engine.sites import HEADED, Edit, Site, SiteError
from tools.subjects import Inputs, Subject, SubjectError, wrap

Batch = Callable[[Subject, Sequence[Sequence[int]]], Inputs]


@pytest.fixture(autouse=True)
def inference(request: pytest.FixtureRequest) -> Iterator[None]:
    """Without gradients, save for the test that is about them."""
    with torch.inference_mode("gradient" not in request.node.name):
        yield


def sites(subject: Subject, blocks: Sequence[int] = (0, 2, 3)) -> list[Site]:
    """Every kind of site of every stack, at some blocks."""
    return [Site(s.name, b, kind) for s in subject.stacks.values() for b in blocks for kind in s.kinds]


def test_putting_an_activation_back_where_it_was_changes_nothing(
    subject: Subject, batch: Batch, rows: list[list[int]]
) -> None:
    inputs = batch(subject, rows)
    clean = subject.run(inputs, capture=sites(subject))
    at = torch.tensor([[1, 4]] * inputs.size)
    for site, value in clean.captured.items():
        heads = (None, 2) if site.kind in HEADED else (None,)
        for head in heads:
            width = value.shape[-1] // 4
            part = value if head is None else value[..., head * width : (head + 1) * width]
            for edit in (
                Edit(site, "set", part, None, None if head is None else (head,)),
                Edit(site, "set", part[:, [1, 4]], at, None if head is None else (head,)),
            ):
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
        # A shift that all keys share cancels in the softmax.
        op = "scale" if site.kind in ("attn.k", "cross.k") else "add"
        edited = subject.run(inputs, edits=[Edit(site, op, torch.linspace(-1, 1, value.shape[-1]))]).logits
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
        columns = weight if type(model).__name__.startswith("GPT2") else weight.T  # GPT-2 stores (in, out)
        head, channels = (None, slice(None))
        if kind in HEADED:
            width = columns.shape[0] // 4
            head, channels = 3, slice(3 * width, 4 * width)
        columns[channels] = 0
        edit = Edit(Site(stack, 1, kind), "scale", torch.zeros(()), units=None if head is None else (head,))
        mine, theirs = subject.run(inputs, edits=[edit]).logits, model(**inputs.fields).logits
        read = {"every": slice(None), "first": 0, "last": -1}[subject.family.read]
        assert_close(mine[:, read], theirs, atol=1e-5, rtol=1e-5)


def test_editing_all_heads_one_by_one_is_editing_the_whole_site(
    subject: Subject, batch: Batch, rows: list[list[int]]
) -> None:
    inputs = batch(subject, rows)
    for site in (s for s in sites(subject, [1]) if s.kind in HEADED):
        whole = subject.run(inputs, edits=[Edit(site, "scale", torch.tensor(0.3))], capture=[site])
        each = [Edit(site, "scale", torch.tensor(0.3), units=(h,)) for h in range(4)]
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
        elsewhere = subject.spec().lies_in(site.kind) != site.stack  # cross-attention looks at what the row is not read out at
        for row, position in enumerate(at[:, 0].tolist()):
            difference = edited.captured[site][row] - clean.captured[site][row]
            expected = torch.zeros_like(difference)
            expected[position] = change
            assert_close(difference, expected, atol=1e-5, rtol=0)
            moved = (edited.logits[row] - clean.logits[row]).abs().amax(-1)
            assert elsewhere or moved[position] > 1e-4, site
            if subject.spec().causal and subject.spec().lies_in(site.kind) == site.stack:
                assert moved[:position].max() < 5e-6


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


def test_an_edit_changes_a_copy() -> None:
    h = torch.randn(2, 3, 8)
    before = h.clone()
    for positions in (None, torch.tensor([[1], [2]])):
        for head in (None, 1):
            Edit(
                Site("decoder", 0, "attn.z"), "scale", torch.zeros(()), positions, None if head is None else (head,)
            ).apply(h, 4)
    assert torch.equal(h, before)


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
        (Edit(Site(stack, 0, "attn.z"), "scale", zero, units=(4,)), "heads 0 to 3"),
        (Edit(Site(stack, 0, "mlp.out"), "scale", zero, units=(999,)), "has channels 0 to"),
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


def test_an_edit_of_channels_changes_those_and_no_others(subject: Subject, batch: Batch, rows: list[list[int]]) -> None:
    inputs = batch(subject, rows)
    for site in (s for s in sites(subject, [1]) if s.kind not in HEADED):
        clean = subject.run(inputs, capture=[site]).captured[site]
        for units in ((5,), (7, 2)):
            edit = Edit(site, "add", torch.arange(1.0, 1 + len(units)), units=units)
            difference = subject.run(inputs, edits=[edit], capture=[site]).captured[site] - clean
            expected = torch.zeros_like(difference)
            for amount, unit in enumerate(units, 1):
                expected[..., unit] = amount
            assert_close(difference, expected, atol=1e-5, rtol=0)
