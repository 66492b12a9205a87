"""Measure how alike a model represents the same problems in different wordings, by component: does it bring two languages,
or two formats, to one form?

Examples of different tasks are parallel where they are of one group: one meaning in two languages, one sum in two formats.
Retrieval@1 is how often a problem's own partner is the nearest, by cosine of states that are centred for each task, among
candidates that take as many positions here and there, so that length tells nothing; both ways. CKA is linear and unbiased:
0 where nothing is shared. The control is the model with weights drawn anew; beside it stand chance, one over the
candidates, and a shuffled pairing that keeps the lengths. What is alike need not be used, and parts of the input that are the
same in both wordings are alike in any model. Source: Kornblith et al. 2019; Song et al. 2012; Libovicky et al. 2020.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from pydantic import Field

from experiments_db.records import Measurement, Outcome
from tools.methods.arguments import AMONG, DEPTH, check_size, components
from tools.methods.features import collect, random_twin
from tools.methods.layout import chosen_components
from tools.methods.measuring import average, averages, control_of, differences, load_examples, measured
from tools.methods.parallel import Parallel, parallel
from tools.methods.similarity import Retrieved, cka_of, gram, jackknifed, retrieve, same_cell, shuffled_within
from tools.methods.tables import as_array, text_table
from tools.methods.tool import Context, ToolArgs
from tools.statistics import Estimate, Groups

KIND: Literal["experiment"] = "experiment"
EXAMPLE = {
    "tasks": ["addition:shots=1", "addition:shots=3"],
    "components": ["resid_post@-1"],
    "examples": 64,
}
TWIN = "the same states of a model with weights drawn anew"
COLUMNS = ("retrieval", "random init", "shuffled", "chance", "CKA", "CKA random init", "CKA shuffled")
Pair = tuple[np.ndarray, np.ndarray]  # one component's states of two tasks, (n, channels) each
UNIT = "share of queries"


class Args(ToolArgs):
    """Arguments of rep_similarity."""

    tasks: list[str] = Field(
        min_length=2,
        max_length=6,
        description="tasks that pose the same problems in different wordings, such as translation:source=kel,target=tiv and "
        "translation:source=mun,target=tiv; every two of them are compared",
    )
    components: list[str] = components(["resid_post@all"], "what is compared; several positions are averaged")
    depth: int = DEPTH
    among: str = AMONG
    examples: int = Field(default=128, ge=16, le=512, description="how many examples of each task to use")


@dataclass(frozen=True)
class _Compared:
    """Two tasks at one component: states of the model, of its random twin, and of the model wrongly paired."""

    own: Pair
    twin: Pair
    shuffled: Pair
    cells: Sequence[object]

    def retrieved(self) -> tuple[Retrieved, Retrieved, Retrieved]:
        """Own, twin's and shuffled, of the same pairs."""
        candidates = same_cell(self.cells)
        own, twin, shuffled = (retrieve(*p, candidates) for p in (self.own, self.twin, self.shuffled))
        return own, twin, shuffled


def run(args: Args, ctx: Context) -> Outcome:
    """Compare every two tasks at every component."""
    sets = [load_examples(ctx, t, args.examples, args.among) for t in dict.fromkeys(args.tasks)]
    found = parallel(ctx.subject, sets)
    places = chosen_components(ctx.subject, args.components, [e for s in found.examples for e in s], args.depth)
    check_size(len(places), "components", 64)
    untrained = random_twin(ctx.subject, ctx.seed)
    states, random = (
        [collect(subject, examples, places, ctx.max_tokens) for examples in found.examples]
        for subject in (ctx.subject, untrained)
    )
    where: dict[str, Any] = {"split": ctx.split, "among": args.among or None}
    measurements: list[Measurement] = []
    rows: list[list[float]] = []
    for place in places:
        compared: list[_Compared] = []
        for a, b in combinations(range(len(sets)), 2):
            cells = found.cells((a, b), place.stack)
            order = shuffled_within(cells, ctx.seed)
            own, twin = ((s[a][place], s[b][place]) for s in (states, random))
            compared.append(_Compared(own, twin, (own[0], own[1][order]), cells))
        made, row = _measured(found, compared, {**where, "component": str(place)})
        measurements += made
        rows.append(row)
    labels, table = [str(p) for p in places], np.array(rows)
    about = f" among {args.among}" if args.among else ""
    text = (
        f"representations of {len(found.groups)} problems in {', '.join(found.names)}{about} ({ctx.split}); retrieval@1 of "
        "partners among candidates of the same lengths, both ways, and unbiased linear CKA\n"
    )
    return Outcome(
        text=text + text_table(labels, COLUMNS, table),
        measurements=tuple(measurements),
        arrays=(as_array("similarity", table, [("component", labels), ("measure", COLUMNS)]),),
    )


def _measured(
    found: Parallel, compared: Sequence[_Compared], where: dict[str, Any]
) -> tuple[list[Measurement], list[float]]:
    """Each direction of each pair of tasks, and the mean of all."""
    groups = found.groups
    all_of = " and ".join(found.names)
    retrieved = [c.retrieved() for c in compared]
    out: list[Measurement] = []
    for (a, b), triple in zip(combinations(found.names, 2), retrieved, strict=True):
        for first, second, way in ((a, b, "forth"), (b, a, "back")):
            own, twin, _ = (getattr(r, way) for r in triple)
            out.append(_retrieval(own, twin, Groups.of(groups[triple[0].pairs]), task=f"{first} to {second}", **where))
    own, twin, shuffled = (np.concatenate([t[i].both for t in retrieved]) for i in range(3))
    chance = np.concatenate([t[0].chance for t in retrieved])
    whose = Groups.of(np.concatenate([groups[t[0].pairs] for t in retrieved]))
    whole: dict[str, Any] = {"task": all_of, **where}
    out.append(_retrieval(own, twin, whose, **whole))
    out.append(measured("retrieval.shuffled", UNIT, average(shuffled, whose, (0.0, 1.0)), **whole))
    out.append(
        Measurement(
            name="retrieval.chance", unit=UNIT, value=float(chance.mean()), n=whose.n, groups=whose.count, **whole
        )
    )
    row = [float(x.mean()) for x in (own, twin, shuffled, chance)]
    alike, untrained, apart, wrong = _similarities(compared, Groups.of(groups))
    if np.isfinite(alike.value):
        beside = control_of(TWIN, untrained, apart) if np.isfinite(untrained.value) else None
        out.append(measured("cka", "unbiased linear CKA", alike, control=beside, **whole))
        out.append(measured("cka.shuffled", "unbiased linear CKA", wrong, **whole))
    return out, [*row, alike.value, untrained.value, wrong.value]


def _retrieval(own: np.ndarray, twin: np.ndarray, groups: Groups, **where: Any) -> Measurement:
    estimate, other = averages(np.stack([own, twin]), groups, (0.0, 1.0))
    (apart,) = differences(own, twin, groups, (-1.0, 1.0))
    return measured("retrieval", UNIT, estimate, control=control_of(TWIN, other, apart), **where)


def _similarities(compared: Sequence[_Compared], groups: Groups) -> list[Estimate]:
    """CKA, the mean over pairs of tasks: of the model, of its twin, the difference of the two, and shuffled."""
    grams = [[tuple(gram(x) for x in getattr(c, which)) for c in compared] for which in ("own", "twin", "shuffled")]

    def of(kept: np.ndarray) -> np.ndarray:
        at = np.ix_(kept, kept)
        own, twin, shuffled = (float(np.mean([cka_of(k[at], m[at]) for k, m in pairs])) for pairs in grams)
        return np.array([own, twin, own - twin, shuffled])

    return jackknifed(of, groups)
