"""A head moves something from one place to another: it looks there, what it reads there is needed, and so is what it writes here.

A composite. For `STACK.3.attn.pattern[2]@answer<-operand1`: the head attends from the answer to the first operand (kind
attends); without its value at the operand, by itself, the model does worse, and without its output at the answer too (kind
necessary, of `attn.v[2]@operand1` and `attn.z[2]@answer`). All of it must hold on the same examples.
"""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from experiments_db.places import Component, ComponentSet, anchor_text, parse_anchor
from tools.findings.contrast import Contrast
from tools.findings.kind import Bench, Kind
from tools.findings.parts import part
from tools.findings.phrases import capital, heads, listed, on_task, roles_of
from tools.methods.tool import ToolInputError


def _check(s: Statement) -> None:
    for c in s.members:
        if c.part != "attn.pattern" or not c.units or not c.key or not c.anchor:
            raise ToolInputError(
                f"moves is about heads, where they look from and where they look, as in "
                f"{c.stack}.3.attn.pattern[2]@answer<-operand1, not {c}"
            )
        if c.key == c.anchor or parse_anchor(c.key).name == parse_anchor(c.anchor).name != "":
            raise ToolInputError(f"moves is from one place to another, not {c}")


def _ends(c: Component) -> tuple[Component, Component]:
    """What the head reads where it looks, and what it writes where it looks from."""
    bare = c.but(key="", key_stack="")
    return bare.but(part="attn.v", anchor=c.key), bare.but(part="attn.z")


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    ends = ComponentSet.of(*(e for c in s.members for e in _ends(c)))
    return [
        *part(bench, "attends", components=s.components),
        *part(bench, "necessary", components=str(ends), interventions=s.interventions, smallest=s.smallest),
    ]


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    words = roles_of(s) if roles is None else roles
    places: dict[tuple[str, str], list[Component]] = {}
    for c in s.members:
        source, goal = (anchor_text(a, words) for a in (c.key, c.anchor))
        places.setdefault((source, goal), []).append(c)
    said = [
        f"{heads(found)} {'moves' if len(found) == 1 else 'move'} what decides the answer from {source} to {goal}"
        for (source, goal), found in places.items()
    ]
    each, it = (", each by itself", "they look") if len(s.members) > 1 else ("", "it looks")
    return (
        f"{capital(on_task(s))}, {listed(said)}{each}: {it} there with {{seen}} of the attention, and without what is read "
        "there, or without what is written, {falls} by {effect}{control}."
    )


KIND = Kind(
    "moves", "a head looks from one place at another (attends), and what it reads there and what it writes here are necessary",
    _measure, _sentence, needs=("components",), each=True, interventions=("resample(donor)", "zero"), check=_check,
)  # fmt: skip
