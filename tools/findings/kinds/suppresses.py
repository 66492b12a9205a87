"""Each of the components holds the answer down: without it alone the objective rises, and more than under its control."""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast
from tools.findings.kind import Bench, Kind, Nulls
from tools.findings.phrases import is_or_are, on_task, place
from tools.methods.effects import RANDOM_VECTOR, Condition
from tools.methods.tool import ToolInputError


def _check(s: Statement) -> None:
    if s.objective == "accuracy":
        raise ToolInputError(
            "suppresses asks how far the answer is held down: give objective probability, margin or nll"
        )


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    asked = [(c, how) for how in s.done for c in s.members]
    own = [Condition.of(c, how) for c, how in asked]
    noise = [Condition.of(c, how, control=1) for c, how in asked]
    bench.scores([*own, *noise])
    out: list[Contrast] = []
    for (c, how), mine, control in zip(asked, bench.scores(own), bench.scores(noise), strict=True):
        where = {"component": str(c), "intervention": str(how)}
        out.append(bench.effect(bench.difference(mine, bench.intact), bench.smallest, **where))
        out.append(bench.beyond((bench.difference(mine, control),), f"a {RANDOM_VECTOR}", **where))
    return out


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    each, it = (", each by itself", "any one of them") if len(s.members) > 1 else ("", "it")
    hold = "hold" if is_or_are(s) == "are" else "holds"
    return (
        f"{place(s, roles)} {hold} the answer down {on_task(s)}{each}: without {it} {{rises}} by {{effect}}{{control}}."
    )


KIND = Kind(
    "suppresses", "removing each component by itself makes the objective better", _measure, _sentence,
    needs=("components",), each=True, interventions=("resample(donor)", "zero"), check=_check,
    nulls=Nulls({"shuffled_answers": "what makes a model sure of its own answer does hold other answers down"}),
)  # fmt: skip
