"""A head looks from one place to another: its pattern has more than the smallest weight there, more than attention spread
evenly would by that much, and more than the model's other heads.

For `STACK.3.attn.pattern[2]@answer<-operand1` the weights of the key's tokens are added up and the mean is taken over the
positions of the query. It is about the pattern alone: what is seen need not be used.
"""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from experiments_db.places import Component, display
from tools.findings.contrast import Contrast, Quantity, Values
from tools.findings.kind import Bench, Kind, Nulls, tenth_of_examples
from tools.findings.phrases import capital, heads, listed, on_task, roles_of
from tools.methods.readings import weights
from tools.methods.tool import ToolInputError

EVENLY = "attention spread evenly"


def _check(s: Statement) -> None:
    for c in s.members:
        if not c.part.endswith("pattern") or not c.units or not c.key:
            raise ToolInputError(
                f"attends is about heads and where they look, as in {c.stack}.3.attn.pattern[2]@answer<-operand1, not {c}"
            )


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    return [k for c in s.members for k in _one(bench, c)]


def _one(bench: Bench, c: Component) -> list[Contrast]:
    given, even = weights(bench.ctx, bench.examples, c)
    (head,) = c.units
    if c.block is None or c.block >= given.shape[0] or head >= given.shape[1]:
        raise ToolInputError(f"{c}: there are {given.shape[0]} blocks of {given.shape[1]} heads")
    own, where = given[c.block, head], {"component": str(c)}

    def quantity(values: Values, least: float) -> Quantity:
        return Quantity("attention", "share of attention", values, (least, 1.0))

    out = [
        bench.effect(quantity(own, 0.0), bench.smallest, **where),
        bench.beyond((quantity(own - even, -1.0),), EVENLY, bench.smallest, **where),
    ]
    count = given.shape[0] * given.shape[1] - 1
    if count:
        others = (given.sum((0, 1)) - own) / count
        out.append(
            bench.beyond((quantity((own - others).clip(-1, 1), -1.0),), f"the model's {count} other heads", **where)
        )
    return out


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    looks: dict[str, list[Component]] = {}
    for c in s.members:
        bare = display(c.but(anchor="", key="", key_stack=""))
        way = display(c, roles_of(s) if roles is None else roles).removeprefix(bare)
        looks.setdefault(way.replace(" to ", " at ", 1), []).append(c)
    said = [f"{heads(found)} {'looks' if len(found) == 1 else 'look'}{way}" for way, found in looks.items()]
    each, whose = (", each by itself", "the") if len(s.members) > 1 else ("", "its")
    return (
        f"{capital(on_task(s))}, {listed(said)}{each}: {{effect}} of {whose} attention; attention spread evenly would put "
        "{against} there."
    )


KIND = Kind(
    "attends", "a head's pattern has weight from the query's anchor on the key's, more than spread evenly and than other heads",
    _measure, _sentence, needs=("components",), each=True, check=_check, capable=False, least=tenth_of_examples,
    unit="share of attention",
    nulls=Nulls(
        {"shuffled_answers": "it says where a head looks, whatever the answer"},
        apart="tokens and positions alone can make a head look somewhere, without training",
    ),
)  # fmt: skip
