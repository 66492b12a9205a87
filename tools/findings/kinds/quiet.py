"""A unit that is active on one corpus hardly varies on another, which therefore cannot show what it means.

Its variance on other_task is less than a tenth of that on task, and less than for the quietest there of 39 random directions and of
as many units of a model of random weights; on task it varies at least a tenth as much as random directions do.
"""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind, Nulls, tenth_of_examples
from tools.findings.kinds.mixed import along, meanings, one_unit
from tools.findings.phrases import is_or_are, place
from tools.methods.unit_values import DRAWN

UNIT = "share of its variance where it varies more"


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    found = meanings(s, bench, fit=False)
    side, where = found.own.second, {"component": s.components}
    mine = side.spread[0]
    out = [
        Contrast("effect", "below", bench.smallest, (Quantity("variance", UNIT, mine),), side.groups, "", s.components)
    ]
    for control, other in (
        (f"the quietest of {DRAWN} random directions", found.random.second.spread),
        (f"the quietest of {DRAWN} in a model of random weights", found.blind.second.spread),
    ):
        quietest = other[int(other.mean(1).argmin())]
        out.append(bench.beyond((Quantity("variance", UNIT, quietest - mine),), control, 0.0, side.groups, **where))
    active = found.own.first.spread[0] * found.own.most[0]
    usual = (found.random.first.spread * found.random.most[:, None]).mean(0)
    alive = Quantity(
        "variance there", "of what random directions vary", (active - usual / 10) / max(float(usual.mean()), 1e-12)
    )
    out.append(
        bench.beyond(
            (alive,), f"a tenth of what random directions vary on {s.task}", 0.0, found.own.first.groups, **where
        )
    )
    return out


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    return (
        f"{place(s, roles)}{along(s)} {is_or_are(s)} active in {s.task} and quiet in {s.other_task}, which cannot show what it "
        "means: its variance in the latter is {effect} of that in the former{control}."
    )


KIND = Kind(
    "quiet", "a unit that is active on task hardly varies on other_task", _measure, _sentence,
    needs=("components", "other_task"), allows=("label",), check=one_unit, capable=False, stays=True, least=tenth_of_examples,
    unit=UNIT, locates=False,
    nulls=Nulls({"shuffled_answers": "it is about activations on the examples, whatever the answer"}),
)  # fmt: skip
