"""Activations are read with no block run after them, and the one function that is computed in another way keeps its bits."""

import copy

import pytest
import torch
from transformers.activations import NewGELUActivation

from tools.engine.kernels import OnePass, quicken
from tools.engine.kept import Kept
from tools.engine.sites import Edit, Site, SiteError
from tools.subjects import Subject, SubjectError, load_subject


@pytest.fixture(scope="module")
def demo() -> Subject:
    return load_subject("demo")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(0,), (1,), (7, 13, 511), (2**16 + 3,), (3, 2**16)])
def test_gelu_in_one_pass_has_the_bits_of_the_model_s_own(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 4).to(dtype)
    edges = torch.tensor([float("inf"), -float("inf"), float("nan"), 0.0, -0.0], dtype=dtype)
    for given in (x, edges, x[..., ::2]):
        own, here = NewGELUActivation()(given), OnePass()(given)
        assert torch.equal(own.nan_to_num(nan=7.0), here.nan_to_num(nan=7.0))


def test_gradients_through_gelu_are_the_model_s_own() -> None:
    x, y = (torch.linspace(-4, 4, 99, requires_grad=True) for _ in range(2))
    NewGELUActivation()(x).sum().backward()
    OnePass()(y).sum().backward()
    assert x.grad is not None and y.grad is not None and torch.equal(x.grad, y.grad)


def test_a_loaded_model_runs_it_and_another_activation_is_left_alone(demo: Subject) -> None:
    assert {type(m) for m in demo.model.modules() if "GELU" in type(m).__name__ or isinstance(m, OnePass)} == {OnePass}
    slow = copy.deepcopy(demo.model)
    for m in slow.modules():
        if isinstance(m, OnePass):
            m.__class__ = NewGELUActivation
    ids = torch.tensor([demo.tokens("3 + 4 = 7, 12 + 9 =")])
    with torch.inference_mode():
        assert torch.equal(demo.model(ids).logits, slow(ids).logits)
    other = torch.nn.Sequential(torch.nn.GELU())
    quicken(other)
    assert type(other[0]) is torch.nn.GELU


def test_no_block_runs_after_the_last_activation_that_is_asked_for(demo: Subject) -> None:
    inputs = demo.inputs([demo.tokens("3 + 4 ="), demo.tokens("12 + 9 =")])
    sites = [Site("decoder", 1, "mlp.out"), Site("decoder", 3, "resid_pre"), Site("decoder", 0, "attn.pattern")]
    edit = Edit(Site("decoder", 0, "mlp.out"), "scale", torch.zeros(()))
    ran: list[int] = []
    hooks = [
        block.register_forward_pre_hook(lambda *_, b=b: ran.append(b)) for b, block in enumerate(demo.spec().blocks)
    ]
    try:
        with demo.evaluating():
            found = {edits: demo.activations(inputs, [*sites, sites[0]], edits) for edits in ((), (edit,))}
            # What the model gives each block is noted first, in a pass in which blocks compute nothing.
            assert ran == [*range(6), 0, 1, 2] * 2, "what enters block 3 is there before it runs"
            whole = {edits: demo.run(inputs, edits=edits, capture=sites).captured for edits in found}
    finally:
        for hook in hooks:
            hook.remove()
    for edits, got in found.items():
        assert set(got) == set(sites)
        assert all(torch.equal(got[s], whole[edits][s]) for s in sites)
    assert not torch.equal(found[()][sites[1]], found[(edit,)][sites[1]])


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("limit", [None, 2**30])
def test_a_block_ends_with_the_last_activation_that_is_asked_of_it(demo: Subject, edited: bool, limit: int | None) -> None:
    subject = demo if limit is None else demo.keeping(Kept(limit))
    inputs, block = subject.inputs([subject.tokens("3 + 4 =")]), subject.spec().blocks[2]
    site, ran = Site("decoder", 2, "attn.q"), list[int]()
    edits = [Edit(Site("decoder", 1, "mlp.out"), "scale", torch.zeros(()))] if edited else []
    hook = block.mlp.register_forward_pre_hook(lambda *_: ran.append(2))
    try:
        with subject.evaluating():
            if limit is not None:
                subject.run(inputs)  # from here on the state after the block is known
            ran.clear()
            found = subject.activations(inputs, [site], edits)[site]
            assert not ran
            assert torch.equal(found, demo.run(inputs, edits=edits, capture=[site]).captured[site])
    finally:
        hook.remove()


def test_activations_that_do_not_exist_are_refused(demo: Subject) -> None:
    inputs = demo.inputs([demo.tokens("3 + 4 =")])
    with pytest.raises(SiteError, match="0 to 5"):
        demo.activations(inputs, [Site("decoder", 6, "mlp.out")])
    with pytest.raises(SubjectError, match="no stack"):
        demo.activations(inputs, [Site("encoder", 0, "mlp.out")])
    with pytest.raises(SiteError, match="0 to 5"):
        demo.activations(
            inputs, [Site("decoder", 1, "mlp.out")], [Edit(Site("decoder", 9, "mlp.out"), "add", torch.ones(1))]
        )


def test_the_tokens_of_a_text_are_the_same_again_whatever_was_done_with_them(demo: Subject) -> None:
    text = "3 + 4 = 7"
    first = demo.tokens(text)
    first.append(0)
    assert demo.tokens(text) == first[:-1] == demo.tokenizer(text)["input_ids"]
