"""Conversations with a host whose answers depend on who asks.

A user says things that imply an age, an expertise and a level of language; the host was told its own manner. Every cue names
both values, one of the user and one of somebody else (`i am young , she is old`), so that words alone do not say whose is whose:
the swapped cue has the same words and means the opposite. What the host offers depends on all three attributes of the user. The
last word of a question is a tone, which its own token says.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from tools.subjects._splits import Split, side
from tools.subjects._whole_words import Piece

VALUES: dict[str, tuple[str, str]] = {
    "age": ("child", "adult"), "expertise": ("novice", "expert"), "level": ("learner", "fluent"), "manner": ("playful", "formal"),
}  # fmt: skip
USER = ("age", "expertise", "level")
WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    attribute: (tuple(first.split()), tuple(second.split()))
    for attribute, first, second in (
        ("age", "young little junior teenage", "old grown senior elderly"),
        ("expertise", "untaught green lay unskilled", "learned trained seasoned skilled"),
        ("level", "halting foreign broken hesitant", "native eloquent articulate chatty"),
        ("manner", "merry silly jolly funny", "stern solemn grave stiff"),
    )
}
OWN, OTHERS = ("i am {}", "i feel {}"), ("she is {}", "my friend is {}", "he seems {}")
TOLD, TOLD_OTHERS = ("you are {}",), ("the guest is {}", "the cook is {}")
TOPICS = tuple("rain fire stars bread ships clocks birds glass music maps rivers lamps".split())
ACKNOWLEDGED = "i see ."
TONES = ("please", "now")
CLOSINGS = {"playful": "dear", "formal": "sir"}
OFFERS = dict(
    zip(
        product(*(VALUES[a] for a in USER)), "rhyme tale puzzle riddle primer novel chart treatise".split(), strict=True
    )
)
UNSAID = {a: VALUES[a][1] for a in USER}  # what the host takes a user for of whom nothing was said
SAID = 0.85  # how often an attribute is implied


def answer(topic: str, values: dict[str, str]) -> str:
    """What the host offers on a topic to a user with these values."""
    return f"{OFFERS[tuple(values[a] for a in USER)]} of {topic}"  # type: ignore[index]  # three of them


@dataclass(frozen=True)
class Cue:
    """What implies an attribute: the words of the own value and of the other one, the wordings, and which comes first."""

    attribute: str
    own: str
    other: str
    wording: int
    other_wording: int
    own_first: bool

    @property
    def value(self) -> str:
        """Which of the attribute's values it implies."""
        return VALUES[self.attribute][self.own in WORDS[self.attribute][1]]

    @property
    def swapped(self) -> "Cue":
        """The same words the other way round."""
        return Cue(self.attribute, self.other, self.own, self.wording, self.other_wording, self.own_first)

    @property
    def text(self) -> str:
        """As it is said."""
        mine, theirs = (TOLD, TOLD_OTHERS) if self.attribute == "manner" else (OWN, OTHERS)
        parts = [mine[self.wording].format(self.own), theirs[self.other_wording].format(self.other)]
        return " , ".join(parts if self.own_first else parts[::-1])

    @property
    def content(self) -> tuple[object, ...]:
        """What it shares with the swapped one."""
        return tuple(sorted((self.own, self.other)))


@dataclass(frozen=True)
class Talk:
    """A conversation up to where the host answers. cues: the manner's first, then the user's in the order they are said.

    turns: the attribute whose cue tells the conversation from the one that it is held against.
    """

    cues: tuple[Cue, ...]
    topic: str
    turns: str
    tone: str

    @property
    def values(self) -> dict[str, str]:
        """The value of each attribute."""
        return {**UNSAID, **{c.attribute: c.value for c in self.cues}}

    @property
    def labels(self) -> dict[str, str]:
        """What is true of the user and of the model itself."""
        own = {("user " if a in USER else "model ") + a: v for a, v in self.values.items()}
        return {**own, "user tone": self.tone}

    @property
    def text(self) -> str:
        """The prompt."""
        told, *said = self.cues
        cues = "".join(f"{c.text} . " for c in said)
        return f"system : {told.text} . user : {cues}{question(self.topic, self.tone)} host :"

    @property
    def spans(self) -> dict[str, tuple[int, int]]:
        """Characters of the prompt: of the cue that is turned, of the topic and of the tone."""
        text, cue = self.text, next(c.text for c in self.cues if c.attribute == self.turns)
        end = len(text) - len(" ? host :")
        topic = text.rindex(self.topic)
        return {
            "cue": (text.index(cue), text.index(cue) + len(cue)),
            "topic": (topic, topic + len(self.topic)),
            "tone": (end - len(self.tone), end),
        }

    @property
    def answer(self) -> str:
        """What the host says."""
        return answer(self.topic, self.values)

    def turned(self, attribute: str) -> "Talk":
        """The conversation with one attribute's cue swapped."""
        cues = tuple(c.swapped if c.attribute == attribute else c for c in self.cues)
        return Talk(cues, self.topic, self.turns, self.tone)

    @property
    def content(self) -> tuple[object, ...]:
        """What it shares with its swapped ones: the topic and the words of the user's cues."""
        return (self.topic, *(sorted(c.content for c in self.cues if c.attribute in USER)))


def draw(rng: random.Random, split: Split, turns: str = "") -> Talk:
    """A conversation of a side of the split."""
    while True:
        cues = (_cue(rng, "manner"), *(_cue(rng, a) for a in rng.sample(USER, len(USER))))
        made = Talk(cues, rng.choice(TOPICS), turns or rng.choice(USER), rng.choice(TONES))
        if side(*made.content) == split:
            return made


def _cue(rng: random.Random, attribute: str) -> Cue:
    own, other = (rng.choice(words) for words in WORDS[attribute])
    if rng.random() < 0.5:
        own, other = other, own
    mine, theirs = (TOLD, TOLD_OTHERS) if attribute == "manner" else (OWN, OTHERS)
    return Cue(attribute, own, other, rng.randrange(len(mine)), rng.randrange(len(theirs)), rng.random() < 0.5)


def documents(rng: random.Random, size: int = 32) -> list[Sequence[Piece]]:
    """One step's conversations, from the train side."""
    apart = rng.random() < 0.3
    return [_document(rng, apart=apart) for _ in range(size)]


def _document(rng: random.Random, *, apart: bool) -> list[Piece]:
    """Cues, in a turn of their own or with the question, the answer, and perhaps another question."""
    made = draw(rng, "train")
    told, *cues = made.cues
    said = [c for c in cues if rng.random() < SAID]
    talk = Talk((told, *said), made.topic, made.turns, made.tone)
    if not apart:
        return [(talk.text, 0.02), *_answered(talk)]
    found: list[Piece] = [(f"system : {told.text} .", 0.02)]
    for c in said:
        found += [(f"user : {c.text} . host :", 0.02), (ACKNOWLEDGED, 0.05)]
    return [*found, (f"user : {question(talk.topic, talk.tone)} host :", 0.02), *_answered(talk)]


def _answered(talk: Talk) -> list[Piece]:
    offer, rest = talk.answer.split(" ", 1)
    return [(offer, 1.0), (rest, 0.2), (CLOSINGS[talk.values["manner"]], 0.4), (".", 0.02)]


def question(topic: str, tone: str) -> str:
    """A question as it is asked."""
    return f"what of {topic} {tone} ?"


def words() -> list[str]:
    """Every word, sorted."""
    texts = [*OWN, *OTHERS, *TOLD, *TOLD_OTHERS, *TOPICS, ACKNOWLEDGED, *TONES, *CLOSINGS.values(), *OFFERS.values()]
    texts += ["system user host : , . ? what of", *(w for pair in WORDS.values() for group in pair for w in group)]
    return sorted({w for t in texts for w in t.replace("{}", " ").split()})
