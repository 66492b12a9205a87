"""The model does not bear its layers run otherwise: under a layer program the objective falls by at least the smallest effect.

The counterpart of `tolerates`. It says nothing about these layers alone: any as many may be missed as much.
"""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast
from tools.findings.kind import Bench, Kind
from tools.findings.kinds.tolerates import parsed
from tools.findings.phrases import on_task
from tools.methods.effects import Condition


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    stack, _, program, how = parsed(s, bench)
    (mine,) = bench.scores([Condition(programs=((stack, program.blocks),))])
    return [bench.effect(bench.difference(bench.intact, mine), bench.smallest, intervention=how)]


def _sentence(s: Statement, _: Mapping[str, str] | None) -> str:
    return f"The model does not bear {s.program} {on_task(s)}: {{falls}} by {{effect}}."


KIND = Kind(
    "breaks", "under the layer program (skip 3, encoder: skip 4-5) the objective falls by at least the smallest effect",
    _measure, _sentence, needs=("program",),
)  # fmt: skip
