"""The one grammar for where in a model something is, and what is done there. Free of torch, importable by everything.

A component is written `stack[.block].part[unit][#pass]@anchor`, for example

    decoder.3.attn.z[2]@answer                     head 2 of block 3, where the answer is predicted
    decoder.3.mlp.act[17,42]#2@-2                  two neurons, the second time the block runs, at the last position but one
    decoder.4.resid_post[dir:truth~ab12cd]@answer  a direction; `sae:NAME/17` is a feature
    decoder.3.attn.pattern[2]@answer<-operand1     what head 2 attends to, from the anchor to the key
    decoder.2.cross.pattern[0]@answer<-encoder:word3
    decoder.embed@operand1.first, decoder.logits, decoder.3.block

Without a unit it is the whole part, without a pass each time, without an anchor every position. The parts stand in
`PARTS`. Those of a block bear the names of the engine's site kinds: `Site("decoder", 3, "attn.z")` is
`decoder.3.attn.z`, an edit's head its unit; `block`, `conv`, `embed`, `final` and `logits` are no sites, and
`cross.q`, `cross.k`, `cross.v`, `cross.pattern` are cross-attention's counterparts of sites.

Every object has one text and every text one object: what means the same is brought to the same form when it is made
(units sorted, heads of one part in one member, `operand1.all` as `operand1`). Texts may be written with blanks around
their punctuation. A mistake is a PlaceError that says what would be valid.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field

from experiments_db._intervention import OPERATIONS, Intervention, Operation
from experiments_db._place_text import (
    PARTS,
    Anchor,
    Part,
    PlaceError,
    chosen,
    join_coordinates,
    natural,
    parse_anchor,
    plain_message,
    range_of,
    spans,
    split_coordinates,
    split_list,
)
from experiments_db._place_types import (
    FORM,
    HOW,
    AnchorText,
    Component,
    ComponentSet,
    Path,
    Place,
    Text,
    ends,
    split_inside,
    tighten,
)
from experiments_db._place_words import anchor_text, display, is_plural, usual_name

__all__ = [
    "OPERATIONS", "PARTS", "Anchor", "BlockLayout", "Component", "ComponentSet", "Intervention", "Layout", "Operation",
    "Part", "Path", "Place", "PlaceError", "Selector", "StackLayout",
    "anchor_text", "display", "expand_anchors", "is_plural", "join_coordinates",
    "parse_anchor", "plain_message", "split_coordinates", "split_list", "usual_name",
]  # fmt: skip


def _checked(names: tuple[str, ...], *, in_block: bool) -> tuple[str, ...]:
    valid = [name for name, part in PARTS.items() if part.in_block == in_block]
    if wrong := set(names) - set(valid):
        raise PlaceError(
            f"no part {min(wrong)!r} {'in a' if in_block else 'off the'} block: there are {', '.join(valid)}"
        )
    return names


class BlockLayout(Place, frozen=True):
    """What one block has: its parts, heads and hidden neurons (0: none that can be named)."""

    parts: Annotated[tuple[str, ...], AfterValidator(lambda names: _checked(names, in_block=True))]
    heads: Annotated[int, Field(ge=0)] = 0
    neurons: Annotated[int, Field(ge=0)] = 0


class StackLayout(Place, frozen=True):
    """What one stack has: its blocks, its width in channels, its parts off the blocks.

    logits, conv: how many logits, and channels of the convolutions, there are (0: none that can be named).
    attends_to: the stack in which the keys of cross-attention lie.
    """

    name: str
    blocks: tuple[BlockLayout, ...]
    width: Annotated[int, Field(ge=1)]
    parts: Annotated[tuple[str, ...], AfterValidator(lambda names: _checked(names, in_block=False))] = ()
    logits: Annotated[int, Field(ge=0)] = 0
    conv: Annotated[int, Field(ge=0)] = 0
    attends_to: str = ""

    def parts_of(self, block: int | None) -> tuple[str, ...]:
        """The parts of a block, or those off the blocks."""
        return self.parts if block is None else self.blocks[block].parts

    def size(self, block: int | None, part: str) -> int:
        """How many units a part has; 0 where it has none that can be named."""
        if part == "conv":
            return self.conv
        inside = {} if block is None else {"head": self.blocks[block].heads, "neuron": self.blocks[block].neurons}
        return {"channel": self.width, "logit": self.logits, **inside}.get(PARTS[part].unit, 0)


class Layout(Place, frozen=True):
    """What a model has, without the model: its stacks, and the anchors of its examples (none given: any)."""

    stacks: tuple[StackLayout, ...]
    anchors: tuple[AnchorText, ...] = ()

    def stack(self, name: str) -> StackLayout:
        """A stack by its name; PlaceError lists those there are."""
        for stack in self.stacks:
            if stack.name == name:
                return stack
        raise PlaceError(f"no stack {name!r}: this model has {', '.join(s.name for s in self.stacks)}")

    def check(self, component: Component) -> Component:
        """The component itself if this model has it; PlaceError names the valid range."""
        stack = self.stack(component.stack)
        if component.block is not None and component.block >= len(stack.blocks):
            raise PlaceError(
                f"block {component.block} is out of range: {stack.name} has {range_of('block', len(stack.blocks))}"
            )
        parts = stack.parts_of(component.block)
        if component.part not in parts:
            raise PlaceError(f"{component.part} is no part that can be reached there: it has {', '.join(parts)}")
        size = stack.size(component.block, component.part)
        if component.units and component.units[-1] >= size:
            unit = PARTS[component.part].unit
            raise PlaceError(
                f"{unit} {component.units[-1]} is out of range: {component.part} has {range_of(unit, size)}"
            )
        for text in (component.anchor, component.key):
            self._check_anchor(text)
        if component.key_stack and component.key_stack != stack.attends_to:
            raise PlaceError(
                f"{stack.name} attends to {stack.attends_to or 'no other stack'}, not {component.key_stack}"
            )
        return component

    def _check_anchor(self, text: str) -> None:
        if not text or text == "each" or not self.anchors:
            return
        # Where a whole role is there, so are its first and last position; every index is left to the examples.
        anchor = parse_anchor(text)
        if anchor.position is None and not {str(anchor), anchor.name} & set(self.anchors):
            raise PlaceError(f"no anchor {text!r}: there are {', '.join(self.anchors)}, and indices such as -1")


class _Term(NamedTuple):
    """One term of a selector: a component in which stack, block and unit may be `*`, block and unit lists of ranges."""

    stack: str
    block: str
    part: str
    units: str
    feature: str
    passes: int | None
    anchor: str
    key: str
    key_stack: str

    @classmethod
    def parse(cls, text: str) -> "_Term":
        tight = tighten(text)
        head = re.match(r"[a-z_.]*", tight)
        name = head[0] if head else ""
        if name in SHORT:
            rest = tight[len(name) :]
            tight = (SHORT[name].removesuffix("[*]") if rest.startswith("[") else SHORT[name]) + rest
        elif name in PARTS:
            tight = ("*.*." if PARTS[name].in_block else "*.") + tight
        found = FORM.fullmatch(tight)
        if not found or not found["stack"]:
            raise PlaceError(
                f"{text!r} selects nothing: {HOW}; * is every stack, block or unit, 1-5 and 0,2,4 are several, @each is "
                f"every anchor by itself; {', '.join(SHORT)} and the parts stand for every one there is"
            )
        units, feature = split_inside(found["inside"])
        anchor = found["anchor"] or ""
        anchor = anchor if anchor in ("", "each", "all") else str(parse_anchor(anchor))
        term = cls(
            found["stack"],
            spans(found["block"]) if found["block"] else "",
            found["part"],
            spans(",".join(units)) if units else "",
            feature,
            int(found["passes"]) if found["passes"] else None,
            anchor,
            str(parse_anchor(found["key"])) if found["key"] else "",
            found["key_stack"] or "",
        )
        # What cannot be for any stack, block and unit is said here, whatever the model.
        term.component(
            "any" if term.stack == "*" else term.stack, 0 if term.block else None, (0,) if term.units else ()
        )
        return term

    def __str__(self) -> str:
        return f"{self.stack}{'.' if self.block else ''}{self.block}.{self.part}{ends(self, self.units)}"

    def component(self, stack: str, block: int | None, units: tuple[int, ...]) -> Component:
        anchor = "" if self.anchor in ("all", "each") else self.anchor
        return Component(
            stack=stack, block=block, part=self.part, units=units, feature=self.feature, passes=self.passes,
            anchor=anchor, key=self.key, key_stack=self.key_stack,
        )  # fmt: skip

    def resolve(self, layout: Layout) -> Iterator[Component]:
        """What the term names in a model: each block and unit as a component of its own."""
        stacks = layout.stacks if self.stack == "*" else (layout.stack(self.stack),)
        is_open = "*" in (self.stack, self.block)
        is_empty = True
        for stack in stacks:
            for block in chosen(self.block, len(stack.blocks), "block", stack.name) if self.block else [None]:
                if is_open and self.part not in stack.parts_of(block):
                    continue  # a star means all that have it
                is_empty = False
                whole = layout.check(self.component(stack.name, block, ()))
                size, unit = stack.size(block, self.part), PARTS[self.part].unit
                for u in chosen(self.units, size, unit, str(whole)) if self.units else [None]:
                    single = whole if u is None else whole.but(units=(u,))
                    yield single.model_copy(update={"anchor": "each"}) if self.anchor == "each" else single
        if is_empty:
            raise PlaceError(f"{self} selects nothing: nowhere in {', '.join(s.name for s in stacks)} is {self.part}")


SHORT = {"head": "*.*.attn.z[*]", "attn": "*.*.attn.out", "mlp": "*.*.mlp.out", "cross": "*.*.cross.out"}


class Selector(Text, frozen=True):
    """Components of a model as the argument of a tool names them: `decoder.*.attn.z[*]@answer`, `decoder.1-5.mlp.out@each`.

    It names single components: each block and each unit by itself, so that `decoder.0.attn.z[0,2]` are two heads (one
    ComponentSet of them is both together). A bare part stands for every one there is (`block`, `mlp.out`), and `head`,
    `attn`, `mlp`, `cross` for `attn.z[*]`, `attn.out`, `mlp.out`, `cross.out`. `@all`, as no anchor, is all positions
    together; `@each` is every anchor by itself. Terms are joined by ` + `; text: the one form that this takes.
    """

    text: Annotated[str, AfterValidator(lambda text: " + ".join(map(str, _terms(text))))]

    @classmethod
    def _fields(cls, text: str) -> dict[str, Any]:
        return {"text": text}

    def __str__(self) -> str:
        return self.text

    def rank(self) -> tuple[Any, ...]:
        """By its text."""
        return natural(self.text)

    @property
    def has_each(self) -> bool:
        """Whether a term is `@each`: what it resolves to has to go through `expand_anchors`."""
        return any(term.anchor == "each" for term in _terms(self.text))

    def resolve(self, layout: Layout) -> list[Component]:
        """The components, each once, in their order; `each` stays as an anchor for `expand_anchors`.

        PlaceError names the valid range of an index that is out of it. A component at `each` is refused by every
        record.
        """
        found = {c for term in _terms(self.text) for c in term.resolve(layout)}
        return sorted(found, key=Component.rank)


def _terms(text: str) -> list[_Term]:
    return sorted({_Term.parse(part) for part in text.split("+")}, key=lambda term: natural(str(term)))


def expand_anchors(components: Iterable[Component], anchors: Sequence[str]) -> list[Component]:
    """The components with each of the anchors in place of `each`; the others as they are. PlaceError without anchors."""
    components = list(components)
    if not anchors and any(c.anchor == "each" for c in components):
        raise PlaceError("each needs at least one anchor to stand for")
    wide = [[c.at(a) for a in anchors] if c.anchor == "each" else [c] for c in components]
    return list(dict.fromkeys(c for group in wide for c in group))
