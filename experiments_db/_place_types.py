"""Components, sets of them and paths: their fields, their one text, their order. `places` has the grammar."""

import re
from collections.abc import Iterator
from functools import total_ordering
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from experiments_db._place_text import (
    NAME,
    PARTS,
    RANK,
    Part,
    PlaceError,
    anchor_rank,
    natural,
    parse_anchor,
    plain_message,
)

MOST = 10**9  # no index is as large; it keeps a mistyped number from filling the memory
Index = Annotated[int, Field(ge=0, lt=MOST)]
_FEATURE = re.compile(r"dir:[\w.-]+~[0-9a-f]{4,64}|sae:[\w.-]+(?:/[\w.-]+)*/(?:0|[1-9][0-9]{0,8})", re.ASCII)
FORM = re.compile(
    rf"(?:(?P<stack>\*|{NAME})\.)?(?:(?P<block>\*|[0-9][0-9,-]*)\.)?(?P<part>[a-z_]+(?:\.[a-z_]+)?)"
    r"(?:\[(?P<inside>[^\[\]]*)\])?(?:#(?P<passes>[0-9]{1,9}))?(?:@(?P<anchor>[^@<:\[\]\s]+))?"
    rf"(?:<-(?:(?P<key_stack>{NAME}):)?(?P<key>[^@<:\[\]\s]+))?"
)
FROZEN = re.compile(r"(?=.)[\w.@#*:~/ <+-]*(?:\[[\w.*:~/, -]*\][\w.@#*:~/ <+-]*)*", re.ASCII)
HOW = "write stack.block.part[unit]@anchor, for example decoder.3.attn.z[2]@answer or decoder.3.mlp.out@-1"
Feature = Annotated[str, AfterValidator(lambda text: _feature(text))]
AnchorText = Annotated[str, AfterValidator(lambda text: str(parse_anchor(text)) if text else "")]


class Place(BaseModel, frozen=True, extra="forbid", revalidate_instances="always"):
    """Base of all that stands here: immutable; unknown fields are an error; what is wrong is a PlaceError.

    Where another record takes one up, pydantic makes that record's ValidationError of it; and instances are checked
    once more there, so that nothing half-made (a component at `each`) is ever recorded.
    """

    if not TYPE_CHECKING:  # the checker keeps the signature that pydantic derives

        def __init__(self, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"]))
                message = plain_message(first["msg"])
                raise PlaceError(message if first["type"] == "value_error" else f"{place}: {message}") from None


@total_ordering
class Text(Place, frozen=True):
    """A place with one text, by which it may be given, and a natural order: block 10 comes after block 9."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The object that a text describes; PlaceError says what would be valid."""
        return cls(**cls._fields(text))

    @classmethod
    def _fields(cls, text: str) -> dict[str, Any]:
        raise NotImplementedError

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return cls._fields(value) if isinstance(value, str) else value

    def __lt__(self, other: object) -> bool:
        return self.rank() < other.rank() if isinstance(other, type(self)) else NotImplemented

    def rank(self) -> tuple[Any, ...]:
        """What the order goes by; different for different places of one class."""
        raise NotImplementedError


class Component(Text, frozen=True):
    """One part of a model, or some of its units, at one anchor; the module's docstring has the grammar.

    units: sorted; empty is the whole part. feature: '' or `dir:NAME~sha` (a direction, in each of the heads named, if
    any) or `sae:NAME/17`. passes: which time the block runs, counted from 1. anchor: '' where none is stated, which is
    every position. key, key_stack: for patterns, what stands behind `<-`.
    """

    stack: str = Field(pattern=f"^{NAME}$")
    block: Index | None = None
    part: str
    units: Annotated[tuple[Index, ...], AfterValidator(lambda units: tuple(sorted(set(units))))] = ()
    feature: Feature = ""
    passes: Annotated[int, Field(ge=1, lt=MOST)] | None = None
    anchor: AnchorText = ""
    key: AnchorText = ""
    key_stack: str = ""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        part = _part(self.part)
        if part.in_block != (self.block is not None):
            needs = "lies in a block: write stack.block." if part.in_block else "lies in no block: write stack."
            raise PlaceError(f"{self.part} {needs}{self.part}")
        if (self.units or self.feature) and not part.unit:
            raise PlaceError(f"{self.part} has no units: leave the brackets out")
        if self.feature and (part.is_pattern or (self.units and part.unit != "head")):
            raise PlaceError(f"a direction or feature lies in the whole of a part or in heads, not in {part.units}")
        if self.passes is not None and self.block is None:
            raise PlaceError(f"{self.part} runs once: #{self.passes} is for parts of blocks")
        if self.key and not part.is_pattern:
            raise PlaceError(f"{self.part} has no keys: <- is for attn.pattern and cross.pattern")
        is_cross = self.part.startswith("cross")
        if (self.key_stack != "") != (self.key != "" and is_cross) or self.key_stack == self.stack:
            raise PlaceError(
                "cross.pattern's key lies in another stack, which it names (<-encoder:word3)"
                if is_cross
                else "attn.pattern's key lies in its own stack, which it does not name (<-operand1)"
            )
        return self

    @classmethod
    def _fields(cls, text: str) -> dict[str, Any]:
        found = FORM.fullmatch(tighten(text))
        if not found or not found["stack"] or "*" in (found["stack"], found["block"]):
            raise PlaceError(f"{text!r} is no component: {HOW}; parts are {', '.join(PARTS)}")
        fields: dict[str, Any] = {k: found[k] for k in ("stack", "part", "anchor", "key", "key_stack") if found[k]}
        if found["block"]:
            fields["block"] = _index(found["block"], text)
        if found["passes"]:
            fields["passes"] = int(found["passes"])
        units, fields["feature"] = split_inside(found["inside"])
        fields["units"] = tuple(_index(u, text) for u in units)
        return fields

    def __str__(self) -> str:
        block, units = "" if self.block is None else f".{self.block}", ",".join(map(str, self.units))
        return f"{self.stack}{block}.{self.part}{ends(self, units)}"

    def rank(self) -> tuple[Any, ...]:
        # Embeddings come before the blocks, final and logits after them.
        block = self.block if self.block is not None else -1 if self.part in ("embed", "conv") else MOST
        at = anchor_rank(self.anchor), natural(self.key_stack), anchor_rank(self.key)
        return natural(self.stack), block, RANK[self.part], self.passes or 0, *at, natural(self.feature), self.units

    def but(self, **changes: Any) -> "Component":
        """The same component with other fields: `c.but(anchor="answer")`."""
        fields: dict[str, Any] = {**dict(self), **changes}
        return Component(**fields)

    def at(self, anchor: str) -> "Component":
        """The same component at another anchor; '' is every position."""
        return self.but(anchor=anchor)

    def singles(self) -> tuple["Component", ...]:
        """Its units one by one; itself where it names none."""
        return tuple(self.but(units=(u,)) for u in self.units) or (self,)


def _merged(members: tuple[Component, ...]) -> tuple[Component, ...]:
    units: dict[Component, set[int] | None] = {}
    for c in members:
        whole = c.but(units=())
        known = units.setdefault(whole, set())
        if not c.units:
            units[whole] = None
        elif known is not None:
            known.update(c.units)
    merged = [c if u is None else c.but(units=tuple(u)) for c, u in units.items()]
    return tuple(sorted(merged, key=Component.rank))


class ComponentSet(Text, frozen=True):
    """Components that something is about together, joined by ` + `.

    Units of members that are equal otherwise are one member: `a.z[0] + a.z[2]` is `a.z[0,2]`, and `a.z + a.z[0]` is
    `a.z`, so that the same set has one text. `len` and iteration are over the members; `singles` goes by unit.
    """

    members: Annotated[tuple[Component, ...], Field(min_length=1), AfterValidator(_merged)]

    @classmethod
    def of(cls, *components: Component) -> Self:
        """The set of these components."""
        return cls(members=components)

    @classmethod
    def _fields(cls, text: str) -> dict[str, Any]:
        return {"members": tuple(Component.parse(part) for part in text.split("+"))}

    def __str__(self) -> str:
        return " + ".join(map(str, self.members))

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Component]:  # type: ignore[override]  # a set is iterated by member, not by field
        return iter(self.members)

    def rank(self) -> tuple[Any, ...]:
        return tuple(c.rank() for c in self.members)

    @property
    def one(self) -> Component:
        """Its only member; PlaceError where it has several."""
        if len(self.members) != 1:
            raise PlaceError(f"one component is needed here, but {self} are {len(self.members)}")
        return self.members[0]

    def singles(self) -> tuple[Component, ...]:
        """The members with their units one by one."""
        return tuple(single for c in self.members for single in c.singles())


def _frozen(items: tuple[str, ...]) -> tuple[str, ...]:
    out = tuple(sorted({" ".join(text.split()) for text in items}, key=natural))
    for text in out:
        if not FROZEN.fullmatch(text):
            raise PlaceError(f"{text!r} is nothing to hold frozen: write parts or components, such as attn.out")
    return out


class Path(Text, frozen=True):
    """Two or more components along which something is sent, joined by ` -> `; the last one receives.

    What the receiver reads with is its part: attn.q, attn.k, attn.v, mlp.out, logits ... frozen: what was held at its
    intact value meanwhile, in words or as parts, written behind it: `a -> b (frozen: attn.out, mlp.out)`.
    """

    nodes: Annotated[tuple[Component, ...], Field(min_length=2)]
    frozen: Annotated[tuple[str, ...], AfterValidator(_frozen)] = ()

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if len(set(self.nodes)) < len(self.nodes):
            raise PlaceError(f"a path passes each component once, not {' -> '.join(map(str, self.nodes))}")
        return self

    @classmethod
    def _fields(cls, text: str) -> dict[str, Any]:
        found = re.fullmatch(r"([^()]*)(?:\(\s*frozen\s*:([^()]*)\)\s*)?", text)
        if not found or "->" not in found[1]:
            raise PlaceError(f"{text!r} is no path: write two or more components joined by ' -> '")
        nodes = tuple(Component.parse(part) for part in found[1].split("->"))
        return {"nodes": nodes, "frozen": tuple(_commas(found[2])) if found[2] is not None else ()}

    def __str__(self) -> str:
        return " -> ".join(map(str, self.nodes)) + (f" (frozen: {', '.join(self.frozen)})" if self.frozen else "")

    def rank(self) -> tuple[Any, ...]:
        return tuple(c.rank() for c in self.nodes), tuple(natural(text) for text in self.frozen)

    @property
    def receiver(self) -> Component:
        """The last node."""
        return self.nodes[-1]


def tighten(text: str) -> str:
    """The text without the blanks around its punctuation."""
    return re.sub(r" ?(<-|[.\[\]#@,:~/]) ?", r"\1", " ".join(text.split()))


def _part(name: str) -> Part:
    if name not in PARTS:
        raise PlaceError(f"no part {name!r}: parts are {', '.join(PARTS)}")
    return PARTS[name]


def _feature(text: str) -> str:
    if text and not _FEATURE.fullmatch(text):
        raise PlaceError(f"{text!r} is no direction or feature: write dir:NAME~sha or sae:NAME/17")
    return text


class _Ends(Protocol):
    @property
    def feature(self) -> str: ...
    @property
    def passes(self) -> int | None: ...
    @property
    def anchor(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def key_stack(self) -> str: ...


def ends(c: _Ends, units: str) -> str:
    """What stands behind the part: units and feature, pass, anchor, key."""
    inside = ",".join(filter(None, (units, c.feature)))
    passes = "" if c.passes is None else f"#{c.passes}"
    anchor = f"@{c.anchor}" if c.anchor else ""
    key = f"<-{c.key_stack + ':' if c.key_stack else ''}{c.key}" if c.key else ""
    return f"{f'[{inside}]' if inside else ''}{passes}{anchor}{key}"


def split_inside(text: str | None) -> tuple[list[str], str]:
    """The units and the feature between brackets."""
    if text is None:
        return [], ""
    *units, last = text.split(",")
    return (units, last) if ":" in last else ([*units, last], "")


def _index(text: str, whole: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise PlaceError(
            f"{text!r} in {whole!r} is no index: {HOW}; ranges and * select in the arguments of tools only"
        )
    return int(text)


def _commas(text: str) -> list[str]:
    """Items parted by commas outside of brackets."""
    return [item.strip() for item in re.split(r",(?![^\[]*\])", text)]
