"""A component sends straight to a later one what decides the answer, with everything in between held at its clean value.

With resample(twin), the twin's value sent along that path alone takes the answer over to the twin's, for at least the smallest
share of examples. With resample(donor) or zero, another example's value (or none) on that path alone lowers the objective, by at
least the smallest effect. Path patching (Wang et al. 2022; Goldowsky-Dill et al. 2023).
"""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from experiments_db.places import display, is_plural
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import SMALLEST, Bench, Kind
from tools.findings.phrases import capital, on_task, roles_of
from tools.methods.paths import ALONG, TWIN, Sending, score_along
from tools.methods.tool import ToolInputError
from tools.ports import ANSWERS, flipped


def _check(s: Statement) -> None:
    finer = s.objective in ANSWERS and s.objective != "accuracy"
    if len({h == TWIN for h in s.done}) > 1 or (s.done != (TWIN,) and finer):
        raise ToolInputError(
            "sends takes resample(twin) by itself; or resample(donor) and zero, with objective accuracy"
        )


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    assert s.route is not None
    sendings = [Sending(s.route, how, control) for how in s.done for control in (False, True)]
    base, *scores = score_along(bench.ctx, bench.task, bench.examples, sendings)
    out: list[Contrast] = []
    for how, mine, control in zip(s.done, scores[::2], scores[1::2], strict=True):
        where = {"component": str(s.route), "intervention": str(how)}
        if how == TWIN:
            effect, *apart = (
                Quantity("flipped", "share of examples", flipped(mine) - flipped(x), (-1.0, 1.0))
                for x in (base, control)
            )
            out.append(bench.effect(effect, bench.smallest, **where))
        else:
            apart = list(bench.tell_apart(control, mine))
            out.append(bench.effect(bench.difference(base, mine), bench.smallest, **where))
        out.append(bench.beyond(tuple(apart), ALONG, **where))
    return out


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    assert s.route is not None
    names = [display(c, roles_of(s) if roles is None else roles) for c in s.route.nodes]
    sender, through = names[0], names[1:-1]
    what = (
        "with the twin's value on this path alone, {effect} of examples go over to the twin's answer"
        if s.done == (TWIN,)
        else "with another value on this path alone {falls} by {effect}"
    )
    verb = "send" if is_plural([s.route.nodes[0]]) else "sends"
    return (
        f"{capital(sender)} {verb} what decides the answer {on_task(s)} straight to {names[-1]}"
        f"{' through ' + ', then '.join(through) if through else ''}: {what}{{control}}."
    )


KIND = Kind(
    "sends", "the twin's value sent along the path alone takes the answer over, or another value there lowers the objective",
    _measure, _sentence, needs=("path",), interventions=("resample(twin)",), twins=True, check=_check,
    least=lambda b: SMALLEST if b.statement.done == (TWIN,) else SMALLEST * b.gap, unit="share of examples",
)  # fmt: skip
