"""What a kind of finding is, and the bench on which kinds measure: one file a kind in `kinds`, discovered."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from experiments_db.findings import Statement
from experiments_db.places import Component, ComponentSet, Intervention
from tools.engine.version import ONCE
from tools.findings.contrast import Contrast, Quantity, Values
from tools.methods.effects import Condition, score_under
from tools.methods.tool import Context, ToolInputError
from tools.ports import Objective, Port, Scores, objectives, port_of
from tools.tasks import Example, Task, chance_of

SMALLEST = 0.1  # of what separates the intact model from chance: what counts as an effect, and what as none
FIT = 256  # explore examples on which a probe or a direction is fitted, at least


@dataclass
class Bench:
    """One statement's examples on one subject, with the model's own scores.

    examples: those that the statement is about, on the split of the context.
    known: scores under the conditions run so far.
    """

    ctx: Context
    statement: Statement
    task: Task
    examples: Sequence[Example]
    known: dict[Condition, Scores] = field(default_factory=dict)

    @cached_property
    def objective(self) -> Objective:
        """The quantity that the statement is about."""
        return self.objective_of(self.statement.objective)

    @property
    def port(self) -> Port:
        """What knows how this subject answers."""
        return port_of(self.ctx.subject)

    def objective_of(self, name: str) -> Objective:
        """An objective by name. ToolInputError where this subject's answers have no such quantity."""
        known = self.port.objectives
        if name not in known:
            raise ToolInputError(f"objective {name!r}: {self.ctx.subject.name} is scored by {', '.join(known)}")
        return known[name]

    @property
    def right_or_wrong(self) -> bool:
        """Whether an answer of this subject is right or wrong; else it is nearer or farther."""
        return "accuracy" in self.port.objectives

    @property
    def above_chance(self) -> Quantity:
        """What the intact model gets beyond the best guesser, example by example."""
        if not self.right_or_wrong:
            o = self.objective
            return Quantity(f"{o.name} against a guess", o.unit, o.of(self.intact) - self.guessed())
        above = self.intact.correct.astype(float) - self.chance
        return Quantity("accuracy above chance", "share of examples", above, (-self.chance, 1 - self.chance))

    def guessed(self) -> float:
        """What a guesser who knows the format gets in the statement's objective."""
        return self.port.guess(self.objective, self.task, self.examples)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The independent problem of each example."""
        return tuple(e.group for e in self.examples)

    @cached_property
    def chance(self) -> float:
        """Accuracy of the best guesser that knows the format."""
        return chance_of(self.task, self.examples)

    @property
    def intact(self) -> Scores:
        """The model as it is."""
        return self.scores([Condition()])[0]

    @property
    def gap(self) -> float:
        """What separates the intact model from chance, in the objective.

        With the gate lifted, in either direction, example by example: for a model that does the task the same, and for one
        that does not as large as what it says by chance, so that a tenth of it can be reached there too.
        """
        values, chance = self.objective.of(self.intact), self.guessed()
        return float(np.nanmean(np.abs(values - chance))) if self.ctx.lifted else float(np.nanmean(values)) - chance

    @property
    def smallest(self) -> float:
        """The smallest effect that counts: the statement's own, or what its kind asks by itself."""
        return self.standard if self.statement.smallest is None else self.statement.smallest

    @property
    def standard(self) -> float:
        """The smallest effect that the statement's kind asks for by itself."""
        return kinds()[self.statement.kind].least(self)

    @cached_property
    def seen(self) -> Sequence[Example]:
        """Explore examples of the same class, to fit on what is tested on the bench's: another class's would tell less."""
        return self.task.examples("explore", max(FIT, self.statement.examples), self.ctx.seed)

    def scores(self, conditions: Sequence[Condition], directions: Mapping[str, Tensor] | None = None) -> list[Scores]:
        """Scores under conditions, all of those not yet known in one sweep; directions as in `score_under`.

        The intact model is scored once and by itself; before version ONCE of the engine it was along with every sweep.
        """
        new, intact = [c for c in dict.fromkeys(conditions) if c not in self.known], Condition()
        if new and self.ctx.subject.engine < ONCE:
            found = score_under(self.ctx, self.task, self.examples, new, directions=directions)
            self.known |= dict(zip([intact, *new], found, strict=True))
        elif new:
            if intact not in self.known:
                (self.known[intact],) = score_under(self.ctx, self.task, self.examples, [])
            if changed := [c for c in new if c != intact]:
                found = score_under(self.ctx, self.task, self.examples, changed, directions=directions, intact=False)
                self.known |= dict(zip(changed, found, strict=True))
        return [self.known[c] for c in conditions]

    def intact_on(self, examples: Sequence[Example]) -> Scores:
        """How the model as it is answers other examples, such as the twins."""
        return score_under(self.ctx, self.task, examples, [])[0]

    def difference(self, a: Scores, b: Scores) -> Quantity:
        """A minus b in the objective, example by example."""
        o = self.objective
        return Quantity(o.name, o.unit, o.of(a) - o.of(b), o.difference_bounds)

    def tell_apart(self, a: Scores, b: Scores) -> tuple[Quantity, ...]:
        """A minus b in each quantity by which a control can differ: accuracy, probability, and where there are foils margin."""
        names = list(self.usual)
        if not np.isnan(a.foil_margin).any() and len(set(self.groups)) >= 64:
            names.append("margin")
        return tuple(self.apart(n, a, b) for n in names)

    @property
    def usual(self) -> tuple[str, ...]:
        """The quantities in which controls are looked at: accuracy and probability where there are such, else the objective."""
        return tuple(n for n in ("accuracy", "probability") if n in self.port.objectives) or (self.statement.objective,)

    def apart(self, name: str, a: Scores, b: Scores | Sequence[Scores]) -> Quantity:
        """A minus b in an objective, example by example; of several b their mean."""
        o = self.objective_of(name)
        other = o.of(b) if isinstance(b, Scores) else mean_of([o.of(x) for x in b])
        return Quantity(name, o.unit, o.of(a) - other, o.difference_bounds)

    def effect(
        self, values: Quantity, bound: float, groups: Sequence[str] | None = None, /, *, component: str = "",
        intervention: str = "",
    ) -> Contrast:  # fmt: skip
        """An effect that must exceed a bound. groups: those of the values, where these are not one for each example."""
        return Contrast("effect", "exceed", bound, (values,), groups or self.groups, intervention, component)

    def beyond(
        self, quantities: tuple[Quantity, ...], control: str, least: float = 0.0, groups: Sequence[str] | None = None, /, *,
        component: str = "", intervention: str = "",
    ) -> Contrast:  # fmt: skip
        """What must differ from its control, by more than `least`, in any of several quantities; groups as in `effect`."""
        return Contrast("control", "exceed", least, quantities, groups or self.groups, intervention, component, control)

    def others(self, kept: Sequence[Component]) -> list[Component]:
        """Every component of the model of the same parts and anchors as these, without them."""
        layout: list[Component] = []
        for c in dict.fromkeys((k.stack, k.part, k.anchor, bool(k.units)) for k in kept):
            stack, part, anchor, single = c
            spec = self.ctx.subject.spec(stack)
            for block in range(len(spec.blocks)):
                units: Sequence[tuple[int, ...]] = [(h,) for h in range(spec.n_heads)] if single else [()]
                layout += [Component(stack=stack, block=block, part=part, units=u, anchor=anchor) for u in units]
        return [c for c in layout if c not in set(kept)]

    def random_sets(self, size: int, among: Sequence[Component], draws: int) -> list[ComponentSet]:
        """Sets of a size drawn from some components, distinct where there are enough; none where there are too few."""
        if len(among) < size:
            return []
        rng = np.random.default_rng([self.ctx.seed, size, len(among)])
        found: dict[str, ComponentSet] = {}
        for _ in range(20 * draws):
            made = ComponentSet.of(*(among[i] for i in rng.choice(len(among), size, replace=False)))
            found.setdefault(str(made), made)
            if len(found) == draws:
                break
        return list(found.values())


def tenth_of_gap(bench: Bench) -> float:
    """A tenth of what separates the intact model from chance, in the objective; 0 where it is no better than chance."""
    return max(0.0, SMALLEST * bench.gap)


def tenth_of_task(bench: Bench) -> float:
    """A tenth of what there is to get beyond chance: a share of examples, or of what a guesser misses in the objective."""
    return SMALLEST * (1 - bench.chance) if bench.right_or_wrong else SMALLEST * abs(bench.guessed())


def tenth_of_examples(_: Bench) -> float:
    """One example in ten."""
    return SMALLEST


Check = Callable[[Statement], None]
NULLS: tuple[str, str] = ("random_init", "shuffled_answers")


@dataclass(frozen=True)
class Nulls:
    """On which nulls a kind of finding is false, so that a test which confirms it there has erred.

    without: for each null on which it is not tested, why: there it is true anyway, or says what it says of the model itself.
    apart: why it may truly hold on a null of random weights; then what is confirmed there is shown apart, and is no error.
    """

    without: Mapping[str, str] = field(default_factory=dict[str, str])
    apart: str = ""

    @classmethod
    def none(cls, why: str) -> "Nulls":
        """Tested on no null."""
        return cls(dict.fromkeys(NULLS, why))


@dataclass(frozen=True)
class Kind:
    """One thing that can be claimed.

    says: in one line, for whoever states it. needs, allows: fields of a statement beyond kind and task. interventions: what
    it is tested under where nothing is said. twins, foils: examples need a twin of the same length and a foil, or a foil.
    capable: it means nothing for a model that cannot do the task. stays: the effect has to stay below the smallest that
    counts, so that a stricter statement names a smaller one. least: the smallest effect that counts where the statement does
    not ask for more; unit: its unit, where that is not the objective's. locates: it says where something is. each: of several
    components it says something of each by itself; else they are changed all at once. own: it is measured on sequences of its
    own, so that the task's examples are not run. nulls: where it is false, so that its test can be tried. measure: the contrasts
    that must all hold. sentence: what it says, with `{effect}` where the effect on unseen examples stands.
    """

    name: str
    says: str
    measure: Callable[[Statement, Bench], Sequence[Contrast]]
    sentence: Callable[[Statement, Mapping[str, str] | None], str]
    needs: tuple[str, ...] = ()
    allows: tuple[str, ...] = ()
    interventions: tuple[str, ...] = ()
    twins: bool = False
    foils: bool = False
    capable: bool = True
    stays: bool = False
    unit: str = ""
    locates: bool = True
    each: bool = False
    own: bool = False
    check: Check = lambda _: None
    least: Callable[[Bench], float] = tenth_of_gap
    nulls: Nulls = Nulls()

    def complete(self, statement: Statement) -> Statement:
        """The statement with this kind's interventions where none are given; ToolInputError where it cannot be meant."""
        if not statement.interventions and self.interventions:
            statement = statement.model_copy(update={"interventions": tuple(sorted(self.interventions))})
        given = {k for k, v in statement.as_json().items() if k not in COMMON and v != DEFAULTS[k]}
        missing = [n for n in self.needs if n not in given]
        foreign = sorted(given - {*self.needs, *self.allows, *(("interventions",) if self.interventions else ())})
        if missing or foreign:
            what = f"needs {missing[0]}" if missing else f"has no {foreign[0]}"
            takes = ", ".join(("task", *self.needs, *self.allows, *(("interventions",) if self.interventions else ())))
            raise ToolInputError(f"{self.name} {what}; it takes {takes} ({self.says})")
        self._check_interventions(statement)
        known = objectives()
        if statement.objective not in known:
            raise ToolInputError(f"objective {statement.objective!r} is unknown: use {', '.join(known)}")
        self.check(statement)
        return statement

    def _check_interventions(self, statement: Statement) -> None:
        """What is done has to remove what is there, or be what this kind is about: `scale(1)` would leave everything as it is."""
        mine = {(h.op, h.source) for h in map(Intervention.parse, self.interventions)}
        for how in statement.done:
            mixed = how.op == "resample" and how.dose is not None  # with a weight of 0 everything stays as it is
            if mixed or (how.op, how.source) not in REMOVALS | mine:
                removes = all((h.op, h.source) in REMOVALS for h in map(Intervention.parse, self.interventions))
                known = sorted({*self.interventions, *(("zero", "mean", "resample(donor)") if removes else ())})
                raise ToolInputError(f"{self.name} is not tested under {how}: interventions may be {', '.join(known)}")


REMOVALS = frozenset({("zero", ""), ("mean", ""), ("resample", "donor")})
COMMON = frozenset({"kind", "task", "among", "objective", "smallest", "examples"})
DEFAULTS = {n: f.default for n, f in Statement.model_fields.items()}


def kinds() -> dict[str, Kind]:
    """Every kind of finding by name: one for each module of `kinds`."""
    return dict(_kinds())


def kind_of(name: str) -> Kind:
    """A kind by its name; ToolInputError lists those there are."""
    known = kinds()
    if name not in known:
        raise ToolInputError(f"there is no kind of finding {name!r}; there are {', '.join(known)}")
    return known[name]


@cache
def _kinds() -> tuple[tuple[str, Kind], ...]:
    folder = Path(__file__).parent / "kinds"
    names = sorted(m.name for m in pkgutil.iter_modules([str(folder)]))
    modules = [importlib.import_module(f"tools.findings.kinds.{name}") for name in names]
    return tuple((m.KIND.name, m.KIND) for m in modules)


def mean_of(values: Sequence[Values]) -> Values:
    """The mean over draws, example by example."""
    return np.mean(np.stack(values), axis=0)
