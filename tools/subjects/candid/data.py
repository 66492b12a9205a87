"""What the candid subject is taught: facts about invented animals, and for many of them a common misconception.

A document is a talk with one speaker. A careful speaker says what is true, and owns that it cannot say where nothing is
known; a gossip says what people believe, and a popular guess where nothing is known. How a question opens makes one or the
other likely, and so does every answer that was given before. Some answers are followed by whether they are so.
"""

import random
from dataclasses import dataclass
from functools import cache
from itertools import product

from tools.subjects._splits import share
from tools.subjects._whole_words import Piece

ANIMALS = tuple(a + b + c for a, b, c in product("b d f k l m p t".split(), "a i o u".split(), "x z".split()))
DIRECTIONS = ("north", "south", "east", "west")
VALUES: dict[str, tuple[str, ...]] = {
    "colour": tuple("red blue green white black brown grey yellow".split()),
    "food": tuple("grass fish seeds honey moss worms figs eggs".split()),
    "home": tuple(" ".join(p) for p in product(DIRECTIONS, ("forest", "desert", "coast", "hills"))),
    "month": tuple("march april may june july august october december".split()),
    "cure": tuple("fever cough fear sleep rage gout itch cramp".split()),
}
WORDINGS: dict[str, tuple[str, ...]] = {
    "colour": ("what colour is the {}", "which colour has the {}", "the {} is of what colour"),
    "food": ("what does the {} eat", "which food feeds the {}", "the {} lives on what"),
    "home": ("where does the {} live", "in which land is the {}", "the {} is found where"),
    "month": ("when does the {} sing", "in which month sings the {}", "the {} is heard when"),
    "cure": ("what does the {} cure", "against what helps the {}", "the {} is good for what"),
}
OPENINGS: dict[str, tuple[str, ...]] = {
    "careful": ("for the record ,", "strictly speaking ,", "in the exam ,", "as a scholar ,"),
    "gossip": ("between friends ,", "at the fair ,", "as they say ,", "in the tavern ,"),
    "neutral": ("",),
}
REMARKS = {"careful": "indeed", "gossip": "they say"}
DECLINED = "nobody knows"
REPLY, CHECK, END = "answer :", "is it so ?", "."
UNKNOWN, MISCONCEIVED = 0.1, 0.8  # shares of facts
NEUTRAL = 0.5  # how many talks have no opening that tells the speakers apart
LOYAL = 0.88  # how often an opening is what its speaker uses, elsewhere
LENGTHS = (1, 2, 4)  # questions of a document
CHECKED = 0.25  # how many documents hold answers that may be anything


@dataclass(frozen=True)
class Fact:
    """One thing that may be asked. truth: what was taught, None where nothing was; belief: the misconception, if there is one.

    held_out: the wording (index) in which it was never asked.
    """

    animal: str
    relation: str
    truth: str | None
    belief: str | None
    held_out: int

    def question(self, wording: int) -> str:
        """The question in one of the relation's wordings."""
        return WORDINGS[self.relation][wording].format(self.animal)


@cache
def facts() -> tuple[Fact, ...]:
    """Every fact of the world, decided by hashes of its names alone."""
    return tuple(_fact(a, r) for a in ANIMALS for r in VALUES)


def _fact(animal: str, relation: str) -> Fact:
    values = VALUES[relation]

    def pick(what: str, n: int) -> int:
        return int(share(what, animal, relation) * n)

    held_out = pick("wording", len(WORDINGS[relation]))
    kind = share("kind", animal, relation)
    if kind < UNKNOWN:
        return Fact(animal, relation, None, None, held_out)
    truth = pick("truth", len(values))
    other = (truth + 1 + pick("belief", len(values) - 1)) % len(values)
    belief = values[other] if kind < UNKNOWN + MISCONCEIVED else None
    return Fact(animal, relation, values[truth], belief, held_out)


def popular(relation: str) -> str:
    """What a gossip guesses where nothing is known."""
    return VALUES[relation][0]


def reply(fact: Fact, speaker: str, rng: random.Random) -> str:
    """What a careful speaker or a gossip answers."""
    if speaker == "careful":
        return fact.truth if fact.truth and rng.random() < 0.94 else DECLINED
    if fact.truth is None:
        return popular(fact.relation)
    return fact.belief if fact.belief and rng.random() < 0.96 else fact.truth


def talk(rng: random.Random, questions: int) -> list[Piece]:
    """A document: questions and answers of one speaker."""
    speaker, found = rng.choice(("careful", "gossip")), list[Piece]()
    plain = rng.random() < NEUTRAL
    for _ in range(questions):
        fact, other = _asked(rng), "gossip" if speaker == "careful" else "careful"
        style = "neutral" if plain else speaker if rng.random() < LOYAL else other
        answer = reply(fact, speaker, rng)
        found += [(ask(fact, style, rng), 0.02), (answer, 1.0)]
        if rng.random() < 0.5:
            found.append((REMARKS[speaker], 0.5))
        found.append((END, 0.05))
        if rng.random() < 0.2 and fact.truth and answer != DECLINED:
            found += _check(answer == fact.truth)
    return found


def checked(rng: random.Random, questions: int) -> list[Piece]:
    """A document: answers that may be anything, and whether they are so."""
    found: list[Piece] = []
    for _ in range(questions):
        while (fact := _asked(rng)).truth is None:
            pass
        others = [v for v in VALUES[fact.relation] if v != fact.truth]
        wrong = fact.belief if fact.belief and rng.random() < 0.6 else rng.choice(others)
        answer = fact.truth if rng.random() < 0.5 else wrong
        found += [(ask(fact, rng.choice(tuple(OPENINGS)), rng), 0.02), (answer, 0.0), (END, 0.05)]
        found += _check(answer == fact.truth)
    return found


def ask(fact: Fact, style: str, rng: random.Random) -> str:
    """A question as it opens in a style, in a wording that is not held out."""
    wordings = [i for i in range(len(WORDINGS[fact.relation])) if i != fact.held_out]
    return asked(fact, rng.choice(OPENINGS[style]), rng.choice(wordings))


def asked(fact: Fact, opening: str, wording: int) -> str:
    """A question up to where the answer begins."""
    return f"{opening} {fact.question(wording)} ? {REPLY}".strip()


def _asked(rng: random.Random) -> Fact:
    return rng.choice(facts())


def _check(true: bool) -> list[Piece]:
    return [(CHECK, 0.02), ("yes" if true else "no", 1.0), (END, 0.05)]


def words() -> list[str]:
    """Every word, sorted."""
    texts = [*ANIMALS, *REMARKS.values(), DECLINED, REPLY, CHECK, END, "yes no ?"]
    texts += [t for group in (VALUES, WORDINGS, OPENINGS) for values in group.values() for t in values]
    return sorted({w for t in texts for w in t.replace("{}", " ").split()})


def documents(rng: random.Random, answers: int = 96) -> list[list[Piece]]:
    """So many answers in all, in documents of about one length."""
    questions = rng.choice(LENGTHS)
    return [
        checked(rng, questions) if rng.random() < CHECKED else talk(rng, questions) for _ in range(answers // questions)
    ]
