"""A set is needed together, and each member takes part: removing all lowers the objective, and leaving any one of them in its
place wins back at least the smallest effect that counts. A set in which fewer would do as much is not minimal, and fails.

Beside the random vector of the same size, other sets of as many components of the same parts, drawn from outside the set and
from what explore examples do not show to be needed alone, must do less than this one: sets that hold what is needed anyway
would be as destructive though the finding is true.
"""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from experiments_db.places import Component, ComponentSet, Intervention
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind, mean_of
from tools.findings.phrases import is_or_are, on_task, place
from tools.findings.spared import ALONE, spared
from tools.methods.effects import RANDOM_VECTOR, Condition
from tools.methods.tool import ToolInputError
from tools.ports import Scores

DRAWS = 5
POOL = 4  # times the set's size: among how many others the random sets are drawn


def _check(s: Statement) -> None:
    if len(s.members) < 2:
        raise ToolInputError("jointly_necessary is about two components or more; for one use necessary")


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    whole = s.set
    assert whole is not None
    random = bench.random_sets(len(s.members), spared(bench, bench.others(s.members), POOL * len(s.members)), DRAWS)
    without = [ComponentSet.of(*(m for m in s.members if m != out)) for out in s.members]
    every = [c for how in s.done for c in _conditions(whole, how, random, without)]
    bench.scores(every)
    out: list[Contrast] = []
    for how in s.done:
        (own, noise, *rest) = bench.scores(_conditions(whole, how, random, without))
        sets, fewer = rest[: len(random)], rest[len(random) :]
        where = {"component": str(whole), "intervention": str(how)}
        out.append(bench.effect(bench.difference(bench.intact, own), bench.smallest, **where))
        out.append(bench.beyond(bench.tell_apart(noise, own), f"a {RANDOM_VECTOR}", **where))
        if sets:
            beyond = tuple(_mean_difference(bench, n, sets, own) for n in bench.usual)
            out.append(bench.beyond(beyond, f"{len(sets)} other sets of as many components, {ALONE}", **where))
        for member, less in zip(s.members, fewer, strict=True):
            out.append(_part(bench, member, less, own, how))
    return out


def _conditions(
    whole: ComponentSet, how: Intervention, random: Sequence[ComponentSet], without: Sequence[ComponentSet]
) -> list[Condition]:
    return [
        Condition.of(whole, how), Condition.of(whole, how, control=1), *(Condition.of(r, how) for r in random),
        *(Condition.of(w, how) for w in without),
    ]  # fmt: skip


def _mean_difference(bench: Bench, name: str, sets: Sequence[Scores], own: Scores) -> Quantity:
    o = bench.objective_of(name)
    return Quantity(name, o.unit, mean_of([o.of(r) for r in sets]) - o.of(own), o.difference_bounds)


def _part(bench: Bench, member: Component, less: Scores, own: Scores, how: Intervention) -> Contrast:
    return Contrast(
        "control", "exceed", bench.smallest, (bench.difference(less, own),), bench.groups, component=str(member),
        intervention=str(how), control="the set without it",
    )  # fmt: skip


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    return (
        f"{place(s, roles)} {is_or_are(s)} necessary together {on_task(s)}: removed all at once, {{falls}} by {{effect}}{{control}}"
        "; none of them is superfluous: with any one left in its place it {worsens} by at least {smallest} less."
    )


KIND = Kind(
    "jointly_necessary", "removing all of the components makes the answers worse, and leaving any one out of the set does less",
    _measure, _sentence, needs=("components",), interventions=("resample(donor)", "zero"), check=_check,
)  # fmt: skip
