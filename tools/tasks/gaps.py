"""Fill a gap in a sentence whose tree is known: agreement over other nouns, and words with two senses."""

import random
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from tools.tasks.example import Example
from tools.tasks.task import Draw, Family, Options, Split


class _Agreement(Options):
    feature: Literal["number", "gender"] = Field(default="number", description="what the masked word agrees in")
    attractor: Literal["any", "yes", "no"] = Field(
        default="any", description="whether a word that says the opposite stands before the gap"
    )


class _Sense(Options):
    ambiguous: Literal["any", "yes"] = Field(
        default="any", description="yes: sentences that hold a word with two senses, the span `ambiguous`"
    )


def _gaps(feature: str, attractor: bool | None, role: str = "masked") -> Draw:
    def draw(split: Split, rng: random.Random) -> Iterator[Example]:
        from tools.subjects._splits import side
        from tools.subjects.masked import data, grammar

        while True:
            made = grammar.draw(rng, None)
            if side(*made.content) != split:
                continue
            fit = [
                e for e in data.masked(made)
                if e.labels["feature"] == feature and attractor in (None, "attractor" in e.spans)
                and role in e.spans
            ]  # fmt: skip
            if fit:
                yield _example(rng.choice(fit), made)

    return draw


def _example(e: Any, made: Any) -> Example:
    return Example(
        {"masked": e.text},
        e.answer,
        e.foil,
        {"masked": e.twin},
        group=repr(made.content),
        labels=dict(e.labels),
        spans=dict(e.spans),
        candidates=(e.answer, e.foil),
        choices=(e.answer, e.foil),
        twin_spans={role: _word(e.twin, at) for role, at in e.positions.items()},
    )


def _word(text: str, at: int) -> tuple[int, int]:
    """Where the word of an index stands in a text."""
    words = text.split(" ")
    start = sum(len(w) + 1 for w in words[:at])
    return start, start + len(words[at])


FAMILIES = (
    Family(
        "gap_agreement",
        "Fill a gap with the form that agrees with a word elsewhere in the sentence.",
        _Agreement,
        lambda o: _gaps(o.feature, {"any": None, "yes": True, "no": False}[o.attractor]),
        reads=("masked",),
        subject="masked",
    ),
    Family(
        "gap_sense",
        "Fill a gap by the sense in which an ambiguous word is meant.",
        _Sense,
        lambda o: _gaps("sense", None, "ambiguous" if o.ambiguous == "yes" else "masked"),
        reads=("masked",),
        subject="masked",
    ),
)
