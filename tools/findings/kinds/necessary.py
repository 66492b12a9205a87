"""Each of the components is needed by itself: without it alone the model does worse, and worse than under its control."""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from experiments_db.places import display
from tools.findings.contrast import Contrast
from tools.findings.kind import Bench, Kind
from tools.findings.phrases import on_task, under
from tools.methods.effects import RANDOM_VECTOR, Condition


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    asked = [(c, how) for how in s.done for c in s.members]
    own = [Condition.of(c, how) for c, how in asked]
    noise = [Condition.of(c, how, control=1) for c, how in asked]
    bench.scores([*own, *noise])
    out: list[Contrast] = []
    for (c, how), mine, control in zip(asked, bench.scores(own), bench.scores(noise), strict=True):
        where = {"component": str(c), "intervention": str(how)}
        out.append(bench.effect(bench.difference(bench.intact, mine), bench.smallest, **where))
        out.append(bench.beyond(bench.tell_apart(control, mine), f"a {RANDOM_VECTOR}", **where))
    return out


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    assert s.set is not None
    place, one = display(s.set, roles), len(s.members) == 1
    return (
        f"{place[0].upper()}{place[1:]} {'is' if one else 'are each'} necessary {on_task(s)}: without {'it' if one else 'any one'} "
        f"({under(s)}) {{objective}} falls by {{effect}}; {{control}}."
    )


KIND = Kind(
    "necessary", "each component by itself is needed: removing it alone lowers the objective", _measure, _sentence,
    needs=("components",), interventions=("resample(donor)", "zero"),
)  # fmt: skip
