"""The model can do the task: it is right more often than the best guesser who knows the format."""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind, Nulls, tenth_of_task


def _measure(_: Statement, bench: Bench) -> Sequence[Contrast]:
    above = bench.intact.correct.astype(float) - bench.chance
    values = Quantity("accuracy above chance", "share of examples", above, (-bench.chance, 1 - bench.chance))
    return [bench.effect(values, bench.smallest)]


def _sentence(s: Statement, _: Mapping[str, str] | None) -> str:
    what = f"{s.task}{f' ({s.among})' if s.among else ''}"
    return f"The model does {what}: {{accuracy}} of unseen examples are right, chance {{chance}}."


KIND = Kind(
    "capability", "the intact model does the task, above chance by a tenth of what there is to get", _measure, _sentence,
    capable=False, locates=False, least=tenth_of_task, unit="share of examples",
    nulls=Nulls.none("it is what the gate asks that is lifted there"),
)  # fmt: skip
