"""The integrity gate: it passes what is right, refuses what is not what its name says, and catches a broken engine."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from tools.engine import adapter, attention, narrow, suffix
from tools.engine.adapter import Call
from tools.engine.sites import Edit, Site, SiteError
from tools.findings import integrity
from tools.findings.integrity_report import IntegrityReport
from tools.subjects import CapabilityError, Inputs, Subject, bert, load_subject, wrap
from tools.subjects.family import Family, decoder, sequential

Batch = Callable[[Subject, Sequence[Sequence[int]]], Inputs]
CONFIG: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 56, "vocab_size": 61,
    "max_position_embeddings": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def checked(subject: Subject, batch: Batch) -> IntegrityReport:
    return integrity.check(subject, lambda rows: batch(subject, rows))


def randomised(model: Any) -> Any:
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


# -- what is right passes ---------------------------------------------------------------------------------------------


def test_every_kind_of_model_passes_with_every_part_seen_and_every_edit_shown(subject: Subject, batch: Batch) -> None:
    report = checked(subject, batch)
    assert report.passed, report.reasons()
    assert report.broken is None
    assert report.refused == {}
    made = {(c.name, c.stack, c.part) for c in report.checks if c.cases}
    for spec in subject.stacks.values():
        for kind in spec.kinds:
            assert {(name, spec.name, kind) for name in ("reading", "edit", "effect", "self-patch")} <= made
            assert report.refuses(kind) is report.refuses(kind, spec.name) is None
        for kind in ("attn.out", "mlp.out"):
            assert {("equation", spec.name, kind), ("projection", spec.name, kind)} <= made
        assert ("pattern", spec.name, "attn.pattern") in made
    effects = [c for c in report.checks if c.name == "effect"]
    assert sum(c.still for c in effects) < sum(c.cases for c in effects) / 40  # nearly every edit moves the logits


def test_the_built_in_model_passes_in_every_precision() -> None:
    for dtype in ("float32", "bfloat16"):
        report = integrity.check(load_subject("demo", dtype=dtype))
        assert report.passed, report.reasons()


def test_a_report_is_the_same_each_time_and_survives_json() -> None:
    first, second = (replace(integrity.check(load_subject("demo")), seconds=0.0) for _ in range(2))
    assert first == second == IntegrityReport.from_json(first.as_json())


def test_the_gate_leaves_no_trace_in_the_model(subject_named: Callable[[str], Subject], batch: Batch) -> None:
    subject = subject_named("llama_eager")
    before = subject.model.config._attn_implementation
    checked(subject, batch)
    assert subject.model.config._attn_implementation == before == "eager"
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in subject.model.modules())


# -- what is not what its name says is refused ------------------------------------------------------------------------


def as_llama(architecture: str) -> Family:
    """A family file that takes another model for a Llama."""
    return decoder(
        "mistaken", (architecture,), body="model", blocks="layers", after_blocks=("norm",), o_proj="self_attn.o_proj",
        down_proj="mlp.down_proj", equation=lambda _: sequential("post_attention_layernorm"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "model",
    [
        lambda: hf.Olmo2ForCausalLM(hf.Olmo2Config(**CONFIG)),
        lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**CONFIG, residual_multiplier=0.5)),
    ],
    ids=["a norm after attention and MLP", "a factor on what they add"],
)
def test_a_model_that_transforms_attentions_output_afterwards_is_refused_there_and_there_only(model: Any) -> None:
    model = randomised(model())
    subject = Subject(model, None, as_llama(type(model).__name__), name="mistaken", fingerprint="0")
    report = integrity.check(subject)
    assert {k for k in subject.spec().kinds if report.refuses(k)} == {"attn.out", "resid_mid", "mlp.out"}
    assert "resid_pre + attn.out" in str(report.refuses("attn.out"))
    assert report.broken is None
    guarded = subject.without(report.refused)
    assert not {"attn.out", "resid_mid", "mlp.out"} & set(guarded.spec().kinds)
    with pytest.raises(SiteError, match="refused for this model: a block's parts add up"):
        guarded.run(guarded.inputs([[5, 6]]), capture=[Site("decoder", 0, "attn.out")])
    assert guarded.run(guarded.inputs([[5, 6]]), capture=[Site("decoder", 0, "attn.z")]).captured
    assert "attn.out" in subject.spec().kinds  # the subject itself is as it was


def test_the_middle_of_the_block_under_the_name_of_attentions_output_is_refused(model_named: Any) -> None:
    (paths,) = bert.FAMILY.stacks
    wrong = replace(bert.FAMILY, stacks=(replace(paths, o_proj="attention.output"),))  # its output holds the stream too
    report = integrity.check(Subject(model_named("bert"), None, wrong, name="wrong", fingerprint="0"))
    assert report.refuses("attn.out")
    assert report.refuses("mlp.out") is None
    assert {c.part for c in report.checks if c.name == "equation" and c.verdict == "fails"} == {"attn.out"}


def test_a_family_that_declares_no_equation_cannot_offer_what_it_would_show(model_named: Any) -> None:
    family = as_llama("LlamaForCausalLM")
    (paths,) = family.stacks
    bare = replace(family, stacks=(replace(paths, equation=lambda _: ()),))
    report = integrity.check(Subject(model_named("llama"), None, bare, name="bare", fingerprint="0"))
    for kind in ("attn.out", "mlp.out"):
        assert "declares no equation" in str(report.refuses(kind))


def test_a_model_that_answers_with_no_number_is_refused_as_a_whole(model_named: Any) -> None:
    model = model_named("gpt2")
    model.transformer.ln_f.bias.data[0] = torch.nan
    report = integrity.check(wrap(model))
    assert "not finite" in str(report.broken)
    assert report.refuses("mlp.act") == report.broken


# -- models that read later tokens ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox_parallel", "opt"])
def test_is_causal_false_is_honoured_in_a_batch_with_padding_and_refused_for_the_next_token(
    kind: str, model_named: Any
) -> None:
    model = model_named(kind)
    model.config.is_causal = False
    subject = wrap(model, name=kind)
    assert not subject.spec().causal
    with torch.inference_mode():
        alone = model(input_ids=torch.tensor([[5, 6, 7]])).logits[0]
        padded = subject.run(subject.inputs([[5, 6, 7], [8, 9, 10, 11, 12]])).logits[0, :3]
        assert (alone - padded).abs().max() < 1e-5
    assert integrity.check(subject).passed
    with pytest.raises(CapabilityError, match="is_causal: false"):
        subject.generate([[5, 6]], 1)


def test_a_bert_that_decodes_is_known_to_be_causal(model_named: Any) -> None:
    model = randomised(hf.BertForMaskedLM(hf.BertConfig(**CONFIG, is_decoder=True)))
    subject = wrap(model)
    assert subject.spec().causal
    assert integrity.check(subject).passed


def test_a_family_that_calls_a_bidirectional_model_causal_is_refused(model_named: Any) -> None:
    (paths,) = bert.FAMILY.stacks
    wrong = replace(bert.FAMILY, stacks=(replace(paths, causal=lambda _: True),))
    report = integrity.check(Subject(model_named("bert"), None, wrong, name="wrong", fingerprint="0"))
    assert report.broken


# -- a broken engine is caught ----------------------------------------------------------------------------------------

APPLY, CHANGED, RUN_BLOCK = Edit.apply, Edit._changed, adapter.run_block
TOUCH, AFTER, BEFORE = attention._touch, adapter._after, adapter._before


def nothing_happens(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Edit, "apply", lambda self, h, n: h.clone())


def applied_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Edit, "apply", lambda self, h, n: APPLY(self, APPLY(self, h, n), n))


def next_head(patch: pytest.MonkeyPatch) -> None:
    def apply(self: Edit, h: Tensor, n: int) -> Tensor:
        moved = None if self.units is None else tuple((u + 1) % n for u in self.units)
        return APPLY(self if moved is None else replace(self, units=moved), h, n)

    patch.setattr(Edit, "apply", apply)


def interleaved_heads(patch: pytest.MonkeyPatch) -> None:
    def apply(self: Edit, h: Tensor, n: int) -> Tensor:
        if self.units is None:
            return APPLY(self, h, n)
        mixed = h.unflatten(-1, (-1, n)).transpose(-1, -2).flatten(-2)
        return APPLY(self, mixed, n).unflatten(-1, (n, -1)).transpose(-1, -2).flatten(-2)

    patch.setattr(Edit, "apply", apply)


def position_before(patch: pytest.MonkeyPatch) -> None:
    def apply(self: Edit, h: Tensor, n: int) -> Tensor:
        return APPLY(self if self.positions is None else replace(self, positions=self.positions - 1), h, n)

    patch.setattr(Edit, "apply", apply)


def first_rows_position_for_all(patch: pytest.MonkeyPatch) -> None:
    def apply(self: Edit, h: Tensor, n: int) -> Tensor:
        at = self.positions
        return APPLY(self if at is None else replace(self, positions=at[:1].expand_as(at)), h, n)

    patch.setattr(Edit, "apply", apply)


def every_position(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Edit, "apply", lambda self, h, n: APPLY(replace(self, positions=None), h, n))


def adds_in_place_of_setting(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Edit, "_changed", lambda self, old: CHANGED(replace(self, op="add") if self.op == "set" else self, old)
    )


def scales_by_the_square(patch: pytest.MonkeyPatch) -> None:
    def changed(self: Edit, old: Tensor) -> Tensor:
        return old * self.value.to(old.device) ** 2 if self.op == "scale" else CHANGED(self, old)

    patch.setattr(Edit, "_changed", changed)


def projects_with_any_length(patch: pytest.MonkeyPatch) -> None:
    def changed(self: Edit, old: Tensor) -> Tensor:
        v = self.value.to(old.device)
        return old - (old * v).sum(-1, keepdim=True) * v if self.op == "project_out" else CHANGED(self, old)

    patch.setattr(Edit, "_changed", changed)


def seen_but_not_passed_on(patch: pytest.MonkeyPatch) -> None:
    def after(touch: Any, kind: Any) -> Any:
        return lambda _m, _a, out: (touch(kind, out), out)[1]

    patch.setattr(adapter, "_after", after)


def input_taken_for_output(patch: pytest.MonkeyPatch) -> None:
    def after(touch: Any, kind: Any) -> Any:
        return (lambda _m, args, out: touch(kind, args[0])) if kind == "attn.out" else AFTER(touch, kind)

    patch.setattr(adapter, "_after", after)


def stream_in_attentions_output(patch: pytest.MonkeyPatch) -> None:
    """The middle of the block under the name attn.out: read so, and taken off again, so that the logits are right."""

    def run_block(
        call: Call, index: int, h: Tensor, edits: Any = ((),), capture: Any = None, captured: Any = None, **more: Any
    ) -> Tensor:
        out = RUN_BLOCK(call, index, h, edits, capture, captured, **more)
        if capture and "attn.out" in capture:
            captured[capture["attn.out"]] = captured[capture["attn.out"]] + h
        return out

    patch.setattr("tools.engine.executor.run_block", run_block)


def pattern_not_normalised(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        attention, "_touch", lambda kind, t: TOUCH(kind, 2 * t) / 2 if kind == "attn.pattern" else TOUCH(kind, t)
    )


def queries_and_keys_mixed_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(adapter, "INNER", ("attn.k", "attn.q", "attn.v", "attn.pattern"))


def no_mask_when_open(patch: pytest.MonkeyPatch) -> None:
    own = attention.ALL_ATTENTION_FUNCTIONS[attention.NAME]

    def attend(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, **more: Any) -> Any:
        return own(module, q, k, v, torch.zeros(1, 1, q.shape[2], k.shape[2]), **more)

    patch.setitem(attention.ALL_ATTENTION_FUNCTIONS._global_mapping, attention.NAME, attend)


def another_blocks_arguments(patch: pytest.MonkeyPatch) -> None:
    own = Call.arguments_for
    patch.setattr(Call, "arguments_for", lambda self, block, copies: own(self, 0, copies))


def another_variants_edits(patch: pytest.MonkeyPatch) -> None:
    def run_block(call: Call, index: int, h: Tensor, edits: Any = ((),), *more: Any, **named: Any) -> Tensor:
        return RUN_BLOCK(call, index, h, [*edits[1:], edits[0]], *more, **named)

    patch.setattr("tools.engine.executor.run_block", run_block)
    patch.setattr("tools.engine.suffix.run_block", run_block)


def next_block(patch: pytest.MonkeyPatch) -> None:
    from tools.engine.executor import trace

    def shifted(call: Call, blocks: Any, edits: Any = (), capture: Any = ()) -> Any:
        n = len(call.spec.blocks)
        moved = [replace(e, site=replace(e.site, block=(e.site.block + 1) % n)) for e in edits]
        return trace(call, blocks, moved, capture)

    patch.setattr("tools.subjects.subject.trace", shifted)


def reads_before_the_edit(patch: pytest.MonkeyPatch) -> None:
    def run_block(
        call: Call, index: int, h: Tensor, edits: Any = ((),), capture: Any = None, captured: Any = None, **more: Any
    ) -> Tensor:
        if capture:
            RUN_BLOCK(call, index, h, [()] * len(edits), capture, captured, **more)
        return RUN_BLOCK(call, index, h, edits, None, None, **more)

    patch.setattr("tools.engine.executor.run_block", run_block)


def no_final_norm(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Family, "finish", lambda self, model, stack, h: h)


def padding_is_read(patch: pytest.MonkeyPatch) -> None:
    own = Subject.inputs

    def inputs(self: Subject, rows: Any) -> Inputs:
        made = own(self, rows)
        return Inputs({**made.fields, "attention_mask": torch.ones_like(made.fields["input_ids"])}, made.lengths)

    patch.setattr(Subject, "inputs", inputs)


def rows_look_at_each_other(patch: pytest.MonkeyPatch) -> None:
    def run_block(call: Call, index: int, h: Tensor, *more: Any, **named: Any) -> Tensor:
        out = RUN_BLOCK(call, index, h, *more, **named)
        return out + 1e-3 * (out.mean(0, keepdim=True) - out)

    patch.setattr("tools.engine.executor.run_block", run_block)


def first_block_twice(patch: pytest.MonkeyPatch) -> None:
    own = Subject._blocks
    patch.setattr(Subject, "_blocks", lambda self, program, spec: (0, *own(self, program, spec)))


def forgets_what_came_before(patch: pytest.MonkeyPatch) -> None:
    """A sweep that goes on from a later position attends to nothing before it."""
    patch.setattr(narrow.Before, "update", lambda self, keys, values, *_, **__: (keys, values))


def goes_on_a_position_late(patch: pytest.MonkeyPatch) -> None:
    """What stands before the first change is believed to reach one position further."""
    own = suffix._first_position
    patch.setattr(suffix, "_first_position", lambda variant: own(variant) + 1 if own(variant) in (1, 2) else own(variant))


def takes_other_rows_past(patch: pytest.MonkeyPatch) -> None:
    """A sweep that goes on from a later position attends to what came before in other rows."""
    own = narrow.Before.update

    def update(self: Any, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.before = tuple(t.roll(1, 0) for t in self.before)
        return own(self, keys, values)

    patch.setattr(narrow.Before, "update", update)


def last_block_reads_other_states(patch: pytest.MonkeyPatch) -> None:
    """Where the last block runs at the positions that are read, it is given the states of those before them."""
    own = narrow.Narrow.run
    patch.setattr(narrow.Narrow, "run", lambda self, block, h, *more: own(self, block, h.roll(1, 1), *more))


def last_block_attends_to_other_rows(patch: pytest.MonkeyPatch) -> None:
    """Where the last block runs at the positions that are read, it attends to other rows' keys."""
    own = narrow._Keys.update

    def update(self: Any, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return own(self, keys.roll(1, 0), values.roll(1, 0))

    patch.setattr(narrow._Keys, "update", update)


MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], str, set[str]]] = [
    (nothing_happens, "gpt2", {"edit"}),
    (applied_twice, "gpt2", {"edit"}),
    (next_head, "gpt2", {"edit"}),
    (interleaved_heads, "gpt2", {"edit"}),
    (position_before, "gpt2", {"edit"}),
    (first_rows_position_for_all, "gpt2", {"edit"}),
    (every_position, "gpt2", {"edit"}),
    (adds_in_place_of_setting, "gpt2", {"edit", "self-patch"}),
    (scales_by_the_square, "gpt2", {"edit"}),
    (projects_with_any_length, "gpt2", {"edit"}),
    (seen_but_not_passed_on, "gpt2", {"effect"}),
    (input_taken_for_output, "gpt2", {"reading", "equation"}),
    (stream_in_attentions_output, "gpt2", {"reading", "equation"}),
    (pattern_not_normalised, "gpt2", {"reading", "pattern"}),
    (queries_and_keys_mixed_up, "qwen2", {"reading"}),
    (no_mask_when_open, "llama_eager", {"reading", "pattern"}),
    (another_blocks_arguments, "qwen2", {"identity"}),
    (another_variants_edits, "gpt2", {"effect"}),
    (next_block, "gpt2", {"edit", "effect"}),
    (reads_before_the_edit, "gpt2", {"edit"}),
    (no_final_norm, "gpt2", {"identity"}),
    (padding_is_read, "bert", {"rows"}),
    (rows_look_at_each_other, "gpt2", {"rows"}),
    (first_block_twice, "gpt2", {"identity"}),
    (forgets_what_came_before, "gpt2", {"rows"}),
    (goes_on_a_position_late, "gpt2", {"effect"}),
    (takes_other_rows_past, "gpt2", {"effect"}),
    (last_block_reads_other_states, "gpt2", {"effect"}),
    (last_block_attends_to_other_rows, "gpt2", {"effect"}),
]


@pytest.mark.parametrize(("mutant", "kind", "by"), MUTANTS, ids=[m.__name__ for m, _, _ in MUTANTS])
def test_a_broken_engine_is_caught(
    mutant: Any, kind: str, by: set[str], subject_named: Callable[[str], Subject], batch: Batch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        report = checked(subject_named(kind), batch)
    failed = {c.name for c in report.checks if c.verdict == "fails"}
    assert by <= failed
    assert report.broken or report.refused
