"""What the demo model reads: documents as (text, is answer) pieces, drawn only from the train side of every split."""

import random
from collections.abc import Callable

from tools.tasks import agreement, arithmetic, brackets, copying, facts, indirect_object, split_of
from tools.tasks.words import ADJECTIVES, LETTERS, NAMES, NOUNS, OBJECTS, PLACES, PREPOSITIONS

Piece = tuple[str, bool]
Document = list[Piece]
LARGEST_NUMBER = 198
OPENING = "([{"


def words() -> list[str]:
    """Every word and sign that gets a token of its own, sorted."""
    found = {*NAMES, *PLACES, *OBJECTS, *NOUNS, *(n + "s" for n in NOUNS), *PREPOSITIONS, *ADJECTIVES, *LETTERS}
    found |= {*facts.CAPITALS, *facts.CAPITALS.values(), "has", "is", "are"}
    for text in (*indirect_object.TEMPLATES, *(t for pair in facts.TEMPLATES.values() for t in pair), "The the a"):
        found |= set("".join(c if c.isalpha() else " " for c in text.replace("{", " {").split("}")[-1]).split())
        found |= {w.strip(",.?:") for w in text.split() if "{" not in w}
    return sorted(w for w in found if w.isalpha())


def arithmetic_document(rng: random.Random, op: arithmetic.Op) -> Document:
    """Eight solved problems of one size and one format."""
    style = "compact" if rng.random() < 0.2 else "spaced"
    sizes = rng.choice(((1, 1), (1, 1), (1, 2), (2, 1), (2, 2), (2, 2), (2, 2)))
    document: Document = []
    for _ in range(8):
        problem = arithmetic.problem(rng, op, sizes, ("train",))
        assert problem is not None
        question, answer = arithmetic.line(op, *problem, style)
        document += [(question, False), (answer, True), ("\n", False)]
    return document


def copying_document(rng: random.Random) -> Document:
    """A list of letters, a bar, and the list again."""
    while split_of("copying", tuple(items := copying.letters(rng))) != "train":
        pass
    return [(" ".join([*items, "|"]), False), *((f" {c}", True) for c in items)]


def facts_document(rng: random.Random) -> Document:
    """One fact in one wording."""
    while True:
        country, template = rng.choice(list(facts.CAPITALS)), rng.choice(list(facts.TEMPLATES))
        if facts.side(country, template) == "train":
            prompt, answer = facts.prompt_and_answer(country, template)
            return [(prompt, False), (answer, True), (".", False)]


def agreement_document(rng: random.Random) -> Document:
    """A subject, an attractor, the verb and an adjective."""
    while True:
        subject, attractor = rng.sample(NOUNS, 2)
        if agreement.side(subject, attractor) == "train":
            plural = rng.random() < 0.5
            text = agreement.phrase(subject, plural, rng.choice(PREPOSITIONS), attractor, rng.random() < 0.5)
            return [(text, False), (agreement.CHOICES[plural], True), (f" {rng.choice(ADJECTIVES)}.", False)]


def brackets_document(rng: random.Random) -> Document:
    """A complete bracket string; every closing bracket whose prefix is on the train side is an answer."""
    while True:
        text, closing = brackets.sequence(rng, complete=True)
        held_out = [i for i in closing if split_of("brackets", text[:i]) != "train"]
        if not held_out:
            return [*((c, i in closing) for i, c in enumerate(text)), ("\n", False)]


def indirect_object_document(rng: random.Random) -> Document:
    """Two people, one gives something to the other."""
    while True:
        a, b = rng.sample(NAMES, 2)
        if indirect_object.side(a, b) == "train":
            subject, indirect = (a, b) if rng.random() < 0.5 else (b, a)
            fields = {"a": a, "b": b, "s": subject, "place": rng.choice(PLACES)}
            thing = rng.choice(indirect_object.GIVEN)
            text = rng.choice(indirect_object.TEMPLATES).format(**fields, object=thing)
            return [(text, False), (f" {indirect}", True), (".", False)]


# (how many documents a step, weight of an answer token, how one is drawn), grouped so that lengths are alike.
MIXTURE: tuple[tuple[tuple[int, float, Callable[[random.Random], Document]], ...], ...] = (
    (
        (22, 1.0, lambda r: arithmetic_document(r, "+")),
        (14, 1.0, lambda r: arithmetic_document(r, "-")),
    ),
    (
        (10, 1.0, copying_document),
        (10, 1.0, facts_document),
        (3, 1.0, agreement_document),
        (12, 1.5, brackets_document),
        (7, 2.0, indirect_object_document),
    ),
)
