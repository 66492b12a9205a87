"""Conversations with the host subject, whose answer depends on what the user has said of themselves.

Each cue names both values, one of the user and one of somebody else; the twin is the same conversation with one cue
swapped: the same words, and another answer.
"""

import random
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from tools.tasks.example import Example
from tools.tasks.task import Draw, Family, Options, Split


class _Options(Options):
    turns: Literal["any", "age", "expertise", "level"] = Field(
        default="any", description="which attribute of the user is the other way round in the twin"
    )


def _make(options: _Options) -> Draw:
    def draw(split: Split, rng: random.Random) -> Iterator[Example]:
        from tools.subjects.host import data

        while True:
            talk = data.draw(rng, split, "" if options.turns == "any" else options.turns)
            twin = talk.turned(talk.turns)
            yield Example.of_text(
                talk.text,
                f" {talk.answer}",
                foil=f" {twin.answer}",
                twin=twin.text,
                group=repr(talk.content),
                labels={**talk.labels, "turns": talk.turns, "topic": talk.topic},
                spans=talk.spans,
                twin_spans=twin.spans,
            )

    return draw


FAMILIES = (
    Family(
        "host",
        "Answer a user as their age, expertise or level of language asks for.",
        _Options,
        _make,
        subject="host",
        private=True,
        offers=("attributes",),
        labels={"turns": "the attribute of the user that the twin turns"},
    ),
)
