"""The model cannot do the task: what it gets right beyond the best guesser is less than a tenth of what there is to get."""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast
from tools.findings.kind import Bench, Kind, Nulls, tenth_of_task
from tools.ports import ANSWERS


def _measure(_: Statement, bench: Bench) -> Sequence[Contrast]:
    return [Contrast("effect", "below", bench.smallest, (bench.above_chance,), bench.groups)]


def _sentence(s: Statement, _: Mapping[str, str] | None) -> str:
    what = f"{s.task}{f' ({s.among})' if s.among else ''}"
    right = "{accuracy} of unseen examples are right, chance {chance}"
    nearer = f"its {s.objective} is {{{s.objective}}} on unseen examples, a guesser's {{chance}}"
    return f"The model cannot do {what}: {right if s.objective in ANSWERS else nearer}."


KIND = Kind(
    "cannot", "the intact model does the task no better than chance, within a tenth of what there is to get", _measure, _sentence,
    capable=False, stays=True, locates=False, least=tenth_of_task, unit="share of examples",
    nulls=Nulls.none("there it is true"),
)  # fmt: skip
