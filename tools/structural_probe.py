"""Look for a tree in activations: a linear map under which squared distances of words are distances in their tree.

A second map makes squared norms depths. Both are fitted on some sentences and scored on others (Hewitt and Manning 2019), for
every component at once. The tree is in the labels of the example's spans, as in the tasks trees and bracket_trees. Beside
every component stand the same probe on a randomly initialised twin and on random trees (those of other sentences of the
same length), and the activations under no map; besides, the same probe of the words' positions alone, and plain distance in
words. A tree is there only if the probe beats them all: for each control the paired difference has its interval.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from experiments_db.places import Component
from experiments_db.records import Array, Measurement, Outcome
from tools.methods.arguments import AMONG, components
from tools.methods.features import random_twin
from tools.methods.layout import chosen_components
from tools.methods.measuring import averages, control_of, differences, fit_and_score, groups_of, measured, where_of
from tools.methods.saying import examples_of
from tools.methods.structural import RANK, STEPS, StructuralProbe, fit, squared_distances, word_distances, word_places
from tools.methods.tables import as_array, text_table
from tools.methods.tool import Context, ToolArgs
from tools.methods.trees import MEASURES, Tree, random_trees, scores, with_trees, word_states
from tools.statistics import Groups

KIND: Literal["experiment"] = "experiment"
NEEDS = "trees"
EXAMPLE = {
    "task": "bracket_trees",
    "components": ["*.0,3.resid_post@all"],
    "rank": 16,
    "examples": 96,
    "steps": 60,
}
TRAIN_SHARE = 0.7
UNITS = {
    "distance_spearman": "Spearman over pairs of words",
    "uuas": "share of arcs",
    "depth_spearman": "Spearman over words",
    "root": "share of sentences",
}
BOUNDS = {"distance_spearman": (-1.0, 1.0), "uuas": (0.0, 1.0), "depth_spearman": (-1.0, 1.0), "root": (0.0, 1.0)}
POSITION, WORDS = "the same probe of positions alone", "distance in words"
TWIN, RANDOM, UNTRAINED = "random-init twin", "random trees", "untrained map"
Values = Mapping[str, NDArray[np.float64]]  # by measure, one value a sentence


class Args(ToolArgs):
    """Arguments of structural_probe."""

    task: str = Field(description="a task whose examples have a tree over their spans; see list_tasks")
    components: list[str] = components(["resid_post@all"], "what the tree is read from, at all words")
    rank: int = Field(default=RANK, ge=1, le=1024, description="dimensions of the space that activations are mapped to")
    steps: int = Field(default=STEPS, ge=10, le=2000, description="steps of the fit")
    among: str = AMONG
    examples: int = Field(
        default=440,
        ge=40,
        le=4096,
        description="how many examples to use; with fewer than 280 to fit on, its own errors are large",
    )


def run(args: Args, ctx: Context) -> Outcome:
    """Fit and score every component, and every control."""
    task, fitted, scored = fit_and_score(ctx, args.task, args.examples, TRAIN_SHARE, args.among)
    (fitted, train), (scored, held) = with_trees(fitted), with_trees(scored)
    examples, trees = [*fitted, *scored], [*train, *held]
    places = chosen_components(ctx.subject, args.components, examples)
    own = word_states(ctx.subject, examples, trees, places, ctx.max_tokens)
    twin = word_states(random_twin(ctx.subject, ctx.seed), examples, trees, places, ctx.max_tokens)
    rows, groups = sum(map(len, train)), groups_of(scored)
    shuffled = random_trees(trees, ctx.seed)

    def probed(x: NDArray[Any], wanted: list[Tree]) -> tuple[Values, StructuralProbe]:
        rank = min(args.rank, x.shape[1])
        probe = fit(x[:rows], wanted[: len(train)], rank, args.steps, ctx.seed, ctx.check)
        asked, new = wanted[len(train) :], x[rows:]
        return scores(asked, probe.distances(new, asked), probe.depths(new, asked)), probe

    where = {**where_of(ctx, task, args.among), "variant": "structural probe"}
    longest = max(map(len, trees))
    plain = {POSITION: probed(word_places(trees, longest), trees)[0], WORDS: scores(held, word_distances(held), None)}
    out = [
        measured(f"{name}.{_short(kind)}", UNITS[name], e, **where)
        for kind, found in plain.items() for name in found for e in averages(found[name], groups, BOUNDS[name])
    ]  # fmt: skip
    found: dict[Component, tuple[Values, dict[str, Values], StructuralProbe]] = {}
    for place in places:
        ctx.progress(str(place))
        mine, probe = probed(own[place], trees)
        beside = {
            **plain,
            TWIN: probed(twin[place], trees)[0],
            RANDOM: probed(own[place], shuffled)[0],
            UNTRAINED: scores(held, squared_distances(own[place][rows:], held), _norms(own[place], rows, held)),
        }
        out += _measurements(mine, beside, groups, {**where, "component": str(place)})
        found[place] = mine, beside, probe
    arrays = [*_by_place(found), *_pythagorean(found, own, rows, held)]
    head = (
        f"structural probe (rank {args.rank}) on {examples_of(task, args.among)} ({ctx.split}): {len(held)} sentences of "
        f"{min(map(len, held))} to {max(map(len, held))} words, fitted on {len(train)}\n"
    )
    return Outcome(text=head + _tables(found, groups), measurements=tuple(out), arrays=tuple(arrays))


def _norms(x: NDArray[Any], rows: int, held: list[Tree]) -> list[NDArray[Any]]:
    """Squared norms of the states themselves."""
    norms = (x[rows:].astype(np.float64) ** 2).sum(-1)
    return np.split(norms, np.cumsum([len(t) for t in held])[:-1])


def _short(kind: str) -> str:
    return {POSITION: "position", WORDS: "words", TWIN: "random_init", RANDOM: "random_trees", UNTRAINED: "untrained"}[
        kind
    ]


def _measurements(
    mine: Values, beside: Mapping[str, Values], groups: Groups, where: dict[str, Any]
) -> list[Measurement]:
    """Every measure beside the control of positions alone, every control of its own, and what sets the two apart."""
    out: list[Measurement] = []
    for name in MEASURES:
        (low, high), unit = BOUNDS[name], UNITS[name]
        (value,) = averages(mine[name], groups, (low, high))
        for kind, other in beside.items():
            if name not in other:
                continue
            (base,) = averages(other[name], groups, (low, high))
            (apart,) = differences(mine[name], other[name], groups, (low - high, high - low))
            if kind == POSITION:
                out.append(measured(name, unit, value, control=control_of(kind, base, apart), **where))
            elif kind != WORDS:
                out.append(measured(f"{name}.{_short(kind)}", unit, base, **where))
            out.append(measured(f"{name}.beyond", f"difference, {unit}", apart, **{**where, "variant": _short(kind)}))
    return out


def _by_place(found: Mapping[Component, tuple[Values, dict[str, Values], StructuralProbe]]) -> list[Array]:
    """Each measure by component, beside its controls: what a curve by depth is drawn from."""
    out: list[Array] = []
    for name in MEASURES:
        kinds = [k for k in next(iter(found.values()))[1] if name in next(iter(found.values()))[1][k]]
        table = np.array([[m[name].mean(), *(b[k][name].mean() for k in kinds)] for m, b, _ in found.values()])
        axes = [("component", list(found)), ("probe", ["structural probe", *kinds])]
        out.append(as_array(name, table, axes, UNITS[name]))
    return out


def _pythagorean(
    found: Mapping[Component, tuple[Values, dict[str, Values], StructuralProbe]], own: Mapping[Component, NDArray[Any]],
    rows: int, held: list[Tree],
) -> list[Array]:  # fmt: skip
    """Squared distance under the map against distance in the tree: its mean and deviation over pairs of each tree distance.

    A tree is embedded as Coenen et al. 2019 call Pythagorean where the mean is the tree distance itself.
    """
    true = np.concatenate([t.distances()[np.triu_indices(len(t), 1)] for t in held])
    steps = np.unique(true)
    means, spreads = np.zeros((2, len(found), len(steps)))
    for i, (place, (_, _, probe)) in enumerate(found.items()):
        drawn = probe.distances(own[place][rows:], held)
        pairs = np.concatenate([d[np.triu_indices(len(d), 1)] for d in drawn])
        means[i] = [pairs[true == k].mean() for k in steps]
        spreads[i] = [pairs[true == k].std() for k in steps]
    axes = [("component", list(found)), ("tree distance", [int(k) for k in steps])]
    counts = np.array([int((true == k).sum()) for k in steps])
    return [
        as_array("squared_distance", means, axes, "edges"),
        as_array("squared_distance.deviation", spreads, axes, "edges"),
        as_array("pairs", counts, axes[1:], "pairs of words"),
    ]


def _tables(found: Mapping[Component, tuple[Values, dict[str, Values], StructuralProbe]], groups: Groups) -> str:
    """A table for each measure, and where the probe beats all its controls."""
    parts: list[str] = []
    for array in _by_place(found):
        table = np.frombuffer(array.data, "<f8").reshape(array.shape)
        parts.append(f"{array.name}\n" + text_table(array.axes[0].labels, array.axes[1].labels, table))
    for name in MEASURES:
        best = [str(p) for p, (m, b, _) in found.items() if _beats(name, m, b, groups)]
        parts.append(f"{name} is beyond every control at {', '.join(best) or 'no component'}")
    return "\n".join(parts)


def _beats(name: str, mine: Values, beside: Mapping[str, Values], groups: Groups) -> bool:
    low, high = BOUNDS[name]
    apart = [
        differences(mine[name], b[name], groups, (low - high, high - low))[0] for b in beside.values() if name in b
    ]
    return all(np.isfinite(a.low) and a.low > 0 for a in apart)
