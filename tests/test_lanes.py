"""Batches of a sweep run side by side: in any number of lanes the same bits, the same order of what waits, the same errors."""

import gc
import os
import signal
import threading
import time

import numpy as np
import pytest
import torch
from models_made import random_model
from transformers import GPT2Config, GPT2LMHeadModel

from tools.engine.executor import Variant
from tools.engine.kept import Kept
from tools.engine.lanes import Step, lane, lanes, run_steps, side_by_side, undivided
from tools.engine.sites import Edit, Site
from tools.engine.suffix import _Whole
from tools.engine.version import APART, ENGINE, SMALL
from tools.methods.scoring import score
from tools.subjects import load_subject, wrap
from tools.tasks import get_task

FAMILIES = ["gpt2", "llama", "bert", "whisper", "marian", "vit"]


@pytest.fixture
def threads():
    """Set how many threads torch has here, and put it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def variants_of(subject):
    """Edits at every block of every stack, alone and from a later position on, and programs that skip and repeat."""
    blocks = tuple(range(len(subject.spec().blocks)))
    edits = []
    for name, spec in subject.stacks.items():
        for b in range(len(spec.blocks)):
            parts = [k for k in ("attn.z", "mlp.out") if k in spec.kinds]
            edits += [Edit(Site(name, b, k), "scale", torch.zeros(())) for k in parts]
            edits += [Edit(Site(name, b, parts[-1]), "scale", torch.zeros(()), torch.tensor([[3]]))]
    programs = [tuple(b for b in blocks if b != gone) for gone in blocks] + [(b, *blocks) for b in blocks]
    return [Variant(blocks), *(Variant(blocks, (e,)) for e in edits), *map(Variant, programs)]


def swept(subject, inputs, **options):
    """Each variant's last states."""
    with subject.evaluating():
        return subject.sweep(inputs, variants_of(subject), lambda h, _: h.clone(), **options)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_sweep_gives_the_same_bits_in_any_number_of_lanes(subject_named, batch, rows, threads, name):
    subject = subject_named(name)
    inputs, found = batch(subject, rows), {}
    where = set()
    for count in (1, 2, 5):
        threads(count)
        for memory in (2**30, 1):
            found[count, memory], cost = swept(subject, inputs, max_tokens=32, max_state_bytes=memory)
            found[count, memory].append(torch.tensor([cost.calls, cost.edges, cost.peak_live_states]))
            with subject.evaluating():
                where |= set(subject.sweep(inputs, variants_of(subject), lambda *_: torch.tensor(lane()), max_tokens=32)[0])
    assert len({int(n) for n in where}) > 1, "some of it ran in lanes"
    for memory in (2**30, 1):
        for count in (2, 5):
            for a, b in zip(found[1, memory], found[count, memory], strict=True):
                assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_what_prompts_begin_with_is_shared_with_the_same_bits_in_any_number_of_lanes(subject_named, batch, rows, threads, monkeypatch, name):
    subject, found = subject_named(name), {}
    inputs = batch(subject, [[*rows[0][:4], *row] for row in ([5, 6, 7], [9, 8], [3, 4, 2], [11])])
    monkeypatch.setattr("tools.engine.shared.SAVED", 8)
    for count in (1, 2, 5):
        threads(count)
        for kept in (None, Kept(2**24)):
            found[count, kept is None], _ = swept(subject.keeping(kept), inputs, read_from=4, max_tokens=48)
    first, *others = found.values()
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


def test_scores_are_the_same_in_any_number_of_lanes_and_whatever_is_kept(threads):
    demo, examples, scores = load_subject("demo"), get_task("addition").examples("explore", 24), {}
    variants = [Variant(tuple(range(6))), *(Variant((*range(6), *[5] * k)) for k in range(1, 24))]
    for count in (1, 3):
        for kept in (None, Kept(2**28)):
            threads(count)
            scores[count, kept is None], _ = score(demo.keeping(kept), examples, lambda _: variants, max_tokens=64, kl=True)
    first, *others = scores.values()
    for other in others:
        for a, b in zip(first, other, strict=True):
            assert (a.nll == b.nll).all()
            assert (a.kl == b.kl).all()
            assert (a.rank == b.rank).all()


@pytest.fixture(scope="module")
def wide():
    """A GPT-2 of two blocks, wide enough that batches of a few examples run side by side."""
    torch.manual_seed(5)
    demo = load_subject("demo")
    config = GPT2Config(vocab_size=demo.model.config.vocab_size, n_positions=64, n_embd=SMALL + 64, n_layer=2, n_head=4)
    return wrap(GPT2LMHeadModel(config).eval(), tokenizer=demo.tokenizer, name="wide")


def without_mlps(subject, batch):
    """The intact model, and without the MLP of each of the first two blocks."""
    blocks = tuple(range(len(subject.spec().blocks)))
    gone = [Edit(Site("decoder", b, "mlp.out"), "scale", torch.zeros(())) for b in blocks[:2]]
    return [Variant(blocks), *(Variant(blocks, (e,)) for e in gone)]


@pytest.mark.parametrize(("name", "engine", "few"), [("wide", ENGINE, True), ("wide", ENGINE, False), ("wide", APART - 1, True), ("demo", ENGINE, True)])
def test_few_conditions_of_a_wide_model_are_scored_in_small_batches_side_by_side(threads, wide, monkeypatch, name, engine, few):
    subject = wide if name == "wide" else load_subject("demo")
    examples, apart = get_task("addition").examples("explore", 96), (name, engine, few) == ("wide", ENGINE, True)
    monkeypatch.setattr(subject, "engine", engine)
    found, where, sizes = {}, set(), set()

    def variants(batch):
        sizes.add(len(batch.indices))
        return without_mlps(subject, batch)

    monkeypatch.setattr(
        subject, "sweep", lambda *given, run=subject.sweep, **options: (where.add(lane()), run(*given, **options))[1]
    )
    for count in (1, 2, 5):
        threads(count)
        found[count], _ = score(subject, examples, variants, kl=True, few=few)
    assert (max(sizes) <= 24) == apart
    assert (len(where - {0}) > 1) == apart, "whole sweeps run in lanes"
    plain, _ = score(subject, examples, variants, kl=True)
    for one, two, five, whole in zip(found[1], found[2], found[5], plain, strict=True):
        for other in (two, five):
            same = (one.nll == other.nll).all() and (one.kl == other.kl).all() and (one.rank == other.rank).all()
            assert same or not apart, "the same bits with any number of threads"
        np.testing.assert_allclose(one.nll, whole.nll, rtol=1e-4)


def test_what_was_computed_before_lanes_is_computed_without_them(subject_named, batch, rows, threads):
    subject = subject_named("gpt2")
    inputs = batch(subject, rows)
    threads(3)
    before = subject.engine
    try:
        subject.engine = 2
        with subject.evaluating():
            where, _ = subject.sweep(inputs, variants_of(subject), lambda *_: torch.tensor(lane()), max_tokens=32)
            assert {int(n) for n in where} == {0}
            assert torch.get_num_threads() == 3
    finally:
        subject.engine = before


def test_a_lane_has_the_weights_of_the_model_as_they_are_now(subject_named, batch, rows, threads):
    subject = subject_named("gpt2")
    inputs = batch(subject, rows)
    threads(2)
    first, _ = swept(subject, inputs, max_tokens=32)
    block = subject.spec().blocks[1]
    own, weight = block.mlp.c_proj, block.mlp.c_proj.weight
    held = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.mul_(1.5)  # written to
        written, _ = swept(subject, inputs, max_tokens=32)
        with torch.no_grad():
            weight.copy_(held)
        block.mlp.c_proj = type(own)(own.nf, weight.shape[0])  # another module in its place
        with torch.no_grad():
            block.mlp.c_proj.weight.copy_(1.5 * held)
            block.mlp.c_proj.bias.copy_(own.bias)
        replaced, _ = swept(subject, inputs, max_tokens=32)
    finally:
        block.mlp.c_proj = own
        with torch.no_grad():
            weight.copy_(held)
    again, _ = swept(subject, inputs, max_tokens=32)
    assert not torch.equal(first[0], written[0])
    for a, b, c, d in zip(first, written, replaced, again, strict=True):
        assert torch.equal(b, c)
        assert torch.equal(a, d)


def test_lanes_share_the_weights_and_leave_a_block_with_somebody_s_hook_alone(subject_named, batch, rows, threads):
    subject = subject_named("llama")
    inputs, spec = batch(subject, rows), subject.spec()
    threads(2)
    swept(subject, inputs, max_tokens=32)
    copies = [spec.shells.of(k) for k in (1, 2)]
    assert all(c is not None and c is not spec.blocks for c in copies)
    for copy in copies:
        assert all(a is b for a, b in zip(copy.parameters(), spec.blocks.parameters(), strict=True))
    seen = []
    hook = spec.blocks[0].mlp.register_forward_hook(lambda *_: seen.append(lane()))
    try:
        with subject.evaluating():
            where, _ = subject.sweep(inputs, variants_of(subject), lambda *_: torch.tensor(lane()), max_tokens=32)
    finally:
        hook.remove()
    assert seen
    assert {*seen, *map(int, where)} == {0}


def test_what_transformers_hangs_on_a_block_for_good_and_what_cannot_be_copied(batch, rows, threads):
    subject, other = (wrap(random_model("llama"), name=name) for name in ("one", "other"))
    other.spec().blocks[0].mlp.held = threading.Lock()
    inputs = batch(subject, rows)
    threads(2)

    def where(model):
        with model.evaluating():
            read, _ = model.sweep(inputs, variants_of(model), lambda *_: torch.tensor(lane()), max_tokens=32)
        return {int(n) for n in read}

    subject.model(**inputs.fields, output_hidden_states=True)
    assert any(m._forward_hooks for m in subject.spec().blocks.modules())
    assert {1, 2} <= where(subject)
    assert where(other) == {0}
    for a, b in zip(swept(subject, inputs, max_tokens=32)[0], swept(other, inputs, max_tokens=32)[0], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("count", [1, 3])
def test_a_sweep_leaves_nothing_for_the_garbage_collector(subject_named, batch, rows, threads, count):
    subject = subject_named("gpt2")
    inputs = batch(subject, rows)
    threads(count)
    swept(subject, inputs, max_tokens=32)
    gc.collect()
    gc.disable()
    try:
        swept(subject, inputs, max_tokens=32)
        with pytest.raises(ZeroDivisionError), subject.evaluating():
            subject.sweep(inputs, variants_of(subject), lambda *_: 1 // 0, max_tokens=32)
        left = [o for o in gc.get_objects() if type(o) is _Whole]
    finally:
        gc.enable()
    assert not left


def test_steps_wait_for_those_they_need_and_errors_end_them_where_they_were_asked_for(threads):
    threads(4)
    done: list[int] = []

    def note(n, pause):
        def run():
            time.sleep(pause)
            done.append(n)

        return run

    first = Step(note(0, 0.05))
    second = [Step(note(n, 0.01 * (n % 3)), (first,)) for n in range(1, 9)]
    run_steps([first, *second, Step(note(9, 0), second)], 4)
    assert (done[0], done[-1], sorted(done)) == (0, 9, list(range(10)))

    started = []

    def fail():
        raise ValueError("a part cannot be computed")

    steps = [Step(fail), *(Step(lambda: (started.append(1), time.sleep(0.02))) for _ in range(200))]
    with pytest.raises(ValueError, match="cannot be computed"):
        run_steps(steps, 4)
    assert len(started) < 200

    def fail_late():
        time.sleep(0.1)
        raise KeyError("the earlier step, later in time")

    with pytest.raises(KeyError, match="earlier step"):
        run_steps([Step(fail_late), Step(lambda: time.sleep(0.01)), Step(fail)], 2)
    assert side_by_side([lambda n=n: n * n for n in range(50)], 4) == [n * n for n in range(50)]  # and lanes go on


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_forked_process_starts_lanes_of_its_own(threads):
    threads(2)
    jobs = [lambda: (time.sleep(0.01), lane())[1] for _ in range(8)]
    assert set(side_by_side(jobs, 2)) == {1, 2}
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends it where nobody takes up the work
        os._exit(0 if set(side_by_side(jobs, 2)) == {1, 2} else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_inside_a_lane_there_are_no_more_and_other_threads_keep_theirs(threads):
    threads(3)
    found = {}

    def elsewhere():
        found["other"] = torch.get_num_threads()

    with undivided():
        assert (torch.get_num_threads(), lanes()) == (1, 3)
        other = threading.Thread(target=elsewhere)
        other.start()
        other.join()
        inside = side_by_side([lambda: (time.sleep(0.02), lanes(), torch.get_num_threads(), lane()) for _ in range(6)], 3)
    assert found["other"] == 3
    assert {row[1:3] for row in inside} == {(1, 1)}
    assert {row[3] for row in inside} == {1, 2, 3}
    assert (torch.get_num_threads(), lanes()) == (3, 3)
    divided = side_by_side([lambda: (time.sleep(0.02), torch.get_num_threads()) for _ in range(6)], 1)
    assert {n for _, n in divided} == {3}
