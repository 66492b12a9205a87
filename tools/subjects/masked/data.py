"""Held-out sentences of the masked subject's language, and masked examples of them with their twins.

`sentences(split, n, seed)` gives trees, spans and senses; `examples(split, n, seed)` gives a text with one word masked, its
answer, a foil, and a twin sentence of the same length that differs in one more word and whose answer is the foil.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from tools.subjects._splits import Split, side
from tools.subjects.masked import grammar
from tools.subjects.masked.sentences import Sentence, Span, Target, Word
from tools.subjects.masked.words import Feature

MASK = "[MASK]"
ROLES = {"root": "verb", "nsubj": "subject", "obj": "object", "obl": "oblique", "nmod": "modifier", "amod": "adjective"}


@dataclass(frozen=True)
class Example:
    """A sentence with one word masked.

    text, twin: with [MASK]; as many words, different in the controller alone. answer, foil: single words; the twin's right
    answer is the foil. spans: characters (start, end) in `text` by role: `masked`, `controller` (the word that decides),
    `attractor` (the nearest other word before the mask that says the opposite, where there is one), and `ambiguous` (the word
    with two senses). positions: the same as word indices; with [CLS] in front a word's token is one further. labels: what
    is true of the sentence, by name.
    """

    text: str
    answer: str
    foil: str
    twin: str
    spans: dict[str, Span]
    positions: dict[str, int]
    labels: dict[str, str]
    sentence: Sentence
    twin_sentence: Sentence


def sentences(split: Split, n: int, seed: int = 0, construction: str | None = None) -> list[Sentence]:
    """Different sentences of one side of the split, the same for the same seed."""
    rng, seen = random.Random(seed), set[str]()
    found: list[Sentence] = []
    while len(found) < n:
        made = grammar.draw(rng, construction)
        if made.text not in seen and side(*made.content) == split:
            seen.add(made.text)
            found.append(made)
    return found


def examples(
    split: Split,
    n: int,
    seed: int = 0,
    *,
    feature: Feature | None = None,
    construction: str | None = None,
    attractor: bool | None = None,
) -> list[Example]:
    """Masked examples of different sentences: of one feature, of one construction, with or without an attractor."""
    rng, seen = random.Random(seed), set[str]()
    found: list[Example] = []
    while len(found) < n:
        made = grammar.draw(rng, construction)
        if feature is not None and all(t.feature != feature for t in made.targets):
            continue
        if made.text in seen or side(*made.content) != split:
            continue
        fit = [e for e in masked(made, feature) if attractor in {None, "attractor" in e.spans}]
        if fit:
            seen.add(made.text)
            found.append(rng.choice(fit))
    return found


def masked(sentence: Sentence, feature: Feature | None = None) -> Iterator[Example]:
    """Every masked example of a sentence (of one feature): one for each word whose form another word alone decides."""
    for target in sentence.targets:
        if feature not in {None, target.feature}:
            continue
        twin = twin_of(sentence, target)
        shown = [i for i, (a, b) in enumerate(zip(sentence.words, twin.words, strict=True)) if a.form != b.form]
        if set(shown) == {target.word, target.controller}:
            yield _example(sentence, twin, target)


def twin_of(sentence: Sentence, target: Target) -> Sentence:
    """The sentence with the controller's feature turned over, and what agrees with it."""
    choices = list(sentence.choices)
    choices[target.choice] = choices[target.choice].flipped(target.feature)
    return grammar.rewrite(sentence.construction, choices)


def _example(sentence: Sentence, twin: Sentence, target: Target) -> Example:
    ambiguous = [i for i, w in enumerate(sentence.words) if w.sense]
    positions = {"masked": target.word, "controller": target.controller}
    if target.feature == "sense" and ambiguous:
        positions["ambiguous"] = ambiguous[0]
    against = _attractor(sentence, target)
    if against is not None:
        positions["attractor"] = against
    answer, foil = sentence.words[target.word], twin.words[target.word]
    labels = {"construction": sentence.construction, "feature": target.feature, "relation": answer.relation}
    labels["attractor"] = "none" if against is None else "opposite"
    if target.feature == "sense":
        labels["sense"] = _sense(sentence, target.controller)
    else:
        value = getattr(sentence.words[target.controller], target.feature)
        labels[target.feature] = str(value)
    shift = len(MASK) - len(answer.form)
    spans = {role: _moved(sentence.words[at], at - target.word, shift) for role, at in positions.items()}
    return Example(
        text=_hidden(sentence, target.word),
        answer=answer.form,
        foil=foil.form,
        twin=_hidden(twin, target.word),
        spans=spans,
        positions=positions,
        labels=labels,
        sentence=sentence,
        twin_sentence=twin,
    )


def _moved(word: Word, after: int, shift: int) -> Span:
    """A word's span once the masked word, `after` words before it, has become longer by `shift` characters."""
    start, end = word.span
    return (start + shift * (after > 0), end + shift * (after >= 0))


def _hidden(sentence: Sentence, at: int) -> str:
    return " ".join(MASK if i == at else w.form for i, w in enumerate(sentence.words))


def _sense(sentence: Sentence, at: int) -> str:
    """Which of the two senses a word speaks for."""
    choice = sentence.words[at].choice
    assert choice is not None
    return "machine" if sentence.choices[choice].second else "animal"


def _attractor(sentence: Sentence, target: Target) -> int | None:
    """The nearest word before the target, other than the controller, that would make its form the foil."""
    for i in range(target.word - 1, -1, -1):
        word = sentence.words[i]
        if i == target.controller or word.choice is None:
            continue
        choice = sentence.choices[word.choice]
        if target.feature == "sense":
            if word.kind in {"wild", "known", "lived"} and _sense(sentence, i) != _sense(sentence, target.controller):
                return i
        elif choice.kind in {"person", "place", "event", "ambiguous", "known", "wild"}:
            own, other = getattr(word, target.feature), getattr(sentence.words[target.controller], target.feature)
            if own is not None and own != other:
                return i
    return None


def role(word: Word) -> str:
    """A word's role in its clause as a reader would name it."""
    if word.kind in {
        "rest",
        "act",
        "say",
        "living",
        "acted",
        "rested",
        "said",
        "itself",
        "lived",
        "by_subject",
        "of_object",
    }:
        return "verb"
    return "reflexive" if word.kind == "reflexive" else ROLES.get(word.relation, word.kind)


def order_against_tree(found: Sequence[Sentence]) -> float:
    """Spearman correlation of tree distance and distance in words, over all pairs of different words of a sentence."""
    tree: list[Any] = []
    order: list[Any] = []
    for sentence in found:
        i, j = np.triu_indices(len(sentence.words), 1)
        tree.append(sentence.distances()[i, j])
        order.append(j - i)
    correlation: Any = spearmanr(np.concatenate(tree), np.concatenate(order))
    return float(correlation.statistic)
