"""Translate a sentence of one invented language into another: the translator's held-out meanings."""

import random
from collections.abc import Iterator
from dataclasses import asdict
from typing import Literal

from pydantic import Field

from tools.tasks.example import Example
from tools.tasks.task import Draw, Family, Options, Split

Name = Literal["kel", "mun", "sor", "tiv"]
NAMES: tuple[Name, ...] = ("kel", "mun", "sor", "tiv")


class _Options(Options):
    source: Name | Literal["any"] = Field(default="any", description="the language that is read")
    target: Name | Literal["any"] = Field(
        default="any", description="the language that is written; sor and tiv were never trained as a pair"
    )
    twin: Literal["meaning", "language"] = Field(
        default="meaning", description="how the twin differs: another sentence, or the same one into another language"
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
            source, target = rng.choice(pairs)
            meaning = data.draw(split, rng)
            read, written = (data.LANGUAGES[name].say(meaning) for name in (source, target))
            others = [b for a, b in _pairs(_Options(source=source)) if b != target and a == source]
            other = rng.choice(others)
            twin, foil = None, None
            if options.twin == "language":
                twin = {"source": read.text, "into": token(other)}
                foil = data.LANGUAGES[other].say(meaning).text
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
                spans={role: places[0] for role, places in read.spans.items() if role != "article"},
            )  # fmt: skip

    return draw


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
    ),
)
