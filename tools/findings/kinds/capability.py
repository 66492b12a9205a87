"""The model can do the task: it is right more often than the best guesser who knows the format."""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast
from tools.findings.kind import Bench, Kind, Nulls, tenth_of_task
from tools.ports import ANSWERS


def _measure(_: Statement, bench: Bench) -> Sequence[Contrast]:
    return [bench.effect(bench.above_chance, bench.smallest)]


def _sentence(s: Statement, _: Mapping[str, str] | None) -> str:
    what = f"{s.task}{f' ({s.among})' if s.among else ''}"
    right = "{accuracy} of unseen examples are right, chance {chance}"
    nearer = f"its {s.objective} is {{{s.objective}}} on unseen examples, a guesser's {{chance}}"
    return f"The model does {what}: {right if s.objective in ANSWERS else nearer}."


KIND = Kind(
    "capability", "the intact model does the task, above chance by a tenth of what there is to get", _measure, _sentence,
    capable=False, locates=False, least=tenth_of_task, unit="share of examples",
    nulls=Nulls.none("it is what the gate asks that is lifted there"),
)  # fmt: skip
