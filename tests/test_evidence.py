"""Tools that locate, on models whose answer is known: by construction, by hand, or because it can be computed another way."""

import json

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.planted.__main__ import write_task
from benchmarks.planted.cases import CASES
from benchmarks.planted.train import FOLDER, make
from tools.attention import kinds_of, patterns
from tools.attribute import _exact, _targets, estimate
from tools.methods.interventions import Spot
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.scoring import microbatches
from tools.methods.tool import Context, ToolInputError, discover
from tools.methods.twins import load_pairs
from tools.probe import _Data, _fit
from tools.subjects import load_subject, wrap

TOOLS = discover()


def context(subject, *files):
    return Context(subject, OfflineTasks(list(files)), Nothing())


def call(ctx, tool, **arguments):
    t = TOOLS[tool]
    return t.run(t.parse(arguments), ctx)


def values(outcome, name, by="site", **where):
    return {
        getattr(m, by): m.value for m in outcome.measurements if m.name == name and all(getattr(m, k) == v for k, v in where.items())
    }


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
    attention = values(call(planted, "patch", task="sums", site="attn.out"), "recovered")
    mlp = values(call(planted, "patch", task="sums", site="mlp.out"), "recovered")
    assert attention.pop("0.attn.out") > 0.9
    assert mlp.pop("1.mlp.out") > 0.8
    assert max(map(abs, attention.values())) < 0.2
    assert max(map(abs, mlp.values())) < 0.2


@pytest.mark.parametrize("direction", ["noise", "denoise"])
def test_before_the_planted_block_the_answer_lies_at_the_operands_and_after_it_at_the_end(planted, direction):
    o = call(planted, "patch", task="sums", site="resid_pre", positions="each", depth=4, direction=direction)
    recovered = {(m.layer, m.position): m.value for m in o.measurements if m.name == "recovered"}
    assert abs(recovered[0, "-1"]) < 0.05
    assert recovered[0, "-2"] + recovered[0, "-4"] > 0.5
    assert recovered[1, "-1"] > 0.9
    assert abs(recovered[2, "-4"]) < 0.1
    controls = [m.control.value for m in o.measurements if m.name == "flipped" and m.layer == 2 and m.position == "-1"]
    assert controls[0] < recovered[2, "-1"]


def test_the_middle_of_a_block_is_what_its_mlp_reads(planted):
    middle = values(call(planted, "patch", task="sums", site="resid_mid"), "recovered")
    after = values(call(planted, "patch", task="sums", site="resid_pre"), "recovered")
    assert middle["0.resid_mid"] > 0.9 > 0.1 > abs(after["0.resid_pre"])


def test_values_carry_the_operands_and_the_query_of_the_equals_sign_does_not(planted):
    v = call(planted, "patch", task="sums", site="head.v", layers=[0], positions="all")
    q = call(planted, "patch", task="sums", site="head.q", layers=[0])
    assert sum(values(v, "recovered").values()) > 0.5
    assert max(map(abs, values(q, "recovered").values())) < 1e-4  # before block 0 the last position is the same in every prompt
    heads = [call(planted, "patch", task="sums", site=s, layers=[0], positions="all") for s in ("head.k", "head.pattern")]
    assert all(sum(values(o, "recovered").values()) != 0 for o in heads)


def test_probability_nll_accuracy_and_kl_of_a_patch_agree_with_each_other(planted):
    o = call(planted, "patch", task="sums", site="attn.out", layers=[0, 4])
    probability, nll, kl, accuracy = (values(o, n) for n in ("probability", "nll", "kl", "accuracy"))
    assert probability["0.attn.out"] < 0.1 < 0.9 < probability["4.attn.out"]
    assert nll["0.attn.out"] > 2 > 0.2 > nll["4.attn.out"]
    assert kl["0.attn.out"] > 2 > 0.2 > kl["4.attn.out"] >= 0
    assert accuracy["0.attn.out"] < 0.1 < 0.9 < accuracy["4.attn.out"]


def test_the_path_from_the_planted_attention_to_the_planted_mlp_carries_it_and_no_other_path(planted):
    to_mlp = values(call(planted, "path_patch", task="sums", sender="attn.out", receiver="mlp", receiver_layer=1), "recovered")
    assert to_mlp.pop("0.attn.out -> 1.mlp") > 0.7
    assert max(map(abs, to_mlp.values())) < 0.2
    late = values(call(planted, "path_patch", task="sums", sender="attn.out", receiver="mlp", receiver_layer=4), "recovered")
    assert max(map(abs, late.values())) < 0.2
    logits = values(call(planted, "path_patch", task="sums", sender="mlp.out", receiver="logits"), "recovered")
    assert max(logits, key=logits.get) == "1.mlp.out -> logits"


def test_all_paths_out_of_the_last_block_are_the_patch_itself(planted):
    direct = values(call(planted, "path_patch", task="sums", sender="mlp.out", receiver="logits", layers=[5], position="last"), "recovered")
    whole = values(call(planted, "patch", task="sums", site="mlp.out", layers=[5]), "recovered")
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


@pytest.mark.parametrize("component", ["sublayer", "head", "resid_pre"])
@pytest.mark.parametrize("position", ["last", "all"])
def test_attribution_equals_exact_patching_on_a_linear_model(component, position, tmp_path):
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
    args = TOOLS["attribute"].parse({"task": "t", "method": "patching", "component": component, "position": position})
    _, receivers = load_pairs(ctx, "t", "explore", 64)
    targets = _targets(args, subject, [0, 1, 2])
    (batch,) = microbatches(subject, receivers)
    effects, margins = estimate(subject, batch, targets, position)
    exact = _exact(ctx, receivers, targets, position, margins[np.argsort(batch.indices)])
    assert np.abs(exact).max() > 0.02
    assert np.abs(effects - exact[:, list(batch.indices)]).max() < 1e-5


def test_attribution_ranks_the_planted_components_first_and_says_how_well_it_agrees(planted):
    o = call(planted, "attribute", task="sums", method="patching", steps=4)
    found = values(o, "attribution")
    assert set(sorted(found, key=found.get)[-2:]) == {"0.attn", "1.mlp"}
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
    for name, site in (("previous", "0.head.1"), ("induction", "1.head.0")):
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
            found = patterns(subject, inputs, [0, 3])
            eager = model_named(kind)
            eager.set_attn_implementation("eager")
            theirs = eager(**inputs.fields, output_attentions=True).attentions
        for block, mine in found.items():
            assert torch.allclose(mine, theirs[block], atol=1e-5), (kind, block)


# -- probe -------------------------------------------------------------------------------------------------------------


def test_a_probe_finds_the_planted_variable_and_not_an_absent_one(planted):
    there = call(planted, "probe", task="sums", label="x1 % 2", positions="each", depth=2, layers=[0, 5], examples=200, site="resid_pre")
    found = {(m.layer, m.position): m for m in there.measurements if m.name == "accuracy"}
    assert found[0, "-2"].value > 0.9
    assert found[0, "-2"].control.value < 0.75
    assert found[0, "-1"].value < 0.75  # before block 0 the last position knows no operand
    absent = call(planted, "probe", task="sums", label="noise", layers=[0, 5], examples=200)
    assert max(values(absent, "accuracy", by="layer").values()) < 0.75


def test_a_probe_of_a_number_explains_variance_and_shuffled_labels_do_not(planted):
    o = call(planted, "probe", task="sums", label="x0", target="number", site="resid_pre", layers=[0], positions="each", depth=4, examples=200)
    found = {m.position: m for m in o.measurements if m.name == "r2"}
    assert found["-4"].value > 0.6
    assert found["-4"].low <= found["-4"].value <= found["-4"].high
    assert found["-4"].control.value < 0.2
    assert found["-2"].value < 0.2  # the other operand's place


def test_an_mlp_probe_reads_what_no_linear_one_can():
    x = np.random.default_rng(1).normal(size=(900, 4)).astype(np.float32)
    y = ((x[:, 0] > 0) == (x[:, 1] > 0)).astype(int)
    data = _Data(x[:700], x[700:], y[:700], y[700:])
    args = {k: TOOLS["probe"].parse({"task": "t", "label": "l", "model": k}) for k in ("linear", "mlp")}
    assert _fit(args["linear"], data, 0).value < 0.65
    assert _fit(args["mlp"], data, 0).value > 0.85


def test_confirming_a_probe_fits_on_explore_and_scores_on_confirm(planted):
    o = call(planted, "probe", task="sums", label="x1 % 2", layers=[0], site="resid_pre", positions="each", depth=2, split="confirm", examples=100)
    found = next(m for m in o.measurements if m.name == "accuracy" and m.position == "-2")
    assert found.split == "confirm"
    assert found.n == 100
    assert "fitted on 100" in o.text


# -- steer -------------------------------------------------------------------------------------------------------------


def test_steering_by_the_difference_of_means_moves_the_answer_and_a_random_direction_does_not(demo):
    # Agreement: the subject's number is at the last token from block 5 on.
    o = call(demo, "steer", task="agreement", label="answer", value="are", layer=5, toward=" are", doses=[0, 1, 2], position="last")
    curve = {m.program: m for m in o.measurements if m.name == "logit_margin"}
    intact = curve["dose 0"].value
    assert curve["dose 2"].value > curve["dose 1"].value > intact + 2
    assert abs(curve["dose 2"].control.value - intact) < 0.3 * (curve["dose 2"].value - intact)
    random = call(demo, "steer", task="agreement", label="answer", value="are", layer=5, toward=" are", doses=[2], position="last", direction="random")
    (margin,) = [m for m in random.measurements if m.name == "logit_margin"]
    assert abs(margin.value - intact) < 0.3 * (curve["dose 2"].value - intact)


def test_projecting_the_direction_out_takes_the_difference_away_and_dose_nought_changes_nothing(demo):
    common = {"task": "agreement", "label": "answer", "value": "are", "layer": 5, "position": "last", "doses": [0]}
    nothing = call(demo, "steer", **common)
    out = call(demo, "steer", **common, operation="project_out")
    assert values(nothing, "kl", by="program")["dose 0"] == pytest.approx(0, abs=1e-6)
    assert values(out, "accuracy", by="program")["dose 0"] < values(nothing, "accuracy", by="program")["dose 0"] - 0.1


def test_steering_while_generating_changes_the_text(demo):
    common = {"task": "agreement", "label": "answer", "value": "are", "layer": 5, "mode": "generate", "toward": " are", "max_new_tokens": 1}
    o = call(demo, "steer", **common, doses=[0, 3], examples=64, position="last")
    contains, changed = values(o, "contains", by="program"), values(o, "changed", by="program")
    assert contains["dose 3"] > contains["dose 0"] + 0.2
    assert changed["dose 0"] == 0 < changed["dose 3"]


# -- lenses ------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def test_the_tuned_lens_at_step_nought_is_the_logit_lens(demo):
    o = call(demo, "tuned_lens", tasks=["addition", "agreement"], examples=32, start="zero", steps=0)
    for name in ("kl", "bias"):
        tuned, plain = (values(o, name, by="layer", variant=f"{kind} lens") for kind in ("tuned", "logit"))
        assert tuned == pytest.approx(plain, abs=1e-6)


def test_the_tuned_lens_is_better_held_out_at_every_layer_but_the_last(demo):
    o = call(demo, "tuned_lens", tasks=["addition", "agreement", "copying"], examples=48, steps=40, transfer=True)
    delta = {m.layer: m for m in o.measurements if m.name == "kl.delta"}
    assert all(delta[d].high < 0 for d in range(6))
    assert delta[6].value == 0
    tuned, plain = (values(o, "bias", by="layer", variant=f"{kind} lens") for kind in ("tuned", "logit"))
    assert all(tuned[d] < plain[d] for d in range(6))
    own = values(o, "kl", by="layer", variant="tuned lens")
    for d in range(6):
        assert values(o, "transfer.kl", by="layer", variant=f"translator of depth {d}")[d] == pytest.approx(own[d], rel=1e-4)


def test_a_lens_from_disk_reads_what_it_read_when_it_was_fitted(demo):
    from tools.methods import translators

    first = call(demo, "tuned_lens", tasks=["addition"], examples=32, steps=10, prompt="3 + 4 =")
    translators._loaded.clear()
    again = call(demo, "tuned_lens", tasks=["addition"], examples=32, steps=10, prompt="3 + 4 =")
    assert again == first
    assert "6: ' 7'" in first.text or "6: '7'" in first.text


def test_a_causal_basis_is_orthonormal_and_matters_more_than_random_directions(demo):
    o = call(demo, "causal_basis", tasks=["addition", "agreement"], layer=4, directions=4, examples=48, steps=40)
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
    o = call(demo, "trajectory_anomaly", normal="agreement", anomalous="brackets", lens=lens, steps=10, examples=128)
    for m in o.measurements:
        assert m.value >= 0.9
        assert abs(m.control.value - 0.5) < 0.03
        assert m.control.low < 0.5 < m.control.high < 0.7


# -- minimal_set -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ablation", ["zero", "resample"])
def test_the_breaking_and_the_sufficient_set_are_the_planted_component(planted, ablation):
    for component, member in (("attn", "0.attn"), ("mlp", "1.mlp")):
        breaking = call(planted, "minimal_set", task="sums", component=component, goal="breaking", ablation=ablation)
        keeping = call(planted, "minimal_set", task="sums", component=component, goal="sufficient", ablation=ablation)
        removed, kept = values(breaking, "accuracy"), values(keeping, "accuracy")
        assert removed[member] < 0.4
        assert kept[member] > 0.9
        (control,) = [m.control.value for m in breaking.measurements if m.name == "accuracy" and m.site == member]
        assert control > 0.9


def test_components_that_stand_in_for_each_other_are_found_together(tmp_path):
    case = next(c for c in CASES if c.name == "lookup-backup")
    file = write_task(case, tmp_path)
    ctx = context(load_subject(str(FOLDER / case.name), device="cpu"), file)
    o = call(ctx, "minimal_set", task=file.stem, component="mlp", goal="breaking", ablation="zero")
    accuracy = values(o, "accuracy")
    assert accuracy["2.mlp+4.mlp"] < 0.4
    assert min(accuracy["2.mlp+4.mlp without 2.mlp"], accuracy["2.mlp+4.mlp without 4.mlp"]) > 0.9


# -- wrong arguments say what would be valid ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("patch", {"task": "sums", "site": "soul"}, "resid_mid"),
        ("patch", {"task": "sums", "site": "attn.out", "layers": [9]}, "blocks 0 to 5"),
        ("path_patch", {"task": "sums", "sender": "attn.out", "receiver": "q"}, "needs a block"),
        ("path_patch", {"task": "sums", "sender": "attn.out", "receiver": "mlp", "receiver_layer": 0, "layers": [3]}, "before the receiver"),
        ("path_patch", {"task": "sums", "sender": "head", "receiver": "q", "receiver_layer": 2, "receiver_head": 9}, "heads are 0 to 3"),
        ("path_patch", {"task": "sums", "sender": "head", "receiver": "logits", "receiver_layer": 2}, "not for receiver logits"),
        ("path_patch", {"task": "sums", "sender": "head", "receiver": "logits", "receiver_head": 1}, "not for receiver logits"),
        ("attribute", {"task": "sums", "method": "magic"}, "patching"),
        ("ablate", {"task": "sums", "component": "head", "ablation": "zero", "heads": [7]}, "heads 0 to 3"),
        ("minimal_set", {"task": "sums", "component": "attn", "goal": "breaking", "ablation": "zero", "members": ["9.attn"]}, "0.attn, 1.attn"),
        ("probe", {"task": "sums", "label": "mood"}, "x0, x1"),
        ("probe", {"task": "sums", "label": "constant"}, "at least 2 classes"),
        ("probe", {"task": "sums", "label": "name"}, "or more"),
        ("probe", {"task": "sums", "label": "name % 2"}, "whole numbers"),
        ("probe", {"task": "sums", "label": "name", "target": "number"}, "no number"),
        ("probe", {"task": "sums", "label": "x0 % 2", "examples": 60}, "Set components to at most"),
        ("probe", {"task": "sums", "label": "x0 % 2", "components": 500}, "at most 64"),
        ("probe", {"task": "sums", "label": "x0", "site": "soul"}, "resid_pre"),
        ("steer", {"task": "sums", "label": "x0", "value": "purple", "layer": 1}, "values are"),
        ("steer", {"task": "sums", "label": "x0", "value": "1", "layer": 99}, "blocks 0 to 5"),
        ("attention", {"length": 9}, "16 positions"),
        ("tuned_lens", {"tasks": ["sums"], "prompt": ""}, "at least 1 character"),
        ("causal_basis", {"tasks": ["sums"], "layer": 7}, "blocks 0 to 5"),
        ("trajectory_anomaly", {"normal": "sums", "anomalous": "sums"}, "same task"),
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
        call(ctx, "minimal_set", task=file.stem, component="attn", goal="breaking", ablation="zero")
    probe = call(ctx, "probe", task=file.stem, label="answer", layers=[5], examples=200, components=32)
    found = next(m for m in probe.measurements if m.name == "accuracy")
    assert found.value < 0.3


def test_a_spot_without_positions_means_all_of_them():
    assert Spot((), None).positions is None
