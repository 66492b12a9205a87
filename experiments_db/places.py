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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import total_ordering
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from experiments_db._place_words import (
    NAME,
    PARTS,
    RANK,
    Anchor,
    Part,
    PlaceError,
    join_coordinates,
    natural,
    parse_anchor,
    quoted,
    split_coordinates,
    split_list,
    unquoted,
    words,
)

__all__ = [
    "OPERATIONS", "PARTS", "Anchor", "BlockLayout", "Component", "ComponentSet", "Intervention", "Layout", "Part", "Path",
    "PlaceError", "Selector", "StackLayout", "Term", "display", "expand_anchors", "join_coordinates", "parse_anchor",
    "split_coordinates", "usual_name",
]  # fmt: skip

MOST = 10**9  # no index is as large; it keeps a mistyped number from filling the memory
Index = Annotated[int, Field(ge=0, lt=MOST)]
_FEATURE = re.compile(r"dir:[\w.-]+~[0-9a-f]{4,64}|sae:[\w.-]+(?:/[\w.-]+)*/[0-9]+", re.ASCII)
_FORM = re.compile(
    rf"(?:(?P<stack>\*|{NAME})\.)?(?:(?P<block>\*|[0-9][0-9,-]*)\.)?(?P<part>[a-z_]+(?:\.[a-z_]+)?)"
    r"(?:\[(?P<inside>[^\[\]]*)\])?(?:#(?P<passes>[0-9]{1,9}))?(?:@(?P<anchor>[^@<:\[\]\s]+))?"
    rf"(?:<-(?:(?P<key_stack>{NAME}):)?(?P<key>[^@<:\[\]\s]+))?"
)
_HOW = "write stack.block.part[unit]@anchor, for example decoder.3.attn.z[2]@answer or decoder.3.mlp.out@-1"
Feature = Annotated[str, AfterValidator(lambda text: _feature(text))]


class Place(BaseModel):
    """Base of what stands here: immutable, unknown fields are an error, and so is whatever is wrong: a PlaceError.

    Where a text is given in place of the fields it is parsed. Instances are checked once more when a record takes
    them up, so that nothing half-made (a component at `each`) is ever recorded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", revalidate_instances="always")

    if not TYPE_CHECKING:  # the checker keeps the signature that pydantic derives

        def __init__(self, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"]))
                message = first["msg"].removeprefix("Value error, ")
                raise PlaceError(message if first["type"] == "value_error" else f"{place}: {message}") from None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The object that a text describes; PlaceError says what would be valid."""
        return cls(**cls._fields(text))

    @classmethod
    def _fields(cls, text: str) -> dict[str, Any]:
        raise NotImplementedError(f"{cls.__name__} has no text")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return cls._fields(value) if isinstance(value, str) else value


@total_ordering
class _Ordered(Place):
    """A place with a natural order: block 10 comes after block 9."""

    def __lt__(self, other: Self) -> bool:
        return self._rank() < other._rank()

    def _rank(self) -> tuple[Any, ...]:
        raise NotImplementedError


class Component(_Ordered):
    """One part of a model, or some of its units, at one anchor; the module's docstring has the grammar.

    units: sorted; empty is the whole part. feature: '' or `dir:NAME~sha` (a direction, in each of the heads named, if
    any) or `sae:NAME/17`. passes: which time the block runs, counted from 1. anchor: '' where none is stated, which is
    every position. key, key_stack: for patterns, what stands behind `<-`.
    """

    stack: str = Field(pattern=f"^{NAME}$")
    block: Index | None = None
    part: str
    units: tuple[Index, ...] = ()
    feature: Feature = ""
    passes: Annotated[int, Field(ge=1, lt=MOST)] | None = None
    anchor: str = ""
    key: str = ""
    key_stack: str = ""

    @model_validator(mode="before")
    @classmethod
    def _canonical(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        fields = dict(value)
        if isinstance(fields.get("units"), tuple | list) and all(isinstance(u, int) for u in fields["units"]):
            fields["units"] = tuple(sorted(set(fields["units"])))
        for name in ("anchor", "key"):
            if isinstance(fields.get(name), str) and fields[name]:
                fields[name] = str(parse_anchor(fields[name]))
        return fields

    @model_validator(mode="after")
    def _sound(self) -> Self:
        part = _part(self.part)
        if part.in_block != (self.block is not None):
            needs = "lies in a block: write stack.block." if part.in_block else "lies in no block: write stack."
            raise PlaceError(f"{self.part} {needs}{self.part}")
        if (self.units or self.feature) and not part.unit:
            raise PlaceError(f"{self.part} has no units: leave the brackets out")
        if self.feature and (part.is_pattern or (self.units and part.unit != "head")):
            raise PlaceError(f"a direction or feature lies in the whole of a part or in heads, not in {_inside(self)}")
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
        found = _FORM.fullmatch(_tight(text))
        if not found or not found["stack"] or "*" in (found["stack"], found["block"]):
            raise PlaceError(f"{text!r} is no component: {_HOW}; parts are {', '.join(PARTS)}")
        fields: dict[str, Any] = {k: found[k] for k in ("stack", "part", "anchor", "key", "key_stack") if found[k]}
        if found["block"]:
            fields["block"] = _index(found["block"], text)
        if found["passes"]:
            fields["passes"] = int(found["passes"])
        if found["inside"] is not None:
            *units, last = found["inside"].split(",")
            if ":" in last:
                fields["feature"] = last
            else:
                units.append(last)
            fields["units"] = tuple(_index(u, text) for u in units)
        return fields

    def __str__(self) -> str:
        block = "" if self.block is None else f".{self.block}"
        return f"{self.stack}{block}.{self.part}{_ends(self)}"

    def _rank(self) -> tuple[Any, ...]:
        # Embeddings come before the blocks, final and logits after them.
        block = self.block if self.block is not None else -1 if self.part in ("embed", "conv") else MOST
        ends = tuple(natural(text) for text in (self.anchor, self.key_stack, self.key, self.feature))
        return natural(self.stack), block, RANK[self.part], self.passes or 0, *ends, self.units

    def at(self, anchor: str) -> "Component":
        """The same component at another anchor."""
        return Component(**{**dict(self), "anchor": anchor})

    def singles(self) -> tuple["Component", ...]:
        """Its units one by one; itself where it names none."""
        return tuple(Component(**{**dict(self), "units": (u,)}) for u in self.units) or (self,)


class ComponentSet(_Ordered):
    """Components that something is about together, joined by ` + `.

    Units of members that are equal otherwise are one member: `a.z[0] + a.z[2]` is `a.z[0,2]`, and `a.z + a.z[0]` is
    `a.z`, so that the same set has one text. `len` and iteration are over the members; `singles` goes by unit.
    """

    members: tuple[Component, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _merged(self) -> Self:
        units: dict[Component, set[int] | None] = {}
        for c in self.members:
            whole = Component(**{**dict(c), "units": ()})
            known = units.get(whole, set())
            units[whole] = known | set(c.units) if c.units and known is not None else None
        merged = [c if u is None else Component(**{**dict(c), "units": tuple(u)}) for c, u in units.items()]
        self.__dict__["members"] = tuple(sorted(merged))  # frozen: this is still its construction
        return self

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

    def _rank(self) -> tuple[Any, ...]:
        return tuple(c._rank() for c in self.members)

    @property
    def one(self) -> Component:
        """Its only member; PlaceError where it has several."""
        if len(self.members) != 1:
            raise PlaceError(f"one component is needed here, but {self} are {len(self.members)}")
        return self.members[0]

    def singles(self) -> tuple[Component, ...]:
        """The members with their units one by one."""
        return tuple(single for c in self.members for single in c.singles())


class Path(_Ordered):
    """Two or more components along which something is sent, joined by ` -> `; the last one receives.

    What the receiver reads with is its part: attn.q, attn.k, attn.v, mlp.out, logits ... frozen: what was held at its
    intact value meanwhile, in words or as parts, written behind it: `a -> b (frozen: attn.out, mlp.out)`.
    """

    nodes: tuple[Component, ...] = Field(min_length=2)
    frozen: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if len(set(self.nodes)) < len(self.nodes):
            raise PlaceError(f"a path passes each component once, not {' -> '.join(map(str, self.nodes))}")
        items = tuple(sorted({" ".join(text.split()) for text in self.frozen}, key=natural))
        for text in items:
            if not re.fullmatch(r"[\w.@#*:~/ \[\],+-]+", text, re.ASCII) or _commas(text) != [text]:
                raise PlaceError(f"{text!r} is nothing to hold frozen: write parts or components, such as attn.out")
        self.__dict__["frozen"] = items
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

    def _rank(self) -> tuple[Any, ...]:
        return tuple(c._rank() for c in self.nodes), tuple(natural(text) for text in self.frozen)

    @property
    def receiver(self) -> Component:
        """The last node."""
        return self.nodes[-1]


Operation = Literal["zero", "mean", "resample", "set", "add", "scale", "project_out", "program"]
# What each operation is given: exactly one of these sets of arguments.
OPERATIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "zero": ((),),
    "mean": ((), ("source",)),
    "resample": ((), ("source",)),
    "set": (("source",), ("dose",), ("direction", "dose")),
    "add": (("direction", "dose"), ("source", "dose")),
    "scale": (("dose",), ("direction", "dose")),
    "project_out": (("direction",), ("source",)),
    "program": (("program",),),
}


class Intervention(_Ordered):
    """What is done at a place: `zero`, `resample(donor)`, `add(dir:NAME~sha, 4)`, `program(skip 2)`.

    source: what the new activation is taken from (twin, donor, random, a task or corpus). dose: a finite number, at
    most a million either way, in units of the activation (a factor, for scale). direction: `dir:NAME~sha` or
    `sae:NAME/17`. program: a layer program; it changes the model, so it has no place.
    """

    LARGEST: ClassVar[float] = 1e6
    op: Operation
    source: str = ""
    dose: float | None = None
    direction: Feature = ""
    program: str = ""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.dose is not None:
            if not abs(self.dose) <= self.LARGEST:
                raise PlaceError(
                    f"a dose of {self.dose} is out of range: use -{self.LARGEST:.0f} to {self.LARGEST:.0f}"
                )
            self.__dict__["dose"] = self.dose + 0.0  # one zero, not two
        self.__dict__["source"] = self.source.strip()
        self.__dict__["program"] = " ".join(self.program.split())
        given = {k for k in ("source", "dose", "direction", "program") if getattr(self, k) not in ("", None)}
        if given not in map(set, OPERATIONS[self.op]):
            forms = " or ".join(_call(self.op, names) for names in OPERATIONS[self.op])
            raise PlaceError(f"{self.op} is written {forms}, not {_call(self.op, sorted(given))}")
        return self

    @classmethod
    def _fields(cls, text: str) -> dict[str, Any]:
        found = re.fullmatch(r"\s*([a-z_]+)\s*(?:\((.*)\))?\s*", text, re.DOTALL)
        if not found or found[1] not in OPERATIONS:
            raise PlaceError(
                f"{text!r} is no intervention: write one of {', '.join(OPERATIONS)}, as in resample(donor)"
            )
        fields: dict[str, Any] = {"op": found[1]}
        if found[2] is None:
            return fields
        if found[1] == "program":
            return {**fields, "program": found[2]}
        # A direction has no comma in it, a source may: so add(dir:x~ab12,4) is read without the blank as well.
        for item in split_list(re.sub(r"^(\s*(?:dir|sae):[^,]*),", r"\1, ", found[2])):
            kind = "dose" if _is_number(item) else "direction" if item.startswith(("dir:", "sae:")) else "source"
            if kind in fields or not item:
                raise PlaceError(
                    f"{text!r}: {found[1]} takes one {kind}, in {_call(found[1], OPERATIONS[found[1]][-1])}"
                )
            fields[kind] = float(item) if kind == "dose" else unquoted(item)
        return fields

    def __str__(self) -> str:
        plain = not _is_number(self.source) and not self.source.startswith(("dir:", "sae:"))
        source = quoted(self.source) if plain else f'"{self.source}"'
        dose = "" if self.dose is None else repr(self.dose).removesuffix(".0")
        inside = ", ".join(filter(None, (source if self.source else "", self.direction, dose, self.program)))
        return f"{self.op}({inside})" if inside else self.op

    def _rank(self) -> tuple[Any, ...]:
        dose = (self.dose is not None, self.dose or 0.0)
        names = tuple(natural(text) for text in (self.source, self.direction, self.program))
        return get_args(Operation).index(self.op), *names, dose


class BlockLayout(Place):
    """What one block has: its parts, heads and hidden neurons (0: none that can be named)."""

    parts: tuple[str, ...]
    heads: int = 0
    neurons: int = 0


class StackLayout(Place):
    """What one stack has: its blocks, its width, its parts off the blocks, and how many logits (0: not known).

    attends_to: the stack in which the keys of cross-attention lie.
    """

    name: str
    blocks: tuple[BlockLayout, ...]
    width: int
    parts: tuple[str, ...] = ()
    logits: int = 0
    attends_to: str = ""

    def parts_of(self, block: int | None) -> tuple[str, ...]:
        """The parts of a block, or those off the blocks."""
        return self.parts if block is None else self.blocks[block].parts

    def size(self, block: int | None, part: str) -> int:
        """How many units a part has; 0 where it has none, or where their number is not known."""
        if part == "conv":
            return 0  # its channels need not be the stack's
        inside = {} if block is None else {"head": self.blocks[block].heads, "neuron": self.blocks[block].neurons}
        return {"channel": self.width, "logit": self.logits, **inside}.get(PARTS[part].unit, 0)


class Layout(Place):
    """What a model has, without the model: its stacks, and the anchors of its examples (none given: any)."""

    stacks: tuple[StackLayout, ...]
    anchors: tuple[str, ...] = ()

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
                f"block {component.block} is out of range: {stack.name} has {_range('block', len(stack.blocks))}"
            )
        parts = stack.parts_of(component.block)
        if component.part not in parts:
            raise PlaceError(f"{component.part} is no part that can be reached there: it has {', '.join(parts)}")
        size = stack.size(component.block, component.part)
        if component.units and (component.units[-1] >= size > 0 or (size == 0 and component.part != "conv")):
            unit = PARTS[component.part].unit
            raise PlaceError(f"{unit} {component.units[-1]} is out of range: {component.part} has {_range(unit, size)}")
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
        anchor, known = parse_anchor(text), [parse_anchor(a) for a in self.anchors]
        if (
            anchor.index is None
            and anchor not in known
            and anchor.name not in {a.name for a in known if a.policy == "all"}
        ):
            raise PlaceError(f"no anchor {text!r}: there are {', '.join(self.anchors)}, and indices such as -1")


class Term(Place):
    """One term of a selector: a component in which stack, block and unit may be `*`, block and unit lists of ranges."""

    stack: str
    block: str
    part: str
    units: str = ""
    feature: Feature = ""
    passes: int | None = None
    anchor: str = ""
    key: str = ""
    key_stack: str = ""

    @classmethod
    def _fields(cls, text: str) -> dict[str, Any]:
        tight = _tight(text)
        head = re.match(r"[a-z_.]+", tight)
        if head and head[0] in SHORT:
            tight = SHORT[head[0]] + tight[head.end() :]
        elif head and head[0] in PARTS:
            tight = ("*.*." if PARTS[head[0]].in_block else "*.") + tight
        found = _FORM.fullmatch(tight)
        if not found or not found["stack"]:
            raise PlaceError(
                f"{text!r} selects nothing: {_HOW}; * is every stack, block or unit, 1-5 and 0,2,4 are several, @each is "
                f"every anchor by itself; {', '.join(SHORT)} and the parts stand for every one there is"
            )
        fields: dict[str, Any] = {k: found[k] for k in ("stack", "part", "key", "key_stack") if found[k]}
        anchor = found["anchor"] or ""
        fields["anchor"] = anchor if anchor in ("", "each", "all") else str(parse_anchor(anchor))
        fields["key"] = str(parse_anchor(found["key"])) if found["key"] else ""
        fields["block"] = _spans(found["block"]) if found["block"] else ""
        if found["passes"]:
            fields["passes"] = int(found["passes"])
        if found["inside"] is not None:
            *units, last = found["inside"].split(",")
            if ":" in last:
                fields["feature"] = last
            else:
                units.append(last)
            fields["units"] = _spans(",".join(units)) if units else ""
        part = _part(fields["part"])
        if part.in_block != bool(fields["block"]):
            raise PlaceError(f"{part.name} lies in {'a' if part.in_block else 'no'} block: {text!r} does not say so")
        return fields

    def __str__(self) -> str:
        block = f".{self.block}" if self.block else ""
        return f"{self.stack}{block}.{self.part}{_ends(self)}"

    def resolve(self, layout: Layout) -> list[Component]:
        """What the term names in a model: each block and unit as a component of its own."""
        stacks = layout.stacks if self.stack == "*" else (layout.stack(self.stack),)
        out: list[Component] = []
        for stack in stacks:
            blocks = _chosen(self.block, len(stack.blocks), "block", stack.name) if self.block else [None]
            for block in blocks:
                is_open = self.stack == "*" or self.block == "*"
                if is_open and self.part not in stack.parts_of(block):
                    continue  # a star means all that have it
                out += self._units(layout, stack, block)
        if not out:
            raise PlaceError(f"{self} selects nothing: no block of {', '.join(s.name for s in stacks)} has {self.part}")
        return out

    def _units(self, layout: Layout, stack: StackLayout, block: int | None) -> Iterator[Component]:
        anchor = "" if self.anchor in ("all", "each") else self.anchor
        fields = {"part": self.part, "feature": self.feature, "passes": self.passes, "anchor": anchor}
        whole = Component(stack=stack.name, block=block, **fields, key=self.key, key_stack=self.key_stack)
        layout.check(whole)
        unit, size = PARTS[self.part].unit, stack.size(block, self.part)
        where = f"{stack.name}{'' if block is None else f'.{block}'}.{self.part}"
        choices = [(u,) for u in _chosen(self.units, size, unit or "unit", where)] if self.units else [()]
        for units in choices:
            single = Component(**{**dict(whole), "units": units})
            yield single.model_copy(update={"anchor": "each"}) if self.anchor == "each" else single


SHORT = {"head": "*.*.attn.z[*]", "attn": "*.*.attn.out", "mlp": "*.*.mlp.out", "cross": "*.*.cross.out"}


class Selector(Place):
    """Components of a model as the argument of a tool names them: `decoder.*.attn.z[*]@answer`, `decoder.1-5.mlp.out@each`.

    It names single components: each block and each unit by itself, so that `decoder.0.attn.z[0,2]` are two heads (one
    ComponentSet of them is both together). A bare part stands for every one there is (`block`, `mlp.out`), and `head`,
    `attn`, `mlp` for `attn.z[*]`, `attn.out`, `mlp.out`. `@all`, as no anchor, is all positions together; `@each` is
    every anchor by itself. Terms are joined by ` + `.
    """

    terms: tuple[Term, ...] = Field(min_length=1)

    @classmethod
    def _fields(cls, text: str) -> dict[str, Any]:
        return {"terms": tuple(dict.fromkeys(Term.parse(part) for part in text.split("+")))}

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms))

    @property
    def has_each(self) -> bool:
        """Whether a term is `@each`: what it resolves to has to go through `expand_anchors`."""
        return any(term.anchor == "each" for term in self.terms)

    def resolve(self, layout: Layout) -> list[Component]:
        """The components, each once, in their order; `each` stays as an anchor for `expand_anchors`.

        PlaceError names the valid range of an index that is out of it. A component at `each` is refused by every
        record.
        """
        return sorted({c for term in self.terms for c in term.resolve(layout)})


def expand_anchors(components: Iterable[Component], anchors: Sequence[str]) -> list[Component]:
    """The components with each of the anchors in place of `each`; the others as they are. PlaceError without anchors."""
    components = list(components)
    if not anchors and any(c.anchor == "each" for c in components):
        raise PlaceError("each needs at least one anchor to stand for")
    wide = [[c.at(a) for a in anchors] if c.anchor == "each" else [c] for c in components]
    return list(dict.fromkeys(c for group in wide for c in group))


def usual_name(component: Component) -> str | None:
    """`1.0`, as a head is usually called, for one head's output; None for everything else."""
    is_head = component.part == "attn.z" and len(component.units) == 1 and not component.feature
    return f"{component.block}.{component.units[0]}" if is_head else None


def display(place: "Component | ComponentSet | Path | Intervention", roles: Mapping[str, str] | None = None) -> str:
    """The place in plain words: `heads 0 and 3 of block 0 at the answer`; `roles` are words for the names of anchors."""
    roles = roles or {}
    match place:
        case Component():
            return words([place], roles)
        case ComponentSet():
            return words(place.members, roles)
        case Path():
            held = f", with {', '.join(place.frozen)} held frozen" if place.frozen else ""
            return "the path from " + " to ".join(words([c], roles) for c in place.nodes) + held
        case Intervention():
            return str(place)


def _tight(text: str) -> str:
    """The text without the blanks around its punctuation."""
    return re.sub(r"\s*(<-|[.\[\]#@,:~/])\s*", r"\1", text.strip())


def _part(name: str) -> Part:
    if name not in PARTS:
        raise PlaceError(f"no part {name!r}: parts are {', '.join(PARTS)}")
    return PARTS[name]


def _feature(text: str) -> str:
    if text and not _FEATURE.fullmatch(text):
        raise PlaceError(f"{text!r} is no direction or feature: write dir:NAME~sha or sae:NAME/17")
    return text


def _inside(c: Component | Term) -> str:
    units = c.units if isinstance(c.units, str) else ",".join(map(str, c.units))
    inside = ",".join(filter(None, (units, c.feature)))
    return f"[{inside}]" if inside else ""


def _ends(c: Component | Term) -> str:
    passes = "" if c.passes is None else f"#{c.passes}"
    anchor = f"@{c.anchor}" if c.anchor else ""
    key = f"<-{c.key_stack + ':' if c.key_stack else ''}{c.key}" if c.key else ""
    return f"{_inside(c)}{passes}{anchor}{key}"


def _index(text: str, whole: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise PlaceError(
            f"{text!r} in {whole!r} is no index: {_HOW}; ranges and * select in the arguments of tools only"
        )
    return int(text)


def _commas(text: str) -> list[str]:
    """Items parted by commas outside of brackets."""
    return [item.strip() for item in re.split(r",(?![^\[]*\])", text)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _call(op: str, names: Iterable[str]) -> str:
    return f"{op}({', '.join(names)})" if names else op


def _range(unit: str, n: int) -> str:
    return f"{unit}s 0 to {n - 1}" if n else f"no {unit}s that can be named"


def _spans(text: str) -> str:
    """A list of ranges in its one form: `4,0-1,2` is `0-2,4`; `*` is itself."""
    if text == "*":
        return text
    pairs: list[tuple[int, int]] = []
    for item in text.split(","):
        found = re.fullmatch("([0-9]{1,9})(?:-([0-9]{1,9}))?", item)
        if not found or int(found[2] or found[1]) < int(found[1]):
            raise PlaceError(f"{item!r} is no range of indices: write 3, 1-5, 0,2,4 or *")
        pairs.append((int(found[1]), int(found[2] or found[1])))
    merged: list[tuple[int, int]] = []
    for low, high in sorted(pairs):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in merged)


def _chosen(spans: str, n: int, unit: str, where: str) -> list[int]:
    """The indices that `_spans` wrote, of n; PlaceError names the valid range."""
    if spans == "*":
        if not n:
            raise PlaceError(f"{where} has no {unit}s that can be named: leave the brackets out")
        return list(range(n))
    pairs = [tuple(map(int, item.split("-"))) for item in spans.split(",")]
    if (last := pairs[-1][-1]) >= n:
        raise PlaceError(f"{unit} {last} is out of range: {where} has {_range(unit, n)}")
    return [i for pair in pairs for i in range(pair[0], pair[-1] + 1)]
