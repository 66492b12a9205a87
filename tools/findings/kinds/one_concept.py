"""A unit goes with the same in two corpora: what predicts it on the one predicts it on the other.

The opposite of `mixed`, on the same measure: the features fitted on each corpus explain, with a scale and an offset of the other,
a tenth of the unit's variance there, more than half of what that one's own explain, and more than for the best of 39 random
directions and of as many units of a model of random weights. It says nothing of corpora on which it was not tried.
"""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast
from tools.findings.kind import Bench, Kind, Nulls, tenth_of_examples
from tools.findings.kinds.mixed import UNIT, along, must_exceed, one_unit
from tools.findings.phrases import place


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    return must_exceed(s, bench, "carried")


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    return (
        f"{place(s, roles)}{along(s)} goes with the same in {s.task} and in {s.other_task}: what predicts it in either explains "
        "{effect} of its variance in the other{control}."
    )


KIND = Kind(
    "one_concept", "a unit's concept is the same on task and on other_task: what predicts it on the one does on the other",
    _measure, _sentence, needs=("components", "other_task"), allows=("label",), check=one_unit, capable=False,
    least=tenth_of_examples, unit=UNIT, locates=False,
    nulls=Nulls({"shuffled_answers": "it is about activations on the examples, whatever the answer"}),
)  # fmt: skip
