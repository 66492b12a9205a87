"""Read dependency relations from attention alone: do the weights between two words say that one depends on the other, and how?

A pair of words is described by how much every head looks from the one to the other and back (Coenen et al. 2019, the
attention probe), for each block by itself and for all of them together. A logistic regression reads from it which relation
an arc has (`relation`), and which of as many arcs and pairs without an arc are arcs (`link`), on sentences it was not fitted
on. The control is the same probe of how far apart the two words stand, and in which order; beside it stand shuffled
relations, a randomly initialised twin, and the share of the most frequent relation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import Field

from experiments_db.places import Component
from experiments_db.records import Measurement, Outcome
from tools.methods.anchors import span_positions
from tools.methods.arguments import AMONG
from tools.methods.features import random_twin
from tools.methods.measuring import control_of, differences, fit_and_score, measured, shares, where_of
from tools.methods.readings import patterns
from tools.methods.saying import examples_of
from tools.methods.scoring import microbatches
from tools.methods.tables import as_array, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.methods.trees import Tree, with_trees
from tools.statistics import Groups
from tools.subjects import Subject
from tools.tasks import Example

KIND: Literal["experiment"] = "experiment"
NEEDS = "trees"
EXAMPLE = {"task": "bracket_trees", "examples": 96}
TRAIN_SHARE = 0.7
UNITS = {"relation": "share of arcs", "link": "share of pairs of words"}
DISTANCE = "the same probe of the distance in words"
Rows = Float[np.ndarray, "pairs features"]


@dataclass(frozen=True)
class Pairs:
    """Pairs of words, the earlier first. sentence: (pairs) whose; words: (pairs, 2); labels: (pairs) what is to be read."""

    sentence: NDArray[np.int64]
    words: NDArray[np.int64]
    labels: NDArray[Any]


class Args(ToolArgs):
    """Arguments of relation_probe."""

    task: str = Field(description="a task whose examples have a tree over their spans; see list_tasks")
    stack: str = Field(default="", description="whose attention; empty is the stack that the input enters")
    among: str = AMONG
    examples: int = Field(default=200, ge=40, le=4096, description="how many examples to use")


def run(args: Args, ctx: Context) -> Outcome:
    """Probe every block, and all of them together, for relations and for arcs."""
    if args.stack and args.stack not in ctx.subject.stacks:
        raise ToolInputError(f"stack: there is no {args.stack!r}; this model has {', '.join(ctx.subject.stacks)}")
    stack = args.stack or next(iter(ctx.subject.stacks))
    task, fitted, scored = fit_and_score(ctx, args.task, args.examples, TRAIN_SHARE, args.among)
    (fitted, train), (scored, held) = with_trees(fitted), with_trees(scored)
    examples, trees, n = [*fitted, *scored], [*train, *held], len(train)
    own = _between(ctx.subject, stack, examples, trees, ctx.max_tokens)
    twin = _between(random_twin(ctx.subject, ctx.seed), stack, examples, trees, ctx.max_tokens)
    out: list[Measurement] = []
    tables: list[str] = []
    arrays: list[Any] = []
    blocks = [str(Component(stack=stack, block=b, part="attn.pattern")) for b in range(own[0].shape[-1])]
    for name, pairs in (("relation", _arcs(trees)), ("link", _links(trees, ctx.seed))):
        made, rows = _read(ctx, name, pairs, n, [own, twin], examples, blocks, where_of(ctx, task, args.among))
        out += made
        columns = [name, DISTANCE, "shuffled", "random init"]
        tables.append(text_table(["all blocks", *blocks], columns, rows))
        arrays.append(as_array(name, rows, [("component", ["all blocks", *blocks]), ("probe", columns)], UNITS[name]))
    text = f"attention probe of relations on {examples_of(task, args.among)} ({ctx.split}): {len(held)} sentences, fitted on {n}\n"
    return Outcome(text=text + "\n".join(tables), measurements=tuple(out), arrays=tuple(arrays))


def _read(
    ctx: Context, name: str, pairs: Pairs, n: int, attention: Sequence[list[NDArray[Any]]], examples: Sequence[Example],
    blocks: Sequence[str], where: dict[str, Any],
) -> tuple[list[Measurement], NDArray[Any]]:  # fmt: skip
    """Accuracies on the pairs of the held-out sentences, of attention and of its controls."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = pairs.sentence < n
    groups = Groups.of([examples[s].group for s in pairs.sentence[~fitted]])
    truth, known = pairs.labels[~fitted], pairs.labels[fitted]
    if len(set(known)) < 2:
        raise ToolInputError(f"task: all arcs are {known[0]!r}: there is no relation to tell from another")
    shuffled = np.random.default_rng(ctx.seed).permutation(pairs.labels)

    def right(x: Rows, labels: NDArray[Any]) -> NDArray[np.float64]:
        ctx.check()
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, C=1.0))
        return (probe.fit(x[fitted], labels[fitted]).predict(x[~fitted]) == labels[~fitted]).astype(np.float64)

    apart = np.diff(pairs.words, axis=1)[:, 0]
    near = right(np.eye(int(apart.max()) + 1)[apart], pairs.labels)
    (base,) = shares(near, groups)
    values, counts = np.unique(known, return_counts=True)
    (most,) = shares((truth == values[counts.argmax()]).astype(np.float64), groups)
    unit, coordinates = UNITS[name], {**where, "variant": "attention probe"}
    out = [measured(f"{name}.majority", unit, most, **coordinates)]
    rows: list[list[float]] = []
    mine, other = (_features(a, pairs) for a in attention)
    for at, block in enumerate(["", *blocks]):
        x, y = ((m.reshape(len(m), -1) if not block else m[..., at - 1]) for m in (mine, other))
        here = (
            {**coordinates, "component": block}
            if block
            else {**coordinates, "variant": "attention probe of all blocks"}
        )
        own = right(x, pairs.labels)
        kinds = {"random_init": right(y, pairs.labels), "shuffled": right(x, shuffled)}
        (value,) = shares(own, groups)
        out.append(
            measured(name, unit, value, control=control_of(DISTANCE, base, differences(own, near, groups)[0]), **here)
        )
        for kind, found in kinds.items():
            (control,) = shares(found, groups)
            out.append(measured(f"{name}.{kind}", unit, control, **here))
            (gap,) = differences(own, found, groups)
            out.append(measured(f"{name}.beyond_{kind}", f"difference, {unit}", gap, **here))
        rows.append([value.value, base.value, float(kinds["shuffled"].mean()), float(kinds["random_init"].mean())])
    return out, np.array(rows)


def _arcs(trees: Sequence[Tree]) -> Pairs:
    """Every arc of every tree, with its relation."""
    found = [
        (s, min(i, h), max(i, h), t.relations[i])
        for s, t in enumerate(trees) for i, h in enumerate(t.heads.tolist()) if h >= 0
    ]  # fmt: skip
    return _pairs(found)


def _links(trees: Sequence[Tree], seed: int) -> Pairs:
    """The arcs of every tree and as many pairs of words without an arc, drawn at random; fewer where there are fewer."""
    rng, found = np.random.default_rng([seed, 0xA2C]), list[tuple[int, int, int, object]]()
    for s, t in enumerate(trees):
        rows, columns = np.triu_indices(len(t), 1)
        free = [p for p in zip(rows.tolist(), columns.tolist(), strict=True) if p not in t.arcs]
        drawn = rng.permutation(len(free))[: len(t.arcs)]
        found += [(s, i, j, 1) for i, j in sorted(t.arcs)] + [(s, *free[k], 0) for k in drawn]
    return _pairs(found)


def _pairs(found: Sequence[tuple[int, int, int, object]]) -> Pairs:
    places = np.array([row[:3] for row in found], dtype=np.int64)
    return Pairs(places[:, 0], places[:, 1:], np.array([row[3] for row in found]))


def _features(attention: Sequence[NDArray[Any]], pairs: Pairs) -> Float[np.ndarray, "pairs features blocks"]:
    """Attention between the words of each pair: every head's from the earlier to the later, then back."""
    rows = [
        np.concatenate([attention[s][i, j], attention[s][j, i]])
        for s, (i, j) in zip(pairs.sentence.tolist(), pairs.words.tolist(), strict=True)
    ]
    return np.stack(rows)


def _between(
    subject: Subject, stack: str, examples: Sequence[Example], trees: Sequence[Tree], max_tokens: int
) -> list[NDArray[Any]]:
    """How much every head looks from each word to each other, summed over the seen word's tokens, the mean over the other's."""
    spec = subject.spec(stack)
    out: list[Any] = [None] * len(examples)
    with subject.evaluating():
        for batch in microbatches(subject, examples, max_tokens):
            seen = patterns(subject, batch.inputs, spec.name, range(len(spec.blocks)))
            for row, index in enumerate(batch.indices):
                tree, weights = trees[index], seen[:, row]
                at = [span_positions(subject, examples[index], role, stack=spec.name) for role in tree.roles]
                keys = torch.stack([weights[..., a].sum(-1) for a in at], dim=-1)
                found = torch.stack([keys[..., a, :].mean(-2) for a in at], dim=-2)  # blocks, heads, words, words
                out[index] = found.permute(2, 3, 1, 0).cpu().numpy()
    return cast("list[NDArray[Any]]", out)
