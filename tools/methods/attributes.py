"""What a model holds about who speaks: probes of attributes where the answer begins, and what they may have read instead.

An attribute is a label of the examples that begins with `user ` or `model `. A probe is believed as far as it beats, on examples
it was not fitted on, a bag of the prompt's words and the last word that the user said. Source: Chen et al. 2024, Designing a
Dashboard for Transparency and Control of Conversational AI; Viégas and Wattenberg 2023, The System Model and the User Model.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments_db.places import Component
from tools.methods.features import labels_of
from tools.methods.measuring import differences, groups_of, shares
from tools.methods.tool import ToolInputError
from tools.statistics import Estimate
from tools.tasks import Example
from tools.tasks.task import SPEAKERS

LEAST, MOST = 8, 6  # examples of a value; values of an attribute
BAG, LAST = "a bag of the prompt's words", "the last word that the user said"
Rows = NDArray[Any]


def attributes_of(examples: Sequence[Example]) -> list[str]:
    """Labels about the user and the model that vary in these examples. ToolInputError where there is none."""
    names = dict.fromkeys(n for e in examples for n in e.values if n.startswith(SPEAKERS))
    found = [n for n in names if all(n in e.values for e in examples) and _varies(examples, n)]
    if not found:
        raise ToolInputError(
            f"task: its examples have no label that begins with {' or '.join(map(repr, SPEAKERS))} and takes 2 to {MOST} values "
            f"of {LEAST} examples each"
        )
    return found


def _varies(examples: Sequence[Example], name: str) -> bool:
    counts = Counter(str(e.values[name]) for e in examples)
    return 2 <= len(counts) <= MOST and min(counts.values()) >= LEAST


@dataclass(frozen=True)
class Probe:
    """A logistic probe of one attribute at one place, and the means of its classes there, (classes, channels)."""

    label: str
    place: Component
    classes: tuple[str, ...]
    fitted: Any
    means: Rows

    @classmethod
    def fit(cls, label: str, place: Component, x: Rows, values: Sequence[str]) -> "Probe":
        """From activations (examples, channels) and their values."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        y = np.array(values)
        fitted: Any = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)).fit(x, y)
        classes = tuple(map(str, fitted.classes_))
        return cls(label, place, classes, fitted, np.stack([x[y == c].mean(0) for c in classes]).astype(np.float64))

    def read(self, x: Rows) -> list[str]:
        """The likeliest value of each row."""
        return [str(v) for v in self.fitted.predict(x)]

    def chances(self, x: Rows) -> Rows:
        """Probability of each class, (rows, classes)."""
        return np.asarray(self.fitted.predict_proba(x))

    def pin(self, value: str, strength: float = 1.0) -> tuple[Rows, float]:
        """The direction (a unit vector) that tells a value from the others, and where along it an activation is put: at strength
        1 at the value's mean, at 0 half-way between it and the others'. ToolInputError for a value it does not know.
        """
        if value not in self.classes:
            raise ToolInputError(f"pins: {self.label} is one of {', '.join(self.classes)}, not {value!r}")
        own = self.classes.index(value)
        others = np.delete(self.means, own, 0).mean(0)
        apart = self.means[own] - others
        unit = apart / max(float(np.linalg.norm(apart)), 1e-12)
        high, low = float(self.means[own] @ unit), float(others @ unit)
        return unit, (high + low) / 2 + strength * (high - low) / 2


@dataclass(frozen=True)
class Believed:
    """How far a probe is believed: accuracies on examples it was not fitted on, and what it is ahead of its controls."""

    own: Estimate
    bag: Estimate
    last: Estimate
    beyond_bag: Estimate
    beyond_last: Estimate
    chance: float

    @cached_property
    def there(self) -> bool:
        """Whether it reads more than naming the most frequent value would."""
        return np.isfinite(self.own.low) and self.own.low > self.chance

    @property
    def words(self) -> str:
        """What it may be reading, in words."""
        if not self.there:
            return "at chance"
        if not self.beyond_last.low > 0:
            return "reads no more than the last word that the user said"
        return "beyond the words alone" if self.beyond_bag.low > 0 else "reads no more than the words alone tell"


def believed(
    label: str, fitted: Sequence[Example], tried: Sequence[Example], right: Rows
) -> Believed:  # fmt: skip
    """How far a probe is believed that is right (0 or 1) on the examples tried."""
    y, truth = ([str(v) for v in labels_of(e, label)] for e in (fitted, tried))
    groups = groups_of(tried)
    bag = np.array(_by_words(fitted, y, tried)) == np.array(truth)
    last = np.array(_by_last(fitted, y, tried)) == np.array(truth)
    own, own_bag, own_last = shares(np.stack([right, bag, last]).astype(float), groups)
    beyond = differences(np.stack([right, right]), np.stack([bag, last]), groups)
    most = Counter(y).most_common(1)[0][0]
    return Believed(own, own_bag, own_last, *beyond, chance=float(np.mean([v == most for v in truth])))


def words_of(e: Example) -> list[str]:
    """The words of a prompt."""
    return re.findall(r"\w+", e.prompt.lower())


def last_word(e: Example) -> str:
    """The last word that the user said: the last one but the name of who answers next."""
    said = e.prompt.rstrip()
    said = re.sub(r"\w+\s*:\s*$", "", said) if said.endswith(":") else said
    return (re.findall(r"\w+", said.lower()) or [""])[-1]


def _by_words(fitted: Sequence[Example], y: Sequence[str], tried: Sequence[Example]) -> list[str]:
    """A logistic probe of which words stand in the prompt."""
    from sklearn.linear_model import LogisticRegression

    known = {w: i for i, w in enumerate(sorted({w for e in fitted for w in words_of(e)}))}

    def rows(examples: Sequence[Example]) -> Rows:
        x = np.zeros((len(examples), len(known)))
        for i, e in enumerate(examples):
            x[i, [known[w] for w in words_of(e) if w in known]] = 1
        return x

    return [str(v) for v in LogisticRegression(C=1.0, max_iter=300).fit(rows(fitted), list(y)).predict(rows(tried))]


def _by_last(fitted: Sequence[Example], y: Sequence[str], tried: Sequence[Example]) -> list[str]:
    """The value that goes most often with the last word that the user said."""
    seen: dict[str, Counter[str]] = {}
    for e, v in zip(fitted, y, strict=True):
        seen.setdefault(last_word(e), Counter())[v] += 1
    most = Counter(y).most_common(1)[0][0]
    return [seen[w].most_common(1)[0][0] if (w := last_word(e)) in seen else most for e in tried]
