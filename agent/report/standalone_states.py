"""What is put into `standalone.py` for findings about probes, class means and nearest neighbours among states."""

from typing import Any

import torch

from agent.report.standalone import DATA, MORE, Change, Model, Place, correct, margin

# -- from here on the text is part of the script -----------------------------------------------------------------------


PENALTIES = [10.0**k for k in range(6)]
FEWEST = 4  # examples that a class has to have, for its mean
KNOWN: dict[str, torch.Tensor] = {}  # states by place and by which examples they are of


def states(model: Model, place: Place, of: str) -> torch.Tensor:
    """A place's activations in the examples of that name, the mean over each one's positions: (examples, channels)."""
    if f"{place} {of}" in KNOWN:
        return KNOWN[f"{place} {of}"]
    out: list[torch.Tensor] = []
    for e in DATA[of]:
        here = model.run(e["ids"], read=[place])[1][0].float()
        out.append(here[e["at"][place["anchor"]]].mean(0)[model.channels(place, here.shape[-1])])
    return KNOWN.setdefault(f"{place} {of}", torch.stack(out))


class Ridge:
    """A ridge regression on 1 for an example's own class and -1 for the others.

    Channels are scaled to unit variance; the penalty is the one with the least mean squared error left out, r / (1 - h).
    """

    def __init__(self, x: torch.Tensor, own: list[str]) -> None:
        self.classes, x = sorted(set(own)), x.double()
        self.mean, scale = x.mean(0), x.std(0, unbiased=False)
        self.scale = scale.masked_fill(scale <= 1e-6 * scale.max().clamp(min=1e-30), torch.inf)  # it says nothing
        x = (x - self.mean) / self.scale
        y = torch.tensor([[1.0 if c == v else -1.0 for c in self.classes] for v in own], dtype=torch.float64)
        self.bias, best = y.mean(0), float("inf")
        for penalty in PENALTIES:
            solved = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1], dtype=torch.float64), x.T)
            found = solved @ (y - self.bias)
            leverage = (x * solved.T).sum(1, keepdim=True) + 1 / len(x)
            missed = float(((y - self.bias - x @ found) / (1 - leverage).clamp(min=1e-9)).square().mean())
            if missed < best:
                best, self.weights = missed, found

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """Of each class, (examples, classes)."""
        return (x.double() - self.mean) / self.scale @ self.weights + self.bias

    def read(self, x: torch.Tensor) -> list[str]:
        """The class with the highest score."""
        return [self.classes[i] for i in self.scores(x).argmax(1).tolist()]

    def moved(self, x: torch.Tensor, value: str) -> torch.Tensor:
        """A state moved until a class scores 2 more than the one that is read, as in a perfect reading; as it is if it does."""
        (scores,), new = self.scores(x[None]), self.classes.index(value)
        old = int(scores.index_fill(0, torch.tensor([new]), -torch.inf).argmax())
        way = (self.weights[:, new] - self.weights[:, old]) / self.scale
        short = (2 - (scores[new] - scores[old])).clamp(min=0)
        return (x.double() + short / way.square().sum().clamp(min=1e-12) * way).float()


def probed(model: Model, q: Any) -> list[float]:
    """For each example the share of the question's labels that are read right; less that of others, or at another place."""
    seen, tried = DATA["seen"], DATA["examples"]
    out, shuffled = torch.zeros(len(tried)), 0.0
    order = torch.randperm(len(seen), generator=torch.Generator().manual_seed(0)).tolist()
    less = [(-1, q.get("before", q["place"]), q.get("against", q["labels"]))] if {"before", "against"} & set(q) else []
    for sign, place, labels in [(1, q["place"], q["labels"]), *less]:
        x, new = states(model, place, "seen"), states(model, place, "examples")
        for label in labels:
            own, truth = ([e["labels"][label] for e in rows] for rows in (seen, tried))
            right = torch.tensor([a == b for a, b in zip(Ridge(x, own).read(new), truth, strict=True)]).float()
            out += sign * right / len(labels)
            other = Ridge(x, [own[i] for i in order]).read(new)
            shuffled += sign * sum(a == b for a, b in zip(other, truth, strict=True)) / len(truth) / len(labels)
    print(f"  beside it, the same with the labels to fit on shuffled: {shuffled:.6f} (not on record)")
    return out.tolist()


def steered(model: Model, q: Any) -> list[float]:
    """Whether an example goes over to the foil, pushed along the difference of its class's and the other's mean."""
    place, seen = q["place"], DATA["seen"]
    x, own = states(model, place, "seen"), [e["labels"][0] for e in seen]
    values = sorted(set(own))
    chosen = {v: torch.tensor([o == v for o in own]) for v in values}
    means = {v: x[rows].mean(0) for v, rows in chosen.items() if rows.sum() >= FEWEST}
    out: list[float] = []
    for e in DATA["examples"]:
        mine, wrong = e["labels"]
        other = wrong if q["answer"] else next(v for v in values if v != mine)
        if mine not in means or other not in means:
            continue
        intact, (here,), _ = model.run(e["ids"], read=[place])
        at, channels = e["at"][place["anchor"]], model.channels(place, here.shape[-1])
        pushed = here[at][:, channels].float() + q["dose"] * (means[other] - means[mine])
        change: Change = (place, at, pushed)
        out.append(float(margin(model.run(e["ids"], [change])[0], e) < 0) - float(margin(intact, e) < 0))
    return out


def turned(model: Model, q: Any) -> list[float]:
    """How many answers fewer are wrongly in or out of the likeliest, of those that would be right if a label were other, with what
    probes read of it changed at one place after another, each on the state that the earlier changes have left.
    """
    probes: dict[tuple[int, int], Ridge] = {}
    out: list[float] = []
    for e in DATA["examples"]:
        (label, value), changes = e["supposed"], list[Change]()
        for i, place in enumerate(q["places"]):
            if (i, label) not in probes:
                own = [s["labels"][label] for s in DATA["seen"]]
                probes[i, label] = Ridge(states(model, place, "seen"), own)
            (at,) = e["at"][place["anchor"]]
            here = model.run(e["ids"], changes, [place])[1][0][at].float()
            changes.append((place, [at], probes[i, label].moved(here, value)[None]))
        before, after = (wrong(model.run(e["ids"], c)[0][e["scored"][0]], e["accepted"]) for c in ([], changes))
        out.append(before - after)
    return out


def wrong(row: torch.Tensor, right: list[int]) -> float:
    """How many answers are wrongly in or out of the likeliest ones, as many as are right."""
    return 2.0 * int((row[right] < row.sort(descending=True).values[len(right) - 1]).sum())


def elicited(model: Model, q: Any) -> list[float]:
    """How much more right (1), or less (-1), each example is with heads shifted towards what sets right statements apart: along the
    difference of their means, so many standard deviations of all statements along it, fitted on the other parts of the problems.
    """
    heads, seen, out = q["places"], DATA["seen"], list[float]()
    last = [{**p, "anchor": "-1"} for p in heads]
    x = [torch.stack(v).double() for v in zip(*(at_last(model, last, e) for e in seen), strict=True)]
    right, fold = torch.tensor([e["right"] for e in seen]), torch.tensor([e["fold"] for e in seen])
    steps: dict[tuple[int, int], torch.Tensor] = {}
    for k in {e["fold"] for e in DATA["examples"]}:
        for i, rows in enumerate(x):
            known, own = rows[fold != k], right[fold != k]
            way = known[own].mean(0) - known[~own].mean(0)
            way /= way.norm().clamp(min=1e-12)
            steps[k, i] = (way * (known @ way).std(unbiased=False)).float()
    for e in DATA["examples"]:
        changes: list[Change] = []
        for block in sorted({p["block"] for p in heads}):  # each on the state that the earlier changes have left
            mine = [i for i, p in enumerate(heads) if p["block"] == block]
            read = model.run(e["ids"], changes, [heads[i] for i in mine])[1]
            for i, rows in zip(mine, read, strict=True):
                at = e["at"][heads[i]["anchor"]]
                here = rows[at][:, model.channels(heads[i], rows.shape[-1])].float()
                changes.append((heads[i], at, here + q["dose"] * steps[e["fold"], i]))
        out.append(correct(model.run(e["ids"], changes)[0], e) - correct(model.run(e["ids"])[0], e))
    return out


def at_last(model: Model, places: list[Place], e: Any) -> list[torch.Tensor]:
    """What stands in each place where a statement ends."""
    rows = model.run(e["ids"], read=places)[1]
    return [r[e["at"]["-1"][0], model.channels(p, r.shape[-1])] for p, r in zip(places, rows, strict=True)]


def nearest_partner(model: Model, q: Any) -> list[float]:
    """How often a problem's state in the other task is the nearest of those of its lengths, beyond chance; both ways."""
    cells = [e["cell"] for e in DATA["examples"]]
    same = torch.tensor([[a == b for b in cells] for a in cells])
    x, y = (centred(states(model, q["place"], of).double()) for of in ("examples", "second"))
    cosine = x @ y.T
    found = torch.zeros(len(cells), dtype=torch.float64)
    for c in (cosine, cosine.T):
        own = c.diag()[:, None]
        nearer, level = ((c > own + 1e-6) & same).sum(1), (((c - own).abs() <= 1e-6) & same).sum(1)
        found += torch.where(nearer == 0, 1 / level.clamp(min=1), 0.0) / 2
    beyond = found - 1 / same.sum(1)
    return beyond[same.sum(1) > 1].tolist()


def centred(x: torch.Tensor) -> torch.Tensor:
    """Rows less their mean, of length 1; 0 where nothing is left."""
    made = x - x.mean(0)
    size = made.norm(dim=1, keepdim=True)
    return torch.where(size > 1e-6 * (1 + x.abs().max()), made / size.clamp(min=1e-12), 0.0)


def aligned(model: Model, q: Any) -> list[float]:
    """Of each sequence the mean share of a query's five nearest keys, of other sequences, that have its label.

    Keys are moved so that their mean is the queries', queries multiplied and keys divided by what makes both equally long, and
    by the first of a few more factors with which the order of distances follows that of dot products.
    """
    places: list[Place] = [
        {"stack": q["stack"], "block": q["block"], "part": p, "units": [q["head"]], "anchor": "all"}
        for p in ("attn.q", "attn.k")
    ]
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    for e in DATA["examples"]:
        rows = model.run(e["ids"], read=places)[1]
        a, b = (r[:, model.channels(p, r.shape[-1])].double() for r, p in zip(rows, places, strict=True))
        pairs.append((a, b))
    queries, keys = (torch.cat(side) for side in zip(*pairs, strict=True))
    shift = queries.mean(0) - keys.mean(0)
    long, wide = queries.square().sum(1).mean(), (keys + shift).square().sum(1).mean()
    scale = even = float((wide / long) ** 0.25) if long > 0 and wide > 0 else 1.0
    for factor in (1.0, 1.2, 1.4, 1.7, 2.0):
        scale = even * factor
        found = [follows(a * scale, (b + shift) / scale, q["causal"]) for a, b in pairs[::2]]
        if sum(found) / len(found) >= 0.95:
            break
    queries, keys = queries * scale, (keys + shift) / scale
    whose = torch.tensor([i for i, e in enumerate(DATA["examples"]) for _ in e["mine"]])
    mine, theirs = ([v for e in DATA["examples"] for v in e[side]] for side in ("mine", "theirs"))
    far = queries.square().sum(1)[:, None] + keys.square().sum(1)[None] - 2 * queries @ keys.T
    near = far.masked_fill(whose[:, None] == whose[None], torch.inf).sort(dim=1, stable=True).indices[:, :5].tolist()
    same = torch.tensor([sum(theirs[j] == v for j in row) / len(row) for v, row in zip(mine, near, strict=True)])
    return [float(same[whose == i].mean()) for i in range(len(pairs))]


def follows(q: torch.Tensor, k: torch.Tensor, causal: bool) -> float:
    """Rank correlation of nearness and dot product over the keys that each query sees, both less each query's mean; -1 if none."""
    seen = torch.ones(len(q), len(k)).tril(0 if causal else len(k)).bool()
    dot = q @ k.T
    a, b = (
        (v - (v * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True))[seen]
        for v in (2 * dot - k.square().sum(1)[None], dot)
    )
    if len(a) < 10 or min(float(v.std(unbiased=False)) for v in (a, b)) < 1e-9:
        return -1.0
    return float(torch.corrcoef(torch.stack([ranks(a), ranks(b)]))[0, 1])


def ranks(x: torch.Tensor) -> torch.Tensor:
    """From 1; of equal values the mean of theirs."""
    _, where, count = x.unique(return_inverse=True, return_counts=True)
    return (count.cumsum(0) - (count - 1) / 2)[where].double()


MORE.update(
    {"probe": probed, "steer": steered, "near": nearest_partner, "align": aligned, "turn": turned, "elicit": elicited}
)
