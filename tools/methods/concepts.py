"""What a number at each position of a corpus goes with, and whether it goes with the same in another corpus.

A concept is the few features of what stands at a position (its token, the tokens before it, their kinds, where it stands) that
best predict the number there, chosen greedily and fitted by least squares. Fitted on one half of a corpus, it is scored on the
other half, and on other corpora, where its scale and offset may be fitted anew: only what it goes with has to be the same. The
first position of a sequence is left out, where many models put what has nothing to do with the token.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from tools.methods.point_labels import point_labels
from tools.subjects import Subject
from tools.tasks import Example

MOST = 3  # features of a concept: more is no concept that somebody would name
LEAST_SEEN = 5  # positions at which a feature stands, for it to be chosen
BEFORE = 2  # tokens before a position that its features tell of
LEFT_OUT = ("role", "position before")  # what only one corpus' examples have, and what is said of queries
BACK = " before "  # stands in the names of features of the tokens before
LEAST_GAIN = 0.02  # of the variance: a feature that tells less is no part of a concept
RIDGE = 1e-3  # positions
TINY = 1e-12
FIRST = 1
Features = tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """Examples of one task as positions. read: how many positions of each example are read, the first one left out; lengths: the
    same of those that have any, which alone count as examples.

    features: of each position; groups: of each example its independent problem; fold: of each example the part in which it is
    scored, -1 for one that is fitted on alone. Whatever is scored in a fold is fitted on the examples outside it.
    """

    name: str
    read: tuple[int, ...]
    lengths: tuple[int, ...]
    features: tuple[Features, ...]
    tokens: tuple[str, ...]
    groups: tuple[str, ...]
    fold: Int[np.ndarray, " examples"]

    @cached_property
    def example(self) -> Int[np.ndarray, " positions"]:
        """Which example each position is of."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @cached_property
    def where(self) -> dict[str, Int[np.ndarray, " places"]]:
        """The positions at which each feature stands."""
        found: dict[str, list[int]] = {}
        for i, row in enumerate(self.features):
            for f in row:
                found.setdefault(f, []).append(i)
        return {f: np.array(at) for f, at in found.items()}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Features that stand at positions enough."""
        return tuple(f for f, at in self.where.items() if len(at) >= LEAST_SEEN)

    @cached_property
    def present(self) -> Float[np.ndarray, "positions features"]:
        """1 where a feature stands."""
        return self.having(self.names)

    def having(self, names: Sequence[str]) -> Float[np.ndarray, "positions names"]:
        """1 where each of some features stands, of this corpus or another."""
        out = np.zeros((len(self.features), len(names)))
        for column, name in enumerate(names):
            if name in self.where:
                out[self.where[name], column] = 1.0
        return out

    def mean(self, values: Float[np.ndarray, "positions units"]) -> Float[np.ndarray, "units examples"]:
        """The mean over each example's positions."""
        out = np.zeros((len(self.lengths), values.shape[1]))
        np.add.at(out, self.example, values)
        return (out / np.array(self.lengths)[:, None]).T

    def moments(self, fold: int) -> "Moments":
        """What fitting on the examples outside a fold needs, kept."""
        kept = self._kept
        if fold not in kept:
            present = self.present[self.inside(self.fold != fold)]
            middle = present.mean(0)
            centred = present - middle
            kept[fold] = Moments(centred, middle, centred.T @ centred, present.sum(0) >= LEAST_SEEN)
        return kept[fold]

    @cached_property
    def _kept(self) -> "dict[int, Moments]":
        return {}

    def inside(self, examples: Bool[np.ndarray, " examples"]) -> Bool[np.ndarray, " positions"]:
        """The positions of some examples."""
        return examples[self.example]


@dataclass(frozen=True)
class Moments:
    """Features at the positions to fit on, less their means; the means; their products; and which stand there often enough."""

    centred: Float[np.ndarray, "fitted features"]
    middle: Float[np.ndarray, " features"]
    gram: Float[np.ndarray, "features features"]
    often: Bool[np.ndarray, " features"]


@dataclass(frozen=True)
class Concept:
    """What predicts a number: features with what each adds, and what it is without any of them."""

    names: Features
    weights: Float[np.ndarray, " names"]
    without: float

    def predict(self, corpus: Corpus) -> Float[np.ndarray, " positions"]:
        """The number at each position of a corpus."""
        return self.without + corpus.having(self.names) @ self.weights


def corpus_of(
    subject: Subject, name: str, stack: str, lengths: Sequence[int], seen: Sequence[Example], tried: Sequence[Example]
) -> Corpus:
    """A corpus of examples to fit on and others to score; with none to fit on, halves of the others are scored in turn.

    lengths: how many positions each example has, those to fit on first.
    """
    examples = [*seen, *tried]
    found = point_labels(subject, examples, stack, lengths)
    kinds = {k: v for k, v in found.items() if k not in LEFT_OUT}
    said = kinds.get("token")
    features: list[Features] = []
    tokens: list[str] = []
    kept: list[int] = []
    at = 0
    for n in lengths:
        rows = {k: [str(x) for x in v[at : at + n]] for k, v in kinds.items()}
        # tokens of an answer, which come last, have no name
        last = n if said is None else max((i + 1 for i in range(n) if rows["token"][i]), default=0)
        features += [_features(rows, i) for i in range(FIRST, last)]
        tokens += [rows["token"][i] if said is not None else rows["position"][i] for i in range(FIRST, last)]
        kept.append(max(0, last - FIRST))
        at += n
    whole = [i for i, n in enumerate(kept) if n]
    fold = np.array([-1] * len(seen) + [i % 2 if not seen else 0 for i in range(len(tried))])[whole]
    return Corpus(
        name,
        tuple(kept),
        tuple(kept[i] for i in whole),
        tuple(features),
        tuple(tokens),
        tuple(examples[i].group for i in whole),
        fold,
    )


def _features(rows: dict[str, list[str]], i: int) -> Features:
    """Of one position: its labels, those of the tokens before it, and whether its token stood before."""
    out = [f"{kind} {_quoted(kind, values[i])}" for kind, values in rows.items()]
    if "token" in rows:
        for back in range(1, min(BEFORE, i) + 1):
            where = "before" if back == 1 else f"{back} before"
            out += [f"{k} {where} {_quoted(k, rows[k][i - back])}" for k in ("token", "kind")]
        out.append("token again" if rows["token"][i] in rows["token"][:i] else "token new")
    return tuple(out)


def _quoted(kind: str, value: str) -> str:
    return repr(value) if kind == "token" else value


def concepts(
    corpus: Corpus,
    values: Float[np.ndarray, "positions units"],
    fold: int,
    among: Collection[str] | None = None,
) -> list[Concept]:
    """Of each unit the features that predict it best on the examples outside a fold, at most `MOST`, one after the other
    (orthogonal matching pursuit). among: features that may be chosen.
    """
    known, y = corpus.moments(fold), values[corpus.inside(corpus.fold != fold)]
    mean = y.mean(0)
    cross, whole = known.centred.T @ (y - mean), ((y - mean) ** 2).sum(0)
    scale = np.maximum(np.diag(known.gram), TINY)
    open_ = known.often & np.array([among is None or n in among for n in corpus.names], dtype=bool)
    return [
        _concept(known.gram, cross[:, u], scale, open_, known.middle, float(mean[u]), float(whole[u]), corpus.names)
        for u in range(y.shape[1])
    ]


def _concept(
    gram: np.ndarray,
    cross: np.ndarray,
    scale: np.ndarray,
    open_: np.ndarray,
    middle: np.ndarray,
    mean: float,
    whole: float,
    names: Sequence[str],
) -> Concept:
    chosen: list[int] = []
    weights = np.zeros(0)
    for _ in range(min(MOST, int(open_.sum()))):
        gain = (cross - gram[:, chosen] @ weights) ** 2 / scale
        gain[~open_] = -1.0
        gain[chosen] = -1.0
        best = int(gain.argmax())
        if gain[best] <= max(TINY, LEAST_GAIN * whole):
            break
        chosen.append(best)
        weights = np.linalg.solve(gram[np.ix_(chosen, chosen)] + RIDGE * np.eye(len(chosen)), cross[chosen])
    return Concept(tuple(names[i] for i in chosen), weights, mean - float(middle[chosen] @ weights))


@dataclass(frozen=True)
class Side:
    """One corpus of two, by (unit, scored example), in shares of the variance where the unit varies more.

    spread: the variance itself. own: what the corpus' own concept explains on examples that it was not fitted on; carried: what
    the other corpus' concept explains, with a scale (not below 0) and an offset of this one.
    """

    corpus: Corpus
    spread: Float[np.ndarray, "units scored"]
    own: Float[np.ndarray, "units scored"]
    carried: Float[np.ndarray, "units scored"]

    @property
    def groups(self) -> tuple[str, ...]:
        """The independent problem of each scored example."""
        return tuple(g for g, f in zip(self.corpus.groups, self.corpus.fold, strict=True) if f >= 0)

    @property
    def lost(self) -> Float[np.ndarray, "units scored"]:
        """What the corpus' own concept explains and the other's does not."""
        return self.own - self.carried


@dataclass(frozen=True)
class Compared:
    """Units on two corpora. most: the variance of each where it varies more."""

    first: Side
    second: Side
    most: Float[np.ndarray, " units"]

    @property
    def groups(self) -> tuple[str, ...]:
        """The independent problems of both."""
        return (*(f"1 {g}" for g in self.first.groups), *(f"2 {g}" for g in self.second.groups))

    def of(self, units: slice) -> "Compared":
        """The same of some of the units."""

        def some(side: Side) -> Side:
            return Side(side.corpus, side.spread[units], side.own[units], side.carried[units])

        return Compared(some(self.first), some(self.second), self.most[units])

    def both(self, what: str) -> Float[np.ndarray, "units scored"]:
        """A quantity of the sides on both, so that its mean is the mean of the two corpora."""
        a, b = (getattr(side, what) for side in (self.first, self.second))
        n = a.shape[1] + b.shape[1]
        return np.concatenate([a * n / (2 * a.shape[1]), b * n / (2 * b.shape[1])], axis=1)


def compare(
    corpora: tuple[Corpus, Corpus],
    values: tuple[Float[np.ndarray, "positions units"], Float[np.ndarray, "others units"]],
    *,
    fit: bool = True,
) -> Compared:
    """Concepts of units on two corpora, each scored on both. values: of each corpus the numbers at its positions. fit: without it
    variances alone are told.
    """
    spread = [
        np.stack([c.mean((v - v.mean(0)) ** 2)[u].mean() for u in range(v.shape[1])])
        for c, v in zip(corpora, values, strict=True)
    ]
    most = np.maximum(np.maximum(*spread), TINY)
    sides: list[Side] = []
    for here, there in ((0, 1), (1, 0)):
        corpus, other, v, w = corpora[here], corpora[there], values[here], values[there]
        itself = {f for f in corpus.where if BACK not in f}
        rows = {what: np.zeros((v.shape[1], len(corpus.lengths))) for what in ("spread", "own", "carried")}
        for k in sorted({int(f) for f in corpus.fold if f >= 0}):
            outside, scored = corpus.inside(corpus.fold != k), corpus.fold == k
            flat = corpus.mean((v - v[outside].mean(0)) ** 2)
            rows["spread"][:, scored] = flat[:, scored]
            if not fit:
                continue
            own = _said(corpus, concepts(corpus, v, k))
            # What only the other corpus has cannot be carried: features that both have may tell the same more coarsely. Where
            # tokens alternate, one's kind is as good as that of the one before: that of the token itself may be what is carried.
            foreign = [
                concepts(other, w, min(k, int(other.fold.max())), among) for among in (None, corpus.where, itself)
            ]
            carried = _closer([_rescaled(_said(corpus, f), v, outside) for f in foreign], v, outside)
            low, high = v[outside].min(0), v[outside].max(0)
            for what, said in (("own", own), ("carried", carried)):
                left = corpus.mean((v - said.clip(low, high)) ** 2)
                rows[what][:, scored] = (flat - left)[:, scored]
        sides.append(Side(corpus, **{k: x[:, corpus.fold >= 0] / most[:, None] for k, x in rows.items()}))
    return Compared(sides[0], sides[1], most)


def _said(corpus: Corpus, found: Sequence[Concept]) -> Float[np.ndarray, "positions units"]:
    return np.stack([c.predict(corpus) for c in found], axis=1)


def _closer(
    said: Sequence[Float[np.ndarray, "positions units"]],
    values: Float[np.ndarray, "positions units"],
    fitted: Bool[np.ndarray, " positions"],
) -> Float[np.ndarray, "positions units"]:
    """Of several predictions of each unit the one that is nearest on the positions to fit on."""
    errors = np.stack([((x - values)[fitted] ** 2).mean(0) for x in said])
    return np.stack([said[int(i)][:, u] for u, i in enumerate(errors.argmin(0))], axis=1)


def _rescaled(
    said: Float[np.ndarray, "positions units"],
    values: Float[np.ndarray, "positions units"],
    fitted: Bool[np.ndarray, " positions"],
) -> Float[np.ndarray, "positions units"]:
    """Predictions with the scale, at least 0, and the offset that fit best."""
    x, y = said[fitted], values[fitted]
    middle, mean = x.mean(0), y.mean(0)
    scale = ((x - middle) * (y - mean)).sum(0) / np.maximum(((x - middle) ** 2).sum(0), TINY)
    return (said - middle) * np.maximum(scale, 0.0) + mean


def best_of(found: Compared, what: str) -> int:
    """The unit in which a quantity of both corpora is largest."""
    return int(found.both(what).mean(1).argmax())


def inside(corpus: Corpus, found: Sequence[Float[np.ndarray, "_all units"]]) -> Float[np.ndarray, "positions units"]:
    """Of values at every position of a corpus' examples those at the positions that it reads."""
    return np.concatenate([x[FIRST : FIRST + n] for x, n in zip(found, corpus.read, strict=True) if n])
