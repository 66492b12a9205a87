"""The model cannot do the task: what it gets right beyond the best guesser is less than a tenth of what there is to get."""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import SMALLEST, Bench, Kind


def _measure(_: Statement, bench: Bench) -> Sequence[Contrast]:
    above = bench.intact.correct.astype(float) - bench.chance
    values = Quantity("accuracy above chance", "share of examples", above, (-bench.chance, 1 - bench.chance))
    most = bench.least(SMALLEST * (1 - bench.chance))
    return [Contrast("effect", "below", most, (values,), bench.groups)]


def _sentence(s: Statement, _: Mapping[str, str] | None) -> str:
    return f"The model cannot do {s.task}{f' ({s.among})' if s.among else ''}: right for {{accuracy}} of unseen examples, chance {{chance}}."


KIND = Kind(
    "cannot", "the intact model does not do the task beyond chance", _measure, _sentence, capable=False, stays=True, locates=False,
    standard=lambda b: SMALLEST * (1 - b.chance), unit="share of examples",
)  # fmt: skip
