"""How tuned lenses are fitted: the regression in closed form, the steps' coordinates, and lenses of records of an earlier time."""

import math

import pytest
import torch

from tools.engine.sites import Site
from tools.methods import lens_fitting, translators
from tools.methods.lens_fitting import Moments, fit
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, ToolInputError
from tools.methods.translators import SINCE, corpus, fitted, kl, logprobs, split_rows, states, translate
from tools.subjects import load_subject

DEPTHS, ROWS, WIDTH = 3, 500, 8


@pytest.fixture
def demo():
    return load_subject("demo")


@pytest.fixture(scope="module")
def made():
    """States of uneven directions, and last states that are an affine function of them with noise."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.tensor([30.0, 5.0, *[1.0] * (WIDTH - 2)])
    h = torch.randn(DEPTHS, ROWS, WIDTH, generator=draw) * lengths + 3
    target = h[0] @ torch.randn(WIDTH, WIDTH, generator=draw) + torch.randn(ROWS, WIDTH, generator=draw)
    return h, target


def weighted(h, target):
    """(state, 1) and what is to be added to the state, both times the root of what the state weighs; the weights sum to one."""
    weight = 1 / (target.double().var(-1, unbiased=False) + 1e-5)
    root = (weight / weight.sum()).sqrt()[:, None]
    return torch.cat([h.double(), torch.ones(DEPTHS, ROWS, 1)], -1) * root, (target - h).double() * root


def test_the_regression_is_that_of_least_squares_with_a_ridge(made):
    x, y = weighted(*made)
    ridge = lens_fitting.RIDGE * x.square().sum((1, 2)) / (WIDTH + 1)
    more = torch.eye(WIDTH + 1).double() * ridge.sqrt()[:, None, None]
    expected = torch.linalg.lstsq(torch.cat([x, more], 1), torch.cat([y, torch.zeros(DEPTHS, WIDTH + 1, WIDTH)], 1))
    assert torch.allclose(Moments.of(*made).regression(), expected.solution, rtol=1e-4, atol=1e-5)


def test_what_a_lens_leaves_unexplained_is_its_root_mean_square_error(made):
    x, y = weighted(*made)
    moments = Moments.of(*made)
    for lens in (moments.regression(), torch.zeros(DEPTHS, WIDTH + 1, WIDTH).double()):
        off = ((y - x @ lens).square().sum((1, 2)) / WIDTH).sqrt()
        assert torch.allclose(moments.unexplained(lens), off, rtol=1e-4)


def test_the_coordinates_of_the_steps_shorten_long_directions(made):
    x, _ = weighted(*made)
    stretch, back = Moments.of(*made).coordinates()
    before, after = (torch.linalg.eigvalsh(m.transpose(1, 2) @ m) for m in (x, x @ stretch))
    assert (before[:, -1] / before[:, -3]).min() > 5
    assert torch.allclose(after, before / (before + lens_fitting.FLOOR * before.mean(-1, keepdim=True)), rtol=1e-4)
    assert torch.allclose(stretch @ back, torch.eye(WIDTH + 1).double().expand_as(back), atol=1e-9)


def test_no_row_is_seen_a_second_time_before_all_have_been_seen():
    rows = lens_fitting._drawn(100, 30, 10, seed=0)
    assert [len(r) for r in rows] == [30] * 10
    seen = torch.cat(rows)
    assert sorted(seen[:100].tolist()) == sorted(seen[100:200].tolist()) == list(range(100))
    assert torch.equal(seen, torch.cat(lens_fitting._drawn(100, 30, 10, seed=0)))


def test_the_slope_is_the_gradient_of_the_divergence_and_leaves_none_in_the_model(demo):
    draw = torch.Generator().manual_seed(0)
    target, guess = torch.randn(4, 128, generator=draw), torch.randn(2, 4, 128, generator=draw)
    with torch.enable_grad():
        at = guess.clone().requires_grad_()
        kl(logprobs(demo, target).detach(), logprobs(demo, at)).sum().backward(inputs=[at])
    assert torch.allclose(lens_fitting._slope(demo, guess, target), at.grad, atol=1e-5)
    assert all(p.grad is None for p in demo.model.parameters())


@pytest.mark.parametrize("zero", [False, True])
def test_a_lens_of_few_steps_is_nearer_to_the_model_on_other_texts_at_every_depth(demo, zero):
    ctx = Context(demo, OfflineTasks([]), Nothing())
    train, held_out = (states(demo, c.rows, 2048).h for c in split_rows(corpus(ctx, ["addition", "copying"], "explore", 160), 0))
    truth = logprobs(demo, held_out[-1])

    def off(lens):
        return kl(truth, logprobs(demo, translate(held_out[:-1], lens))).mean(1)

    with torch.no_grad():
        none, start, lens = (off(x) for x in (
            torch.zeros(6, 129, 128), fit(demo, train, 0, 0, zero=zero), fit(demo, train, 40, 0, zero=zero)
        ))  # fmt: skip
    assert (lens < none / 3).all()
    assert lens.mean() < 0.7 * start.mean()
    assert torch.equal(fit(demo, train, 5, 0), fit(demo, train, 5, 0))
    assert not torch.equal(fit(demo, train, 5, 0), fit(demo, train, 5, 1))


def test_where_steps_do_harm_the_start_is_kept(demo, monkeypatch):
    ctx = Context(demo, OfflineTasks([]), Nothing())
    h = states(demo, corpus(ctx, ["addition"], "explore", 64).rows, 2048).h
    monkeypatch.setattr(lens_fitting, "RATE", math.inf)
    assert torch.equal(fit(demo, h, 2, 0), fit(demo, h, 0, 0))


@pytest.mark.parametrize("bad", [math.inf, math.nan])
@pytest.mark.parametrize("depth", [2, -1])
def test_a_model_that_overflows_is_told_where_and_what_would_help(demo, depth, bad):
    ctx = Context(demo, OfflineTasks([]), Nothing())
    h = states(demo, corpus(ctx, ["addition"], "explore", 16).rows, 2048).h
    depth %= len(h)
    h[depth, 5, 3] = bad
    where = rf"at depth {depth}, decoder\.{depth - 1}\.resid_post, the model's states overflow or are undefined in "
    with pytest.raises(ToolInputError, match=where + "float32$"):
        fit(demo, h, 2, 0)
    with pytest.raises(ToolInputError, match=where + "float16: load it in bfloat16 or float32"):
        fit(load_subject("demo", device="cpu", dtype="float16"), h, 2, 0)


def test_a_record_of_an_earlier_engine_gets_the_lens_of_its_time(demo, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ctx = Context(demo, OfflineTasks([]), Nothing())
    rows = corpus(ctx, ["addition"], "explore", 32).rows
    lenses, h = {}, {}
    for engine in (1, SINCE - 1, SINCE):
        monkeypatch.setattr(demo, "engine", engine)
        lenses[engine] = fitted(ctx, rows, 5)
        h[engine] = states(demo, rows, ctx.max_tokens).h
        if engine < SINCE:
            assert torch.equal(lenses[engine], translators._fit(ctx, h[engine], 5, "ridge"))
    assert torch.equal(lenses[1], lenses[SINCE - 1])
    assert torch.equal(lenses[SINCE], fit(demo, h[SINCE], 5, ctx.seed))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2  # kept apart, too


@pytest.mark.parametrize("last", [False, True])
def test_states_are_those_of_each_text_alone(demo, last):
    rows = [demo.tokens(t) for t in ("3 + 4 = 7", "a", "Then , Anna and Mary had a letter", "9")]
    sites = [Site(demo.spec().name, b, "resid_pre") for b in range(6)]
    found = states(demo, rows, max_tokens=16, last=last)
    for i, row in enumerate(rows):
        run = demo.run(demo.inputs([row]), capture=sites)
        alone = torch.stack([*(run.captured[s][0] for s in sites), run.final[0]])
        assert torch.allclose(found.h[:, found.owner == i], alone[:, -1:] if last else alone, atol=1e-4)
