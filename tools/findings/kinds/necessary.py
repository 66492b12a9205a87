"""Each of the components is needed by itself: without it alone the model does worse, and worse than under its control."""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast
from tools.findings.kind import Bench, Kind
from tools.findings.phrases import is_or_are, on_task, place
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
    each, it = (", each by itself", "any one of them") if len(s.members) > 1 else ("", "it")
    return f"{place(s, roles)} {is_or_are(s)} necessary {on_task(s)}{each}: without {it} {{falls}} by {{effect}}{{control}}."


KIND = Kind(
    "necessary", "each component by itself is needed: removing it alone lowers the objective", _measure, _sentence,
    needs=("components",), each=True, interventions=("resample(donor)", "zero"),
)  # fmt: skip
