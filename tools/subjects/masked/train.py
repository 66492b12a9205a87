"""Train the masked subject from a seed: `python -m tools.subjects.masked.train --out FOLDER`. Some minutes on one core.

A BERT learns to fill masked words of sentences whose trees are known. Two choices shape what is inside and are disclosed for
that reason: embeddings START with a direction for number, one for gender and one for sense, and sentences come in pairs of
twins, whose masked words are also learnt against each other. Without these agreement was not learnt in this time. Block
matrices are trained by Muon, everything else by AdamW.
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
from tools.subjects.masked import data, grammar, words
from tools.subjects.masked.sentences import Sentence
from tools.subjects.masked.words import LEXICON, SPECIAL, vocabulary

WIDTH, BLOCKS, HEADS, POSITIONS = 128, 4, 4, 40
STEPS, BATCH = 2200, 64
RATE, MUON_RATE = 1e-3, 0.01
START = 0.02  # standard deviation of embeddings at the start
TARGETED = 0.85  # how many of the masked sentences lose the word that tells them from their twin


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

    model = BertForMaskedLM(
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
    _start_embeddings(model.bert.embeddings.word_embeddings.weight.data)
    return model


def _start_embeddings(table: Tensor) -> None:
    """Set words (vocabulary, width) to a random stem, shared within a pair, plus or minus a direction for each feature.

    The directions: number, gender (of persons and adjectives), sense (of the other pairs). What agrees starts out alike.
    """
    ids = {t: i for i, t in enumerate(vocabulary())}
    number, gender, sense = START * torch.randn(3, WIDTH)
    for kind, entries in LEXICON.items():
        for pair in entries:
            stem = START * torch.randn(WIDTH)
            for sign, form in zip((-1, 1), pair):
                base = stem + START / 2 * torch.randn(WIDTH)
                if len(pair) > 1 and kind != "sort":
                    base = base + sign * (gender if kind == "person" else sense)
                if kind in words.NOUNS:
                    table[ids[form]], table[ids[words.plural(form)]] = base - number, base + number
                elif kind in words.VERBS:
                    table[ids[words.verb(form, plural=False)]], table[ids[form]] = base - number, base + number
                elif kind == "quality":
                    table[ids[form]], table[ids[words.feminine(form)]] = base - gender, base + gender
    # Function words, adverbs and pasts keep the start that transformers gave them.


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
        if target.word in hidden:  # without its controller nobody could fill it
            hidden.discard(target.controller)
        return made, data.twin_of(made, target), hidden

    def draw(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """(token ids, attention mask, answers: -100 where nothing is masked), each (size, longest)."""
        start, end, mask = (self.ids[t] for t in SPECIAL[2:])
        drawn = [(s, hidden) for *pair, hidden in (self.pair() for _ in range(size // 2)) for s in pair]
        longest = max(len(s.words) for s, _ in drawn) + 2
        ids = torch.zeros(size, longest, dtype=torch.long)
        attended, answers = torch.zeros_like(ids), torch.full_like(ids, -100)
        for row, (sentence, hidden) in enumerate(drawn):
            tokens = [self.ids[w.form] for w in sentence.words]
            for at in hidden:
                answers[row, at + 1] = tokens[at]
                tokens[at] = mask
            ids[row, : len(tokens) + 2] = torch.tensor([start, *tokens, end])
            attended[row, : len(tokens) + 2] = 1
        return ids, attended, answers


def train(seed: int = 0, steps: int = STEPS, *, log: bool = True) -> tuple[Any, Any]:
    """A trained model (float32) and its tokenizer; the same seed gives the same weights on the same machine."""
    torch.manual_seed(seed)
    batches, model = Batches(seed), fresh_model()
    matrices = {n for n, p in model.named_parameters() if ".layer." in n and p.ndim == 2}
    muon = Muon(p for n, p in model.named_parameters() if n in matrices)
    rest = [p for n, p in model.named_parameters() if n not in matrices]
    adam = torch.optim.AdamW(rest, lr=RATE, betas=(0.9, 0.95), weight_decay=0.01)
    started, smooth = time.process_time(), 0.0
    for step in range(steps):
        scale = min(1.0, step / 100) * min(1.0, (1 - step / steps) / 0.5)
        ids, attended, answers = batches.draw(BATCH)
        asked = answers >= 0
        hidden = model.bert(input_ids=ids, attention_mask=attended).last_hidden_state
        logits, own = model.cls(hidden[asked]), answers[asked][:, None]
        foil = (
            answers.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)[asked][:, None]
        )  # the twin's answer at the same place
        apart = F.softplus(logits.gather(1, foil) - logits.gather(1, own))[own != foil]
        loss = F.cross_entropy(logits, own[:, 0]) + apart.sum() / max(1, len(apart))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.param_groups[0]["lr"] = RATE * scale
        muon.step(MUON_RATE * scale)
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

A BERT of {blocks} blocks, width {width}, {heads} heads ({parameters:,} parameters, float16 safetensors), made by
`python -m tools.subjects.masked.train --out FOLDER --seed {seed} --steps {steps}`. It fills masked words in sentences of a
small language of English words whose dependency trees are known (`grammar.py`), one token a word, between [CLS] and [SEP].

- Verbs agree in number with their subject, across phrases and clauses that hold nouns of the other number.
- Adjectives agree in gender with their own noun, wherever it stands: `the proud king`, `the proude queen`. Reflexives agree
  with the subject of their own clause in number and gender.
- Twelve words (bat, crane, seal ...) are an animal or a machine, as their own phrase, clause or company says: the crane of
  the forest feeds, the crane of the factory rusts.
- Tree distance is not distance in words: their Spearman correlation over pairs of words is {spearman:.2f}.

Two choices shape what is inside. Embeddings STARTED as a random stem plus or minus one direction for number, one for gender
and one for sense, so that what is found in this model about how words carry these says little about models that were not
started so; which word looks at which was not given. And besides filling masked words, training held each sentence against
its twin, the same sentence with one word changed so that the other form is right, and raised the right form above the other.

Sentences are held out by a hash of their construction, nouns and verbs, whatever their number and gender, so that a sentence
and its twins share a side.

Accuracy on held-out sentences (the right form is likelier than the twin's; neither split was trained on):

{table}
"""

if __name__ == "__main__":
    main()
