"""A set is enough: with every other component of its universe removed the model still does the task.

That says something only where removing the whole universe breaks the task, and where as many others would not do.
"""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from experiments_db.places import ComponentSet, Intervention
from tools.findings.contrast import Contrast
from tools.findings.kind import Bench, Kind
from tools.findings.phrases import is_or_are, on_task, place
from tools.methods.effects import Condition
from tools.methods.tool import ToolInputError

DRAWS = 5


def _check(s: Statement) -> None:
    outside = [str(m) for m in s.members if m not in s.among_what]
    if outside or len(s.among_what) <= len(s.members):
        raise ToolInputError(
            f"sufficient among what? universe holds all components that are tested, more than the set itself"
            f"{f'; {outside[0]} is not in it' if outside else ''}"
        )


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    universe, kept = s.among_what, set(s.members)
    removed = ComponentSet.of(*(c for c in universe if c not in kept))
    drawn = bench.random_sets(len(kept), [c for c in universe if c not in kept], DRAWS)
    rest = [ComponentSet.of(*(c for c in universe if c not in set(o.singles()))) for o in drawn]

    def conditions(how: Intervention) -> list[Condition]:
        sets = (removed, ComponentSet.of(*universe), *rest)
        return [Condition.of(x, how) for x in sets]

    bench.scores([c for how in s.done for c in conditions(how)])
    out: list[Contrast] = []
    for how in s.done:
        mine, nothing, *random = bench.scores(conditions(how))
        lost = bench.difference(bench.intact, mine)
        out.append(Contrast("effect", "below", bench.smallest, (lost,), bench.groups, str(how), str(s.set)))
        broken = bench.difference(mine, nothing)
        kept = "nothing of the universe kept"
        out.append(Contrast("control", "exceed", bench.smallest, (broken,), bench.groups, str(how), str(s.set), kept))
        if random:
            beyond = tuple(bench.apart(n, mine, random) for n in bench.usual)
            others = f"{len(random)} other sets of as many components kept"
            out.append(bench.beyond(beyond, others, component=str(s.set), intervention=str(how)))
    return out


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    return (
        f"{place(s, roles)} {is_or_are(s)} enough {on_task(s)}, of the {len(s.among_what)} components that were tried: with all "
        "others removed at once {falls} by {effect}{control}."
    )


KIND = Kind(
    "sufficient", "with every other component of the universe removed the objective falls by less than the smallest effect",
    _measure, _sentence, needs=("components", "universe"), interventions=("resample(donor)",), check=_check,
    stays=True,
)  # fmt: skip
