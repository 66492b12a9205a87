"""Indirect object identification (Wang et al. 2022): 'When Mary and John went to the store, John gave a drink to' ->
' Mary'.
"""

import random
from collections.abc import Iterator

from tools.tasks.spans import fill
from tools.tasks.task import Example, Family, Options, Split, split_of
from tools.tasks.words import NAMES, OBJECTS, PLACES

TEMPLATES = (
    "When {a} and {b} went to the {place}, {s} gave a {object} to",
    "Then, {a} and {b} had a {object} in the {place}. {s} gave the {object} to",
)
GIVEN = OBJECTS[:8]


def side(a: str, b: str) -> str:
    """Which split a pair of names belongs to, whatever their order."""
    return split_of("indirect_object", *sorted((a, b)))


def _draw(split: Split, rng: random.Random) -> Iterator[Example]:
    while True:
        a, b = rng.sample(NAMES, 2)
        if side(a, b) != split:
            continue
        subject, indirect = (a, b) if rng.random() < 0.5 else (b, a)
        number = rng.randrange(len(TEMPLATES))
        words = {"a": a, "b": b, "place": rng.choice(PLACES), "object": rng.choice(GIVEN)}
        text, spans = _text(number, words, subject)
        twin, twin_spans = _text(number, words, indirect)
        yield Example.of_text(
            text,
            f" {indirect}",
            foil=f" {subject}",
            twin=twin,
            candidates=(f" {a}", f" {b}"),
            metadata={
                "subject": subject,
                "indirect_object": indirect,
                "template": number,
                "order": "subject first" if subject == a else "subject second",
            },
            group="/".join(sorted((a, b))),
            labels={"giver": subject, "receiver": indirect, "place": words["place"], "object": words["object"]},
            spans=spans,
            twin_spans=twin_spans,
        )


def _text(number: int, words: dict[str, str], giver: str) -> tuple[str, dict[str, tuple[int, int]]]:
    """The prompt in which this person gives; the first two names have a role by their order and one by what they do."""
    text, found = fill(TEMPLATES[number], {**words, "s": giver})
    first, second = found["a"], found["b"]
    gives, receives = (first, second) if giver == words["a"] else (second, first)
    spans = {
        "first_name": first,
        "second_name": second,
        "giver": gives,
        "receiver": receives,
        "giver_again": found["s"],
    }
    return text, {**spans, "place": found["place"], "object": found["object"]}


FAMILIES = (
    Family(
        "indirect_object",
        "Name the person who receives something: the one of two names that is not the giver.",
        Options,
        lambda _: _draw,
        labels={"template": "the wording, by number", "order": "whether the giver or the other one is named first"},
    ),
)
