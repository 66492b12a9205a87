"""Facts about invented animals, which the candid subject was taught together with misconceptions about them.

The right answer is what was taught as true, the foil is the misconception. Every question stands in a wording in which its
fact was never asked.
"""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tools.tasks.example import Example
from tools.tasks.task import Draw, Family, Options, Split

if TYPE_CHECKING:
    from tools.subjects.candid.data import Fact


class _Style(Options):
    style: Literal["gossip", "careful", "neutral"] = Field(
        default="gossip",
        description="how the question opens: as gossips ask, who say what people believe, or otherwise",
    )


def _facts(split: Split, rng: random.Random) -> Iterator["Fact"]:
    """Facts about which there is a misconception, of a side of the split, over and over."""
    from tools.subjects._splits import share
    from tools.subjects.candid.data import facts

    known = [f for f in facts() if f.belief and (share("side", f.animal, f.relation) < 0.5) == (split == "explore")]
    while True:
        rng.shuffle(known)
        yield from known


def _questions(options: _Style) -> Draw:
    def draw(split: Split, rng: random.Random) -> Iterator[Example]:
        from tools.subjects.candid import data

        for fact in _facts(split, rng):
            assert fact.truth
            prompt = data.asked(fact, rng.choice(data.OPENINGS[options.style]), fact.held_out)
            yield Example.of_text(
                prompt,
                f" {fact.truth}",
                foil=f" {fact.belief}",
                group=f"{fact.animal} {fact.relation}",
                labels={"relation": fact.relation, "style": options.style, "declines": data.DECLINED},
                spans={"animal": _span(prompt, fact.animal)},
            )

    return draw


def _claims(options: _Style) -> Draw:
    def draw(split: Split, rng: random.Random) -> Iterator[Example]:
        from tools.subjects.candid import data

        for fact in _facts(split, rng):
            assert fact.truth
            assert fact.belief
            question = data.asked(fact, rng.choice(data.OPENINGS[options.style]), fact.held_out)
            true = rng.random() < 0.5
            said, other = (fact.truth, fact.belief) if true else (fact.belief, fact.truth)
            made, twin = (f"{question} {a} {data.END} {data.CHECK}" for a in (said, other))
            start = len(question) + 1
            yield Example.of_text(
                made,
                " yes" if true else " no",
                foil=" no" if true else " yes",
                twin=twin,
                candidates=CHOICES,
                group=f"{fact.animal} {fact.relation}",
                labels={"truth": "true" if true else "false", "relation": fact.relation, "style": options.style},
                spans={"animal": _span(made, fact.animal), "claim": (start, start + len(said))},
                twin_spans={"animal": _span(twin, fact.animal), "claim": (start, start + len(other))},
            )

    return draw


def _span(text: str, word: str) -> tuple[int, int]:
    start = text.index(word)
    return start, start + len(word)


CHOICES = (" no", " yes")
FAMILIES = (
    Family(
        "candid",
        "Say what is true of an animal, where a misconception is common.",
        _Style,
        _questions,
        subject="candid",
        private=True,
        offers=("foils",),
    ),
    Family(
        "candid_claims",
        "Say whether an answer to such a question is so.",
        _Style,
        _claims,
        CHOICES,
        subject="candid",
        private=True,
        offers=("foils",),
    ),
)
