"""From a block on the answer can be read: cut off after any block from there on, the model still gets more than half of what
separates chance from the whole model; one block earlier it gets less than half.

The logit lens (nostalgebraist 2020): the final norm and the head are applied to the state that leaves a block, at all
positions that predict the answer.
"""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind
from tools.findings.phrases import capital, on_task
from tools.methods.effects import Condition
from tools.methods.tool import ToolInputError
from tools.ports import Scores

HALF = 0.5


def _check(s: Statement) -> None:
    (c, *more) = s.members
    if more or c.units or c.part not in ("resid_pre", "resid_post") or c.anchor != "answer":
        raise ToolInputError(
            f"readable is about one state at the answer from which on it can be read, as in {c.stack}.3.resid_post@answer"
        )
    if c.block == 0 and c.part == "resid_pre":
        raise ToolInputError(
            f"readable: nothing comes before {c.stack}.0.resid_pre, so that it cannot be the first to be read"
        )


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    (c,) = s.members
    if not bench.right_or_wrong:
        raise ToolInputError(
            f"readable is about answers that are right or wrong; here they are judged by {s.objective}"
        )
    spec = bench.ctx.subject.spec()
    n = len(spec.blocks)
    assert c.block is not None
    first = c.block + (c.part == "resid_post")
    if c.stack != spec.name or first > n:
        raise ToolInputError(
            f"{c}: states that are read out are {spec.name}.0.resid_post to {spec.name}.{n - 1}.resid_post"
        )
    before, *states = bench.scores(
        [Condition(programs=((spec.name, tuple(range(k))),)) for k in range(first - 1, n + 1)]
    )

    def beyond(scores: Scores, sign: int) -> Quantity:
        whole = bench.intact.correct.astype(float)
        values = scores.correct - bench.chance - HALF * (whole - bench.chance)
        low, high = -HALF - HALF * bench.chance, 1 - HALF * bench.chance
        bounds = (low, high) if sign > 0 else (-high, -low)
        return Quantity("beyond half", "share of examples", (sign * values).clip(*bounds), bounds)

    out = [
        bench.effect(beyond(x, 1), 0.0, component=f"{spec.name}.{k}.resid_post@answer")
        for k, x in enumerate(states, first - 1)
        if k >= 0
    ]
    earlier = f"{spec.name}.{first - 2}.resid_post" if first > 1 else f"{spec.name}.0.resid_pre"
    return [*out, bench.effect(beyond(before, -1), 0.0, component=f"{earlier}@answer")]


def _sentence(s: Statement, _: Mapping[str, str] | None) -> str:
    (c,) = s.members
    assert c.block is not None
    first = c.block + (c.part == "resid_post")  # how many blocks have run
    earlier = f"after block {first - 2}" if first > 1 else "before block 0"
    return (
        f"{capital(on_task(s))}, the answer can be read from the residual stream, by the logit lens, after block {first - 1} and "
        f"from there on, not {earlier}: more than half of what lies between chance ({{chance}}) and the whole model "
        "({accuracy}) is read there, and less than half before, each by {effect}."
    )


KIND = Kind(
    "readable", "from a block on the logit lens gets more than half of what separates chance from the model; before, less",
    _measure, _sentence, needs=("components",), check=_check, unit="share of examples", least=lambda _: 0.0,
)  # fmt: skip
