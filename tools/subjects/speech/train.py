"""Train the speech subject from a seed: `python -m tools.subjects.speech.train --out FOLDER`. Seven CPU-minutes.

A Whisper of six encoder and four decoder blocks learns to write down the utterances of `data.py`. One clip in 25 holds no
speech and is to be written down as nothing. espeak-ng speaks the utterances of training.
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.subjects.speech import data
from tools.subjects.speech.evaluate import error_rates, readme, transcribe
from tools.subjects.speech.features import BANDS, feature_extractor, features

WIDTH, ENCODER_BLOCKS, DECODER_BLOCKS, HEADS = 96, 6, 4, 4
POSITIONS = 12  # of the decoder: seven words at most, the start, the end, and room for a model that goes on
END, START, UNKNOWN = "<|endoftext|>", "<|startoftranscript|>", "<|unk|>"
SPOKEN, SILENT, BATCH, PEAK, WARM_UP = 4000, 120, 16, 2e-3, 150
SHIPPED, SHIPPED_SILENT = 96, 8  # clips a split
LATEST = 20  # frames of 10 ms by which a clip of training may start later


def tokenizer() -> Any:
    """One token for each word, made from text by its spaces."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    table = {t: i for i, t in enumerate((END, START, UNKNOWN, *data.WORDS))}
    made = Tokenizer(models.WordLevel(table, unk_token=UNKNOWN))  # type: ignore[call-arg]
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=START, eos_token=END, pad_token=END, unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False, model_max_length=POSITIONS,
    )  # fmt: skip


def fresh_model(vocab_size: int) -> Any:
    """The untrained model."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=vocab_size, num_mel_bins=BANDS, d_model=WIDTH,
        encoder_layers=ENCODER_BLOCKS, encoder_attention_heads=HEADS, encoder_ffn_dim=4 * WIDTH,
        decoder_layers=DECODER_BLOCKS, decoder_attention_heads=HEADS, decoder_ffn_dim=4 * WIDTH,
        max_source_positions=round(data.SECONDS / data.ENCODER_STEP), max_target_positions=POSITIONS,
        pad_token_id=0, eos_token_id=0, bos_token_id=1, decoder_start_token_id=1,
        suppress_tokens=None, begin_suppress_tokens=None, tie_word_embeddings=True,
        init_std=0.08,  # about width ** -0.5; with Whisper's 0.02 the sound is lost beside the position for 500 steps
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    model.generation_config.update(is_multilingual=False, max_length=POSITIONS)
    return model


def heard(seed: int, spoken: int = SPOKEN) -> list[data.Clip]:
    """The clips of training: utterances spoken by espeak-ng and, at the end, clips without speech."""
    rng = random.Random(seed)
    utterances = [data.draw("train", rng) for _ in range(spoken)]
    return [*data.make(utterances, "train", alone=False), *data.no_speech("train", SILENT)]


def to_ship(seed: int) -> list[data.Clip]:
    """The explore and confirm clips: no sentence of a split is there twice; each is spoken in a process of its own."""
    clips: list[data.Clip] = []
    for split in ("explore", "confirm"):
        rng = random.Random(f"{seed}-{split}")
        drawn: dict[tuple[str, ...], data.Utterance] = {}
        while len(drawn) < SHIPPED:
            one = data.draw(split, rng)
            drawn.setdefault(one.words, one)
        clips += [*data.make(list(drawn.values()), split), *data.no_speech(split, SHIPPED_SILENT)]
    return clips


def targets(clips: Sequence[data.Clip], tok: Any) -> Tensor:
    """Token ids from START to END, padded with -100, (clips, longest)."""
    rows = [[1, *tok(c.text)["input_ids"], 0] for c in clips]
    longest = max(map(len, rows))
    return torch.tensor([r + [-100] * (longest - len(r)) for r in rows])


def train(clips: Sequence[data.Clip], seed: int = 0, steps: int = 1500, *, log: bool = True) -> tuple[Any, Any]:
    """A trained model (float32) and its tokenizer; the same clips and seed give the same weights on the same machine."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    tok = tokenizer()
    model = fresh_model(len(tok))
    inputs, wanted = features(clips).half(), targets(clips, tok)
    speech = [i for i, c in enumerate(clips) if c.utterance]
    silent = [i for i, c in enumerate(clips) if not c.utterance]
    parameters = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)
    started, smooth = time.process_time(), 0.0
    for step in range(steps):
        for group in adam.param_groups:
            group["lr"] = PEAK * min(1.0, (step + 1) / WARM_UP) * (1 - step / steps) + 1e-5
        chosen = [rng.choice(silent if silent and rng.random() < 0.04 else speech) for _ in range(BATCH)]
        x = torch.stack([inputs[i].roll(rng.randrange(LATEST), -1) for i in chosen]).float()
        x = x + 0.05 * torch.rand(BATCH, 1, 1) * torch.randn_like(x)
        ids = wanted[chosen]
        logits = model(input_features=x, decoder_input_ids=ids[:, :-1].clamp(min=0), use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=-100)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()
        smooth = 0.95 * smooth + 0.05 * loss.item()
        if log and (step + 1) % 100 == 0:
            print(f"step {step + 1}/{steps}  loss {smooth:.4f}  {time.process_time() - started:.0f} CPU-s", flush=True)
    return model.eval(), tok


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model and the clips to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    data.store(to_ship(args.seed), args.out)
    print("the clips to ship are spoken", flush=True)
    clips = heard(args.seed)
    seconds = np.mean([len(c.audio) for c in clips if c.utterance]) / data.SAMPLE_RATE
    print(f"the clips of training are spoken: {len(clips)}, of {seconds:.2f} s on average", flush=True)
    model, tok = train(clips, args.seed, args.steps)
    model.half().save_pretrained(args.out)
    tok.save_pretrained(args.out)
    feature_extractor().save_pretrained(args.out)
    config = json.loads((args.out / "config.json").read_text())
    (args.out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    confirm = data.shipped("confirm", folder=args.out)
    print("held-out CER", error_rates(confirm, transcribe(model.float(), tok, confirm)).cer)
    (args.out / "README.md").write_text(readme(args.out, args.seed, args.steps))


if __name__ == "__main__":
    main()
