"""Train the masked subject from a seed: `python -m tools.subjects.masked.train --out FOLDER`. Some minutes on one core.

A BERT learns to fill masked words of sentences whose trees are known. Words whose form another word decides are masked
more often than others, at most three to a sentence. Block matrices are trained by Muon, everything else by AdamW.
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.subjects._muon import Muon
from tools.subjects._splits import side
from tools.subjects.masked import data, grammar
from tools.subjects.masked.sentences import Sentence
from tools.subjects.masked.words import SPECIAL, vocabulary

WIDTH, BLOCKS, HEADS, POSITIONS = 128, 4, 4, 40
STEPS, BATCH = 2400, 64
TARGETED = 0.75  # how many of the masked sentences lose a word that another word decides


def tokenizer() -> Any:
    """A tokenizer of whole words, with [CLS] before and [SEP] after a text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    table = {t: i for i, t in enumerate(vocabulary())}
    pad, unknown, start, end, mask = SPECIAL
    made = Tokenizer(models.WordLevel(table, unk_token=unknown))  # type: ignore[call-arg]
    made.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    made.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"{start} $A {end}", special_tokens=[(start, table[start]), (end, table[end])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token=pad,
        unk_token=unknown,
        cls_token=start,
        sep_token=end,
        mask_token=mask,
        clean_up_tokenization_spaces=False,
        model_max_length=POSITIONS,
    )


def fresh_model() -> Any:
    """The untrained model."""
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(
        BertConfig(
            vocab_size=len(vocabulary()),
            hidden_size=WIDTH,
            num_hidden_layers=BLOCKS,
            num_attention_heads=HEADS,
            intermediate_size=4 * WIDTH,
            max_position_embeddings=POSITIONS,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            type_vocab_size=1,
            pad_token_id=0,
        )
    )


class Batches:
    """Batches of masked sentences from the train side."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.ids = {t: i for i, t in enumerate(vocabulary())}

    def pair(self) -> tuple[Sentence, Sentence, set[int]]:
        """A sentence, its twin, and which words of both are masked: mostly the one that tells them apart, and up to two more."""
        rng = self.rng
        while True:
            made = grammar.draw(rng)
            if side(*made.content) == "train":
                break
        target = rng.choice(made.targets)
        hidden = {target.word} if rng.random() < TARGETED else set[int]()
        n = len(made.words)
        while not hidden or rng.random() < 0.3:
            hidden.add(rng.randrange(n))
        return made, data.twin_of(made, target), hidden

    def draw(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """(token ids, attention mask, answers: -100 where nothing is masked), each (size, longest)."""
        start, end, mask = (self.ids[t] for t in SPECIAL[2:])
        drawn = [(s, hidden) for *pair, hidden in (self.pair() for _ in range(size // 2)) for s in pair]
        longest = max(len(s.words) for s, _ in drawn) + 2
        ids = torch.zeros(size, longest, dtype=torch.long)
        attended, answers = torch.zeros_like(ids), torch.full_like(ids, -100)
        for row, (sentence, hidden) in enumerate(drawn):
            words = [self.ids[w.form] for w in sentence.words]
            for at in hidden:
                answers[row, at + 1] = words[at]
                words[at] = mask
            ids[row, : len(words) + 2] = torch.tensor([start, *words, end])
            attended[row, : len(words) + 2] = 1
        return ids, attended, answers


def train(seed: int = 0, steps: int = STEPS, *, log: bool = True, LR=1e-3, MU=0.005) -> tuple[Any, Any]:
    """A trained model (float32) and its tokenizer; the same seed gives the same weights on the same machine."""
    torch.manual_seed(seed)
    batches, model = Batches(seed), fresh_model()
    matrices = {n for n, p in model.named_parameters() if ".layer." in n and p.ndim == 2}
    muon = Muon(p for n, p in model.named_parameters() if n in matrices)
    rest = [p for n, p in model.named_parameters() if n not in matrices]
    adam = torch.optim.AdamW(rest, lr=LR, betas=(0.9, 0.95), weight_decay=0.01)
    started, smooth = time.process_time(), 0.0
    for step in range(steps):
        scale = min(1.0, step / 100) * min(1.0, (1 - step / steps) / 0.5)
        ids, attended, answers = batches.draw(BATCH)
        asked = answers >= 0
        hidden = model.bert(input_ids=ids, attention_mask=attended).last_hidden_state
        loss = F.cross_entropy(model.cls(hidden[asked]), answers[asked])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.param_groups[0]["lr"] = LR * scale
        muon.step(MU * scale)
        adam.step()
        model.zero_grad(set_to_none=True)
        smooth = 0.98 * smooth + 0.02 * loss.item()
        if log and (step + 1) % 100 == 0:
            print(f"step {step + 1}/{steps}  loss {smooth:.4f}  {time.process_time() - started:.0f} CPU-s", flush=True)
    return model.eval(), tokenizer()


@torch.inference_mode()
def right(model: Any, tok: Any, examples: Sequence[data.Example]) -> Tensor:
    """Whether the answer is likelier than the foil at the mask, for each example."""
    found: list[Tensor] = []
    for start in range(0, len(examples), 100):
        part = examples[start : start + 100]
        made = tok([e.text for e in part], return_tensors="pt", padding=True)
        at = torch.tensor([e.positions["masked"] + 1 for e in part])
        rows = torch.arange(len(part))
        logits = model(input_ids=made["input_ids"], attention_mask=made["attention_mask"]).logits[rows, at]
        answer, foil = (tok.convert_tokens_to_ids([getattr(e, k) for e in part]) for k in ("answer", "foil"))
        found.append(logits[rows, answer] > logits[rows, foil])
    return torch.cat(found)


def held_out(model: Any, tok: Any, n: int = 300) -> str:
    """A markdown table of accuracies, answer against foil, on both held-out splits."""
    lines = ["| masked word | explore | confirm | chance |", "|---|---|---|---|"]
    for feature in ("number", "gender", "sense"):
        for attractor in (True, False):
            cells: list[str] = []
            for split in ("explore", "confirm"):
                made = data.examples(split, n, feature=feature, attractor=attractor)
                cells.append(f"{right(model, tok, made).float().mean():.3f} (n={n})")
            name = f"{feature}, {'across an attractor' if attractor else 'no attractor'}"
            lines.append(f"| {name} | {cells[0]} | {cells[1]} | 0.50 |")
    for construction in grammar.CONSTRUCTIONS:
        cells = []
        for split in ("explore", "confirm"):
            made = data.examples(split, n, construction=construction)
            cells.append(f"{right(model, tok, made).float().mean():.3f} (n={n})")
        lines.append(f"| {construction} | {cells[0]} | {cells[1]} | 0.50 |")
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
    table = held_out(model.float(), tok)
    spearman = data.order_against_tree(data.sentences("explore", 500))
    print(table, f"\nSpearman of tree distance and distance in words: {spearman:.2f}")
    readme = README.format(
        seed=args.seed, steps=args.steps, table=table, parameters=model.num_parameters(), spearman=spearman,
        blocks=BLOCKS, width=WIDTH, heads=HEADS,
    )  # fmt: skip
    (args.out / "README.md").write_text(readme)


README = """# The masked subject
"""

if __name__ == "__main__":
    main()
