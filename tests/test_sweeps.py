"""A sweep gives what separate runs give, whatever it shares, and computes each shared step once."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from tools.engine import programs
from tools.engine.adapter import Call, StackSpec, mark_batched, record
from tools.engine.executor import Variant, sweep
from tools.engine.shared import alike, sweep_shared
from tools.engine.sites import HEADED, Edit, Site, SiteError
from tools.engine.version import BEGUN, ENGINE
from tools.subjects import Inputs, Subject

Batch = Callable[[Subject, Sequence[Sequence[int]]], Inputs]
N = 4


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    """Without gradients."""
    with torch.inference_mode():
        yield


@st.composite
def edit_plans(draw: st.DrawFn, widths: dict[str, int], batch: int, seq: int) -> dict[str, Any]:
    """What `edit_from` makes any edit of; plain data, because beartype draws random numbers when tensors are checked."""
    kind = draw(st.sampled_from(sorted(widths)))
    head = draw(st.sampled_from([None, 0, 3])) if kind in HEADED else None
    width = widths[kind] if head is None else widths[kind] // 4
    op = draw(st.sampled_from(["set", "add", "scale", "project_out"]))
    n = draw(st.sampled_from([None, 1, 2]))
    each = st.lists(st.integers(0, seq - 1), min_size=n or 0, max_size=n, unique=True)
    return {
        "block": draw(st.integers(0, N - 1)),
        "kind": kind,
        "op": op,
        "shape": draw(st.sampled_from([(width,), (batch, 1, width), *[()] * (op == "scale")])),
        "seed": draw(st.integers(0, 2**16)),
        "positions": None if n is None else [draw(each) for _ in range(batch)],
        "head": head,
    }


def edit_from(plan: dict[str, Any], stack: str) -> Edit:
    """The edit of a plan, with a random value; a value without dimensions is zero, which makes `scale` an ablation."""
    shape, positions = plan["shape"], plan["positions"]
    value = torch.randn(shape, generator=torch.Generator().manual_seed(plan["seed"])) if shape else torch.zeros(())
    at = None if positions is None else torch.tensor(positions)
    return Edit(
        Site(stack, plan["block"], plan["kind"]),
        plan["op"],
        value,
        at,
        None if plan["head"] is None else (plan["head"],),
    )


PROGRAMS = st.one_of(
    st.just(tuple(range(N))),
    st.permutations(range(N)).map(tuple),
    st.sets(st.integers(0, N - 1)).map(lambda blocks: tuple(sorted(blocks))),
    st.lists(st.integers(0, N - 1), max_size=6).map(tuple),
)


def variants_of(data: st.DataObject, stack: str, widths: dict[str, int], batch: int, seq: int) -> list[Variant]:
    """Variants that skip, repeat and permute, some of which share edits."""
    pool = [edit_from(plan, stack) for plan in data.draw(st.lists(edit_plans(widths, batch, seq), max_size=3))]
    which = st.lists(st.integers(0, len(pool) - 1), max_size=2, unique=True) if pool else st.just([])
    drawn = data.draw(st.lists(st.tuples(PROGRAMS, which), min_size=1, max_size=7))
    return [Variant(blocks, tuple(pool[i] for i in chosen)) for blocks, chosen in drawn]


def before(subject: Subject) -> int:
    """Blocks of the stacks that come first, which run once for all variants that leave them alone."""
    return sum(len(spec.blocks) for name, spec in subject.stacks.items() if name != subject.readout)


def distinct_prefixes(variants: Sequence[Variant]) -> int:
    """Steps that sharing cannot avoid: nonempty program prefixes that differ in a block or in an edit made there."""
    steps = [[(b, tuple(id(e) for e in v.edits if e.site.block == b)) for b in v.blocks] for v in variants]
    return len({tuple(s[:k]) for s in steps for k in range(1, len(s) + 1)})


def state(h: Tensor, _: int) -> Tensor:
    """Read the final state itself."""
    return h.clone()


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_sweep_gives_what_separate_runs_give_under_any_memory(
    subject: Subject, batch: Batch, rows: list[list[int]], data: st.DataObject
) -> None:
    inputs = batch(subject, [rows[0], rows[1][:5]])
    for stack, spec in subject.stacks.items():
        seq = {("whisper", "encoder"): 9, ("m2m100", "encoder"): 8, ("marian", "encoder"): 8}.get((subject.name, stack), 7)
        inner = {kind: 48 if subject.name == "qwen3" else 32 for kind in spec.kinds if kind in HEADED}
        inner["attn.pattern"] = 4 * seq
        if "cross.pattern" in spec.kinds:  # its keys are the encoder's positions
            inner["cross.pattern"] = 4 * {"whisper": 9, "m2m100": 8, "marian": 8}[subject.name]
        widths = dict.fromkeys(spec.kinds, 32) | inner | {"mlp.act": 56}
        variants = variants_of(data, stack, widths, 2, seq)
        options = data.draw(
            st.sampled_from(
                [{}, {"max_tokens": 1}, {"max_state_bytes": 0}, {"max_tokens": 3 * 2 * seq, "max_state_bytes": 4000}]
            )
        )
        values, cost = subject.sweep(inputs, variants, state, stack=stack, **options)
        assert len(values) == len(variants)
        for variant, value in zip(variants, values, strict=True):
            alone = subject.run(inputs, {stack: variant.blocks}, variant.edits).final
            scale = max(1.0, alone.abs().max().item())
            assert_close(value, alone, atol=1e-5 * scale, rtol=1e-4)
        others = sum(len(s.blocks) for name, s in subject.stacks.items() if name != stack)
        if "cached_generation" in subject.capabilities:  # what comes before the first change may come from an unchanged run
            assert cost.edges <= cost.naive_edges + len({v.blocks for v in variants}) * len(spec.blocks)
        elif stack == subject.readout:  # what comes before runs once for all of them, what comes after once for each
            assert cost.edges == distinct_prefixes(variants) + others
        else:
            assert distinct_prefixes(variants) + others <= cost.edges <= distinct_prefixes(variants) + others * len(variants)
        assert cost.naive_edges == sum(len(v.blocks) for v in variants) + others * len(variants)
        assert cost.calls <= cost.edges
        if "max_tokens" in options and options["max_tokens"] == 1:
            assert cost.calls == cost.edges


def test_every_block_call_keeps_to_the_token_limit(
    subject_named: Callable[[str], Subject], batch: Batch, rows: list[list[int]]
) -> None:
    subject = subject_named("mistral")
    inputs = batch(subject, rows)
    variants = [Variant(p.blocks) for p in programs.SWEEPS["skip_ranges"](N)]
    call = subject.call(inputs)
    call.arguments_for(0, 2)  # for copies it is captured once more, which the hooks would see
    seen: list[int] = []
    hooks = [
        block.register_forward_pre_hook(lambda _m, args: seen.append(args[0].shape[0] * args[0].shape[1]))
        for block in subject.spec().blocks
    ]
    try:
        for limit, expected in [(63, 63), (64, 63), (1, 21), (10**6, 126)]:  # one copy of the batch is 21 tokens
            seen.clear()
            _, cost = subject.sweep(inputs, variants, state, call=call, max_tokens=limit)
            assert max(seen) == expected
            assert len(seen) == cost.calls
            assert sum(seen) == 21 * cost.edges
    finally:
        for hook in hooks:
            hook.remove()


def test_less_memory_means_fewer_states_at_a_time_and_the_same_values(
    subject_named: Callable[[str], Subject], batch: Batch, rows: list[list[int]]
) -> None:
    subject = subject_named("gpt2")
    inputs = batch(subject, rows)
    variants = [Variant(tuple(b for b in range(N) if mask >> b & 1)) for mask in range(2**N)]
    variants += [Variant((*v.blocks[::-1], 0)) for v in variants]
    wide, cost_wide = subject.sweep(inputs, variants, state)
    narrow, cost_narrow = subject.sweep(inputs, variants, state, max_state_bytes=0, max_tokens=1)
    for a, b in zip(wide, narrow, strict=True):
        assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert cost_narrow.peak_live_states < cost_wide.peak_live_states
    assert cost_narrow.edges == cost_wide.edges == distinct_prefixes(variants) + before(subject)


def test_variants_that_share_nothing_but_blocks_run_as_one_batch(
    subject_named: Callable[[str], Subject], batch: Batch, rows: list[list[int]]
) -> None:
    subject = subject_named("gpt2")
    edits = [Edit(Site("decoder", 0, "mlp.out"), "scale", torch.tensor(f)) for f in (0.0, 0.5, 2.0)]
    _, cost = subject.sweep(batch(subject, rows), [Variant((0, 1, 2, 3), (e,)) for e in edits], state)
    assert (cost.calls, cost.edges, cost.naive_edges) == (4, 12, 12)


def test_edits_late_in_the_stack_share_what_comes_before(
    subject_named: Callable[[str], Subject], batch: Batch, rows: list[list[int]]
) -> None:
    subject = subject_named("gpt2")
    edits = [Edit(Site("decoder", 3, "attn.z"), "scale", torch.tensor(0.0), units=(h,)) for h in range(4)]
    _, cost = subject.sweep(batch(subject, rows), [Variant((0, 1, 2, 3), (e,)) for e in edits], state)
    assert (cost.calls, cost.edges, cost.naive_edges) == (4, 7, 16)


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "gpt_neox_parallel", "opt", "qwen3"])
def test_edits_at_a_late_position_compute_nothing_before_it_but_once(
    name: str, subject_named: Callable[[str], Subject], batch: Batch, rows: list[list[int]]
) -> None:
    """Three rows of seven tokens; what is changed at the sixth leaves two to compute, from its block on."""
    subject = subject_named(name)
    inputs, at = batch(subject, rows), torch.tensor([[5], [6], [5]])
    kinds = ("mlp.out", "attn.z", "resid_pre")
    edits = [Edit(Site("decoder", b, k), "scale", torch.tensor(0.0), at) for b in range(N) for k in kinds]
    variants = [Variant(tuple(range(N))), *(Variant(tuple(range(N)), (e,)) for e in edits)]
    seen: list[int] = []
    hooks = [
        block.get_submodule(subject.spec().o_proj).register_forward_pre_hook(
            lambda _m, args: seen.append(args[0].shape[0] * args[0].shape[1])
        )
        for block in subject.spec().blocks
    ]
    try:
        values, _ = subject.sweep(inputs, variants, state)
    finally:
        for hook in hooks:
            hook.remove()
    assert sum(seen) == 3 * 7 * N + sum(3 * 2 * (N - b) for b in range(N) for _ in kinds)
    assert len(seen) == N + N  # the unchanged run, then each block once for all of them
    for variant, value in zip(variants, values, strict=True):
        alone = subject.run(inputs, variant.blocks, variant.edits).final
        assert_close(value, alone, atol=1e-5 * max(1.0, alone.abs().max().item()), rtol=1e-4)
        assert variant.edits or torch.equal(value[:, :5], values[0][:, :5])


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "gpt_neox_parallel", "opt", "qwen3"])
@pytest.mark.parametrize("max_tokens", [21, 2048])
def test_the_last_block_of_a_variant_runs_only_where_it_is_read(
    name: str, max_tokens: int, subject_named: Callable[[str], Subject], batch: Batch, rows: list[list[int]]
) -> None:
    """Three rows of up to seven tokens, of which the last two positions are read: the last block's MLP is given no others."""
    subject = subject_named(name)
    inputs, every = batch(subject, rows), tuple(range(N))
    late = [Edit(Site("decoder", b, "mlp.out"), "scale", torch.tensor(0.0), torch.tensor([[4]] * 3)) for b in range(N)]
    whole = [Edit(Site("decoder", b, "attn.z"), "scale", torch.tensor(0.0)) for b in range(N)]
    orders = [(), (N - 1,), *(tuple(b for b in every if b != gone) for gone in every), every[::-1], (0, 0, *every)]
    variants = [Variant(every), *(Variant(every, (e,)) for e in (*late, *whole)), *map(Variant, orders)]
    seen: list[tuple[int, int]] = []
    hooks = [
        block.get_submodule(subject.spec().o_proj).register_forward_pre_hook(
            lambda _m, args, b=b: seen.append((b, args[0].shape[1]))
        )
        for b, block in enumerate(subject.spec().blocks)
    ]
    try:
        values, cost = subject.sweep(inputs, variants, state, read_from=5, max_tokens=max_tokens)
        made = list(seen)
        subject.engine = 1
        before, counted = subject.sweep(inputs, variants, state, read_from=5, max_tokens=max_tokens)
    finally:
        subject.engine = ENGINE
        for hook in hooks:
            hook.remove()
    assert 2 in {n for _, n in made}
    assert {n for _, n in seen[len(made) :]} <= {3, 7}  # whole, or from the change at the fifth position on
    assert (cost.edges, cost.naive_edges) == (counted.edges, counted.naive_edges)
    for variant, value, old in zip(variants, values, before, strict=True):
        alone = subject.run(inputs, variant.blocks, variant.edits).final[:, 5:]
        for found in (value, old):
            assert_close(found, alone, atol=1e-5 * max(1.0, alone.abs().max().item()), rtol=1e-4)
    assert torch.equal(values[0], before[0])  # nothing is changed: its states may be kept for what runs next


def test_where_most_positions_are_read_or_few_variants_run_no_block_is_cut_short(
    subject_named: Callable[[str], Subject], batch: Batch, rows: list[list[int]]
) -> None:
    subject = subject_named("gpt2")
    inputs, every = batch(subject, rows), tuple(range(N))
    variants = [Variant(tuple(b for b in every if b != gone)) for gone in every]
    for some, first in ((variants, 3), (variants[:3], 6)):
        found, _ = subject.sweep(inputs, some, state, read_from=first)
        subject.engine = 1
        plain, _ = subject.sweep(inputs, some, state, read_from=first)
        subject.engine = ENGINE
        assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))


@pytest.mark.parametrize("max_tokens", [1, 20, 2048])
def test_what_all_prompts_begin_with_runs_once_for_each_program(
    text_subject: Subject, batch: Batch, rows: list[list[int]], monkeypatch: pytest.MonkeyPatch, max_tokens: int
) -> None:
    subject, every = text_subject, tuple(range(N))
    able = "cached_generation" in subject.capabilities and len(subject.stacks) == 1
    begin = rows[0][:4]
    inputs = batch(subject, [[*begin, *row] for row in ([5, 6, 7], [9, 8], [3, 4, 2], [11])])
    orders = [(), (N - 1,), *(tuple(b for b in every if b != gone) for gone in every), every[::-1], (0, 0, *every)]
    edit = Edit(Site(subject.readout, 1, "mlp.out"), "scale", torch.tensor(0.0))
    variants = [Variant(every), *map(Variant, orders), Variant(every[:2]), Variant(every, (edit,)), Variant(every[1:], (edit,))]
    monkeypatch.setattr("tools.engine.shared.SAVED", 8)
    shared: list[int] = []

    def noted(resume: Any, beginning: Any, some: Sequence[Variant], *others: Any, **options: Any) -> Any:
        shared.append(len(some))
        return sweep_shared(resume, beginning, some, *others, **options)

    monkeypatch.setattr("tools.engine.suffix.sweep_shared", noted)

    def swept(engine: int, read_from: int = 4) -> list[Tensor]:
        monkeypatch.setattr(subject, "engine", engine)
        return subject.sweep(inputs, variants, state, read_from=read_from, max_tokens=max_tokens)[0]

    values, before = swept(ENGINE), swept(BEGUN - 1)
    swept(ENGINE, 1)  # one position begins alike before what is read: that is not worth it
    assert shared == [6] * able  # what has no edits and is no part of the intact run
    for variant, value, old in zip(variants, values, before, strict=True):
        alone = subject.run(inputs, variant.blocks, variant.edits).final[:, 4:]
        for found in (value, old):
            assert_close(found, alone, atol=1e-5 * max(1.0, alone.abs().max().item()), rtol=1e-4)
    assert torch.equal(values[0], before[0])  # the intact run, whose states may be kept, is computed as before


def test_prompts_begin_alike_as_far_as_all_of_them_do_before_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.tensor([[1, 2, 3, 4, 9], [1, 2, 3, 5, 9], [1, 2, 3, 4, 9]])
    monkeypatch.setattr("tools.engine.shared.SAVED", 4)
    assert [alike(ids, most) for most in (0, 1, 2, 3, 5)] == [0, 0, 2, 3, 3]
    assert alike(ids[:1], 5) == 0
    monkeypatch.setattr("tools.engine.shared.SAVED", 7)
    assert alike(ids, 5) == 0


def test_a_sweep_reads_each_variant_once_under_its_own_number_and_reports_progress(
    subject_named: Callable[[str], Subject], batch: Batch, rows: list[list[int]]
) -> None:
    subject = subject_named("llama")
    done: list[int] = []
    variants = [Variant((0,)), Variant(()), Variant((0,)), Variant((0, 1))]
    values, _ = subject.sweep(batch(subject, rows), variants, lambda _, i: torch.tensor(i), on_progress=done.append)
    assert [int(v) for v in values] == [0, 1, 2, 3]
    assert sum(done) == 4


class PositionBias(nn.Module):
    """A block whose argument has an entry for each position, or one for each row."""

    def forward(self, hidden: Tensor, by_position: Tensor, *, by_row: Tensor) -> Tensor:
        """Both arguments leave their mark."""
        return hidden * by_position[:, None] + by_row[:, None, None]


def test_which_arguments_belong_to_the_batch_is_found_out_even_where_lengths_coincide() -> None:
    spec = StackSpec("toy", nn.ModuleList(PositionBias() for _ in range(2)), 8, 1, "", "")

    def call(rows: int) -> Call:
        def forward() -> None:
            h = torch.ones(rows, 3, 8)
            for block in spec.blocks:
                h = block(h, torch.tensor([1.0, 2.0, 3.0]), by_row=torch.arange(rows) % 3.0)

        return record(spec, forward)

    made = call(3)  # as many rows as positions
    mark_batched(made, call(6))
    assert made.batched == [[False, True]] * 2
    values, cost = sweep(made, [Variant((0, 1)), Variant((0,)), Variant((0, 0)), Variant((1, 1))], state)
    assert cost.calls < cost.edges
    row, position = torch.arange(3.0)[:, None], torch.tensor([1.0, 2.0, 3.0])
    once, twice = position + row, (position + row) * position + row
    for value, expected in zip(values, [twice, once, twice, twice], strict=True):
        assert torch.equal(value, expected[..., None].expand(3, 3, 8))


def test_sweeps_agree_with_runs_whatever_the_batch_size(subject_named: Callable[[str], Subject], batch: Batch) -> None:
    variants = [Variant((0, 1, 2, 3)), Variant((3, 2, 1, 0)), Variant((1, 2, 3))]
    for name in ("mistral", "llama_eager", "opt", "whisper"):
        subject = subject_named(name)
        for n in (1, 4, 8):  # as many rows as other dimensions have entries
            inputs = batch(subject, [[5 + i, 6, 7, 8] for i in range(n)])
            values, _ = subject.sweep(inputs, variants, state)
            for variant, value in zip(variants, values, strict=True):
                assert_close(value, subject.run(inputs, variant.blocks).final, atol=1e-5, rtol=1e-5)


def test_a_captured_call_serves_many_sweeps(
    subject_named: Callable[[str], Subject], batch: Batch, rows: list[list[int]]
) -> None:
    subject = subject_named("mistral")
    inputs = batch(subject, rows)
    call = subject.call(inputs)
    for count in (1, 3, 2, 4):
        variants = [Variant((b, 3)) for b in range(count)]
        values, _ = subject.sweep(inputs, variants, state, call=call)
        for variant, value in zip(variants, values, strict=True):
            assert_close(value, subject.run(inputs, variant.blocks).final, atol=1e-5, rtol=1e-5)


def test_a_failed_sweep_leaves_the_model_as_it_was(subject: Subject, batch: Batch, rows: list[list[int]]) -> None:
    inputs, stack = batch(subject, rows), subject.readout
    before = subject.run(inputs).logits
    unfit = Edit(Site(stack, 2, "mlp.out"), "set", torch.zeros(5))  # five channels fit nowhere
    with pytest.raises(RuntimeError):
        subject.sweep(inputs, [Variant((0, 1, 2)), Variant((0, 2), (unfit,))], state)
    for edit in (
        Edit(Site(stack, N, "mlp.out"), "scale", torch.zeros(())),
        Edit(Site(stack, 0, "attn.z"), "scale", torch.zeros(()), units=(4,)),
        Edit(Site("elsewhere", 0, "mlp.out"), "scale", torch.zeros(())),
    ):
        with pytest.raises(SiteError, match="0 to 3"):
            subject.sweep(inputs, [Variant((0, 1), (edit,))], state)
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__ for m in subject.model.modules())
    assert torch.equal(subject.run(inputs).logits, before)
