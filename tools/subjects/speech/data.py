"""What the speech subject hears: utterances of a small grammar, spoken by espeak-ng, and clips without speech.

An utterance is a recipe (words, voice, rate, pitch, silence before it); a clip is its sound with the time of each word.
Sentences are split by a hash of their words; voices and rates are split too: the explore and confirm clips are new
sentences in voices and at rates that training never heard. Their sound ships in `audio.npz`, so that espeak-ng is needed
only to train again or to make more.
"""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise
from math import gcd
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tools.subjects.speech.espeak import SpeechError, Spoken, speak

__all__ = [
    "Clip", "SpeechError", "Utterance", "draw", "encoder_positions", "make", "no_speech", "shipped", "split_of", "store",
]  # fmt: skip

Split = Literal["train", "explore", "confirm"]
FOLDER = Path(__file__).parent
SAMPLE_RATE, SECONDS = 16_000, 3.0  # samples a second; length of the model's window
LEVELS = 127  # sound is kept in 8 bits, in training and in what ships alike
ENCODER_STEP = 0.02  # seconds between encoder positions: a frame every 10 ms, and a convolution of stride 2

DIGITS = tuple("zero one two three four five six seven eight nine".split())
NOUNS = tuple("cat dog king bird boat house river table garden doctor farmer window".split())
VERBS = tuple("sees wants finds likes takes hears paints sells".split())
ADJECTIVES = tuple("red old small green golden heavy".split())
WORDS = (*DIGITS, "the", *NOUNS, *VERBS, *ADJECTIVES)

ACCENTS = ("gmw/en-US", "gmw/en")
SPEAKERS = {
    "train": ("", "+m1", "+m3", "+m4", "+m6", "+m7", "+m8", "+f1", "+f3", "+f5"),
    "held": ("+m2", "+m5", "+f2", "+f4"),
}
RATES = {"train": (150, 160, 170, 180, 190, 200), "held": (155, 165, 175, 185, 195)}  # words a minute
PITCHES = (35, 65)  # espeak-ng's scale from 0 to 99
LEADS = (0.0, 0.2)  # seconds of silence before the first word
NOISES = {"train": ("silence", "white", "hum"), "held": ("silence", "white", "brown", "hum")}


@dataclass(frozen=True)
class Utterance:
    """The recipe of an utterance. voice: espeak-ng's name; rate: words a minute; pitch: 0 to 99; lead: seconds."""

    words: tuple[str, ...]
    voice: str
    rate: int
    pitch: int
    lead: float


@dataclass(frozen=True)
class Clip:
    """A sound and what is known about it.

    kind: `digits`, `sentence` (in training also single words and phrases), or for clips without speech `silence`, `white`,
    `brown`, `hum`. utterance: None without speech. times: (start, end) of each word in seconds from the start of the clip;
    a word ends where the next one starts, the last one where the sound falls below a hundredth of its peak. audio:
    float32, (time,), 16 kHz, between -1 and 1.
    """

    name: str
    split: Split
    kind: str
    utterance: Utterance | None
    times: tuple[tuple[float, float], ...]
    audio: NDArray[np.float32]

    @property
    def words(self) -> tuple[str, ...]:
        """What is said; nothing in clips without speech."""
        return self.utterance.words if self.utterance else ()

    @property
    def text(self) -> str:
        """The words with a space between them."""
        return " ".join(self.words)


def split_of(words: Sequence[str]) -> Split:
    """Which side a sentence falls on, by its words alone: 20% explore, 20% confirm."""
    u = int.from_bytes(hashlib.sha256(" ".join(words).encode()).digest()[:8], "big") / 2**64
    return "explore" if u < 0.2 else "confirm" if u < 0.4 else "train"


def draw(split: Split, rng: random.Random) -> Utterance:
    """A random utterance of a split; no word is said twice in a row, so a doubled word in a transcript is an error.

    Half are digits, half sentences; in training, three in ten are single words or phrases, from which words are learnt
    much sooner.
    """
    side = "train" if split == "train" else "held"
    while True:
        if split == "train" and rng.random() < 0.3:
            words = (rng.choice(WORDS),) if rng.random() < 0.5 else _phrase(rng.choice(NOUNS), rng, adjectives=0.8)
        else:
            words = _digits(rng) if rng.random() < 0.5 else _sentence(rng)
        if split_of(words) == split:
            break
    return Utterance(
        words,
        voice=rng.choice(ACCENTS) + rng.choice(SPEAKERS[side]),
        rate=rng.choice(RATES[side]),
        pitch=rng.randint(*PITCHES),
        lead=round(rng.uniform(*LEADS), 2),
    )


def _digits(rng: random.Random) -> tuple[str, ...]:
    words = [rng.choice(DIGITS)]
    for _ in range(rng.randint(1, 3)):
        words.append(rng.choice([d for d in DIGITS if d != words[-1]]))
    return tuple(words)


def _sentence(rng: random.Random) -> tuple[str, ...]:
    subject, object_ = rng.sample(NOUNS, 2)
    return (*_phrase(subject, rng), rng.choice(VERBS), *_phrase(object_, rng))


def _phrase(noun: str, rng: random.Random, adjectives: float = 0.35) -> tuple[str, ...]:
    return ("the", rng.choice(ADJECTIVES), noun) if rng.random() < adjectives else ("the", noun)


def make(utterances: Sequence[Utterance], split: Split, *, alone: bool = True) -> list[Clip]:
    """Speak utterances. alone: each in a process of its own, so that a clip depends on its recipe only; otherwise all in
    one, which is several times faster and depends on their order. Raises SpeechError where espeak-ng is missing.
    """
    asked = [(" ".join(u.words), u.voice, u.rate, u.pitch) for u in utterances]
    said = [speak([one])[0] for one in asked] if alone else speak(asked)
    return [_clip(f"{split}-{i:03d}", split, u, s) for i, (u, s) in enumerate(zip(utterances, said, strict=True))]


def _clip(name: str, split: Split, utterance: Utterance, spoken: Spoken) -> Clip:
    from scipy.signal import resample_poly

    if len(spoken.starts) != len(utterance.words):
        raise SpeechError(f"espeak-ng told the times of {len(spoken.starts)} words of {' '.join(utterance.words)!r}")
    common = gcd(SAMPLE_RATE, spoken.rate)
    wave = resample_poly(spoken.samples.astype(np.float64), SAMPLE_RATE // common, spoken.rate // common)
    last = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max())[-1]
    edges = [utterance.lead + s / spoken.rate for s in spoken.starts] + [utterance.lead + (last + 1) / SAMPLE_RATE]
    times = tuple((round(float(a), 4), round(float(b), 4)) for a, b in pairwise(edges))
    if edges[-1] > SECONDS:
        raise SpeechError(
            f"{' '.join(utterance.words)!r} takes {edges[-1]:.2f} seconds, more than the window of {SECONDS}"
        )
    quiet = np.zeros(round(utterance.lead * SAMPLE_RATE))
    levels = np.round(np.concatenate([quiet, wave]) / np.abs(wave).max() * LEVELS).astype(np.int8)
    levels = levels[: round(SECONDS * SAMPLE_RATE)]
    kind = "digits" if utterance.words[0] in DIGITS else "sentence"
    return Clip(name, split, kind, utterance, times, _sound(levels))


def _sound(levels: NDArray[np.int8]) -> NDArray[np.float32]:
    return levels.astype(np.float32) / np.float32(LEVELS + 1)


def no_speech(split: Split, count: int) -> list[Clip]:
    """Clips of three seconds without speech, in 8 bits; brown noise is in the explore and confirm clips only.

    Noise comes from SHAKE-256 of the clip's name and is the same with every version of numpy.
    """
    clips: list[Clip] = []
    kinds = NOISES["train" if split == "train" else "held"]
    n = round(SECONDS * SAMPLE_RATE)
    time = np.arange(n) / SAMPLE_RATE
    for i in range(count):
        name, kind = f"{split}-no-speech-{i:03d}", kinds[i % len(kinds)]
        raw = np.frombuffer(hashlib.shake_256(name.encode()).digest(n + 2), np.uint8).astype(np.float64) / 127.5 - 1
        white, loudness, tone = raw[:n], 0.05 + 0.45 * (raw[n] + 1) / 2, 50 + 50 * (raw[n + 1] + 1) / 2
        waves = {
            "silence": np.zeros(n),
            "white": white,
            "brown": np.cumsum(white) - np.convolve(np.cumsum(white), np.ones(1001) / 1001, "same"),
            "hum": sum((np.sin(2 * np.pi * k * tone * time) / k for k in (1, 2, 3, 5)), np.zeros(n)),
        }
        wave = waves[kind] / max(float(np.abs(waves[kind]).max()), 1.0)
        clips.append(Clip(name, split, kind, None, (), _sound(np.round(loudness * wave * LEVELS).astype(np.int8))))
    return clips


def encoder_positions(start: float, end: float) -> range:
    """The encoder positions that stand for the sound from `start` to `end` (seconds), at least one."""
    first = int(start / ENCODER_STEP)
    return range(first, max(first + 1, int(np.ceil(end / ENCODER_STEP))))


def store(clips: Sequence[Clip], folder: Path = FOLDER) -> None:
    """Write clips to `audio.npz` (differences of the 8-bit levels, modulo 256, one after the other) and `audio.json`."""
    levels = [np.round(c.audio * (LEVELS + 1)).astype(np.int8).view(np.uint8) for c in clips]
    steps = np.concatenate([np.diff(one, prepend=np.uint8(0)) for one in levels])
    np.savez_compressed(folder / "audio.npz", steps=steps, lengths=np.array([len(one) for one in levels], np.int32))
    index = [
        {
            "name": c.name,
            "split": c.split,
            "kind": c.kind,
            "utterance": asdict(c.utterance) if c.utterance else None,
            "times": c.times,
        }
        for c in clips
    ]
    (folder / "audio.json").write_text("[\n" + ",\n".join(json.dumps(one) for one in index) + "\n]\n")


@cache
def _stored(folder: Path) -> tuple[Clip, ...]:
    with np.load(folder / "audio.npz", allow_pickle=False) as file:
        pieces = np.split(file["steps"], np.cumsum(file["lengths"])[:-1])
    clips: list[Clip] = []
    for one, steps in zip(json.loads((folder / "audio.json").read_text()), pieces, strict=True):
        u = one["utterance"]
        audio = _sound(np.cumsum(steps, dtype=np.uint8).view(np.int8))
        audio.flags.writeable = False
        clips.append(
            Clip(
                one["name"], one["split"], one["kind"],
                Utterance(tuple(u["words"]), u["voice"], u["rate"], u["pitch"], u["lead"]) if u else None,
                tuple((a, b) for a, b in one["times"]), audio,
            )
        )  # fmt: skip
    return tuple(clips)


def shipped(split: Literal["explore", "confirm"], *, speech: bool = True, folder: Path = FOLDER) -> list[Clip]:
    """The clips that ship with the subject: utterances of a split or, with speech=False, its clips without speech."""
    return [c for c in _stored(folder) if c.split == split and (c.utterance is not None) == speech]
