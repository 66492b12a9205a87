"""What is put into `standalone.py` for findings about trees that words' states hold."""

from typing import Any

import torch

from agent.report.standalone import DATA, MORE, Model
from agent.report.standalone_states import ranks

# -- from here on the text is part of the script -----------------------------------------------------------------------


RANK, STEPS, RATE, DECAY = 32, 150, 0.3, 1e-3


def word_states(model: Model, q: Any, e: Any) -> torch.Tensor:
    """What stands at the words of a sentence, the mean over each one's positions: (words, channels)."""
    here = model.run(e["ids"], read=[q["place"]])[1][0].float()
    rows = torch.stack([here[at].mean(0) for at in e["words"]])
    return rows[:, model.channels(q["place"], rows.shape[1])]


def edges(heads: list[int]) -> torch.Tensor:
    """How many edges lie between each two words. heads: on which word each depends, -1 for the root."""
    ways: list[list[int]] = []
    for i in range(len(heads)):
        way = [i]
        while heads[way[-1]] >= 0:
            way.append(heads[way[-1]])
        ways.append(way)
    return torch.tensor([[float(len(set(a) ^ set(b))) for b in ways] for a in ways])


def squared(z: torch.Tensor) -> torch.Tensor:
    """Squared distances of rows from one another."""
    norms = z.square().sum(-1)
    return norms[..., :, None] + norms[..., None, :] - 2 * z @ z.mT


def fitted(rows: list[torch.Tensor], trees: list[torch.Tensor], seed: int) -> torch.Tensor:
    """The linear map under which squared distances miss those of the tree least, each sentence weighing the same, by Adam."""
    n, most, width = len(rows), max(map(len, rows)), rows[0].shape[1]
    x, far, weight = torch.zeros(n, most, width), torch.zeros(n, most, most), torch.zeros(n, most, most)
    for i, (row, tree) in enumerate(zip(rows, trees, strict=True)):
        k = len(row)
        x[i, :k], far[i, :k, :k], weight[i, :k, :k] = row, tree, (1 - torch.eye(k)) / (k * (k - 1) * n)
    rank = min(RANK, width)
    size = (2 / (width * rank)) ** 0.5
    made = (torch.randn(width, rank, generator=torch.Generator().manual_seed(seed)) * size).requires_grad_()
    adam = torch.optim.Adam([made], RATE * size)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS)
    for _ in range(STEPS):
        loss = ((squared(x @ made) - far).abs() * weight).sum() + DECAY * made.square().sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        plan.step()
    return made.detach()


def spearman(a: torch.Tensor, b: torch.Tensor) -> float:
    """Rank correlation; 0 where one of the two is the same everywhere."""
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    norm = (x.square().sum() * y.square().sum()).sqrt()
    return float((x * y).sum() / norm) if norm > 0 else 0.0


def tree_read(model: Model, q: Any) -> list[float]:
    """Of each sentence the rank correlation of distances in its tree and squared distances under a map fitted on others."""
    seen, tried = ([word_states(model, q, e) for e in DATA[k]] for k in ("seen", "examples"))
    every = torch.cat(seen)
    scale = every.std(0, unbiased=False)
    scale = scale.masked_fill(scale <= 1e-6 * scale.max().clamp(min=1e-30), torch.inf)  # it says nothing
    seen, tried = ([(x - every.mean(0)) / scale for x in rows] for rows in (seen, tried))
    trees, held = ([edges(e["heads"]) for e in DATA[k]] for k in ("seen", "examples"))
    found: list[list[float]] = []
    for seed in (DATA["seed"], DATA["seed"] + 1):
        made = fitted(seen, trees, seed)
        out: list[float] = []
        for x, tree in zip(tried, held, strict=True):
            a, b = torch.triu_indices(len(x), len(x), 1)
            out.append(spearman(tree[a, b], squared((x @ made).double())[a, b]))
        found.append(out)
    print(f"  beside it, fitted from another start: {sum(found[1]) / len(tried):.6f} (not on record)")
    return found[0]


MORE.update({"tree": tree_read})
