"""The place carries nothing of what separates an example from its twin: with the twin's activation there, the answer stays.

The counterpart of `carries`: a bound on the share of examples that go over. That the twin's activation reaches the answer at
all is shown where it enters the model: there it takes the answer over.
"""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind, Nulls, tenth_of_examples
from tools.findings.kinds.carries import moved
from tools.findings.phrases import at_once, is_or_are, on_task, place
from tools.methods.twins import swapped
from tools.ports import flipped


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    over, _, where = moved(s, bench)
    low = Contrast("effect", "below", bench.smallest, (over,), bench.groups, where["intervention"], where["component"])
    # The twin itself has to be answered with the foil, else there is nothing that could have been carried.
    whole = 1 - flipped(bench.intact_on([swapped(e) for e in bench.examples])) - flipped(bench.intact)
    turned = Quantity("flipped", "share of examples", whole, (-1.0, 1.0))
    there = bench.beyond((turned,), "the twin given as a whole", bench.smallest, **where)
    return [low, there]


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    carry = "carry" if is_or_are(s) == "are" else "carries"
    return (
        f"{place(s, roles)} {carry} nothing of what decides the answer {on_task(s)}: at most {{effect}} of examples go over to the "
        f"twin's answer when the twin's activation is put there{at_once(s)}."
    )


KIND = Kind(
    "carries_nothing", "the twin's activation there takes the answer over for less than the smallest share of examples",
    _measure, _sentence, needs=("components",), twins=True, stays=True, least=tenth_of_examples, unit="share of examples",
    nulls=Nulls.none("there nothing is carried, so that it is true"),
)  # fmt: skip
