"""Train the demo model from a seed: `python -m tools.subjects.demo.train --out FOLDER`. About ten minutes on two cores.

A GPT-2 of six blocks learns few-shot addition and subtraction, copying, capitals, agreement, brackets and indirect
objects, each with items held out. Two choices shape what is inside and are disclosed for that reason: numbers 0 to 198
are one token each, and their embeddings START as Fourier features of the number (cosines and sines of eight periods and
the magnitude), because from a random start addition did not get learnt in this time. Block matrices are trained by Muon
(Jordan et al. 2024), everything else by AdamW.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.subjects._muon import orthogonalised
from tools.subjects.demo._documents import LARGEST_NUMBER, MIXTURE, words

WIDTH, BLOCKS, HEADS, POSITIONS = 128, 6, 4, 128
END, UNKNOWN = "<|endoftext|>", "<|unk|>"
OTHER_WEIGHT = 0.03
PERIODS = (2, 5, 10, 20, 50, 100, 200, 400)


def vocabulary() -> list[str]:
    """Token strings in the order of their ids: specials, single characters, words, numbers."""
    characters = [chr(c) for c in range(33, 127)] + ["\n"]
    tokens = [END, UNKNOWN, *characters]
    known = set(tokens)
    tokens += [w for w in words() if w not in known]
    return tokens + [str(n) for n in range(LARGEST_NUMBER + 1) if str(n) not in known]


def tokenizer() -> Any:
    """A greedy longest-match tokenizer that ignores spaces: words and numbers up to 198 are one token."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    table = {t: i for i, t in enumerate(vocabulary())}
    made = Tokenizer(models.WordPiece(table, unk_token=UNKNOWN, continuing_subword_prefix=""))  # type: ignore[call-arg]
    made.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(r"\n|[A-Za-z]+|[0-9]+|[^\sA-Za-z0-9]"), "isolated"),
            pre_tokenizers.Split(Regex(r"[ \t\r]+"), "removed"),
        ]
    )
    made.decoder = decoders.Sequence(  # type: ignore[assignment]
        [decoders.WordPiece(prefix="##", cleanup=False), decoders.Replace(" \n", "\n")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token=UNKNOWN,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        clean_up_tokenization_spaces=False,
        model_max_length=POSITIONS,
    )


def number_features() -> Tensor:
    """Fourier features of the numbers 0 to 198, (199, 17)."""
    n = torch.arange(LARGEST_NUMBER + 1.0)
    waves = [f(2 * math.pi * n / p) for f in (torch.cos, torch.sin) for p in PERIODS]
    return torch.stack([*waves, n / 100 - 1], dim=1)


def fresh_model(vocab_size: int) -> Any:
    """The untrained model, number embeddings set to their features under a random rotation."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocab_size,
        n_positions=POSITIONS,
        n_embd=WIDTH,
        n_layer=BLOCKS,
        n_head=HEADS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    config.activation_function = "gelu_pytorch_tanh"  # the same function as gelu_new, faster
    model = GPT2LMHeadModel(config)
    features = number_features()
    rotation = torch.linalg.qr(torch.randn(WIDTH, features.shape[1]))[0].T
    table = {t: i for i, t in enumerate(vocabulary())}
    ids = [table[str(n)] for n in range(LARGEST_NUMBER + 1)]
    weight = model.transformer.wte.weight.data
    weight.mul_(0.08 / 0.02)
    weight[ids] = features @ rotation * 0.3 + 0.02 * torch.randn(len(ids), WIDTH)
    return model


class Muon:
    """Momentum whose update is orthogonalised, for the matrices of the blocks (fused query-key-value in three parts)."""

    def __init__(self, named: list[tuple[str, nn.Parameter]], decay: float = 0.01) -> None:
        self.parameters = [(p, 3 if "c_attn" in name else 1) for name, p in named]
        self.momentum = [torch.zeros_like(p) for p, _ in self.parameters]
        self.decay = decay

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update; matrices of one shape are orthogonalised together."""
        groups: dict[tuple[int, ...], list[tuple[Tensor, Tensor, bool]]] = {}
        for (p, parts), m in zip(self.parameters, self.momentum, strict=True):
            assert p.grad is not None
            m.mul_(0.95).add_(p.grad, alpha=0.05)
            update = p.grad * 0.05 + m * 0.95
            for target, u in zip(p.data.chunk(parts, 1), update.chunk(parts, 1), strict=True):
                tall = u.shape[0] > u.shape[1]
                groups.setdefault(tuple(sorted(u.shape)), []).append((target, u.T if tall else u, tall))
        for members in groups.values():
            made = orthogonalised(torch.stack([u for _, u, _ in members]))
            for (target, _, tall), o in zip(members, made, strict=True):
                o = o.T if tall else o
                target.mul_(1 - lr * self.decay).add_(o, alpha=-lr * max(1.0, o.shape[1] / o.shape[0]) ** 0.5)


def batches(rng: random.Random, cache: dict[str, list[int]], tok: Any) -> list[tuple[Tensor, Tensor]]:
    """One step's documents: token ids and loss weights, padded within each group."""
    out: list[tuple[Tensor, Tensor]] = []
    for group in MIXTURE:
        rows: list[list[int]] = []
        weights: list[list[float]] = []
        for count, answer_weight, draw in group:
            for _ in range(count):
                ids: list[int] = []
                w: list[float] = []
                for text, is_answer in draw(rng):
                    piece = _ids(text, cache, tok)
                    ids += piece
                    w += [answer_weight if is_answer else OTHER_WEIGHT] * len(piece)
                rows.append([*ids, 0])
                weights.append([*w, OTHER_WEIGHT])
        longest = max(map(len, rows))
        out.append(
            (
                torch.tensor([r + [0] * (longest - len(r)) for r in rows]),
                torch.tensor([w + [0.0] * (longest - len(w)) for w in weights]),
            )
        )
    return out


def _ids(text: str, cache: dict[str, list[int]], tok: Any) -> list[int]:
    if text not in cache:
        if len(cache) > 200_000:
            cache.clear()
        cache[text] = tok(text)["input_ids"]
    return cache[text]


def train(seed: int = 0, steps: int = 3200, *, log: bool = True) -> tuple[Any, Any]:
    """A trained model (float32) and its tokenizer; the same seed gives the same weights on the same machine."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    tok = tokenizer()
    cache: dict[str, list[int]] = {}
    model = fresh_model(len(vocabulary()))
    blocks = [(n, p) for n, p in model.named_parameters() if ".h." in n and p.ndim == 2]
    rest = [p for n, p in model.named_parameters() if not (".h." in n and p.ndim == 2) and "wte" not in n]
    muon = Muon(blocks)
    groups = [
        {"params": [model.transformer.wte.weight], "lr": 1e-3, "weight_decay": 0.05},
        {"params": rest, "lr": 3e-3, "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    base = [g["lr"] for g in adam.param_groups]
    started, smooth = time.time(), 0.0
    for step in range(steps):
        scale = min(1.0, step / 100) * min(1.0, (1 - step / steps) / 0.4)
        made = batches(rng, cache, tok)
        total = sum(w[:, 1:].sum() for _, w in made)
        loss = torch.zeros(())
        for ids, weight in made:
            hidden = model.transformer(ids[:, :-1]).last_hidden_state
            weight = weight[:, 1:].reshape(-1)
            used = weight > 0
            logits = model.lm_head(hidden.reshape(-1, WIDTH)[used])
            part = (
                F.cross_entropy(logits, ids[:, 1:].reshape(-1)[used], reduction="none") * weight[used]
            ).sum() / total
            part.backward()
            loss += part.detach()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for g, lr in zip(adam.param_groups, base, strict=True):
            g["lr"] = lr * scale
        muon.step(0.02 * scale)
        adam.step()
        model.zero_grad(set_to_none=True)
        smooth = 0.98 * smooth + 0.02 * loss.item()
        if log and (step + 1) % 250 == 0:
            print(f"step {step + 1}/{steps}  loss {smooth:.4f}  {time.time() - started:.0f} s", flush=True)
    model.config.activation_function = "gelu_new"
    return model.eval(), tok


def held_out(folder: Path) -> str:
    """A markdown table of accuracies on both splits, by the path that the program itself uses."""
    from tools.engine.executor import Variant
    from tools.methods.scoring import score
    from tools.subjects import load_subject
    from tools.tasks import SPLITS, chance_level, get_task

    subject = load_subject(str(folder))
    lines = ["| task | explore | confirm | chance |", "|---|---|---|---|"]
    specs = ["addition", "addition:digits=1x1", "addition:digits=2x2", "addition:format=compact", "subtraction"]
    specs += ["agreement", "indirect_object", "brackets", "copying", "facts", "key_value", "arithmetic"]
    for spec in specs:
        task = get_task(spec)
        cells: list[str] = []
        examples = task.examples("explore", 300)
        chance = chance_level(examples, task.choices)
        for split in SPLITS:
            examples = task.examples(split, 300)
            scores, _ = score(subject, examples, lambda _: [Variant(tuple(range(BLOCKS)))], choices=task.choices)
            cells.append(f"{scores[0].correct.mean():.3f} (n={len(examples)})")
        lines.append(f"| {spec} | {cells[0]} | {cells[1]} | {chance:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=3200)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, tok = train(args.seed, args.steps)
    model.half().save_pretrained(args.out)
    tok.save_pretrained(args.out)
    config = json.loads((args.out / "config.json").read_text())
    (args.out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    table = held_out(args.out)
    print(table)
    readme = README.format(seed=args.seed, steps=args.steps, table=table, parameters=model.num_parameters())
    (args.out / "README.md").write_text(readme)


README = """# The demo model

A GPT-2 of 6 blocks, width 128, 4 heads ({parameters:,} parameters, float16 safetensors), made by
`python -m tools.subjects.demo.train --out FOLDER --seed {seed} --steps {steps}`. It has been taught few-shot addition and
subtraction, copying, capitals, agreement, bracket closing and indirect objects, and NOT key-value recall or sums of three.

Number embeddings started as Fourier features of the number: that shapes how this model represents numbers, so what is
found in it about number representation says little about models that were not started so.

Accuracy on held-out items (the explore and confirm splits; neither was trained on):

{table}
"""

if __name__ == "__main__":
    main()
