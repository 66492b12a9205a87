"""A sweep that spends no more examples on a condition than it takes to decide: does it change the answers, or not?

All conditions begin with a few examples. After each look those whose interval says that the effect is beyond the smallest
that counts, or within it, are left as they are, and the others go on. The intervals hold at every look (`statistics.anytime`),
so that each decision is wrong at most as often as they are, however many looks it took. Looks and the order of the
examples are fixed before anything is measured. For exploring only: a finding is tested on a number that was fixed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from experiments_db.records import Control, Measurement
from tools import statistics
from tools.engine.executor import SweepCost
from tools.methods.effects import Condition, variants_of
from tools.methods.measuring import Where, control_of, groups_of, measured
from tools.methods.scoring import score
from tools.methods.tool import Context, ToolInputError
from tools.ports import Objective, Scores
from tools.statistics import Estimate
from tools.tasks import Example, Task

Values = NDArray[np.float64]
Verdict = Literal["beyond", "within", "undecided"]
FIRST = 8  # examples before the first look
USUAL_SHARE = 0.3  # of the examples that a condition may take, what it took on average in benchmarks.speed
SEQUENTIAL = "sequential"
DECIDED = "decided"
DECISION = "1: beyond the smallest effect, 0: within it"


@dataclass(frozen=True)
class Decision:
    """What was decided about one condition, and on which values.

    smallest: the smallest effect that counts. effect: mean change of the objective against the intact model. own, intact,
    control: the objective's values, (n,) on the same examples; control is None where there is none.
    """

    verdict: Verdict
    smallest: float
    effect: Estimate
    own: Values
    intact: Values
    control: Values | None = None

    @property
    def n(self) -> int:
        """How many examples it took."""
        return len(self.own)


@dataclass(frozen=True)
class Decided:
    """One decision a condition, and what the intact model gave for every example that was looked at. cost: of the sweeps."""

    decisions: tuple[Decision, ...]
    intact: Values
    examples: tuple[Example, ...]
    cost: SweepCost


def looks(most: int) -> list[int]:
    """Numbers of examples after which to look, up to `most`: 8, 12, 16, 24, 32, 48, 64, 96 ..."""
    found, n = {most}, FIRST
    while n < most:
        found |= {x for x in (n, 3 * n // 2) if x < most}
        n *= 2
    return sorted(found)


def decide(
    ctx: Context,
    task: Task,
    examples: Sequence[Example],
    conditions: Sequence[Condition],
    objective: Objective,
    smallest: float,
    controls: Sequence[Condition] = (),
) -> Decided:
    """Score conditions on ever more examples, each until its effect on the objective is decided, at most on all of them.

    controls: one for each condition, scored on the same examples. ToolInputError on the confirm split, and for an objective
    whose values have no known bounds.
    """
    if ctx.split == "confirm":
        raise ToolInputError(
            "mode decide stops when it has seen enough and is for exploring only: on confirm examples use mode each, whose "
            "number of examples is fixed"
        )
    bounds = objective.difference_bounds
    if objective.bounds is None or bounds is None:
        raise ToolInputError(
            f"mode decide needs values with known bounds, and {objective.name} has none: use mode each"
        )
    if smallest <= 0:
        raise ToolInputError(
            "mode decide needs a smallest effect above 0: this task leaves nothing to lose; use mode each"
        )
    order = np.random.default_rng([ctx.seed, len(examples)]).permutation(len(examples)).tolist()
    asked = [*conditions, *controls]
    make = variants_of(ctx, examples, asked)
    values: list[list[Values]] = [[] for _ in asked]
    intact: list[Values] = []
    done: dict[int, Decision] = {}
    cost, seen = SweepCost(), 0
    for n in looks(len(order)):
        open_ = [i for i in range(len(conditions)) if i not in done]
        if not open_:
            break
        rows = [*open_, *(len(conditions) + i for i in open_ if controls)]
        now = [asked[r] for r in rows]
        ctx.progress(f"{len(open_)} of {len(conditions)} open, {n} examples")
        found, spent = score(
            ctx.subject, examples, lambda batch, now=now: make(batch, now), choices=task.choices,
            max_tokens=ctx.max_tokens, among=order[seen:n],
        )  # fmt: skip
        cost, seen = cost + spent, n
        base, *scores = (_known(objective, s) for s in found)
        intact.append(base)
        for row, x in zip(rows, scores, strict=True):
            values[row].append(x)
        base = np.concatenate(intact)
        own = np.stack([np.concatenate(values[i]) for i in open_])
        groups = groups_of([examples[i] for i in order[:n]])
        for i, mine, effect in zip(open_, own, statistics.anytime(own - base, groups, bounds), strict=True):
            verdict = _verdict(effect, smallest)
            if verdict != "undecided" or n == len(order):
                other = np.concatenate(values[len(conditions) + i]) if controls else None
                done[i] = Decision(verdict, smallest, effect, mine, base, other)
    return Decided(
        tuple(done[i] for i in range(len(conditions))),
        np.concatenate(intact) if intact else np.zeros(0),
        tuple(examples[i] for i in order[:seen]),
        cost,
    )


def _known(objective: Objective, scores: Scores) -> Values:
    values = objective.of(scores)
    if np.isnan(values).any():
        raise ToolInputError(f"some examples have no {objective.name}: use mode each")
    return values


def _verdict(effect: Estimate, smallest: float) -> Verdict:
    if effect.low > smallest or effect.high < -smallest:
        return "beyond"
    return "within" if effect.low > -smallest and effect.high < smallest else "undecided"


def decision_measurements(
    found: Decided, objective: Objective, wheres: Sequence[Where], where: Where, kind: str
) -> list[Measurement]:
    """The objective and its change under each condition, beside their controls, with intervals that hold at every look.

    Each counts the examples that it took; `decided` says what came of it, and is left out where nothing did.
    """
    assert objective.bounds is not None
    assert objective.difference_bounds is not None
    bounds, reach = objective.bounds, objective.difference_bounds
    here = {**where, "variant": SEQUENTIAL}
    (intact,) = _estimated(found, [found.intact], objective, bounds)
    out = [measured(objective.name, objective.unit, intact, program="intact", **here)]
    ds = found.decisions
    values = _estimated(found, [d.own for d in ds], objective, bounds)
    changes = _estimated(found, [d.own - d.intact for d in ds], objective, reach)
    beside: list[tuple[Control | None, Control | None]] = [(None, None)] * len(ds)
    if ds[0].control is not None:
        controls = [d.control for d in ds if d.control is not None]
        of_value = _estimated(found, controls, objective, bounds)
        of_change = _estimated(found, [c - d.intact for c, d in zip(controls, ds, strict=True)], objective, reach)
        apart = _estimated(found, [d.own - c for c, d in zip(controls, ds, strict=True)], objective, reach)
        rows = zip(of_value, of_change, apart, strict=True)
        beside = [(control_of(kind, v, a), control_of(kind, c, a)) for v, c, a in rows]
    for d, at, value, change, (one, two) in zip(ds, wheres, values, changes, beside, strict=True):
        about: dict[str, Any] = {**at, "variant": SEQUENTIAL}
        out.append(measured(objective.name, objective.unit, value, control=one, **about))
        out.append(measured(f"{objective.name}.delta", objective.unit, change, control=two, **about))
        if d.verdict != "undecided":
            beyond = Estimate(float(d.verdict == "beyond"), -np.inf, np.inf, change.n, change.groups)
            out.append(measured(DECIDED, DECISION, beyond, **about))
    return out


def _estimated(
    found: Decided, rows: Sequence[Values], objective: Objective, bounds: tuple[float, float]
) -> list[Estimate]:
    """The mean of each row of values, as the objective is named, those on as many examples in one call."""
    out: dict[int, Estimate] = {}
    for n in {len(r) for r in rows}:
        mine = [i for i, r in enumerate(rows) if len(r) == n]
        stacked = objective.sign * np.stack([rows[i] for i in mine])
        out |= zip(mine, statistics.anytime(stacked, groups_of(found.examples[:n]), bounds), strict=True)
    return [out[i] for i in range(len(rows))]


def decisions_text(found: Decided, wheres: Sequence[Where]) -> str:
    """What was decided about each condition, how sure and on how many examples; and how many runs of an example it took."""
    names = [str(at["component"]) for at in wheres]
    width, n = max(map(len, names)), len(found.intact)
    spent, each = sum(d.n for d in found.decisions), [d.n for d in found.decisions]
    lines = [
        f"{spent} examples in all, {min(each)} to {max(each)} a condition; {n} for every condition are {n * len(each)}"
    ]
    for name, d in zip(names, found.decisions, strict=True):
        inside = f"{d.effect.value:+.2f} [{d.effect.low:+.2f}, {d.effect.high:+.2f}]"
        lines.append(f"{name.ljust(width)}  {d.verdict:9}  {inside}  n={d.n}")
    return "\n".join(lines)
