"""A sentence with its dependency tree, and the pen that writes one from lexical choices, at random or again.

Written again with one choice turned into the other of its pair, or into the other number, a sentence becomes its twin: as
long, with the same tree, and different just where the choice shows.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Int

from tools.subjects.masked import words
from tools.subjects.masked.words import LEXICON, SENSES, Feature

Span = tuple[int, int]


@dataclass(frozen=True)
class Choice:
    """One entry of a kind in the lexicon; `second` of its pair, and `plural`, where the kind has these."""

    kind: str
    item: int
    second: bool = False
    plural: bool = False

    @property
    def form(self) -> str:
        """The entry's word, not inflected."""
        entry = LEXICON[self.kind][self.item]
        return entry[int(self.second) if len(entry) > 1 else 0]

    def flipped(self, feature: Feature) -> "Choice":
        """The other number, or the other of the pair."""
        return replace(self, plural=not self.plural) if feature == "number" else replace(self, second=not self.second)


@dataclass(frozen=True)
class Word:
    """A word in its place.

    head: index of the word it depends on, -1 for the root. relation: Universal Dependencies' name. span: characters
    (start, end) in the sentence's text. number, gender, sense: where the word has one; `sense` only of ambiguous words.
    choice: index of the lexical choice that made it.
    """

    form: str
    lemma: str
    kind: str
    head: int
    relation: str
    span: Span
    number: str | None = None
    gender: str | None = None
    sense: str | None = None
    choice: int | None = None


@dataclass(frozen=True)
class Target:
    """A word (index) whose form follows from one feature of the choice that made another word, its controller (index)."""

    word: int
    controller: int
    choice: int
    feature: Feature


@dataclass(frozen=True)
class Sentence:
    """Words with their tree. `choices` and `construction` make it again."""

    construction: str
    choices: tuple[Choice, ...]
    words: tuple[Word, ...]
    targets: tuple[Target, ...]

    @property
    def text(self) -> str:
        """The words, one space between each."""
        return " ".join(w.form for w in self.words)

    @property
    def content(self) -> tuple[object, ...]:
        """What the sentence shares with its twins: the construction, its nouns and its verbs, without number and gender."""
        return (self.construction, *((c.kind, c.item) for c in self.choices if c.kind not in words.LIGHT))

    def depths(self) -> Int[np.ndarray, " words"]:
        """Each word's number of edges to the root."""
        return np.array([len(self._ancestors(i)) - 1 for i in range(len(self.words))])

    def distances(self) -> Int[np.ndarray, "words words"]:
        """Number of edges of the tree between each two words."""
        paths = [self._ancestors(i) for i in range(len(self.words))]
        shared = np.array([[len(set(a) & set(b)) for b in paths] for a in paths])
        lengths = np.array([len(p) for p in paths])
        return lengths[:, None] + lengths[None, :] - 2 * shared

    def _ancestors(self, i: int) -> list[int]:
        """The word and what it depends on, up to the root."""
        path: list[int] = []
        while i >= 0:
            path.append(i)
            i = self.words[i].head
        return path


@dataclass(eq=False)
class Draft:
    """A word that is being written; its head may come later."""

    form: str
    kind: str
    choice: int | None = None
    lemma: str = ""
    head: "Draft | None" = None
    relation: str = "root"
    number: str | None = None
    gender: str | None = None
    sense: str | None = None

    def under(self, head: "Draft", relation: str) -> "Draft":
        """Depend on another word."""
        self.head, self.relation = head, relation
        return self


@dataclass
class Pen:
    """Writes words from left to right. `replay`: the choices to make, in their order; without it they are drawn."""

    rng: random.Random
    replay: Sequence[Choice] = ()
    choices: list[Choice] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)
    targets: list[tuple[Draft, Draft, Feature]] = field(default_factory=list)

    def choose(self, kind: str, of: int | None = None) -> int:
        """Make a choice among the entries of a kind (or among `of` alternatives) and return its index."""
        if self.replay:
            made = self.replay[len(self.choices)]
            assert made.kind == kind
        else:
            item = self.rng.randrange(of or len(LEXICON[kind]))
            made = Choice(kind, item, self.rng.random() < 0.5, self.rng.random() < 0.5)
        self.choices.append(made)
        return len(self.choices) - 1

    def chance(self, one_in: int) -> bool:
        """Whether an optional part is written."""
        return self.choices[self.choose("optional", one_in)].item == 0

    def word(self, form: str) -> Draft:
        """A function word."""
        self.drafts.append(Draft(form, "function", lemma=form))
        return self.drafts[-1]

    def plain(self, kind: str) -> Draft:
        """An uninflected word of a kind."""
        at = self.choose(kind)
        self.drafts.append(Draft(self.choices[at].form, kind, at, self.choices[at].form))
        return self.drafts[-1]

    def noun(self, kind: str, *, adjective: bool = False) -> Draft:
        """Determiner, where asked for perhaps an adjective, and noun; returns the noun."""
        before = [self.plain("determiner")]
        if adjective and self.chance(3):
            before.append(self.plain("quality"))
        made = self.plain(kind)
        assert made.choice is not None
        choice = self.choices[made.choice]
        made.form = words.plural(choice.form) if choice.plural else choice.form
        made.number = "plural" if choice.plural else "singular"
        if kind == "person":
            made.gender = "feminine" if choice.second else "masculine"
        before[0].under(made, "det")
        if len(before) > 1:
            self._agree_in_gender(before[1].under(made, "amod"), made)
        return made

    def adjective(self, noun: Draft) -> Draft:
        """An adjective away from the noun it describes."""
        return self._agree_in_gender(self.plain("quality").under(noun, "amod"), noun)

    def verb(self, kind: str, subject: Draft) -> Draft:
        """A verb in the present tense with its subject."""
        made = self.plain(kind)
        made.form = words.verb(made.form, plural=subject.number == "plural")
        made.number = subject.number
        self.targets.append((made, subject, "number"))
        return made

    def senseful(self, noun: Draft, cue: Draft) -> Draft:
        """A verb that fits the sense of a noun; what decides the sense is the cue (the noun itself, or another word)."""
        made = self.plain("living")
        assert made.choice is not None
        assert cue.choice is not None
        second = self.choices[cue.choice].second
        self.choices[made.choice] = replace(self.choices[made.choice], second=second)
        made.lemma = LEXICON["living"][self.choices[made.choice].item][int(second)]
        made.form = words.verb(made.lemma, plural=noun.number == "plural")
        made.number = noun.number
        if noun.kind == "ambiguous":
            noun.sense = SENSES[int(second)]
        self.targets.append((made, cue, "sense"))
        self.targets.append((made, noun, "number"))
        return made

    def reflexive(self, verb: Draft, antecedent: Draft) -> Draft:
        """The object of a verb that is the same as its subject."""
        plural, female = antecedent.number == "plural", antecedent.gender == "feminine"
        made = self.word(words.reflexive(plural=plural, female=female)).under(verb, "obj")
        made.kind, made.lemma = "reflexive", "self"
        self.targets.append((made, antecedent, "number"))
        if not plural:
            self.targets.append((made, antecedent, "gender"))
        return made

    def finish(self, construction: str) -> Sentence:
        """The sentence as written."""
        at = {id(d): i for i, d in enumerate(self.drafts)}
        done: list[Word] = []
        start = 0
        for d in self.drafts:
            head = -1 if d.head is None else at[id(d.head)]
            span = (start, start + len(d.form))
            done.append(Word(d.form, d.lemma, d.kind, head, d.relation, span, d.number, d.gender, d.sense, d.choice))
            start = span[1] + 1
        targets = [Target(at[id(t)], at[id(c)], c.choice, f) for t, c, f in self.targets if c.choice is not None]
        return Sentence(construction, tuple(self.choices), tuple(done), tuple(targets))

    def _agree_in_gender(self, adjective: Draft, noun: Draft) -> Draft:
        adjective.gender = noun.gender
        if noun.gender == "feminine":
            adjective.form = words.feminine(adjective.form)
        self.targets.append((adjective, noun, "gender"))
        return adjective
