"""Two interventions at the same place say different things: removing it in one way costs more than in the other, by more than
the smallest effect, and by more than random vectors of the two changes' norms do.

`label` names the intervention that costs more, so that the direction is stated before it is tested.
"""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from experiments_db.places import Intervention, PlaceError
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind
from tools.findings.phrases import at_once, how_words, is_or_are, on_task, place, within
from tools.methods.effects import Condition
from tools.methods.tool import ToolInputError


def _pair(s: Statement) -> tuple[Intervention, Intervention]:
    """(the one that costs more, the other)."""
    try:
        more = Intervention.parse(s.label)
    except PlaceError:
        more = None
    if len(s.done) != 2 or more not in s.done:
        raise ToolInputError(
            "disagree is about two interventions, and label names the one that costs more: interventions "
            "resample(donor) and zero, label zero"
        )
    return more, next(h for h in s.done if h != more)


def _check(s: Statement) -> None:
    _pair(s)


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    assert s.set is not None
    more, less = _pair(s)
    conditions = [Condition.of(s.set, how, control=c) for c in (0, 1) for how in (more, less)]
    one, other, noise_one, noise_other = bench.scores(conditions)
    where = {"component": str(s.set), "intervention": str(more)}
    apart, noise = bench.difference(other, one), bench.difference(noise_other, noise_one)
    bounds = None if apart.bounds is None else (2 * apart.bounds[0], 2 * apart.bounds[1])
    beyond = Quantity(apart.name, apart.unit, apart.values - noise.values, bounds)
    return [
        bench.effect(apart, bench.smallest, **where),
        bench.beyond((beyond,), "random vectors of the two changes' norms", **where),
    ]


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    more, less = _pair(s)
    return (
        f"It matters how {within(place(s, roles))} {is_or_are(s)} removed{at_once(s)}, {on_task(s)}: {how_words(more)}, it costs "
        f"{{bare}} more {{cost}} than {how_words(less)}{{control}}."
    )


KIND = Kind(
    "disagree", "removing the components in one way (label) costs more than in the other, by at least the smallest effect",
    _measure, _sentence, needs=("components", "label"), interventions=("resample(donor)", "zero"), check=_check,
)  # fmt: skip
