"""A component sends straight to a later one what decides the answer: the twin's value sent along that path alone takes the
answer over to the twin's, with everything in between held at its clean value.

Path patching (Wang et al. 2022; Goldowsky-Dill et al. 2023). The smallest effect is a share of examples.
"""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from experiments_db.places import display
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind, a_tenth
from tools.findings.phrases import on_task
from tools.methods.objectives import flipped
from tools.methods.paths import ALONG, Sending, score_along


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    assert s.route is not None
    base, mine, control = score_along(
        bench.ctx, bench.task, bench.examples, [Sending(s.route), Sending(s.route, control=True)]
    )
    where = {"component": str(s.route), "intervention": "resample(twin)"}
    moved, apart = (
        Quantity("flipped", "share of examples", flipped(mine) - flipped(x), (-1.0, 1.0)) for x in (base, control)
    )
    return [bench.effect(moved, bench.least(), **where), bench.beyond((apart,), ALONG, **where)]


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    assert s.route is not None
    names = [display(c, roles) for c in s.route.nodes]
    sender, through = names[0], names[1:-1]
    return (
        f"{sender[0].upper()}{sender[1:]} sends what decides the answer {on_task(s)} straight to {names[-1]}"
        f"{' through ' + ', then '.join(through) if through else ''}: with the twin's value on this path alone, {{effect}} of "
        "examples go over to the twin's answer; {control}."
    )


KIND = Kind(
    "sends", "the twin's value sent along the path alone takes the answer over to the twin's, all else held clean",
    _measure, _sentence, needs=("path",), twins=True, standard=a_tenth, unit="share of examples",
)  # fmt: skip
