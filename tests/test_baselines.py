"""Rankings that the planner is compared with: on a model that is linear, gradients are exact, however they are averaged."""

import json
import random

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from benchmarks.planted.baselines import EAP_IG, _scores
from benchmarks.planted.compiler.truth import Fact
from benchmarks.planted.posed import Posed
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context
from tools.subjects import load_subject

WORDS = [f"w{i}" for i in range(12)]
EPSILON = 2.0**26


def linear_model(folder):
    """Attention looks everywhere alike, MLPs write nothing, and norms divide by a constant."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=12, n_positions=8, n_embd=16, n_layer=2, n_head=2, layer_norm_epsilon=EPSILON, resid_pdrop=0, embd_pdrop=0,
        attn_pdrop=0, bos_token_id=None, eos_token_id=None, tie_word_embeddings=False,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "ln_" in name:
                p.fill_(EPSILON**0.5 if name.endswith("weight") else 0.0)
            elif "c_attn" in name:
                p[..., :32] = 0
            elif "mlp.c_proj" in name:
                p.zero_()
            else:
                p.mul_(150 if "c_proj" in name else 20)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token=WORDS[-1]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return model.eval()


def examples(model, file):
    """Prompts with the model's own answers, and twins that have another one."""
    rng, lines = random.Random(0), []
    for _ in range(600):
        prompt = [rng.choice(WORDS[:-1]) for _ in range(4)]
        twin = [rng.choice(WORDS[:-1]) for _ in range(4)]
        with torch.inference_mode():
            a, b = model(torch.tensor([[WORDS.index(w) for w in p] for p in (prompt, twin)])).logits[:, -1].argmax(-1).tolist()
        if a != b:
            row = {"prompt": " ".join(prompt), "twin": " ".join(twin), "answer": f" {WORDS[a]}", "foil": f" {WORDS[b]}"}
            lines.append(row | {"split": "explore" if len(lines) % 2 else "confirm"})
    unique = {r["prompt"]: r for r in lines}
    assert len(unique) > 150
    file.write_text("\n".join(json.dumps(r) for r in unique.values()))


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linear")
    model = linear_model(folder / "model")
    examples(model, folder / "mine.jsonl")
    facts = (Fact("necessary", ("decoder.0.attn.z[0]@answer",)),)
    posed = Posed("linear", "compiled", folder / "model", folder / "mine.jsonl", folder / "mine.jsonl", facts, 2, 2)
    subject = load_subject(str(folder / "model"), device="cpu", dtype="float32")
    return posed, subject, Context(subject, OfflineTasks([posed.task]), Nothing())


@pytest.mark.parametrize("method", ["attribution patching", EAP_IG])
def test_where_everything_is_linear_an_estimate_is_the_exact_effect(linear, method):
    posed, subject, ctx = linear
    wanted = {f"{b}.head.{h}@{a}": f"decoder.{b}.attn.z[{h}]@{a}" for b in (0, 1) for h in (0, 1) for a in ("answer", "-2")}
    exact = _scores("activation patching", posed, subject, ctx, wanted)
    assert max(exact.values()) > 0.05
    assert _scores(method, posed, subject, ctx, wanted) == pytest.approx(exact, abs=2e-3)


def test_a_ranking_that_cannot_be_measured_is_no_ranking_of_noughts(linear):
    posed, subject, ctx = linear
    with pytest.raises(ValueError, match="out of range"):
        _scores(EAP_IG, posed, subject, ctx, {"x": "decoder.7.mlp.out@answer"})


def test_norms_are_those_of_what_a_place_writes_with(linear):
    posed, subject, ctx = linear
    found = _scores("weight norms", posed, subject, ctx, dict.fromkeys(["0.attn@answer", "0.head.0@answer", "0.head.1@answer"]))
    whole, *heads = found.values()
    assert whole == pytest.approx(sum(h**2 for h in heads) ** 0.5)
    assert heads[0] != heads[1]
