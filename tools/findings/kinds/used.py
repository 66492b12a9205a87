"""What a probe reads of a label is what the model goes by: changed there and after each later block, the answers follow.

Each example supposes that a label has another value, and says which answers would be right then. Ridge probes, fitted on explore
examples, say along which direction the state is moved until that value is read. The effect: how many answers fewer are wrongly in
or out of the likeliest ones, held against the supposed answers, than with nothing changed. It has to beat random changes of
the same size, and those that other examples got. Li et al. 2023; Nanda et al. 2023.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind, Nulls, mean_of
from tools.findings.phrases import on_task, place, within
from tools.methods.effects import score_under
from tools.methods.rewriting import Probes, Wanted, change_by, onward, rewritten, score_changes, set_errors
from tools.methods.tool import ToolInputError

FITTED = 768  # explore examples: a family of labels is not read from fewer
DRAWS = 2
TENTH = 0.1  # of the errors that are there when nothing is changed
UNIT = "answers wrongly in or out"


def _check(s: Statement) -> None:
    if len(s.members) != 1 or s.members[0].part != "resid_post":
        raise ToolInputError(
            "used is about one state of the residual stream, as in *.2.resid_post@-1, and the later ones with it"
        )


def _least(bench: Bench) -> float:
    supposed = [e.supposing(e.counterfactuals[0]) for e in bench.examples if e.counterfactuals]
    if not supposed:
        raise ToolInputError(
            f"used: the examples of {bench.task.name} say nothing of what would be right if a label were other"
        )
    (none,) = score_under(bench.ctx, bench.task, supposed, [])
    return TENTH * float(set_errors(none).mean())


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    (start,), ctx = s.members, bench.ctx
    places = onward(len(ctx.subject.spec(start.stack).blocks), start)
    there = {e.group for e in bench.examples}
    drawn = bench.task.examples("explore", FITTED + len(there), ctx.seed)
    probes = Probes.at(ctx, [e for e in drawn if e.group not in there][:FITTED], places, s.label, "ridge")
    wanted = Wanted.of(probes.fitted.labels, bench.examples)
    added = rewritten(ctx, bench.examples, places, change_by("add", probes, wanted))
    found = score_changes(ctx, bench.task, bench.examples, added, DRAWS)
    none, changed = set_errors(found.none), set_errors(found.changed)
    most = 2.0 * max(len(e.counterfactuals[0].answers) for e in bench.examples)
    where = {"component": str(start)}

    def fewer(base: np.ndarray) -> Quantity:
        return Quantity("set_errors", UNIT, base - changed, (-most, most))

    return [
        bench.effect(fewer(none), bench.smallest, **where),
        *(
            bench.beyond((fewer(mean_of([set_errors(x) for x in control])),), name, 0.0, **where)
            for name, control in (
                (f"the mean of {DRAWS} random changes of the same size", found.random),
                (f"the mean of {DRAWS} other examples' changes", found.others),
            )
        ),
    ]


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    return (
        f"What a linear probe reads of {s.label} from {within(place(s, roles))} is used {on_task(s)}: with it changed there and "
        "after every later block there are {effect} fewer, held against what would be right then, than with nothing "
        "changed{control}."
    )


KIND = Kind(
    "used", "changing what a linear probe reads of the label there and later changes the answers as the label implies", _measure,
    _sentence, needs=("components", "label"), check=_check, capable=False, least=_least, unit=UNIT,
    nulls=Nulls({"shuffled_answers": "what would be right if a label were other is not known of other problems' answers"}),
)  # fmt: skip
