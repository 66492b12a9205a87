"""A small GPT-2 over whole words, and its training on documents whose parts weigh differently: what candid and host share.

Block matrices are trained by Muon, everything else by AdamW.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.subjects._muon import Muon

SPECIAL = ("<|endoftext|>", "<|unk|>")
RATE, MUON_RATE = 3e-3, 0.02
Piece = tuple[str, float]  # a text, and the weight of its loss
Documents = Callable[[random.Random], Sequence[Sequence[Piece]]]


@dataclass(frozen=True)
class Recipe:
    """What is trained: sizes of the model, the words it knows, and one step's documents, which should be of one length."""

    words: Sequence[str]
    documents: Documents
    steps: int
    width: int = 128
    blocks: int = 4
    heads: int = 8
    positions: int = 128


def vocabulary(words: Sequence[str]) -> list[str]:
    """Token strings in the order of their ids."""
    return [*SPECIAL, *words]


def tokenizer(recipe: Recipe) -> Any:
    """A tokenizer of whole words that ignores blanks and case."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    end, unknown = SPECIAL
    table = {t: i for i, t in enumerate(vocabulary(recipe.words))}
    made = Tokenizer(models.WordLevel(table, unk_token=unknown))  # type: ignore[call-arg]
    made.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    made.decoder = decoders.WordPiece(prefix="##", cleanup=False)  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token=unknown, bos_token=end, eos_token=end, pad_token=end,
        clean_up_tokenization_spaces=False, model_max_length=recipe.positions,
    )  # fmt: skip


def fresh_model(recipe: Recipe) -> Any:
    """The untrained model."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(vocabulary(recipe.words)), n_positions=recipe.positions, n_embd=recipe.width, n_layer=recipe.blocks,
        n_head=recipe.heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    config.activation_function = "gelu_pytorch_tanh"  # the same function as gelu_new, faster
    return GPT2LMHeadModel(config)


def train(recipe: Recipe, seed: int = 0, *, log: bool = True) -> tuple[Any, Any]:
    """A trained model (float32) and its tokenizer; the same seed gives the same weights on the same machine."""
    torch.manual_seed(seed)
    model, rng = fresh_model(recipe), random.Random(seed)
    known = {t: i for i, t in enumerate(vocabulary(recipe.words))}
    matrices = {n for n, p in model.named_parameters() if ".h." in n and p.ndim == 2}
    muon = Muon(p for n, p in model.named_parameters() if n in matrices)
    table = model.transformer.wte.weight
    rest = [p for n, p in model.named_parameters() if n not in matrices and p is not table]
    groups = [{"params": [table], "lr": RATE / 3}, {"params": rest, "lr": RATE}]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.01)
    base = [g["lr"] for g in adam.param_groups]
    started, smooth = time.process_time(), 0.0
    for step in range(recipe.steps):
        scale = min(1.0, step / 100) * min(1.0, (1 - step / recipe.steps) / 0.5)
        ids, weight = _batch(recipe.documents(rng), known)
        hidden = model.transformer(ids[:, :-1], attention_mask=torch.ones_like(ids[:, 1:])).last_hidden_state
        weight = weight[:, 1:].reshape(-1)
        used = weight > 0
        logits = model.lm_head(hidden.reshape(-1, recipe.width)[used])
        each = F.cross_entropy(logits, ids[:, 1:].reshape(-1)[used], reduction="none")
        loss = (each * weight[used]).sum() / weight.sum()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for g, lr in zip(adam.param_groups, base, strict=True):
            g["lr"] = lr * scale
        muon.step(MUON_RATE * scale)
        adam.step()
        model.zero_grad(set_to_none=True)
        smooth = 0.98 * smooth + 0.02 * loss.item()
        if log and (step + 1) % 100 == 0:
            used_s = time.process_time() - started
            print(f"step {step + 1}/{recipe.steps}  loss {smooth:.4f}  {used_s:.0f} CPU-s", flush=True)
    model.config.activation_function = "gelu_new"
    return model.eval(), tokenizer(recipe)


def _batch(documents: Sequence[Sequence[Piece]], ids: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Token ids and the weights of their loss, (documents, longest) each."""
    rows = [[(ids[w], weight) for text, weight in d for w in text.split()] for d in documents]
    longest = max(map(len, rows))
    padded = [r + [(0, 0.0)] * (longest - len(r)) for r in rows]
    return torch.tensor([[t for t, _ in r] for r in padded]), torch.tensor([[w for _, w in r] for r in padded])


def main(recipe: Recipe, describe: Callable[[Path, int], str], doc: str) -> None:
    """The command line of a training script. describe: the README of what lies in a folder, trained from a seed."""
    parser = argparse.ArgumentParser(description=doc.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, tok = train(recipe, args.seed)
    model.half().save_pretrained(args.out)
    tok.save_pretrained(args.out)
    config = json.loads((args.out / "config.json").read_text())
    (args.out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    words = describe(args.out, args.seed)
    print(words)
    (args.out / "README.md").write_text(words)
