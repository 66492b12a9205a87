"""Tools that locate, on models whose answer is known: by construction, by hand, or because it can be computed another way."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.planted.__main__ import write_task
from benchmarks.planted.cases import CASES
from benchmarks.planted.train import FOLDER, make
from tools.attention import kinds_of
from tools.attribute import estimate
from tools.methods.effects import Condition, score_under
from tools.methods.layout import select_components
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.probing import Probe, control_labels
from tools.methods.readings import patterns
from tools.methods.scoring import microbatches
from tools.methods.tool import Context, ToolInputError, discover
from tools.methods.twins import load_pairs
from tools.subjects import load_subject, wrap

TOOLS = discover()


def context(subject, *files):
    return Context(subject, OfflineTasks(list(files)), Nothing())


def call(ctx, tool, **arguments):
    t = TOOLS[tool]
    return t.run(t.parse(arguments), ctx)


def values(outcome, name, by="component", **where):
    """Values of one quantity by a coordinate; components without the stack and the position."""
    found = [m for m in outcome.measurements if m.name == name and m.agrees({k: str(v) for k, v in where.items()})]
    return {_label(m, by): m.value for m in found}


def _label(m, by):
    if by == "depth":
        return 0 if m.derived["block"] is None else m.derived["block"] + 1
    value = {**m.coordinates, **m.derived, "dose": m.dose}.get(by)
    return re.sub(r"decoder\.|@[^ ]*| \(frozen.*", "", value) if by == "component" and value else value


def confirming(ctx):
    return replace(ctx, split="confirm")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A model that adds modulo 37: attention of block 0 alone moves the operands, MLP of block 1 alone computes."""
    folder = tmp_path_factory.mktemp("planted")
    case = next(c for c in CASES if c.name == "modular-a0-m1")
    rows = [json.loads(line) for line in write_task(case, folder).read_text().splitlines()]
    rng = np.random.default_rng(0)
    for row in rows:
        row["metadata"] |= {"noise": int(rng.integers(2)), "constant": 1, "name": row["prompt"]}
    file = folder / "sums.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return context(load_subject(str(FOLDER / case.name), device="cpu"), file)


@pytest.fixture(scope="module")
def demo():
    return context(load_subject("demo", device="cpu"))


# -- patch and path_patch ----------------------------------------------------------------------------------------------


def test_patching_carries_the_answer_over_only_where_it_was_planted(planted):
    attention = values(call(planted, "patch", task="sums", components=["attn.out@answer"]), "recovered")
    mlp = values(call(planted, "patch", task="sums", components=["mlp.out@answer"]), "recovered")
    assert attention.pop("0.attn.out") > 0.9
    assert mlp.pop("1.mlp.out") > 0.8
    assert max(map(abs, attention.values())) < 0.2
    assert max(map(abs, mlp.values())) < 0.2


@pytest.mark.parametrize("direction", ["noise", "denoise"])
def test_before_the_planted_block_the_answer_lies_at_the_operands_and_after_it_at_the_end(planted, direction):
    o = call(planted, "patch", task="sums", components=["resid_pre@each"], depth=4, direction=direction)
    recovered = {(m.derived["block"], m.derived["anchor"]): m.value for m in o.measurements if m.name == "recovered"}
    assert abs(recovered[0, "-1"]) < 0.05
    assert recovered[0, "-2"] + recovered[0, "-4"] > 0.5
    assert recovered[1, "-1"] > 0.9
    assert abs(recovered[2, "-4"]) < 0.1
    controls = [
        m.control.value for m in o.measurements if m.name == "flipped" and m.agrees({"block": "2", "anchor": "-1"})
    ]
    assert controls[0] < recovered[2, "-1"]


def test_the_middle_of_a_block_is_what_its_mlp_reads(planted):
    middle = values(call(planted, "patch", task="sums", components=["resid_mid@-1"]), "recovered")
    after = values(call(planted, "patch", task="sums", components=["resid_pre@-1"]), "recovered")
    assert middle["0.resid_mid"] > 0.9 > 0.1 > abs(after["0.resid_pre"])


def test_values_carry_the_operands_and_the_query_of_the_equals_sign_does_not(planted):
    v = call(planted, "patch", task="sums", components=["decoder.0.attn.v[*]@all"])
    q = call(planted, "patch", task="sums", components=["decoder.0.attn.q[*]@-1"])
    assert sum(values(v, "recovered").values()) > 0.5
    assert (
        max(map(abs, values(q, "recovered").values())) < 1e-4
    )  # before block 0 the last position is the same in every prompt
    heads = [call(planted, "patch", task="sums", components=[f"decoder.0.attn.{s}[*]@all"]) for s in ("k", "pattern")]
    assert all(sum(values(o, "recovered").values()) != 0 for o in heads)


def test_probability_nll_accuracy_and_kl_of_a_patch_agree_with_each_other(planted):
    o = call(planted, "patch", task="sums", components=["decoder.0,4.attn.out@answer"])
    probability, nll, kl, accuracy = (values(o, n) for n in ("probability", "nll", "kl", "accuracy"))
    assert probability["0.attn.out"] < 0.1 < 0.9 < probability["4.attn.out"]
    assert nll["0.attn.out"] > 2 > 0.2 > nll["4.attn.out"]
    assert kl["0.attn.out"] > 2 > 0.2 > kl["4.attn.out"] >= 0
    assert accuracy["0.attn.out"] < 0.1 < 0.9 < accuracy["4.attn.out"]


def test_the_path_from_the_planted_attention_to_the_planted_mlp_carries_it_and_no_other_path(planted):
    to_mlp = values(
        call(planted, "path_patch", task="sums", components=["attn.out"], receiver="decoder.1.mlp.out"), "recovered"
    )
    assert to_mlp.pop("0.attn.out -> 1.mlp.out") > 0.7
    assert max(map(abs, to_mlp.values())) < 0.2
    late = values(
        call(planted, "path_patch", task="sums", components=["attn.out"], receiver="decoder.4.mlp.out"), "recovered"
    )
    assert max(map(abs, late.values())) < 0.2
    logits = values(
        call(planted, "path_patch", task="sums", components=["mlp.out"], receiver="decoder.logits"), "recovered"
    )
    assert max(logits, key=logits.get) == "1.mlp.out -> logits"


def test_all_paths_out_of_the_last_block_are_the_patch_itself(planted):
    place = ["decoder.5.mlp.out@-1"]
    direct = values(call(planted, "path_patch", task="sums", components=place, receiver="decoder.logits"), "recovered")
    whole = values(call(planted, "patch", task="sums", components=place), "recovered")
    assert direct["5.mlp.out -> logits"] == pytest.approx(whole["5.mlp.out"], abs=1e-5)


# -- attribute ---------------------------------------------------------------------------------------------------------


def linear_subject():
    """A GPT-2 in which every map is linear: no norms, no activation function, attention spread evenly."""
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=61, n_positions=16, n_embd=32, n_layer=3, n_head=4, activation_function="linear",
        attn_pdrop=0, resid_pdrop=0, embd_pdrop=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
        for block in model.transformer.h:
            block.ln_1 = block.ln_2 = torch.nn.Identity()
            block.attn.c_attn.weight[:, :64] = 0  # queries and keys
            block.attn.c_attn.bias[:64] = 0
        model.transformer.ln_f = torch.nn.Identity()
    return model


@pytest.mark.parametrize("components", [["attn.out", "mlp.out"], ["attn.z[*]"], ["resid_pre"]])
@pytest.mark.parametrize("anchor", ["@answer", ""])
def test_attribution_equals_exact_patching_on_a_linear_model(components, anchor, tmp_path):
    words = load_subject(str(FOLDER / "modular-a0-m1"), device="cpu")
    subject = wrap(linear_subject(), tokenizer=words.tokenizer, name="linear")
    rows = [
        {"prompt": f"{a} {b} {c}", "answer": f" {a + 20}", "foil": f" {b + 20}", "twin": f"{b} {a} {c + 1}"}
        for a, b, c in np.random.default_rng(0).integers(1, 19, (60, 3)).tolist()
        if a != b
    ]
    file = tmp_path / "t.jsonl"
    file.write_text("\n".join(map(json.dumps, {r["prompt"]: r for r in rows}.values())))
    ctx = context(subject, file)
    task, receivers = load_pairs(ctx, "t", 64)
    targets = select_components(subject, [c + anchor for c in components])
    (batch,) = microbatches(subject, receivers)
    effects, _ = estimate(subject, batch, targets)
    intact, *patched = score_under(ctx, task, receivers, [Condition.of(c, "resample(twin)") for c in targets])
    exact = np.stack([p.foil_margin - intact.foil_margin for p in patched])
    assert np.abs(exact).max() > 0.02
    assert np.abs(effects - exact[:, list(batch.indices)]).max() < 1e-4


def test_attribution_ranks_the_planted_components_first_and_says_how_well_it_agrees(planted):
    o = call(planted, "attribute", task="sums", method="patching", steps=4)
    found = values(o, "attribution")
    assert set(sorted(found, key=found.get)[-2:]) == {"0.attn.out", "1.mlp.out"}
    (agreement,) = values(o, "agreement").values()
    exact = values(o, "exact")
    assert agreement == pytest.approx(np.corrcoef([found[s] for s in exact], list(exact.values()))[0, 1], abs=1e-6)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox_parallel", "opt_350m_kind"])
def test_contributions_of_all_parts_add_up_to_the_logits(kind, subject_named, rows):
    subject = subject_named(kind)
    if kind == "opt_350m_kind":  # post-norm: the stream is not a sum of what was written into it
        parts = torch.randn(3, 5, 32)
        whole = parts.sum(0)
    else:
        from tools.engine.sites import Site

        kinds = ("attn.out", "mlp.out")
        sites = [Site("decoder", 0, "resid_pre"), *(Site("decoder", b, k) for b in range(4) for k in kinds)]
        run = subject.run(subject.inputs(rows), capture=sites)
        parts = torch.stack([run.captured[s][:, -1] for s in sites])
        whole = run.final[:, -1]
    bias = subject.unembed(whole) - subject.contributions(whole[None], whole)[0]
    assert torch.allclose(subject.contributions(parts, whole).sum(0) + bias, subject.unembed(whole), atol=1e-4)
    assert torch.allclose(bias, bias[:1].expand_as(bias), atol=1e-4)  # what no part has is the same for every example


# -- attention ---------------------------------------------------------------------------------------------------------

VOCABULARY, LENGTH = 12, 24
TOKEN, PLACE, BEFORE = slice(0, 12), slice(12, 36), slice(36, 48)
WIDTH = 64  # 4 heads of 16: one head of block 0 and one of block 1 do the work


def induction_model():
    """Two blocks by hand: block 0 head 2 looks at the previous token and notes it; block 1 head 1 finds the place after
    an earlier occurrence of the present token. All other heads look at everything alike."""
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=WIDTH, n_layer=2, n_head=2, n_inner=8, tie_word_embeddings=False,
        attn_pdrop=0, resid_pdrop=0, embd_pdrop=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        body = model.transformer
        body.wte.weight[:, TOKEN] = torch.eye(VOCABULARY)
        body.wpe.weight[:, PLACE] = torch.eye(LENGTH)
        for block in body.h:
            block.ln_1.weight.fill_(1)
            block.ln_2.weight.fill_(1)
        body.ln_f.weight.fill_(1)
        head = WIDTH // 2  # channels a head has: 32, enough for 24 places or 12 tokens
        q, k, v = (lambda h, base=base: slice(base + h * head, base + (h + 1) * head) for base in (0, WIDTH, 2 * WIDTH))
        first, second = body.h[0].attn, body.h[1].attn
        eye = torch.eye(LENGTH)
        first.c_attn.weight[PLACE, q(1)] = torch.nn.functional.pad(20 * eye, (0, head - LENGTH))
        first.c_attn.weight[PLACE, k(1)] = torch.nn.functional.pad(eye.roll(1, 1), (0, head - LENGTH))
        first.c_attn.weight[TOKEN, v(1)] = torch.nn.functional.pad(torch.eye(12), (0, head - 12))
        first.c_proj.weight[head : head + 12, BEFORE] = torch.eye(12)
        second.c_attn.weight[TOKEN, q(0)] = torch.nn.functional.pad(20 * torch.eye(12), (0, head - 12))
        second.c_attn.weight[BEFORE, k(0)] = torch.nn.functional.pad(torch.eye(12), (0, head - 12))
    return model


def test_on_a_hand_built_induction_model_the_scores_say_which_head_is_which():
    subject = wrap(induction_model(), name="by hand")
    ctx = context(subject)
    o = call(ctx, "attention", length=10, examples=8)
    for name, site in (("previous", "0.attn.pattern[1]"), ("induction", "1.attn.pattern[0]")):
        scores = values(o, name)
        control = next(m.control.value for m in o.measurements if m.name == name)
        assert scores.pop(site) > 0.7 > 0.4 > max(scores.values()) >= 0, name
        assert control < 0.4
    assert max(values(o, "duplicate").values()) < 0.4


def test_scores_of_patterns_drawn_by_hand():
    ids = torch.tensor([[5, 7, 5, 7]])
    looks = torch.zeros(1, 3, 4, 4)
    looks[0, 0, [1, 2, 3], [0, 1, 2]] = 1  # previous
    looks[0, 1, [1, 2, 3], [0, 0, 1]] = 1  # the earlier occurrence, where there is one
    looks[0, 2, [1, 2, 3], [0, 1, 2]] = 0.5  # what followed it, half of the weight; the same places as previous
    found = kinds_of(looks, ids)
    assert found["previous"].tolist() == [[1.0, pytest.approx(1 / 3), 0.5]]
    assert found["duplicate"].tolist() == [[0.0, 1.0, 0.0]]
    assert found["induction"].tolist() == [[1.0, 0.0, 0.5]]
    assert found["first"].tolist() == [[pytest.approx(1 / 3), pytest.approx(2 / 3), pytest.approx(1 / 6)]]


def test_patterns_are_those_that_the_model_itself_reports(model_named, rows):
    for kind in ("gpt2", "llama", "mistral", "gpt_neox_parallel", "opt", "qwen3"):
        subject = wrap(model_named(kind), name=kind)
        inputs = subject.inputs(rows)
        with torch.inference_mode():
            found = dict(zip([0, 3], patterns(subject, inputs, "decoder", [0, 3]), strict=True))
            eager = model_named(kind)
            eager.set_attn_implementation("eager")
            theirs = eager(**inputs.fields, output_attentions=True).attentions
        for block, mine in found.items():
            assert torch.allclose(mine, theirs[block], atol=1e-5), (kind, block)


# -- probe -------------------------------------------------------------------------------------------------------------


def test_a_probe_finds_the_planted_variable_and_not_an_absent_one(planted):
    places = ["decoder.0,5.resid_pre@each"]
    there = call(planted, "probe", task="sums", label="x1 % 2", components=places, depth=2, examples=200)
    found = {(m.derived["block"], m.derived["anchor"]): m for m in there.measurements if m.name == "accuracy"}
    assert found[0, "-2"].value > 0.9
    assert found[0, "-1"].value < 0.75  # before block 0 the last position knows no operand
    shuffled = next(
        m for m in there.measurements if m.name == "accuracy.shuffled" and m.agrees({"block": "0", "anchor": "-2"})
    )
    assert shuffled.value < 0.75
    absent = call(planted, "probe", task="sums", label="noise", components=["decoder.0,5.resid_post@-1"], examples=200)
    assert max(values(absent, "accuracy").values()) < 0.75


def test_a_control_task_can_be_read_where_the_token_stands_and_nowhere_else(planted):
    # Before block 0 the operand's position holds the token itself: any function of it can be read, the parity as well as a
    # random one (Hewitt and Liang 2019). So the true label's reading says nothing beyond the token there.
    o = call(
        planted, "probe", task="sums", label="x1 % 2", components=["decoder.0.resid_pre@each"], depth=2, examples=300
    )
    found = {m.derived["anchor"]: m for m in o.measurements if m.name == "accuracy"}
    at_token, at_end = found["-2"].control, found["-1"].control
    assert at_token.kind.startswith("control task")
    assert at_token.low > 0.55
    assert at_token.difference == pytest.approx(found["-2"].value - at_token.value)
    assert at_end.kind.startswith("the same probe on shuffled labels")
    assert at_end.value < 0.75


def test_the_labels_of_a_control_task_are_a_function_of_the_token(planted):
    _, examples = planted.tasks.get("sums"), planted.tasks.get("sums").examples("explore", 100)
    y = np.array([i % 2 for i in range(len(examples))])
    (place,) = select_components(planted.subject, ["decoder.0.resid_pre@-2"])
    made = control_labels(planted.subject, examples, place, y, 0)
    tokens = [planted.subject.tokens(e.prompt)[-2] for e in examples]
    assert len({(t, int(v)) for t, v in zip(tokens, made, strict=True)}) == len(set(tokens))
    assert set(made.tolist()) == {0, 1}


def test_a_probe_of_a_number_explains_variance_and_shuffled_labels_do_not(planted):
    o = call(
        planted,
        "probe",
        task="sums",
        label="x0",
        target="number",
        components=["decoder.0.resid_pre@each"],
        depth=4,
        examples=300,
    )
    found = {m.derived["anchor"]: m for m in o.measurements if m.name == "r2"}
    shuffled = {m.derived["anchor"]: m.value for m in o.measurements if m.name == "r2.shuffled"}
    assert found["-4"].value > 0.6
    assert shuffled["-4"] < 0.2
    assert found["-2"].value < 0.2  # the other operand's place


def test_an_mlp_probe_reads_what_no_linear_one_can():
    x = np.random.default_rng(1).normal(size=(900, 4)).astype(np.float32)
    y = ((x[:, 0] > 0) == (x[:, 1] > 0)).astype(int)
    right = {
        m: float(np.mean(Probe(model=m).predict(x[:700], y[:700], x[700:], 0) == y[700:])) for m in ("linear", "mlp")
    }
    assert right["linear"] < 0.65
    assert right["mlp"] > 0.85


def test_confirming_a_probe_fits_on_explore_and_scores_on_confirm(planted):
    o = call(
        confirming(planted), "probe", task="sums", label="x1 % 2", components=["decoder.0.resid_pre@-2"], examples=100
    )
    (found,) = [m for m in o.measurements if m.name == "accuracy"]
    assert found.split == "confirm"
    assert found.n == 100
    assert "fitted on 100" in o.text


# -- steer -------------------------------------------------------------------------------------------------------------


def test_steering_by_the_difference_of_means_moves_the_answer_and_a_random_direction_does_not(demo):
    # Agreement: the subject's number is at the last token from block 5 on.
    common = {
        "task": "agreement",
        "label": "answer",
        "value": "are",
        "components": ["decoder.5.resid_post@-1"],
        "toward": " are",
    }
    o = call(demo, "steer", **common, doses=[0, 1, 2])
    curve = {m.dose: m for m in o.measurements if m.name == "logit_margin"}
    intact = curve[0].value
    assert curve[2].value > curve[1].value > intact + 2
    assert abs(curve[2].control.value - intact) < 0.3 * (curve[2].value - intact)
    assert curve[2].done.dose == 2
    random = call(demo, "steer", **common, doses=[2], direction="random")
    (margin,) = [m for m in random.measurements if m.name == "logit_margin"]
    assert abs(margin.value - intact) < 0.3 * (curve[2].value - intact)
    assert margin.done.direction != curve[2].done.direction


def test_projecting_the_direction_out_takes_the_difference_away_and_dose_nought_changes_nothing(demo):
    common = {
        "task": "agreement",
        "label": "answer",
        "value": "are",
        "components": ["decoder.5.resid_post@-1"],
        "doses": [0],
    }
    nothing = call(demo, "steer", **common)
    out = call(demo, "steer", **common, operation="project_out")
    assert values(nothing, "kl", by="dose")[0] == pytest.approx(0, abs=1e-6)
    assert values(out, "accuracy", by="dose")[0] < values(nothing, "accuracy", by="dose")[0] - 0.1


def test_steering_while_generating_changes_the_text(demo):
    common = {
        "task": "agreement",
        "label": "answer",
        "value": "are",
        "measure": "generate",
        "toward": " are",
        "max_new_tokens": 1,
    }
    o = call(demo, "steer", **common, components=["decoder.5.resid_post@-1"], doses=[0, 3], examples=64)
    contains, changed = values(o, "contains", by="dose"), values(o, "changed", by="dose")
    assert contains[3] > contains[0] + 0.2
    assert changed[0] == 0 < changed[3]


# -- lenses ------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def test_the_tuned_lens_at_step_nought_is_the_logit_lens(demo):
    o = call(demo, "tuned_lens", tasks=["addition", "agreement"], examples=32, start="zero", steps=0)
    for name in ("kl", "bias"):
        tuned, plain = (values(o, name, by="depth", variant=f"{kind} lens") for kind in ("tuned", "logit"))
        assert tuned == pytest.approx(plain, abs=1e-6)


def test_lens_steps_are_taken_where_no_direction_of_the_states_is_longer_than_another():
    from tools.methods.translators import _whitening

    lengths = torch.tensor([300.0, 5.0, 1.0, 0.5])
    h = torch.randn(2, 4000, 4, generator=torch.Generator().manual_seed(0)) * lengths * torch.tensor([1.0, 9.0])[:, None, None]
    stretch, back = _whitening(h)
    white = torch.cat([h, torch.ones(2, 4000, 1)], -1) @ stretch
    moments = torch.linalg.eigvalsh(white.transpose(1, 2) @ white / 4000)
    assert (moments[:, -1] - 1).abs().max() < 0.1  # the long direction has unit variance now
    assert moments.max() < 1.1  # and none is stretched beyond that
    assert torch.allclose(stretch @ back, torch.eye(5).expand(2, 5, 5), atol=1e-3)


def test_the_tuned_lens_is_better_held_out_at_every_layer_but_the_last(demo):
    o = call(demo, "tuned_lens", tasks=["addition", "agreement", "copying"], examples=160, steps=40, transfer=True)
    delta = {_label(m, "depth"): m for m in o.measurements if m.name == "kl.delta"}
    assert all(delta[d].high < 0 for d in range(6))
    assert delta[6].value == 0
    tuned, plain = (values(o, "bias", by="depth", variant=f"{kind} lens") for kind in ("tuned", "logit"))
    assert all(tuned[d] < plain[d] for d in range(1, 6))  # of the bare embedding the average says little
    own = values(o, "kl", by="depth", variant="tuned lens")
    for d in range(6):
        assert values(o, "transfer.kl", by="depth", variant=f"translator of depth {d}")[d] == pytest.approx(
            own[d], rel=1e-4
        )


def test_a_lens_from_disk_reads_what_it_read_when_it_was_fitted(demo):
    from tools.methods import translators

    first = call(demo, "tuned_lens", tasks=["addition"], examples=32, steps=10, prompt="3 + 4 =")
    translators._loaded.clear()
    again = call(demo, "tuned_lens", tasks=["addition"], examples=32, steps=10, prompt="3 + 4 =")
    assert again == first
    assert "6: ' 7'" in first.text or "6: '7'" in first.text


def test_a_causal_basis_is_orthonormal_and_matters_more_than_random_directions(demo):
    o = call(
        demo,
        "causal_basis",
        tasks=["addition", "agreement"],
        components=["decoder.4.resid_pre"],
        directions=4,
        examples=48,
        steps=40,
    )
    (error,) = values(o, "orthonormality_error").values()
    assert error < 1e-5
    energies = [m for m in o.measurements if m.name == "lens_energy"]
    assert energies[0].value == max(m.value for m in energies)
    assert all(m.value > m.control.value for m in energies)
    model = [m for m in o.measurements if m.name == "model_energy"]
    assert model[0].value > model[0].control.value
    (rank,) = values(o, "rank_correlation").values()
    assert rank > 0


@pytest.mark.parametrize("lens", ["logit", "tuned"])
def test_unusual_prompts_are_told_apart_and_shuffled_labels_are_not(demo, lens):
    o = call(demo, "trajectory_anomaly", task="agreement", other_task="brackets", lens=lens, steps=10, examples=128)
    for m in o.measurements:
        assert m.value >= 0.9
        assert abs(m.control.value - 0.5) < 0.03
        assert m.control.low < 0.5 < m.control.high < 0.7


# -- minimal_set -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["zero", "resample"])
def test_the_breaking_and_the_sufficient_set_are_the_planted_component(planted, how):
    for part, member in (("attn.out", "0.attn.out"), ("mlp.out", "1.mlp.out")):
        common = {"task": "sums", "components": [f"{part}@answer"], "intervention": how}
        breaking = call(planted, "minimal_set", **common, goal="breaking")
        keeping = call(planted, "minimal_set", **common, goal="sufficient")
        removed, kept = values(breaking, "accuracy"), values(keeping, "accuracy")
        assert removed[member] < 0.4
        assert kept[member] > 0.9
        (control,) = [
            m.control.value
            for m in breaking.measurements
            if m.name == "nll" and m.component == f"decoder.{member}@answer"
        ]
        (own,) = [
            m.value for m in breaking.measurements if m.name == "nll" and m.component == f"decoder.{member}@answer"
        ]
        assert control < own


def test_components_that_stand_in_for_each_other_are_found_together(tmp_path):
    case = next(c for c in CASES if c.name == "lookup-backup")
    file = write_task(case, tmp_path)
    ctx = context(load_subject(str(FOLDER / case.name), device="cpu"), file)
    o = call(ctx, "minimal_set", task=file.stem, components=["mlp.out@answer"], goal="breaking", intervention="zero")
    accuracy = values(o, "accuracy")
    assert accuracy["2.mlp.out + 4.mlp.out"] < 0.4
    assert min(accuracy["2.mlp.out"], accuracy["4.mlp.out"]) > 0.9


# -- wrong arguments say what would be valid ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("patch", {"task": "sums", "components": ["decoder.0.soul"]}, "resid_mid"),
        ("patch", {"task": "sums", "components": ["decoder.9.attn.out"]}, "blocks 0 to 5"),
        ("path_patch", {"task": "sums", "receiver": "attn.q"}, "one at a time"),
        ("path_patch", {"task": "sums", "receiver": "decoder.0.mlp.out", "components": ["decoder.3.attn.out"]}, "before the receiver"),
        ("path_patch", {"task": "sums", "receiver": "decoder.2.attn.q[9]", "components": ["head"]}, "heads 0 to 3"),
        ("path_patch", {"task": "sums", "receiver": "decoder.2.resid_pre"}, "cannot receive"),
        ("path_patch", {"task": "sums", "receiver": "decoder.logits", "components": ["resid_pre"]}, "cannot send"),
        ("attribute", {"task": "sums", "method": "magic"}, "patching"),
        ("attribute", {"task": "sums", "method": "patching", "components": ["block"]}, "attn.out and mlp.out"),
        ("attribute", {"task": "sums", "method": "direct", "components": ["resid_pre"]}, "writes nothing"),
        ("ablate", {"task": "sums", "components": ["attn.z[7]"], "intervention": "zero"}, "heads 0 to 3"),
        ("minimal_set", {"task": "sums", "components": ["attn@answer"], "goal": "breaking", "intervention": "zero",
                         "members": ["decoder.0.attn.out@-1"]}, "none of the candidates"),
        ("minimal_set", {"task": "sums", "components": ["attn@answer", "block@answer"], "goal": "breaking", "intervention": "zero"}, "once"),
        ("probe", {"task": "sums", "label": "mood"}, "x0, x1"),
        ("probe", {"task": "sums", "label": "constant"}, "at least 2 classes"),
        ("probe", {"task": "sums", "label": "name"}, "or more"),
        ("probe", {"task": "sums", "label": "name % 2"}, "whole numbers"),
        ("probe", {"task": "sums", "label": "name", "target": "number"}, "no number"),
        ("probe", {"task": "sums", "label": "x0 % 2", "examples": 60}, "Set dimensions to at most"),
        ("probe", {"task": "sums", "label": "x0 % 2", "dimensions": 500}, "at most 64"),
        ("probe", {"task": "sums", "label": "x0", "components": ["block@-1"]}, "no activation of its own"),
        ("steer", {"task": "sums", "label": "x0", "value": "purple", "components": ["decoder.1.resid_post"]}, "values are"),
        ("steer", {"task": "sums", "label": "x0", "value": "1", "components": ["decoder.99.resid_post"]}, "blocks 0 to 5"),
        ("steer", {"task": "sums", "label": "x0", "value": "1", "components": ["resid_post"]}, "one place at a time"),
        ("steer", {"task": "sums", "label": "x0", "value": "1", "components": ["decoder.1.resid_post"], "doses": [1e30]}, "out of range"),
        ("attention", {"length": 9}, "16 positions"),
        ("attention", {"components": ["attn.z[*]"]}, "no head here"),
        ("tuned_lens", {"tasks": ["sums"], "prompt": ""}, "at least 1 character"),
        ("causal_basis", {"tasks": ["sums"], "components": ["decoder.7.resid_pre"]}, "blocks 0 to 5"),
        ("trajectory_anomaly", {"task": "sums", "other_task": "sums"}, "are the same"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_answered_with_what_would_be_valid(planted, tool, arguments, says):
    with pytest.raises(ToolInputError, match=says):
        call(planted, tool, **arguments)


def test_on_an_untrained_model_every_control_says_no_effect(tmp_path):
    case = next(c for c in CASES if c.kind == "random")
    make(case, tmp_path)
    file = write_task(case, tmp_path)
    ctx = context(load_subject(str(tmp_path / case.name), device="cpu"), file)
    with pytest.raises(ToolInputError, match="no set to look for"):
        call(ctx, "minimal_set", task=file.stem, components=["attn@answer"], goal="breaking", intervention="zero")
    probe = call(
        ctx,
        "probe",
        task=file.stem,
        label="answer",
        components=["decoder.5.resid_post@-1"],
        examples=200,
        dimensions=32,
    )
    found = next(m for m in probe.measurements if m.name == "accuracy")
    assert found.value < 0.3
