"""Search for a smallest set of components that a task needs, greedily: a set whose removal breaks it (breaking), or a
set that alone keeps it when every other candidate is removed (sufficient).

One by one is not enough: where one component can stand in for another, neither is missed alone. The breaking search
first removes, at each step, the component whose removal hurts most given what is gone; then it puts back what is not
needed, so that the set is minimal: every member is missed within it. Broken is an accuracy, or whatever else answers are
judged by, below the half-way point between intact and chance; kept is one above 90% of intact. The control of a breaking
set is random sets of the same size from outside the candidates, or where there are none, random vectors in its place;
that of a sufficient one is random other candidates that are left alone. State the intervention.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, inf
from typing import Any, Literal

import numpy as np
from pydantic import Field

from experiments_db.places import Component, ComponentSet, Intervention
from experiments_db.records import Array, Control, Measurement, Outcome
from tools.methods.arguments import AMONG, EXAMPLES, INTERVENTION, InterventionName, components, intervention_of
from tools.methods.effects import RANDOM_VECTOR, Condition, score_under, with_donors
from tools.methods.layout import layout_of, select_components
from tools.methods.measuring import (
    ACCURACY,
    NLL,
    Quantity,
    control_of,
    effect_measurements,
    groups_of,
    load_examples,
    measured,
    over_draws,
    where_of,
)
from tools.methods.saying import examples_of
from tools.methods.tables import as_array
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.ports import Objective, Scores, port_of
from tools.statistics import Estimate, Groups
from tools.tasks import Example, Task

KIND: Literal["experiment"] = "experiment"
LOCALISES = True
EXAMPLE = {"task": "addition", "components": ["attn.out@answer"], "goal": "breaking", "intervention": "resample(donor)"}
RANDOM_SETS = 8
ALONE = "all other candidates removed"
Members = frozenset[Component]


class Args(ToolArgs):
    """Arguments of minimal_set."""

    task: str = Field(description="a task spec; see list_tasks")
    components: list[str] = components(
        ["attn.out@answer", "mlp.out@answer"], "the candidates that the sets are made of"
    )
    goal: Literal["breaking", "sufficient"] = Field(
        description="breaking: removing the set breaks the task; sufficient: removing every other candidate does not"
    )
    intervention: InterventionName = INTERVENTION
    members: list[str] = Field(
        default=[],
        description="score this set of candidates instead of searching, for example ['*.2.attn.z[0]@answer']",
    )
    max_size: int = Field(default=6, ge=1, le=24, description="give up beyond a set of this size")
    among: str = AMONG
    examples: int = EXAMPLES


@dataclass(frozen=True)
class _Search:
    """Scores sets of components; every call is one sweep over several sets."""

    ctx: Context
    args: Args
    task: Task
    examples: list[Example]
    parts: tuple[Component, ...]
    how: Intervention

    def without(self, sets: Sequence[Members], *, control: bool = False) -> list[Scores]:
        """How the model answers with each set removed; control: with random vectors of the same size in its place."""
        conditions = [
            Condition.of(ComponentSet.of(*s), self.how, control=int(control)) if s else Condition() for s in sets
        ]
        return score_under(self.ctx, self.task, self.examples, conditions)[1:]

    @property
    def judged(self) -> Objective:
        """What answers are judged by, turned so that more is better."""
        port = port_of(self.ctx.subject)
        return port.objectives[port.first]

    @property
    def right_or_wrong(self) -> bool:
        """Whether that is accuracy."""
        return self.judged.name == "accuracy"

    @property
    def quantity(self) -> Quantity:
        """The same as a quantity."""
        return ACCURACY if self.right_or_wrong else Quantity(self.judged.name, self.judged.unit, self.judged.of)

    @property
    def compared(self) -> tuple[Quantity, ...]:
        """What is measured beside its control."""
        return (
            (ACCURACY, NLL)
            if self.right_or_wrong
            else (Quantity(self.judged.name, self.judged.unit, self.judged.read),)
        )

    def value(self, scores: Scores) -> float:
        """What the search compares: accuracy, and among equals the loss, so that a tie is no accident of order."""
        if not self.right_or_wrong:
            return float(self.judged.of(scores).mean())
        return float(scores.correct.mean()) - 1e-6 * float(min(scores.nll.mean(), 1e4))

    def kept(self, own: float, chance: float) -> float:
        """At least so much is left where the task is kept."""
        return 0.9 * own if self.right_or_wrong else own - 0.1 * (own - chance)

    def measured(self, estimate: Estimate, **where: Any) -> Measurement:
        """A measurement, as the quantity is named."""
        sign, e = self.judged.sign, estimate
        low, high = sorted((sign * e.low, sign * e.high))
        turned = Estimate(sign * e.value, low, high, e.n, e.groups)
        return measured(self.judged.name, self.judged.unit, turned, **where)


def run(args: Args, ctx: Context) -> Outcome:
    """Search, and score the set found, the intact model and random sets of the same size."""
    task, loaded = load_examples(ctx, args.task, args.examples, args.among)
    parts = select_components(ctx.subject, args.components)
    _check(parts)
    how = intervention_of(args.intervention)
    examples, left_out = with_donors(ctx, loaded, parts, how)
    search = _Search(ctx, args, task, examples, tuple(parts), how)
    (intact,) = search.without([frozenset()])
    groups, chance = groups_of(examples), port_of(ctx.subject).guess(search.judged, task, examples)
    (own,) = search.quantity.estimates(search.judged.of(intact), groups)
    name, sign = search.judged.name, search.judged.sign
    if own.low <= chance:
        raise ToolInputError(
            f"the intact model cannot do {task.name}: {name} {sign * own.value:.2f}, chance {sign * chance:.2f}. There is no set "
            "to look for"
        )
    found, path = _found(search, own.value, chance)
    where = {**where_of(ctx, task, args.among), "intervention": str(how)}
    base = where_of(ctx, task, args.among)
    measurements = [
        search.measured(own, program="intact", **base),
        _plain("chance", search.judged.unit, sign * chance, groups, base),
        _plain("size", "components; 0 is none found", float(len(found or ())), groups, where),
    ]
    lines = [
        f"{args.goal} set for {examples_of(task, args.among)}, "
        f"of {len(parts)} candidates ({how}, {ctx.split}, n={len(examples)}): intact "
        f"{name} {sign * own.value:.2f}, chance {sign * chance:.2f}"
    ]
    lines += [f"  {_name(s) or 'nothing'}: {sign * a:.2f}" for s, a in path]
    if found is None:
        lines.append(f"no {args.goal} set of at most {args.max_size} was found")
    else:
        judged = _judged(search, found, intact, groups, where)
        lines.append(f"found {_name(found)}")
        lines += [_line(m, args.goal) for m in judged if m.name == name]
        measurements += judged
    return Outcome(
        text="\n".join(lines) + left_out, measurements=tuple(measurements), arrays=(_array(path, search.judged),)
    )


def _check(parts: Sequence[Component]) -> None:
    """ToolInputError where one candidate holds another, so that a set would change the same thing twice."""
    wholes = {c.but(units=()) for c in parts if not c.units}
    inside = next((c for c in parts if c.units and c.but(units=()) in wholes), None)
    blocks = {(c.stack, c.block, c.anchor) for c in parts if c.part == "block"}
    other = next((c for c in parts if c.part != "block" and (c.stack, c.block, c.anchor) in blocks), None)
    if inside or other:
        raise ToolInputError(f"components: {inside or other} is part of another candidate: name each place once")


def _plain(name: str, unit: str, value: float, groups: Groups, where: dict[str, Any]) -> Measurement:
    return Measurement(name=name, unit=unit, value=value, n=groups.n, groups=groups.count, **where)


def _line(m: Measurement, goal: str) -> str:
    control = f", {m.control.kind} {m.control.value:.2f}" if m.control else ""
    return f"  {m.name} with {m.component} {'removed' if goal == 'breaking' else 'alone left'}: {m.value:.2f}{control}"


def _name(members: Members | tuple[Component, ...]) -> str:
    return str(ComponentSet.of(*members)) if members else ""


Path = list[tuple[tuple[Component, ...], float]]


def _found(search: _Search, own: float, chance: float) -> tuple[Members | None, Path]:
    """The set: the one given, or the one that the search finds."""
    args = search.args
    if args.members:
        given = select_components(search.ctx.subject, args.members, "members")
        unknown = [c for c in given if c not in search.parts]
        if unknown:
            raise ToolInputError(f"members: {unknown[0]} is none of the candidates {', '.join(map(str, search.parts))}")
        return frozenset(given), []
    return (
        _breaking(search, (own + chance) / 2)
        if args.goal == "breaking"
        else _sufficient(search, search.kept(own, chance))
    )


def _breaking(search: _Search, broken: float) -> tuple[Members | None, Path]:
    """Add the most harmful component until the task breaks; then drop every member that is not needed for that."""
    chosen: tuple[Component, ...] = ()
    path: Path = []
    reached = inf
    while reached >= broken:
        rest = [p for p in search.parts if p not in chosen]
        if not rest or len(chosen) >= search.args.max_size:
            return None, path
        values = [search.value(s) for s in search.without([frozenset((*chosen, p)) for p in rest])]
        best = int(np.argmin(values))
        chosen, reached = (*chosen, rest[best]), values[best]
        path.append((chosen, reached))
    found = list(chosen)
    for member in chosen[:-1]:
        less = frozenset(found) - {member}
        left = search.value(search.without([less])[0]) if less else inf
        if left < broken:
            found.remove(member)
            path.append((tuple(found), left))
    return frozenset(found), path


def _sufficient(search: _Search, kept: float) -> tuple[Members | None, Path]:
    """Remove the least needed component as long as the task is kept."""
    left = list(search.parts)
    path: Path = []
    while left:
        gone = frozenset(search.parts) - set(left)
        values = [search.value(s) for s in search.without([gone | {p} for p in left])]
        best = int(np.argmax(values))
        if values[best] < kept:
            break
        del left[best]
        path.append((tuple(left), values[best]))
    return (frozenset(left), path) if len(left) <= search.args.max_size else (None, path)


def _judged(
    search: _Search, found: Members, intact: Scores, groups: Groups, where: dict[str, Any]
) -> list[Measurement]:
    """The set beside its control; and each member's own share in it: the accuracy of the set without that member."""
    breaking = search.args.goal == "breaking"
    everything = frozenset(search.parts)
    removed = found if breaking else everything - found
    place = {**where, "component": _name(found), "variant": None if breaking else ALONE}
    sets = random_sets(_others(search, found), len(found), RANDOM_SETS, search.ctx.seed)
    members = sorted(found) if len(found) > 1 else []
    within = [found - {m} for m in members]
    drawn = sets if breaking else [everything - s for s in sets]
    gone = within if breaking else [everything - s for s in within]
    mine, *rest = search.without([removed, *drawn, *gone])
    if sets:
        kind = f"{len(sets)} random {'set' if len(sets) == 1 else 'sets'} of the same size, " + (
            "outside the candidates" if breaking else "of other candidates"
        )
        beside = _beside_draws(search, mine, rest[: len(sets)], intact, groups, kind)
        made = [
            m.model_copy(update={"control": beside.get(m.name)})
            for m in effect_measurements(intact, [mine], [place], groups)
        ]
    elif breaking:
        noise = search.without([removed], control=True)
        made = effect_measurements(intact, [mine], [place], groups, noise, RANDOM_VECTOR)
    else:
        made = effect_measurements(intact, [mine], [place], groups)
    for less, s in zip(within, rest[len(sets) :], strict=True):
        (estimate,) = search.quantity.estimates(search.judged.of(s), groups)
        made.append(search.measured(estimate, **{**place, "component": _name(less)}))
    return made


def _others(search: _Search, found: Members) -> list[Component]:
    """What random sets are drawn from: for a breaking set what lies outside the candidates, of the same parts and anchors."""
    if search.args.goal == "sufficient":
        return [p for p in search.parts if p not in found]
    layout = layout_of(search.ctx.subject)
    out: dict[Component, None] = {}
    for part in found:
        spec = layout.stack(part.stack)
        for block in range(len(spec.blocks)):
            if part.part not in spec.parts_of(block):
                continue
            units = range(spec.size(block, part.part)) if part.units else [None]
            out |= {part.but(block=block, units=() if u is None else (u,)): None for u in units}
    wholes = {c.but(units=()) for c in search.parts}
    return [c for c in out if c not in search.parts and (c.units or c not in wholes)]


def random_sets(others: Sequence[Component], size: int, count: int, seed: int) -> list[Members]:
    """At most `count` different random sets of a size; all there are where these are fewer, none where there are none."""
    if size < 1 or size > len(others):
        return []
    if comb(len(others), size) <= count:
        return [frozenset(s) for s in combinations(others, size)]
    rng = np.random.default_rng(seed)
    found: dict[Members, None] = {}
    while len(found) < count:
        found[frozenset(others[int(i)] for i in rng.choice(len(others), size, replace=False))] = None
    return list(found)


def _beside_draws(
    search: _Search, mine: Scores, draws: Sequence[Scores], intact: Scores, groups: Groups, kind: str
) -> dict[str, Control]:
    """Controls by quantity, from the random sets, with the variation between them in their intervals."""
    out: dict[str, Control] = {}
    for q in search.compared:
        rows, own, base = np.stack([q.of(s) for s in draws]), q.of(mine), q.of(intact)
        apart = over_draws(own - rows, groups, q.reach)
        out[q.name] = control_of(kind, over_draws(rows, groups, q.bounds), apart)
        out[f"{q.name}.delta"] = control_of(kind, over_draws(rows - base, groups, q.reach), apart)
    return out


def _array(path: Path, judged: Objective) -> Array:
    """What is left along the search."""
    labels = [_name(s) or "nothing" for s, _ in path] or ["none"]
    return as_array("search", judged.sign * np.array([a for _, a in path] or [0.0]), [("set", labels)], judged.unit)
