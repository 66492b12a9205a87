"""Trees over the spans of an example, the states of their words, and how well predicted distances and depths give a tree back.

A tree is in the labels of the spans: `head` names the role on which a word depends, and is empty for the root.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from numpy.typing import NDArray

from experiments_db.places import Component
from tools.engine.sites import HEADED, channels_of
from tools.methods.anchors import span_positions
from tools.methods.effects import sites_of
from tools.methods.scoring import microbatches
from tools.methods.tool import ToolInputError
from tools.subjects import Subject
from tools.tasks import Example

SHORTEST = 5  # words: in shorter sentences nearly any ranking of distances is a good one (Hewitt and Manning 2019)
MEASURES = ("distance_spearman", "uuas", "depth_spearman", "root")


@dataclass(frozen=True)
class Tree:
    """Words by their roles, in the order of the text. heads: index of the word that each depends on, -1 for the root."""

    roles: tuple[str, ...]
    heads: Int[np.ndarray, " words"]
    relations: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.roles)

    @property
    def root(self) -> int:
        """The word that depends on none."""
        return int(np.flatnonzero(self.heads < 0)[0])

    @property
    def arcs(self) -> set[tuple[int, int]]:
        """Pairs of words of which one depends on the other, the earlier first."""
        return {(min(i, h), max(i, h)) for i, h in enumerate(self.heads.tolist()) if h >= 0}

    def depths(self) -> Int[np.ndarray, " words"]:
        """Each word's number of edges to the root."""
        return np.array([len(self._up(i)) - 1 for i in range(len(self))])

    def distances(self) -> Int[np.ndarray, "words words"]:
        """Number of edges between each two words."""
        paths = [self._up(i) for i in range(len(self))]
        shared = np.array([[len(set(a) & set(b)) for b in paths] for a in paths])
        lengths = np.array([len(p) for p in paths])
        return lengths[:, None] + lengths[None, :] - 2 * shared

    def _up(self, i: int) -> list[int]:
        path: list[int] = []
        while i >= 0:
            path.append(i)
            i = int(self.heads[i])
        return path


def tree_of(example: Example) -> Tree:
    """The tree of an example's spans, those that have a `head` among their labels. ToolInputError for no tree."""
    known = example.span_labels
    roles = sorted((r for r in known if "head" in known[r]), key=lambda r: tuple(example.spans[r]))
    at = {role: i for i, role in enumerate(roles)}
    if not roles:
        raise ToolInputError(f"task: {example.shown!r} has no tree: no label of its spans says their `head`")
    heads = [known[r]["head"] for r in roles]
    foreign = next((h for h in heads if h != "" and h not in at), None)
    if foreign is not None:
        raise ToolInputError(f"task: {example.shown!r} has no word {foreign!r}; heads are the roles of words, or empty")
    found = np.array([at.get(str(h), -1) for h in heads])
    if (found < 0).sum() != 1 or not _reach_the_root(found):
        raise ToolInputError(f"task: the heads of {example.shown!r} are no tree: one root, which all words depend on")
    return Tree(tuple(roles), found, tuple(str(known[r].get("relation", "")) for r in roles))


def _reach_the_root(heads: Int[np.ndarray, " words"]) -> bool:
    at = np.arange(len(heads))
    for _ in heads:
        at = np.where(at >= 0, heads[at], -1)
    return bool((at < 0).all())


def with_trees(examples: Sequence[Example], shortest: int = SHORTEST) -> tuple[list[Example], list[Tree]]:
    """The examples of at least so many words, with their trees. ToolInputError for fewer than two."""
    found = [(e, t) for e in examples if len(t := tree_of(e)) >= shortest]
    if len(found) < 2:
        raise ToolInputError(f"task: {len(found)} of {len(examples)} examples have {shortest} words or more")
    return [e for e, _ in found], [t for _, t in found]


def random_trees(trees: Sequence[Tree], seed: int) -> list[Tree]:
    """Each sentence's words with the tree of another sentence of as many words.

    Where there is no other, with a tree in which each word but the root depends on one drawn among those before it.
    """
    rng = np.random.default_rng([seed, 0x7EE])
    lengths = np.array([len(t) for t in trees])
    out = list(trees)
    for n in np.unique(lengths):
        here = rng.permutation(np.flatnonzero(lengths == n))
        for own, other in zip(here, np.roll(here, 1), strict=True):
            heads, relations = trees[other].heads, trees[other].relations
            if own == other:
                order = rng.permutation(n)
                heads = np.full(n, -1)
                for k in range(1, n):
                    heads[order[k]] = order[rng.integers(k)]
            out[own] = Tree(trees[own].roles, heads, relations)
    return out


def word_states(
    subject: Subject,
    examples: Sequence[Example],
    trees: Sequence[Tree],
    components: Sequence[Component],
    max_tokens: int,
) -> dict[Component, Float[np.ndarray, "rows channels"]]:
    """Activations of components at every word, the mean over a word's positions, sentence after sentence, in float32.

    ToolInputError for a component that is no single activation, or that is at an anchor: it is read at all words.
    """
    where = {c: sites_of(subject, c) for c in components}
    bad = next((c for c, sites in where.items() if len(sites) > 1), None)
    if bad:
        raise ToolInputError(f"components: {bad} is no activation of its own; name what its parts write, or resid_post")
    bad = next((c for c in components if c.anchor not in ("", "all")), None)
    if bad:
        raise ToolInputError(f"components: a tree is read at all words: write {bad.but(anchor='')}@all for {bad}")
    starts = np.cumsum([0, *(len(t) for t in trees)])
    out: dict[Component, np.ndarray] = {}
    with subject.evaluating():
        for batch in microbatches(subject, examples, max_tokens):
            captured = subject.run(batch.inputs, capture=list(dict.fromkeys(s for (s,) in where.values()))).captured
            for c, (site,) in where.items():
                h = captured[site].float()
                heads = subject.spec(c.stack).n_heads if site.kind in HEADED else h.shape[-1]
                h = h[..., channels_of(c.units or None, h.shape[-1] // heads)]
                table = out.setdefault(c, np.zeros((starts[-1], h.shape[-1]), np.float32))
                for row, index in enumerate(batch.indices):
                    table[starts[index] : starts[index + 1]] = _words(
                        subject, examples[index], trees[index], c.stack, h[row]
                    )
    return {c: out[c] for c in components}


def _words(subject: Subject, example: Example, tree: Tree, stack: str, h: torch.Tensor) -> np.ndarray:
    spans = [span_positions(subject, example, role, stack=stack) for role in tree.roles]
    return torch.stack([h[at].mean(0) for at in spans]).cpu().numpy()


def spearman(a: Num[np.ndarray, " n"], b: Num[np.ndarray, " n"]) -> float:
    """Spearman correlation; 0 where one of the two does not vary: it then says nothing about the other."""
    from scipy.stats import rankdata

    x, y = rankdata(a), rankdata(b)
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / norm) if norm > 0 else 0.0


def spanning_arcs(distances: Num[np.ndarray, "words words"]) -> set[tuple[int, int]]:
    """The minimum spanning tree of distances, as pairs of words, the earlier first."""
    from scipy.sparse.csgraph import minimum_spanning_tree

    above = distances - distances.min() + 1.0  # an edge of weight 0 would be none; adding a constant keeps the tree
    found = minimum_spanning_tree(np.triu(above, 1)).tocoo()
    return {(min(i, j), max(i, j)) for i, j in zip(found.row.tolist(), found.col.tolist(), strict=True)}


def scores(
    trees: Sequence[Tree],
    distances: Sequence[NDArray[Any]] | None,
    depths: Sequence[NDArray[Any]] | None,
) -> Mapping[str, Float[np.ndarray, " sentences"]]:
    """How well predicted distances and depths give the trees, one value a sentence for each of MEASURES.

    distance_spearman: Spearman of true and predicted distance over all pairs of different words. uuas: share of the
    tree's arcs in the minimum spanning tree of the predicted distances (undirected, unlabelled). depth_spearman: of true and
    predicted depth over words. root: 1 where the word predicted to be the least deep is the root.
    """
    out: dict[str, np.ndarray] = {}
    if distances is not None:
        upper = [np.triu_indices(len(t), 1) for t in trees]
        known = zip(trees, distances, upper, strict=True)
        out["distance_spearman"] = np.array([spearman(t.distances()[at], d[at]) for t, d, at in known])
        both = zip(trees, distances, strict=True)
        out["uuas"] = np.array([len(t.arcs & spanning_arcs(d)) / (len(t) - 1) for t, d in both])
    if depths is not None:
        out["depth_spearman"] = np.array([spearman(t.depths(), d) for t, d in zip(trees, depths, strict=True)])
        out["root"] = np.array([float(np.argmin(d) == t.root) for t, d in zip(trees, depths, strict=True)])
    return out
