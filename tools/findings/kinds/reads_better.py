"""From one component linear probes read one label, or family of labels, better than another.

Both are fitted on the same explore examples and tried on the same others. The difference has to be more than what models of the
same kind with weights drawn anew give: what is easier to read from any activations is so there too. Of a board, for instance,
whose a square is against which colour it has (Nanda et al. 2023).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind, Nulls, mean_of, tenth_of_examples
from tools.findings.kinds.decodable import fitted_and_tried, share_read
from tools.findings.null_twins import null_twin
from tools.findings.phrases import on_task, place, within
from tools.methods.batched_probes import Labels
from tools.methods.features import collect, labels_named, labels_of
from tools.methods.tool import ToolInputError
from tools.subjects import Subject

TWINS = 2
UNIT = "share of labels"


def _pair(s: Statement) -> tuple[str, str]:
    names = [n.strip() for n in s.label.split(",")]
    if len(names) != 2 or names[0] == names[1] or not all(names):
        raise ToolInputError(f"label: reads_better compares two labels, as in 'side.*, colour.*', not {s.label!r}")
    return names[0], names[1]


def _check(s: Statement) -> None:
    if len(s.set or ()) != 1:
        raise ToolInputError("reads_better is about one component")
    _pair(s)


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    assert s.set is not None
    component, ctx = s.set.one, bench.ctx
    both, n = fitted_and_tried(bench)
    pair = [Labels.of({name: labels_of(both, name) for name in labels_named(both, label)}) for label in _pair(s)]

    def difference(subject: Subject) -> np.ndarray:
        x = collect(subject, both, [component], ctx.max_tokens)[component]
        first, second = (share_read(x, labels, n) for labels in pair)
        return first - second

    own = difference(ctx.subject)
    blind = mean_of([difference(null_twin(ctx.subject, seed=ctx.seed + i)) for i in range(TWINS)])
    where = {"component": str(component)}
    beyond = Quantity("accuracy", UNIT, own - blind, (-2.0, 2.0))
    return [
        bench.effect(Quantity("accuracy", UNIT, own, (-1.0, 1.0)), bench.smallest, **where),
        bench.beyond((beyond,), f"the mean of {TWINS} models with random weights", bench.smallest, **where),
    ]


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    first, second = _pair(s)
    return (
        f"Linear probes of {within(place(s, roles))} read {first} better than {second} {on_task(s)}: {{effect}} more are right, of "
        "unseen examples{control}."
    )


KIND = Kind(
    "reads_better", "linear probes read the first of two labels better than the second from the component", _measure, _sentence,
    needs=("components", "label"), check=_check, capable=False, least=tenth_of_examples, unit=UNIT,
    nulls=Nulls({"shuffled_answers": "labels and activations are there what they were"}),
)  # fmt: skip
