"""Train the Othello subject from a seed: `python -m tools.subjects.othello.train --out FOLDER`. Some twenty minutes on one core.

A GPT-2 reads the moves of random games and predicts the next one. No board, colour or rule is given to it. Its target at
each position is what random play makes of the game so far, every legal move alike likely, in place of the one move that was
drawn: the same loss on average, with less noise. Block matrices are trained by Muon, everything else by AdamW.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.subjects.demo.train import Muon
from tools.subjects.othello import data
from tools.subjects.othello.data import RULES, SPECIAL, vocabulary
from tools.subjects.othello.rules import Games

WIDTH, BLOCKS, HEADS, POSITIONS = 128, 6, 8, 36
STEPS, BATCH, CHUNK = 2200, 128, 20


def tokenizer() -> Any:
    """A token for each square, and one that begins every game."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    start, unknown = SPECIAL
    table = {t: i for i, t in enumerate(vocabulary())}
    made = Tokenizer(models.WordLevel(table, unk_token=unknown))  # type: ignore[call-arg]
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    made.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"{start} $A", special_tokens=[(start, table[start])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=start, eos_token=start, pad_token=start, unk_token=unknown,
        clean_up_tokenization_spaces=False, model_max_length=POSITIONS,
    )  # fmt: skip


def fresh_model() -> Any:
    """The untrained model."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(vocabulary()), n_positions=POSITIONS, n_embd=WIDTH, n_layer=BLOCKS, n_head=HEADS, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    config.activation_function = "gelu_pytorch_tanh"  # the same function as gelu_new, faster
    return GPT2LMHeadModel(config)


def batches(seed: int) -> Any:
    """(token ids, legal) of the train side, without end: (BATCH, turns) and (BATCH, turns, squares); after a game none is."""
    generator = np.random.default_rng(seed)
    turns = RULES.squares - 4
    while True:
        games = data.games("train", CHUNK * BATCH, generator)
        legal = np.stack([RULES.unpack(games.legal[:, t]) for t in range(turns)], 1)
        ids = np.concatenate([np.zeros((len(legal), 1), np.int64), np.clip(games.moves, 0, None) + len(SPECIAL)], 1)
        for at in range(0, len(ids), BATCH):
            yield torch.from_numpy(ids[at : at + BATCH, :turns]), torch.from_numpy(legal[at : at + BATCH])


def move_loss(logits: Tensor, legal: Tensor) -> Tensor:
    """Cross-entropy against even odds of the legal moves, in nats above its least, mean of the positions that have any."""
    odds = F.pad(legal.float(), (len(SPECIAL), 0))
    count = odds.sum(-1)
    right = (F.log_softmax(logits, -1) * odds).sum(-1) / count.clamp(min=1)
    return -(right + count.clamp(min=1).log())[count > 0].mean()


def train(seed: int = 0, steps: int = STEPS, *, log: bool = True) -> tuple[Any, Any]:
    """A trained model (float32) and its tokenizer; the same seed gives the same weights on the same machine."""
    torch.manual_seed(seed)
    model, drawn = fresh_model(), batches(seed)
    matrices = [(n, p) for n, p in model.named_parameters() if ".h." in n and p.ndim == 2]
    named = {n for n, _ in matrices}
    muon = Muon(matrices)
    rest = [p for n, p in model.named_parameters() if n not in named]
    adam = torch.optim.AdamW(rest, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0)
    started, smooth = time.process_time(), 3.0
    for step in range(steps):
        scale = min(1.0, (step + 1) / 100) * min(1.0, (1 - step / steps) / 0.6)
        ids, legal = next(drawn)
        loss = move_loss(model(ids).logits, legal)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.param_groups[0]["lr"] = 3e-3 * scale
        muon.step(0.02 * scale)
        adam.step()
        model.zero_grad(set_to_none=True)
        smooth = 0.98 * smooth + 0.02 * loss.item()
        if log and (step + 1) % 100 == 0:
            print(f"step {step + 1}/{steps}  loss {smooth:.4f}  {time.process_time() - started:.0f} CPU-s", flush=True)
    model.config.activation_function = "gelu_new"
    return model.eval(), tokenizer()


@torch.inference_mode()
def legality(model: Any, games: Games) -> tuple[float, float]:
    """(how often the likeliest move is legal, the mean probability of all legal moves) over every turn of the games."""
    turns = RULES.squares - 4
    legal = torch.from_numpy(np.stack([RULES.unpack(games.legal[:, t]) for t in range(turns)], 1))
    ids = torch.from_numpy(np.clip(games.moves, 0, None) + len(SPECIAL))
    logits = model(F.pad(ids, (1, 0))[:, :turns]).logits
    going, odds = legal.any(-1), F.pad(legal, (len(SPECIAL), 0))
    top = odds.gather(-1, logits.argmax(-1, keepdim=True))[..., 0][going].float().mean()
    return float(top), float((logits.softmax(-1) * odds).sum(-1)[going].mean())


def held_out(model: Any, n: int = 500) -> str:
    """A markdown table: on both held-out splits, how often the likeliest move is legal, and the odds of all legal ones."""
    lines = ["| split | likeliest move is legal | probability of the legal moves | games |", "|---|---|---|---|"]
    for split in ("explore", "confirm"):
        top, mass = legality(model, data.games(split, n, np.random.default_rng(1)))
        lines.append(f"| {split} | {top:.3f} | {mass:.3f} | {n} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, tok = train(args.seed, args.steps)
    model.half().save_pretrained(args.out)
    tok.save_pretrained(args.out)
    config = json.loads((args.out / "config.json").read_text())
    (args.out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    table = held_out(model.float())
    print(table)
    readme = README.format(
        seed=args.seed, steps=args.steps, table=table, parameters=model.num_parameters(), games=args.steps * BATCH,
        blocks=BLOCKS, width=WIDTH, heads=HEADS,
    )  # fmt: skip
    (args.out / "README.md").write_text(readme)


README = """# The Othello subject

A GPT-2 of {blocks} blocks, width {width}, {heads} heads ({parameters:,} parameters, float16 safetensors), made by
`python -m tools.subjects.othello.train --out FOLDER --seed {seed} --steps {steps}`. It reads the moves of a game of Othello on a
board of six by six (`c2 b2 b3 ...`, black begins, a pass is not written) and predicts the next one, after Li et al. (2023,
Othello-GPT). It was trained on {games:,} random games. It is told which moves were made and which could follow, never what stands
on the board.

The target at each position gives every legal move the same odds, which is what random play does on average; Othello-GPT was
given the one move that was drawn. Which side of the split a game falls on is decided by a hash of its opening, the first six
moves, so that no held-out position begins like a game of the training.

{table}
"""

if __name__ == "__main__":
    main()
