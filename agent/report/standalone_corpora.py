"""What is put into `standalone.py` for findings about what a unit goes with on two corpora."""

from collections import Counter
from typing import Any

import torch

from agent.report.standalone import DATA, MORE, Model

# -- from here on the text is part of the script -----------------------------------------------------------------------


MOST, OFTEN, GAIN, RIDGE, TINY = 3, 5, 0.02, 1e-3, 1e-12  # features of a concept, positions, share of the variance


class Corpus:
    """A task's sequences as positions, without each one's first: what stands there, and what the unit is there.

    seen: which positions are of sequences to fit on; the others are scored.
    """

    def __init__(self, model: Model, q: Any, name: str) -> None:
        rows = [*DATA[f"{name} seen"], *DATA[name]]
        self.first = len(DATA[f"{name} seen"])
        read = direction(model, q)
        self.features = [f for e in rows for f in features(e["said"])]
        self.values = torch.cat([read(model, e)[1 : len(e["said"])] for e in rows])
        self.owner = torch.tensor([i for i, e in enumerate(rows) for _ in e["said"][1:]])
        self.seen = self.owner < self.first
        self.where: dict[str, list[int]] = {}
        for i, here in enumerate(self.features):
            for f in here:
                self.where.setdefault(f, []).append(i)

    def having(self, names: list[str]) -> torch.Tensor:
        """1 where each feature stands: (positions, names)."""
        out = torch.zeros(len(self.features), len(names), dtype=torch.float64)
        for column, name in enumerate(names):
            out[self.where.get(name, []), column] = 1.0
        return out

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """The mean over each sequence's positions."""
        count = torch.bincount(self.owner)
        return torch.zeros(len(count), dtype=torch.float64).index_add_(0, self.owner, x) / count

    def spread(self) -> float:
        """The variance of the unit, each sequence weighing the same."""
        return float(self.mean((self.values - self.values.mean()) ** 2).mean())

    def flat(self) -> torch.Tensor:
        """Of each scored sequence the mean square of what the mean of those to fit on misses."""
        return self.mean((self.values - self.values[self.seen].mean()) ** 2)[self.first :]

    def left(self, said: torch.Tensor) -> torch.Tensor:
        """Of each scored sequence the mean square of what a prediction, kept within what was seen, misses."""
        known = self.values[self.seen]
        return self.mean((self.values - said.clamp(float(known.min()), float(known.max()))) ** 2)[self.first :]

    def fitted(self, said: torch.Tensor) -> torch.Tensor:
        """Another corpus' prediction with the scale, at least 0, and the offset that fit best here."""
        x, y = said[self.seen], self.values[self.seen]
        scale = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum().clamp(min=TINY)
        return (said - x.mean()) * scale.clamp(min=0) + y.mean()


class Concept:
    """The few features that best predict the unit on a corpus' sequences to fit on, one chosen after the other by what it adds to
    a least-squares fit of those before it. among: those that may be chosen.
    """

    def __init__(self, corpus: Corpus, among: set[str] | None = None) -> None:
        seen = Counter(f for i in corpus.seen.nonzero()[:, 0].tolist() for f in corpus.features[i])
        names = [f for f in corpus.where if seen[f] >= OFTEN and (among is None or f in among)]
        x, y = corpus.having(names)[corpus.seen], corpus.values[corpus.seen]
        middle, self.without = x.mean(0), float(y.mean())
        x, y = x - middle, y - y.mean()
        whole, size, chosen = float((y**2).sum()), (x**2).sum(0).clamp(min=TINY), list[int]()
        self.weights = torch.zeros(0, dtype=torch.float64)
        for _ in range(min(MOST, len(names))):
            gain = (x.T @ (y - x[:, chosen] @ self.weights)) ** 2 / size
            gain[chosen] = -1.0
            best = int(gain.argmax())
            if gain[best] <= max(TINY, GAIN * whole):
                break
            chosen.append(best)
            z = x[:, chosen]
            self.weights = torch.linalg.solve(z.T @ z + RIDGE * torch.eye(len(chosen), dtype=z.dtype), z.T @ y)
        self.names = [names[i] for i in chosen]
        self.without -= float(middle[chosen] @ self.weights)

    def says(self, corpus: Corpus) -> torch.Tensor:
        """The unit at each position of a corpus."""
        return self.without + corpus.having(self.names) @ self.weights


def features(said: Any) -> list[list[str]]:
    """Of each position after the first: its token, what kind that is, where it stands, those before it, whether it is new; of an
    image where the patch is and its colour, as the data says them.
    """
    if any(isinstance(here, list) for here in said):
        return [[f"position {i}", *here] for i, here in enumerate(said) if i]
    kinds, out = [kind(t) for t in said], list[list[str]]()
    for i in range(1, len(said)):
        here = [f"position {i}", f"token {said[i]!r}", f"kind {kinds[i]}"]
        for back, where in ((1, "before"), (2, "2 before")):
            here += [f"token {where} {said[i - back]!r}", f"kind {where} {kinds[i - back]}"] if back <= i else []
        out.append([*here, "token again" if said[i] in said[:i] else "token new"])
    return out


def kind(token: str) -> str:
    """By a token's first character that is no blank."""
    text = token.strip(" _▁Ġ")
    return "blank" if not text else "number" if text[0].isdigit() else "word" if text[0].isalpha() else "mark"


def direction(model: Model, q: Any) -> Any:
    """What reads the unit at each position of a sequence: its channel, or along the difference of means of a label at the last
    position before the answer, or else along the first principal component over all positions to fit on.
    """
    place, seen = q["place"], [*DATA["examples seen"], *DATA["second seen"]]

    def states(m: Model, e: Any) -> torch.Tensor:
        rows = m.run(e["ids"], read=[place])[1][0]
        return rows[:, m.channels(place, rows.shape[-1])].double()

    if q["single"]:
        return lambda m, e: states(m, e)[:, 0]
    if q["label"]:
        known = [e for e in seen if e["has"] is not None]
        x = torch.stack([states(model, e)[e["at"][q["last"]][0]] for e in known])
        having = torch.tensor([e["has"] for e in known])
        vector = x[having].mean(0) - x[~having].mean(0)
    else:
        x = torch.cat([states(model, e) for e in seen])
        vector = torch.linalg.svd(x - x.mean(0), full_matrices=False)[2][0]
    return lambda m, e: states(m, e) @ (vector / vector.norm().clamp(min=TINY))


def on_both(model: Model, q: Any) -> list[float]:
    """Of each scored sequence what its own corpus' concept explains and the other's does not (lost), what the other's explains
    (carried), or the variance on the second corpus (spread), in shares of the variance where the unit varies more.
    """
    corpora = Corpus(model, q, "examples"), Corpus(model, q, "second")
    most = max(TINY, *(c.spread() for c in corpora))
    if q["of"] == "spread":
        return (corpora[1].flat() / most).tolist()
    found: list[torch.Tensor] = []
    for here, other in (corpora, corpora[::-1]):
        own, itself = Concept(here), {f for f in here.where if " before " not in f}
        said = [here.fitted(Concept(other, among).says(here)) for among in (None, set(here.where), itself)]
        closest = min(said, key=lambda x: float(((x - here.values)[here.seen] ** 2).mean()))
        carried = here.flat() - here.left(closest)
        found.append(here.flat() - here.left(own.says(here)) - carried if q["of"] == "lost" else carried)
        words = ", ".join(f"{n} ({w:+.3g})" for n, w in zip(own.names, own.weights.tolist(), strict=True)) or "nothing"
        print(f"  on its own the {'first' if len(found) == 1 else 'second'} corpus has it go with {words}")
    n = sum(len(x) for x in found)
    return [v for x in found for v in (x / most * n / (2 * len(x))).tolist()]  # each corpus weighs the same


MORE.update({"on both": on_both})
