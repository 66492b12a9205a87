"""Conversations with a host whose answers depend on who asks.

A user says things that imply an age, an expertise and a level of language; the host was told its own manner. Every cue names
both values, one of the user and one of somebody else (`i am a pupil , my friend is a nurse`), so that words alone do not say
whose is whose: the swapped cue has the same words and means the opposite. A question about a topic is answered as one of the
attributes asks for. The last word of the user is the tone, which its own token says.
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
        ("age", "pupil toddler schoolboy schoolgirl youngster kid", "nurse driver lawyer parent baker clerk"),
        (
            "expertise",
            "beginner layman newcomer starter freshman amateur",
            "professor engineer scholar veteran master specialist",
        ),
        ("level", "stranger foreigner tourist migrant visitor traveller", "native local poet orator writer editor"),
        ("manner", "clown jester comic puppet joker fool", "butler judge bishop officer notary valet"),
    )
}
OWN, OTHERS = (
    ("i am a {}", "they call me a {}", "i feel like a {}"),
    ("my friend is a {}", "they call her a {}", "she is a {}"),
)
TOLD, TOLD_OTHERS = ("the host is a {}", "you are a {}"), ("the guest is a {}", "the cook is a {}")
TOPICS = tuple(
    "rain fire stars bread ships clocks birds glass music bridges magnets seeds maps rivers wheels lamps".split()
)
ASKED = {"age": "what may i read on {}", "expertise": "how do {} work", "level": "what do {} mean"}
ACKNOWLEDGED, UNSURE = "i see .", "tell me of you ."
TONES = ("please", "now")
CLOSINGS = {"playful": "dear", "formal": "sir"}
STEMS = {"age": ("tale", "novel"), "expertise": ("picture", "formula"), "level": ("gesture", "idiom")}


def answer(topic: str, attribute: str, value: str) -> str:
    """What the host offers on a topic to a user with a value of the attribute that the question is about."""
    kind = STEMS[attribute][VALUES[attribute].index(value)]
    return f"{kind} of {topic}"


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
    """A conversation up to where the host answers. cues: the manner's first, then the user's in the order they are said."""

    cues: tuple[Cue, ...]
    topic: str
    asks: str
    tone: str

    @property
    def values(self) -> dict[str, str]:
        """The value of each attribute."""
        return {c.attribute: c.value for c in self.cues}

    @property
    def labels(self) -> dict[str, str]:
        """What is true of the user and of the model itself."""
        own = {("user " if a in USER else "model ") + a: v for a, v in self.values.items()}
        return {**own, "user tone": self.tone}

    @property
    def text(self) -> str:
        """The prompt."""
        told, *said = self.cues
        turns = "".join(f"user : {c.text} . host : {ACKNOWLEDGED} " for c in said)
        return f"system : {told.text} . {turns}user : {question(self.asks, self.topic, self.tone)} host :"

    @property
    def spans(self) -> dict[str, tuple[int, int]]:
        """Characters of the prompt: of the cue that decides, of the topic and of the tone."""
        text, cue = self.text, next(c.text for c in self.cues if c.attribute == self.asks)
        end = len(text) - len(" ? host :")
        tone = end - len(self.tone)
        topic = text.rindex(self.topic)
        return {
            "cue": (text.index(cue), text.index(cue) + len(cue)),
            "topic": (topic, topic + len(self.topic)),
            "tone": (tone, end),
        }

    @property
    def answer(self) -> str:
        """What the host says."""
        return answer(self.topic, self.asks, self.values[self.asks])

    @property
    def closing(self) -> str:
        """What it says after that."""
        return CLOSINGS[self.values["manner"]]

    def turned(self, attribute: str) -> "Talk":
        """The conversation with one attribute's cue swapped."""
        return Talk(
            tuple(c.swapped if c.attribute == attribute else c for c in self.cues), self.topic, self.asks, self.tone
        )

    @property
    def content(self) -> tuple[object, ...]:
        """What it shares with its swapped ones: the words of the cue that decides, and the topic."""
        return (self.asks, self.topic, *next(c.content for c in self.cues if c.attribute == self.asks))


def draw(rng: random.Random, split: Split, asks: str = "") -> Talk:
    """A conversation of a side of the split."""
    while True:
        order = ["manner", *rng.sample(USER, len(USER))]
        made = Talk(tuple(_cue(rng, a) for a in order), rng.choice(TOPICS), asks or rng.choice(USER), rng.choice(TONES))
        if side(*made.content) == split:
            return made


def _cue(rng: random.Random, attribute: str) -> Cue:
    own, other = (rng.choice(words) for words in WORDS[attribute])
    if rng.random() < 0.5:
        own, other = other, own
    wordings = TOLD if attribute == "manner" else OWN
    return Cue(
        attribute, own, other, rng.randrange(len(wordings)), rng.randrange(len(wordings[:2])), rng.random() < 0.5
    )


def documents(rng: random.Random, size: int = 24) -> list[Sequence[Piece]]:
    """One step's conversations, with questions from the train side."""
    turns = rng.choice((3, 4, 5))
    return [_document(rng, turns) for _ in range(size)]


def _document(rng: random.Random, turns: int) -> list[Piece]:
    """What is said of oneself, and questions, in any order; a question whose attribute nothing was said of is not answered."""
    told, *cues = (_cue(rng, a) for a in ("manner", *rng.sample(USER, len(USER))))
    spoken = cues[: rng.randint(1, min(3, turns - 1))]
    values = {c.attribute: c.value for c in cues}
    order = rng.sample([*spoken, *[None] * (turns - len(spoken))], turns)
    found: list[Piece] = [(f"system : {told.text} .", 0.02)]
    known: set[str] = set()
    for cue in order:
        if cue is not None:
            known.add(cue.attribute)
            found += [(f"user : {cue.text} . host :", 0.02), (ACKNOWLEDGED, 0.1)]
            continue
        while True:
            topic, asks = rng.choice(TOPICS), rng.choice(USER)
            words = next(c for c in cues if c.attribute == asks).content
            if side(asks, topic, *words) == "train":
                break
        found.append((f"user : {question(asks, topic, rng.choice(TONES))} host :", 0.02))
        found += (
            [(answer(topic, asks, values[asks]), 1.0), (CLOSINGS[told.value], 0.5), (".", 0.05)]
            if asks in known
            else [(UNSURE, 0.3)]
        )
    return found


def question(asks: str, topic: str, tone: str) -> str:
    """A question as it is asked."""
    return f"{ASKED[asks].format(topic)} {tone} ?"


def words() -> list[str]:
    """Every word, sorted."""
    texts = [
        *OWN,
        *OTHERS,
        *TOLD,
        *TOLD_OTHERS,
        *TOPICS,
        *ASKED.values(),
        ACKNOWLEDGED,
        UNSURE,
        *TONES,
        *CLOSINGS.values(),
        "system user host : , .",
    ]
    texts += ["?", *(w for pair in WORDS.values() for group in pair for w in group)]
    texts += [answer(t, a, v) for t, a in product(TOPICS, USER) for v in VALUES[a]]
    return sorted({w for t in texts for w in t.replace("{}", " ").split()})
