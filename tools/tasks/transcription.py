"""Write down what a recording says: the speech subject's held-out voices, and recordings in which nobody speaks."""

import random
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from tools.tasks.example import Example, Signal
from tools.tasks.task import Draw, Family, Options, Split

NOBODY = "silence, noise or a hum, in which nobody speaks"


class _Options(Options):
    kind: Literal["all", "digits", "sentence", "nothing"] = Field(
        default="all", description=f"what is said: digits, a sentence, or both; nothing is {NOBODY}"
    )


def _make(options: _Options) -> Draw:
    def draw(split: Split, rng: random.Random) -> Iterator[Example]:
        from tools.subjects.speech import data

        clips = data.shipped(split, speech=options.kind != "nothing")
        clips = [c for c in clips if options.kind in ("all", "nothing", c.kind)]
        rng.shuffle(clips)
        for i, clip in enumerate(clips):
            # The next recording of as many words is the twin: what is said differs, and with it the voice.
            others = (clips[(i + k) % len(clips)] for k in range(1, len(clips)))
            twin = next((o for o in others if len(o.words) == len(clip.words) and o.text != clip.text), None)
            spoken = clip.utterance
            labels: dict[str, int | str] = {"kind": clip.kind, "words": len(clip.words)}
            if spoken is not None:
                labels |= {"voice": spoken.voice, "rate": spoken.rate, "first_word": clip.words[0]}
            yield Example(
                {"audio": Signal(clip.audio, f"recording {clip.name}")},
                clip.text,
                None if twin is None else twin.text,
                None if twin is None else {"audio": Signal(twin.audio, f"recording {twin.name}")},
                group=clip.text or clip.name,
                labels=labels,
                spans=_spans(clip.times),
                twin_spans={} if twin is None else _spans(twin.times),
            )

    return draw


def _spans(times: tuple[tuple[float, float], ...]) -> dict[str, tuple[int, int]]:
    """Each word's milliseconds."""
    return {f"word{i}": (round(1000 * start), round(1000 * end)) for i, (start, end) in enumerate(times, 1)}


FAMILIES = (
    Family(
        "transcription",
        "Write down the words of a recording.",
        _Options,
        _make,
        reads=("audio",),
        subject="speech",
        labels={
            "kind": "what is spoken",
            "words": "the number of words",
            "rate": "the speed of the voice, in words a minute",
        },
    ),
)
