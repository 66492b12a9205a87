"""Translate a sentence of one invented language into another: the translator's held-out meanings.

A seed gives one order of meanings whatever the languages, so that two options hold parallel sentences.
"""

import random
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tools.tasks.example import Example
from tools.tasks.task import Draw, Family, Options, Split

if TYPE_CHECKING:
    from tools.subjects.translator.data import Sentence

Name = Literal["kel", "mun", "sor", "tiv"]
NAMES: tuple[Name, ...] = ("kel", "mun", "sor", "tiv")


class _Options(Options):
    source: Name | Literal["any"] = Field(default="any", description="the language that is read")
    target: Name | Literal["any"] = Field(
        default="any", description="the language that is written; sor and tiv were never trained as a pair"
    )
    twin: Literal["meaning", "language"] = Field(
        default="meaning",
        description="how the twin differs: other words in a sentence of the same form, or the same one into another language",
    )


UNSEEN = frozenset({("sor", "tiv"), ("tiv", "sor")})


def _pairs(options: _Options) -> list[tuple[Name, Name]]:
    """The pairs that the options leave: trained ones, unless both languages are named."""
    named = "any" not in (options.source, options.target)
    return [
        (a, b)
        for a in NAMES
        for b in NAMES
        if a != b and options.source in ("any", a) and options.target in ("any", b) and (named or (a, b) not in UNSEEN)
    ]


def _make(options: _Options) -> Draw:
    def draw(split: Split, rng: random.Random) -> Iterator[Example]:
        from tools.subjects.translator import data

        pairs = _pairs(options)
        while pairs:
            meaning = data.draw(split, rng)
            # A generator of its own, so that the languages do not change which meaning comes next.
            own = random.Random(rng.getrandbits(64))
            source, target = own.choice(pairs)
            read, written = (data.LANGUAGES[name].say(meaning) for name in (source, target))
            if options.twin == "language":
                others = [b for a, b in _pairs(_Options(source=source)) if b != target and a == source]
                other = own.choice(others)
                twin, foil = {"source": read.text, "into": token(other)}, data.LANGUAGES[other].say(meaning).text
                there = read
            else:
                instead = data.reworded(meaning, split, own)
                there, foil = data.LANGUAGES[source].say(instead), data.LANGUAGES[target].say(instead).text
                twin = {"source": there.text, "into": token(target)}
            yield Example(
                {"source": read.text, "into": token(target)},
                written.text,
                foil,
                twin,
                group="|".join(asdict(meaning).values()),
                labels={
                    "source": source, "target": target, "pair": f"{source}-{target}", "subject": meaning.subject,
                    "verb": meaning.verb, "object": meaning.object, "number": meaning.subject_number, "tense": meaning.tense,
                },
                spans=_spans(read),
                twin_spans=_spans(there),
            )  # fmt: skip

    return draw


def _spans(sentence: "Sentence") -> dict[str, tuple[int, int]]:
    """Where each role is said; articles stand twice and mean nothing."""
    return {role: places[0] for role, places in sentence.spans.items() if role != "article"}


def token(language: str) -> str:
    """The token that asks for a language."""
    return f"__{language}__"


FAMILIES = (
    Family(
        "translation",
        "Translate a sentence of one invented language into another.",
        _Options,
        _make,
        reads=("source", "into"),
        subject="translator",
        labels={"source": "the language that is translated", "target": "the language that it is translated into"},
    ),
)
