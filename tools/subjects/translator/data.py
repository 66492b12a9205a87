"""Four invented languages that say the same things: with words, word order and agreement of their own.

A meaning is who does what to whom, how many, which and when. Meanings are split by a hash of their content. All ordered
pairs of languages are trained but the two between `sor` and `tiv`.

| | kel | mun | sor | tiv |
|---|---|---|---|---|
| order | subject verb object | subject object verb | verb subject object | object verb subject |
| adjective | before the noun | after | after | before |
| article | yes | yes | no | no |
| many | a word after the noun | a word before it | a word after it | a word before it |
| past | a word after the verb | a word before it | a word before it | a word after it |
| the verb agrees with its subject | no | in number | no | in number |
"""

import hashlib
import random
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Literal

Split = Literal["train", "explore", "confirm"]
Number = Literal["one", "many"]
Tense = Literal["present", "past"]
Role = Literal[
    "subject",
    "subject_adjective",
    "subject_number",
    "verb",
    "tense",
    "object",
    "object_adjective",
    "object_number",
    "article",
]

NOUNS = tuple(
    "cat dog king bird boat house river table doctor farmer window stone tree child horse fish bread hand knife road wolf star "
    "lamp ship".split()
)
VERBS = tuple("see want find like take hear paint sell follow carry hold break push call".split())
ADJECTIVES = tuple("red old small green heavy quiet white tall young cold".split())


@dataclass(frozen=True)
class Meaning:
    """What a sentence says, in English words; an adjective that is not there is ''."""

    subject: str
    subject_number: Number
    subject_adjective: str
    verb: str
    tense: Tense
    object: str
    object_number: Number
    object_adjective: str


@dataclass(frozen=True)
class Sentence:
    """A meaning in one language. roles: what each word says, one entry a word."""

    language: str
    words: tuple[str, ...]
    roles: tuple[Role, ...]

    @property
    def text(self) -> str:
        """The words with a space between them."""
        return " ".join(self.words)

    @property
    def spans(self) -> dict[Role, tuple[tuple[int, int], ...]]:
        """Where in `text` each role is said: (start, end) in characters, one for each of its words."""
        found: dict[Role, tuple[tuple[int, int], ...]] = {}
        at = 0
        for word, role in zip(self.words, self.roles, strict=True):
            found[role] = (*found.get(role, ()), (at, at + len(word)))
            at += len(word) + 1
        return found


@dataclass(frozen=True)
class Item:
    """One sentence to translate."""

    meaning: Meaning
    source: Sentence
    target: Sentence


@dataclass(frozen=True)
class Language:
    """The grammar of a language; the columns of the table above.

    order: of subject, verb, object. many: whether its particle is `before` or `after` the noun.
    """

    name: str
    syllables: tuple[str, ...]
    order: str
    adjective_first: bool
    article: bool
    many: Literal["before", "after"]
    past_first: bool
    verb_agrees: bool

    def word(self, gloss: str, *, many: bool = False) -> str:
        """The word for a noun, verb or adjective."""
        root, ending = _roots(self.syllables)[gloss]
        return root + ending + ("u" if many else "")

    def particle(self, which: Literal["article", "many", "past"]) -> str:
        """A word of grammar: one syllable."""
        return self.syllables[("article", "many", "past").index(which)]

    def say(self, meaning: Meaning) -> Sentence:
        """The one sentence that says a meaning."""
        m = meaning
        agreeing = self.verb_agrees and m.subject_number == "many"
        verb: list[tuple[str, Role]] = [(self.word(m.verb, many=agreeing), "verb")]
        if m.tense == "past":
            verb.insert(0 if self.past_first else 1, (self.particle("past"), "tense"))
        parts = {
            "S": self._phrase(
                m.subject, m.subject_number, m.subject_adjective, "subject", "subject_adjective", "subject_number"
            ),
            "V": verb,
            "O": self._phrase(
                m.object, m.object_number, m.object_adjective, "object", "object_adjective", "object_number"
            ),
        }
        said = [pair for part in self.order for pair in parts[part]]
        return Sentence(self.name, tuple(w for w, _ in said), tuple(r for _, r in said))

    def _phrase(
        self, noun: str, number: Number, adjective: str, as_noun: Role, as_adjective: Role, as_number: Role
    ) -> list[tuple[str, Role]]:
        said: list[tuple[str, Role]] = [(self.word(noun), as_noun)]
        if number == "many":
            said.insert(0 if self.many == "before" else 1, (self.particle("many"), as_number))
        if adjective:
            said.insert(0 if self.adjective_first else len(said), (self.word(adjective), as_adjective))
        return [(self.particle("article"), "article"), *said] if self.article else said

    def lexicon(self) -> tuple[str, ...]:
        """Every word of the language."""
        words = [self.particle("article")] if self.article else []
        words += [self.particle("past"), self.particle("many")]
        words += [self.word(g) for g in NOUNS]
        words += [self.word(g, many=m) for g in VERBS for m in ((False, True) if self.verb_agrees else (False,))]
        return (*words, *(self.word(g) for g in ADJECTIVES))


@cache
def _roots(syllables: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """For each English word two syllables, different for each, and an ending that tells nouns, verbs and adjectives."""
    n = len(syllables)
    made: dict[str, tuple[str, str]] = {}
    for glosses, ending in ((NOUNS, "n"), (VERBS, "r"), (ADJECTIVES, "s")):
        for gloss in glosses:
            k = len(made)
            made[gloss] = (syllables[k % n] + syllables[(5 * (k // n) + 7 * k + 3) % n], ending)
    return made


def _syllables(consonants: str) -> tuple[str, ...]:
    return tuple(c + v for c in consonants for v in "aeio")


LANGUAGES = {
    language.name: language
    for language in (
        Language("kel", _syllables("klg"), "SVO", True, True, "after", False, False),
        Language("mun", _syllables("mnb"), "SOV", False, True, "before", True, True),
        Language("sor", _syllables("srz"), "VSO", False, False, "after", True, False),
        Language("tiv", _syllables("tvd"), "OVS", True, False, "before", False, True),
    )
}
UNSEEN = (("sor", "tiv"), ("tiv", "sor"))
TRAINED = tuple((a, b) for a in LANGUAGES for b in LANGUAGES if a != b and (a, b) not in UNSEEN)


def split_of(meaning: Meaning) -> Split:
    """Which side a meaning falls on, by its content alone: 10% explore, 10% confirm."""
    digest = hashlib.sha256("|".join(asdict(meaning).values()).encode()).digest()
    u = int.from_bytes(digest[:8], "big") / 2**64
    return "explore" if u < 0.1 else "confirm" if u < 0.2 else "train"


def draw(split: Split, rng: random.Random) -> Meaning:
    """A random meaning of a split; subject and object differ, and each has an adjective half of the time."""
    while True:
        subject, object_ = rng.sample(NOUNS, 2)
        meaning = Meaning(
            subject,
            rng.choice(("one", "many")),
            rng.choice(ADJECTIVES) if rng.random() < 0.5 else "",
            rng.choice(VERBS),
            rng.choice(("present", "past")),
            object_,
            rng.choice(("one", "many")),
            rng.choice(ADJECTIVES) if rng.random() < 0.5 else "",
        )
        if split_of(meaning) == split:
            return meaning


def reworded(meaning: Meaning, split: Split, rng: random.Random) -> Meaning:
    """Another meaning of the same form and of a split: other nouns, verb and adjectives, which stand where the first's do.

    Number and tense are kept, and whether there is an adjective, so that it is said with as many words in every language.
    """
    while True:
        subject, object_ = rng.sample([n for n in NOUNS if n not in (meaning.subject, meaning.object)], 2)
        made = replace(
            meaning,
            subject=subject,
            object=object_,
            verb=rng.choice([v for v in VERBS if v != meaning.verb]),
            subject_adjective=_another(meaning.subject_adjective, rng),
            object_adjective=_another(meaning.object_adjective, rng),
        )
        if split_of(made) == split:
            return made


def _another(adjective: str, rng: random.Random) -> str:
    return rng.choice([a for a in ADJECTIVES if a != adjective]) if adjective else ""


def items(split: Split, source: str, target: str, n: int, seed: int = 0) -> list[Item]:
    """Different meanings of a split, n of them, in two languages; one seed gives the same meanings for every pair of languages."""
    rng = random.Random(f"{split}-{seed}")
    drawn: dict[Meaning, None] = {}
    while len(drawn) < n:
        drawn[draw(split, rng)] = None
    return [Item(m, LANGUAGES[source].say(m), LANGUAGES[target].say(m)) for m in drawn]
