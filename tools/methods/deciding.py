"""A sweep that spends no more examples on a condition than it takes to decide: does it change the answers, or not?

All conditions begin with a few examples. After each look those whose interval says that the effect is beyond the smallest
that counts, or within it, are left as they are, and the others go on. The intervals hold at every look (`statistics.anytime`),
so that each decision is wrong at most as often as they are, however many looks it took. Looks and the order of the
examples are fixed before anything is measured. What was not found to be within is then compared with its control, on the
same examples: where nothing happens there is nothing that a control could explain. For exploring only: a finding is tested
on a number that was fixed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from experiments_db.records import Control, Measurement
from tools import statistics
from tools.engine.executor import SweepCost
from tools.engine.version import SPARING
from tools.methods.effects import Condition, variants_of
from tools.methods.measuring import Where, control_of, groups_of, measured
from tools.methods.scoring import score
from tools.methods.tool import Context, ToolInputError
from tools.ports import Objective, Scores
from tools.statistics import Estimate
from tools.tasks import Example, Task

Values = NDArray[np.float64]
Read = Callable[[Scores, Scores], Values]
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
    control: the objective's values, (n,) on the same examples; control is None where there is none or nothing to explain.
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
    *,
    read: Read | None = None,
) -> Decided:
    """Score conditions on ever more examples, each until its effect on the objective is decided, at most on all of them.

    controls: one for each condition, scored on the same examples where the condition does something (before version SPARING
    of the engine wherever it was scored). read: the objective's values of some scores beside those of the intact model,
    (n,) each, higher is better; by default what the objective reads of the scores alone. ToolInputError on the confirm
    split, and for an objective whose values have no known bounds.
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
    sweep = _Sweep(ctx, task, examples, [*conditions, *controls], objective, read or (lambda own, _: objective.of(own)))
    later = bool(controls) and ctx.subject.engine >= SPARING
    intact: list[Values] = []
    done: dict[int, tuple[Verdict, Estimate, int]] = {}
    for n in looks(len(examples)):
        open_ = [i for i in range(len(conditions)) if i not in done]
        if not open_:
            break
        ctx.progress(f"{len(open_)} of {len(conditions)} open, {n} examples")
        rows = [*open_, *(len(conditions) + i for i in open_ if controls and not later)]
        intact.append(sweep.look(rows, sum(map(len, intact)), n))
        base = np.concatenate(intact)
        own = np.stack([np.concatenate(sweep.values[i]) for i in open_])
        groups = groups_of([examples[i] for i in sweep.order[:n]])
        for i, effect in zip(open_, statistics.anytime(own - base, groups, bounds), strict=True):
            verdict = _verdict(effect, smallest)
            if verdict != "undecided" or n == len(examples):
                done[i] = verdict, effect, n
    if later:
        compared = {len(conditions) + i: n for i, (verdict, _, n) in done.items() if verdict != "within"}
        ctx.progress(f"{len(compared)} of {len(conditions)} beside their controls")
        sweep.beside(compared)
    base, k = np.concatenate(intact) if intact else np.zeros(0), len(conditions)
    own = [np.concatenate(v) for v in sweep.values[:k]]
    beside = [np.concatenate(v) if v else None for v in sweep.values[k:]] or [None] * k
    decisions = tuple(
        Decision(verdict, smallest, effect, own[i], base[:n], beside[i])
        for i, (verdict, effect, n) in sorted(done.items())
    )
    return Decided(decisions, base, tuple(examples[i] for i in sweep.order[: len(base)]), sweep.cost)


@dataclass
class _Sweep:
    """Conditions scored on a few examples at a time, in an order that the seed decides. values: those of each condition."""

    ctx: Context
    task: Task
    examples: Sequence[Example]
    conditions: Sequence[Condition]
    objective: Objective
    read: Read
    cost: SweepCost = field(default_factory=SweepCost)

    def __post_init__(self) -> None:
        n = len(self.examples)
        self.order: list[int] = np.random.default_rng([self.ctx.seed, n]).permutation(n).tolist()
        self.values: list[list[Values]] = [[] for _ in self.conditions]
        self._make = variants_of(self.ctx, self.examples, self.conditions)

    def look(self, rows: Sequence[int], first: int, end: int) -> Values:
        """Score these of the conditions on some more of the examples; the intact model's values there."""
        now = [self.conditions[r] for r in rows]
        found, spent = score(
            self.ctx.subject, self.examples, lambda batch: self._make(batch, now), choices=self.task.choices,
            max_tokens=self.ctx.max_tokens, among=self.order[first:end],
        )  # fmt: skip
        self.cost = self.cost + spent
        base, *scores = found
        for row, x in zip(rows, scores, strict=True):
            self.values[row].append(self._known(x, base))
        return self._known(base, base)

    def beside(self, until: Mapping[int, int]) -> None:
        """Score these of the conditions on as many examples as each is to have, in the looks that were taken before."""
        first = 0
        for n in looks(len(self.examples)):
            rows = [row for row, last in until.items() if last >= n]
            if rows:
                self.look(rows, first, n)
            first = n

    def _known(self, scores: Scores, intact: Scores) -> Values:
        values = self.read(scores, intact)
        if np.isnan(values).any():
            raise ToolInputError(f"some examples have no {self.objective.name}: use mode each")
        return values


def _verdict(effect: Estimate, smallest: float) -> Verdict:
    if effect.low > smallest or effect.high < -smallest:
        return "beyond"
    return "within" if effect.low > -smallest and effect.high < smallest else "undecided"


def decision_measurements(
    found: Decided,
    objective: Objective,
    wheres: Sequence[Where],
    where: Where,
    kinds: Sequence[str],
    *,
    of_intact: bool = True,
) -> list[Measurement]:
    """The objective and its change under each condition, beside their controls, with intervals that hold at every look.

    Each counts the examples that it took; `decided` says what came of it, and is left out where nothing did. kinds: what
    each condition's control is. of_intact: whether the intact model has a value too, from which there is a change.
    """
    assert objective.bounds is not None
    assert objective.difference_bounds is not None
    bounds, reach = objective.bounds, objective.difference_bounds
    out: list[Measurement] = []
    if of_intact:
        (intact,) = _estimated(found, [found.intact], objective, bounds)
        out.append(measured(objective.name, objective.unit, intact, program="intact", **_sequential(where)))
    ds = found.decisions
    values = _estimated(found, [d.own for d in ds], objective, bounds)
    changes = _estimated(found, [d.own - d.intact for d in ds], objective, reach)
    beside: list[tuple[Control | None, Control | None]] = [(None, None)] * len(ds)
    compared = [(i, d.control) for i, d in enumerate(ds) if d.control is not None]
    if compared:
        of_value = _estimated(found, [c for _, c in compared], objective, bounds)
        of_change = _estimated(found, [c - ds[i].intact for i, c in compared], objective, reach)
        apart = _estimated(found, [ds[i].own - c for i, c in compared], objective, reach)
        for (i, _), v, c, a in zip(compared, of_value, of_change, apart, strict=True):
            beside[i] = control_of(kinds[i], v, a), control_of(kinds[i], c, a)
    for d, at, value, change, (one, two) in zip(ds, wheres, values, changes, beside, strict=True):
        about = _sequential(at)
        out.append(measured(objective.name, objective.unit, value, control=one, **about))
        if of_intact:
            out.append(measured(f"{objective.name}.delta", objective.unit, change, control=two, **about))
        if d.verdict != "undecided":
            beyond = Estimate(float(d.verdict == "beyond"), -np.inf, np.inf, change.n, change.groups)
            out.append(measured(DECIDED, DECISION, beyond, **about))
    return out


def _sequential(where: Where) -> dict[str, Any]:
    """The same coordinates of a number that was looked at until it decided."""
    return {**where, "variant": ", ".join(filter(None, (where.get("variant"), SEQUENTIAL)))}


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
    names = [str(at["component"]) + (f" x {at['dose']:g}" if "dose" in at else "") for at in wheres]
    width, n = max(map(len, names)), len(found.intact)
    spent, each = sum(d.n for d in found.decisions), [d.n for d in found.decisions]
    lines = [
        f"{spent} examples in all, {min(each)} to {max(each)} a condition; {n} for every condition are {n * len(each)}"
    ]
    for name, d in zip(names, found.decisions, strict=True):
        inside = f"{d.effect.value:+.2f} [{d.effect.low:+.2f}, {d.effect.high:+.2f}]"
        lines.append(f"{name.ljust(width)}  {d.verdict:9}  {inside}  n={d.n}")
    return "\n".join(lines)
