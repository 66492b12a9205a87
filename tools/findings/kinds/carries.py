"""The place carries what separates an example from its twin: with the twin's activation there, the answer goes over.

Zhang and Nanda 2023 (activation patching, noising). The smallest effect is a share of examples.
"""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind, tenth_of_examples
from tools.findings.phrases import at_once, is_or_are, on_task, place
from tools.methods.effects import RANDOM_VECTOR, Condition
from tools.ports import flipped


def moved(s: Statement, bench: Bench) -> tuple[Quantity, Quantity, dict[str, str]]:
    """(what goes over, and what more than under the control, example by example; where)."""
    assert s.set is not None
    own, noise = (Condition.of(s.set, "resample(twin)", control=c) for c in (0, 1))
    mine, control = bench.scores([own, noise])
    over = Quantity("flipped", "share of examples", flipped(mine) - flipped(bench.intact), (-1.0, 1.0))
    apart = Quantity("flipped", "share of examples", flipped(mine) - flipped(control), (-1.0, 1.0))
    return over, apart, {"component": str(s.set), "intervention": "resample(twin)"}


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    over, apart, where = moved(s, bench)
    return [bench.effect(over, bench.smallest, **where), bench.beyond((apart,), f"a {RANDOM_VECTOR}", **where)]


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    carry = "carry" if is_or_are(s) == "are" else "carries"
    together = " together" if len(s.members) > 1 else ""
    return (
        f"{place(s, roles)} {carry}{together} what decides the answer {on_task(s)}: {{effect}} of examples go over to the twin's "
        f"answer when the twin's activation is put there{at_once(s)}{{control}}."
    )


KIND = Kind(
    "carries", "the twin's activation there takes the answer over to the twin's, for at least the smallest share of examples",
    _measure, _sentence, needs=("components",), twins=True, least=tenth_of_examples, unit="share of examples",
)  # fmt: skip
