"""What the speech subject writes down, whole and with its last blocks missing: `python -m tools.subjects.speech.evaluate`.

Blocks are dropped from the plain transformers model by slicing its lists of modules, so the numbers here stand by
themselves and can be compared with what the tools find.
"""

import argparse
import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tools.subjects.speech import data
from tools.subjects.speech.features import features

STACKS = {"encoder": 6, "decoder": 4}


@dataclass(frozen=True)
class Rates:
    """Errors of transcripts over all clips together.

    cer, wer: edits (substitutions, insertions, deletions) over characters and words said. repetition: share of clips in
    whose transcript a word directly follows itself, which is never said. exact: share of clips that are right.
    """

    cer: float
    wer: float
    repetition: float
    exact: float


def load(folder: Path = data.FOLDER) -> tuple[Any, Any]:
    """The plain transformers model in float32 and its tokenizer."""
    from transformers import AutoTokenizer, WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def transcribe(model: Any, tok: Any, clips: Sequence[data.Clip]) -> list[tuple[str, ...]]:
    """The words that the model writes for each clip, most likely word first, up to its end token or its last position."""
    heard: list[tuple[str, ...]] = []
    with torch.inference_mode():
        for i in range(0, len(clips), 64):
            states = model.model.encoder(features(clips[i : i + 64])).last_hidden_state
            ids = torch.full((len(states), 1), model.config.decoder_start_token_id)
            while ids.shape[1] < model.config.max_target_positions:
                logits = model(encoder_outputs=(states,), decoder_input_ids=ids, use_cache=False).logits[:, -1]
                ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
            for row in ids[:, 1:].tolist():
                end = row.index(tok.eos_token_id) if tok.eos_token_id in row else len(row)
                heard.append(tuple(tok.convert_ids_to_tokens(row[:end])))
    return heard


def edits(said: Sequence[str], heard: Sequence[str]) -> int:
    """The least number of substitutions, insertions and deletions from one to the other (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for i, a in enumerate(said, 1):
        corner, row[0] = row[0], i
        for j, b in enumerate(heard, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1]


def error_rates(clips: Sequence[data.Clip], heard: Sequence[tuple[str, ...]]) -> Rates:
    """How far transcripts are from what was said in clips with speech."""
    pairs = [(c.words, h) for c, h in zip(clips, heard, strict=True)]
    letters = sum(len(" ".join(said)) for said, _ in pairs)
    return Rates(
        cer=sum(edits(" ".join(said), " ".join(h)) for said, h in pairs) / letters,
        wer=sum(edits(said, h) for said, h in pairs) / sum(len(said) for said, _ in pairs),
        repetition=sum(any(a == b for a, b in pairwise(h)) for _, h in pairs) / len(pairs),
        exact=sum(said == h for said, h in pairs) / len(pairs),
    )


@contextmanager
def without_last(model: Any, stack: str, n: int) -> Generator[Any]:
    """The model with the last n blocks of its `encoder` or `decoder` missing, for the time of the `with` block."""
    body = getattr(model.model, stack)
    blocks = body.layers
    body.layers = nn.ModuleList(list(blocks)[: len(blocks) - n])
    try:
        yield model
    finally:
        body.layers = blocks


def dropped_table(model: Any, tok: Any, clips: Sequence[data.Clip]) -> str:
    """A markdown table of error rates with the last n blocks of each stack missing."""
    lines = ["| missing | CER | WER | repetition | exact |", "|---|---|---|---|---|"]
    for stack, total in STACKS.items():
        for n in range(0 if stack == "encoder" else 1, total + 1):
            with without_last(model, stack, n):
                r = error_rates(clips, transcribe(model, tok, clips))
            name = f"{n} of {total} {stack} blocks" if n else "nothing"
            lines.append(f"| {name} | {r.cer:.3f} | {r.wer:.3f} | {r.repetition:.3f} | {r.exact:.3f} |")
    return "\n".join(lines)


def held_out_table(model: Any, tok: Any, folder: Path) -> str:
    """A markdown table of error rates on both splits, and of words heard where nothing is said."""
    lines = ["| clips | CER | WER | exact | words heard without speech |", "|---|---|---|---|---|"]
    for split in ("explore", "confirm"):
        clips = data.shipped(split, folder=folder)
        r = error_rates(clips, transcribe(model, tok, clips))
        quiet = data.shipped(split, speech=False, folder=folder)
        wrong = sum(bool(h) for h in transcribe(model, tok, quiet))
        name = f"{split} (n={len(clips)})"
        lines.append(f"| {name} | {r.cer:.3f} | {r.wer:.3f} | {r.exact:.3f} | in {wrong} of {len(quiet)} clips |")
    return "\n".join(lines)


def readme(folder: Path, seed: int, steps: int) -> str:
    """The model card of the subject in a folder, with its numbers measured there."""
    model, tok = load(folder)
    index = json.loads((folder / "audio.json").read_text())
    return README.format(
        parameters=model.num_parameters(), seed=seed, steps=steps, clips=len(index), words=len(data.WORDS),
        held=held_out_table(model, tok, folder), dropped=dropped_table(model, tok, data.shipped("confirm", folder=folder)),
        accents=" and ".join(a.removeprefix("gmw/") for a in data.ACCENTS),
        train_voices=", ".join(v or "the plain voice" for v in data.SPEAKERS["train"]),
        held_voices=", ".join(data.SPEAKERS["held"]),
        train_rates=", ".join(map(str, data.RATES["train"])), held_rates=", ".join(map(str, data.RATES["held"])),
    )  # fmt: skip


README = """# The speech model

A Whisper of 6 encoder and 4 decoder blocks, width 96, 4 heads ({parameters:,} parameters, float16 safetensors, a window
of 3 seconds), made by `python -m tools.subjects.speech.train --out FOLDER --seed {seed} --steps {steps}`. It writes down
short English utterances of {words} words, one token each: two to four digits, or sentences such as "the old farmer sees
the river"; in training also single words and phrases. It knows no other words and no natural speech.

It is small and was made for this: all speech comes from the synthesiser espeak-ng in 8 bits, so what is found in it about
voices, rates or noise says little about models of natural speech. One clip in 25 of training held no speech (silence,
white noise or hum) and was to be written down as nothing. No word is ever said twice in a row, so a doubled word in a
transcript is an error.

## What was held out

Sentences by a hash of their words (60% train, 20% explore, 20% confirm). Voices: {accents} with {train_voices} in
training, with {held_voices} in the explore and confirm clips. Rates in words a minute: {train_rates} in training,
{held_rates} held out. Brown noise was never heard in training.

{held}

## With blocks missing

The last n blocks of a stack dropped from the plain transformers model, on the confirm clips
(`python -m tools.subjects.speech.evaluate`):

{dropped}

## The clips

`audio.npz` and `audio.json` hold {clips} clips: read them with `tools.subjects.speech.data.shipped(split)`. The start of
each word is what the synthesiser itself reports (the word events of the espeak-ng library); a word ends where the next
one starts, and the last one where the sound falls below a hundredth of its peak. espeak-ng is needed only to train again
or to make more clips, and their sound then depends on its version (1.51 here).
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":", 1)[0])
    parser.add_argument("--folder", type=Path, default=data.FOLDER)
    parser.add_argument("--split", choices=("explore", "confirm"), default="confirm")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, tok = load(args.folder)
    print(held_out_table(model, tok, args.folder))
    print(dropped_table(model, tok, data.shipped(args.split, folder=args.folder)))


if __name__ == "__main__":
    main()
