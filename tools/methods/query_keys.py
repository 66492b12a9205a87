"""Queries and keys of a head in one space, so that near means attended (Yeh et al. 2023, AttentionViz).

All keys may be moved by one vector, which adds to every score of a query the same and leaves its attention as it is; queries may
be multiplied by c and keys by 1/c. The vector here brings the mean key to the mean query. As c grows, distance follows the dot
product ever better and keys gather in the middle of the queries; c is the least, from what makes both equally long, with which it
follows well enough on half of the sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.engine.sites import Site
from tools.methods.scoring import microbatches
from tools.methods.tool import ToolInputError
from tools.subjects import Subject
from tools.tasks import Example

Rows = NDArray[np.float64]
LEAST_PAIRS = 10  # a rank correlation over fewer says nothing
SCALES = (1.0, 1.2, 1.4, 1.7, 2.0)  # beyond these queries and keys no longer overlap
ENOUGH = 0.95  # rank correlation of nearness with the dot product
TINY = 1e-9
NEIGHBOURS = 5


@dataclass(frozen=True)
class Attending:
    """One sequence under one block: (heads, positions, channels) queries and keys, (heads, positions, positions) weights."""

    queries: Rows
    keys: Rows
    weights: Rows


@dataclass(frozen=True)
class Joint:
    """What makes a head's queries and keys one space. shift: added to keys; scale: queries times it, keys over it."""

    shift: Rows
    scale: float

    def queries(self, q: Rows) -> Rows:
        """Queries in the joint space."""
        return q * self.scale

    def keys(self, k: Rows) -> Rows:
        """Keys in the joint space."""
        return (k + self.shift) / self.scale


def captured(subject: Subject, examples: Sequence[Example], stack: str, block: int, max_tokens: int) -> list[Attending]:
    """Queries, keys and weights of a block's heads for every example. ToolInputError where the model gives none."""
    spec = subject.spec(stack)
    if not {"attn.q", "attn.k", "attn.pattern"} <= set(spec.kinds):
        raise ToolInputError(
            f"queries and keys of {stack} are out of reach in this model; it has {', '.join(spec.kinds)}"
        )
    sites = [Site(stack, block, "attn.q"), Site(stack, block, "attn.k"), Site(stack, block, "attn.pattern")]
    out: dict[int, Attending] = {}
    with subject.evaluating():
        for batch in microbatches(subject, examples, max_tokens):
            found = subject.run(batch.inputs, capture=sites).captured
            q, k, p = (found[s].double().cpu().unflatten(-1, (spec.n_heads, -1)).transpose(1, 2).numpy() for s in sites)
            for row, index in enumerate(batch.indices):
                n = batch.inputs.of(stack)[row]
                out[index] = Attending(q[row, :, :n], k[row, :, :n], p[row, :, :n, :n])
    return [out[i] for i in range(len(examples))]


def joint(pairs: Sequence[tuple[Rows, Rows]], *, causal: bool) -> Joint:
    """The joint space of a head's queries and keys, (positions, channels) of each sequence: keys brought to the queries' mean, and
    the first of `SCALES`, times that which makes both equally long, with which distance follows the dot product to `ENOUGH`.
    """
    q, k = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    shift = q.mean(0) - k.mean(0)
    long, wide = (float((x**2).sum(-1).mean()) for x in (q, k + shift))
    even = (wide / long) ** 0.25 if long > 0 and wide > 0 else 1.0
    made = [Joint(shift, even * scale) for scale in SCALES]
    for space in made:
        found = np.array([follows(space.queries(a), space.keys(b), causal=causal) for a, b in pairs[::2]])
        if found.size and np.nan_to_num(found, nan=-1.0).mean() >= ENOUGH:
            return space
    return made[-1]


def attention(q: Rows, k: Rows, *, causal: bool, factor: float) -> Rows:
    """Softmax of the scores of (queries, channels) over (keys, channels)."""
    scores = q @ k.T * factor
    if causal:
        scores = np.where(np.tri(len(q), len(k), dtype=bool), scores, -np.inf)
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def follows(q: Rows, k: Rows, *, causal: bool) -> float:
    """Spearman between nearness and dot product over the keys that each query sees, both less their means over these, on which
    attention does not depend; NaN for too few.
    """
    from scipy.stats import rankdata

    seen = np.tri(len(q), len(k), dtype=bool) if causal else np.ones((len(q), len(k)), dtype=bool)
    dot = q @ k.T
    a, b = (_less_mean(x, seen)[seen] for x in (2 * dot - (k**2).sum(-1)[None], dot))
    if len(a) < LEAST_PAIRS or a.std() < TINY or b.std() < TINY:
        return float("nan")
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def _less_mean(x: Rows, seen: NDArray[np.bool_]) -> Rows:
    return x - (x * seen).sum(1, keepdims=True) / seen.sum(1, keepdims=True)


def nearest(q: Rows, k: Rows, own: NDArray[np.int64], whose: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Of each query the `count` nearest keys of other sequences, (queries, count). own, whose: the sequences of both."""
    far = ((q**2).sum(-1)[:, None] + (k**2).sum(-1)[None] - 2 * q @ k.T).astype(np.float64)
    far[own[:, None] == whose[None]] = np.inf
    return _smallest(far, count)


def _smallest(rows: Rows, count: int) -> NDArray[np.int64]:
    """Where each row's `count` smallest values are, the smallest first and of equal ones the first: as a stable sort has them."""
    if not 0 < count < rows.shape[1]:
        return np.argsort(rows, axis=1, kind="stable")[:, :count]
    found = np.empty((len(rows), count), dtype=np.int64)
    for i, (row, bound) in enumerate(zip(rows, np.partition(rows, count - 1, axis=1)[:, count - 1], strict=True)):
        at = np.flatnonzero(~(row > bound))  # what is no number is kept, and comes last
        found[i] = at[np.argsort(row[at], kind="stable")[:count]]
    return found


def apart_from(
    space: Joint, q: Rows, k: Rows, lengths: Sequence[int], label: NDArray[np.object_], other: NDArray[np.object_]
) -> tuple[Rows, Rows]:
    """As `shared`, among keys that do not share another label with the query: the share of the nearest that have the query's label,
    and the share of all of them, what it would be if the label did not matter beyond the other one. Zero where none are left.
    """
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    (mine, theirs), (own, its) = (_sides(v) for v in (label, other))
    a, b = space.queries(q), space.keys(k)
    far = (b**2).sum(-1)[None] - 2 * a @ b.T
    left = (sequence[:, None] != sequence[None]) & (own[:, None] != its[None])
    far[~left] = np.inf
    near = _smallest(far, NEIGHBOURS)
    same = (mine[:, None] == theirs[None]) & left
    there = np.take_along_axis(left, near, 1)
    found = (
        np.take_along_axis(same, near, 1).sum(1) / np.maximum(there.sum(1), 1),
        same.sum(1) / np.maximum(left.sum(1), 1),
    )
    near_share, base = (np.array([v[sequence == i].mean() for i in range(len(lengths))]) for v in found)
    return near_share, base


def determines(label: NDArray[np.object_], other: NDArray[np.object_]) -> bool:
    """Whether each value of a label goes with one value of the other."""
    (mine, theirs), (own, its) = (_sides(v) for v in (label, other))
    pairs = set(zip((*mine, *theirs), (*own, *its), strict=True))
    return len(pairs) == len({a for a, _ in pairs})


def _sides(label: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Of queries and of keys."""
    return (label[:, 0], label[:, 1]) if label.ndim == 2 else (label, label)


def plane(points: Rows, layout: str, seed: int) -> Rows:
    """Points in two dimensions, (points, 2): `pca`, `tsne` (scikit-learn) or `umap` (needs umap-learn)."""
    centred = points - points.mean(0)
    match layout:
        case "pca":
            u, s, _ = np.linalg.svd(centred, full_matrices=False)
            found = u[:, :2] * s[:2]
            return found * np.where(
                np.abs(found).max(0) == found.max(0), 1.0, -1.0
            )  # one of two signs, always the same
        case "tsne":
            from sklearn.manifold import TSNE

            perplexity = min(30.0, (len(points) - 1) / 3)
            return np.asarray(
                TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(centred), np.float64
            )
        case _:
            try:
                from umap import UMAP  # pyright: ignore[reportMissingImports,reportUnknownVariableType]
            except ImportError:
                raise ToolInputError(
                    "layout: umap needs umap-learn: pip install umap-learn, or 'locus-agent[umap]'; or take pca or tsne"
                ) from None
            return np.asarray(UMAP(random_state=seed).fit_transform(centred), np.float64)  # pyright: ignore


def shared(
    space: Joint, q: Rows, k: Rows, lengths: Sequence[int], labels: NDArray[np.object_], order: NDArray[np.int64]
) -> tuple[Rows, Rows]:
    """Of every sequence, the mean share of the `NEIGHBOURS` nearest keys of other sequences that have the query's label, and the
    same with the keys' labels in another order.

    q, k: of all sequences after one another; labels: (points), or (points, 2) where a query's differs from its own key's.
    """
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    near = nearest(space.queries(q), space.keys(k), sequence, sequence, NEIGHBOURS)
    mine, theirs = _sides(labels)
    both = [(given[near] == mine[:, None]).mean(1) for given in (theirs, theirs[order])]
    own, other = (np.array([v[sequence == i].mean() for i in range(len(lengths))]) for v in both)
    return own, other
