"""Subject-verb agreement across an attractor: 'The keys to the cabinet' -> ' are' (Linzen et al. 2016)."""

import random
from collections.abc import Iterator

from tools.tasks.spans import compose
from tools.tasks.task import Example, Family, Options, Split, split_of
from tools.tasks.words import NOUNS, PREPOSITIONS

CHOICES = (" is", " are")


def phrase(subject: str, plural: bool, preposition: str, attractor: str, attractor_plural: bool) -> str:
    """'The keys to the cabinet'."""
    return compose(_parts(subject, plural, preposition, attractor, attractor_plural))[0]


def _parts(
    subject: str, plural: bool, preposition: str, attractor: str, attractor_plural: bool
) -> tuple[str | tuple[str, str], ...]:
    nouns = ("subject", subject + "s" * plural), ("attractor", attractor + "s" * attractor_plural)
    return "The ", nouns[0], " ", ("preposition", preposition), " the ", nouns[1]


def side(subject: str, attractor: str) -> str:
    """Which split a pair of nouns belongs to."""
    return split_of("agreement", subject, attractor)


def _draw(split: Split, rng: random.Random) -> Iterator[Example]:
    while True:
        subject, attractor = rng.sample(NOUNS, 2)
        if side(subject, attractor) != split:
            continue
        plural, other = rng.random() < 0.5, rng.random() < 0.5
        preposition = rng.choice(PREPOSITIONS)
        text, spans = compose(_parts(subject, plural, preposition, attractor, other))
        yield Example.of_text(
            text,
            CHOICES[plural],
            foil=CHOICES[not plural],
            twin=phrase(subject, not plural, preposition, attractor, other),
            candidates=CHOICES,
            metadata={
                "subject": subject,
                "attractor": attractor,
                "subject_number": "plural" if plural else "singular",
                "attractor_number": "plural" if other else "singular",
                "conflict": plural != other,
            },
            group=f"{subject}/{attractor}",
            labels={"preposition": preposition},
            spans=spans,
        )


FAMILIES = (
    Family(
        "agreement",
        "Choose 'is' or 'are' for a subject with another noun in between.",
        Options,
        lambda _: _draw,
        CHOICES,
        labels={"attractor": "the noun in between", "conflict": "whether the nouns differ in number"},
    ),
)
