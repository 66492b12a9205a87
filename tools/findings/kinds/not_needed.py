"""None of the components is needed, alone or together: all of them removed at once, the model does as well, within a bound."""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast
from tools.findings.kind import Bench, Kind, Nulls
from tools.findings.phrases import at_once, is_or_are, on_task, place
from tools.methods.effects import Condition


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    assert s.set is not None
    conditions = [Condition.of(s.set, how) for how in s.done]
    return [
        Contrast(
            "effect", "stay", bench.smallest, (bench.difference(bench.intact, mine),), bench.groups, str(how), str(s.set)
        )
        for how, mine in zip(s.done, bench.scores(conditions), strict=True)
    ]  # fmt: skip


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    return (
        f"{place(s, roles)} {is_or_are(s)} not needed {on_task(s)}: removed{at_once(s)}, {{changes}} by {{effect}}, less than "
        "{smallest} either way."
    )


KIND = Kind(
    "not_needed", "removing all of the components at once changes the objective by less than the smallest effect", _measure,
    _sentence, needs=("components",), interventions=("resample(donor)", "zero"), stays=True, locates=False,
    nulls=Nulls.none("there nothing is needed, so that it is true"),
)  # fmt: skip
