"""The words that places are made of: parts, anchors, lists with quoted values, and a place in plain English.

No place is known here yet: what stands in this file knows text and the fields of a component, and `places` builds on it.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Literal, NamedTuple, Protocol

NAME = r"[A-Za-z_][A-Za-z0-9_]*"
BRACKETS = {"]": "[", ")": "(", "}": "{"}


class PlaceError(ValueError):
    """A place that cannot be; the message says what would be valid."""


class Part(NamedTuple):
    """One part of a model: its units (both empty: it has none), whether it lies in a block, and what it is."""

    name: str
    unit: str
    units: str
    in_block: bool
    meaning: str

    @property
    def is_pattern(self) -> bool:
        """Whether it has two ends: a query position (the anchor) and a key position."""
        return self.name.endswith(".pattern")


# In the order in which a model computes them: this is also the order of components.
PARTS: dict[str, Part] = {
    name: Part(name, unit, units, name not in ("embed", "conv", "final", "logits"), meaning)
    for name, unit, units, meaning in (
        ("conv", "channel", "channels", "what the convolutions before the first block put out"),
        ("embed", "channel", "channels", "what the embedding puts into the residual stream, positions included"),
        ("resid_pre", "channel", "channels", "the residual stream that enters the block"),
        ("attn.q", "head", "heads", "the heads' queries, after any rotation by position"),
        ("attn.k", "head", "heads", "the heads' keys, likewise, one for each query head"),
        ("attn.v", "head", "heads", "the heads' values, one for each query head"),
        ("attn.pattern", "head", "heads", "the heads' attention weights, from the anchor to the key behind <-"),
        ("attn.z", "head", "heads", "the heads' outputs, before the output projection"),
        ("attn.out", "channel", "channels", "what attention adds to the residual stream"),
        ("cross.q", "head", "heads", "as attn.q, of cross-attention"),
        ("cross.k", "head", "heads", "as attn.k, of cross-attention; its anchor lies in the stack attended to"),
        ("cross.v", "head", "heads", "as attn.v, of cross-attention; its anchor lies in the stack attended to"),
        (
            "cross.pattern",
            "head",
            "heads",
            "as attn.pattern, of cross-attention; its key lies in the stack attended to",
        ),
        ("cross.z", "head", "heads", "as attn.z, of cross-attention"),
        ("cross.out", "channel", "channels", "as attn.out, of cross-attention"),
        ("resid_mid", "channel", "channels", "the residual stream between attention and MLP"),
        ("mlp.act", "neuron", "neurons", "the hidden activations of the MLP"),
        ("mlp.out", "channel", "channels", "what the MLP adds to the residual stream"),
        ("block", "", "", "all that the block adds to the residual stream"),
        ("resid_post", "channel", "channels", "the residual stream that leaves the block"),
        ("final", "channel", "channels", "the residual stream after the last block and the final norm"),
        ("logits", "logit", "logits", "what the model puts out, one number for each token or class"),
    )
}
RANK = {name: i for i, name in enumerate(PARTS)}


class Anchor(NamedTuple):
    """A position of an example: one of its roles (`name`) with a policy, or an index, negative from the end."""

    name: str
    policy: Literal["first", "last", "all"] = "all"
    index: int | None = None

    def __str__(self) -> str:
        if self.index is not None:
            return str(self.index)
        return self.name if self.policy == "all" else f"{self.name}.{self.policy}"


def parse_anchor(text: str) -> Anchor:
    """The anchor that `answer`, `answer.first`, `operand1.last` or `-2` names; PlaceError says what would be valid.

    `answer` is all positions that predict the answer; every other name is a span of the example. A name alone is all
    of its positions, so that `operand1.all` is `operand1`.
    """
    text = re.sub(r"\s*\.\s*", ".", text.strip())
    if re.fullmatch("-?[0-9]{1,9}", text):
        return Anchor("", index=int(text))
    found = re.fullmatch(rf"({NAME})(?:\.(first|last|all))?", text)
    if not found or found[1] in ("each", "all"):
        raise PlaceError(
            f"{text!r} is no anchor: write answer, a role of the example such as operand1, either with .first, .last or "
            ".all, or an index such as -2; each and all stand in the arguments of tools only"
        )
    policy: Literal["first", "last", "all"] = found[2] or "all"  # type: ignore[assignment]  # the pattern admits no other
    return Anchor(found[1], policy)


def natural(text: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """A sort key by which `word10` comes after `word9`; different texts have different keys."""
    pieces = re.findall("[0-9]+|[^0-9]+", text)
    return tuple((0, int(p), "") if p[0] in "0123456789" else (1, 0, p) for p in pieces), text


def _is_balanced(text: str) -> bool:
    open_: list[str] = []
    for c in text:
        if c in BRACKETS.values():
            open_.append(c)
        elif c in BRACKETS and (not open_ or open_.pop() != BRACKETS[c]):
            return False
    return not open_


def quoted(value: str) -> str:
    """The value as it stands in a list: itself where `split_list` finds it again, else as a JSON string."""
    bare = value and value == value.strip() and '"' not in value and value.isprintable() and _is_balanced(value)
    return value if bare and split_list(value) == [value] else json.dumps(value, ensure_ascii=False)


def unquoted(text: str) -> str:
    """The value that `quoted` wrote; PlaceError where a quotation does not end."""
    if not text.startswith('"'):
        return text
    try:
        value: str = json.loads(text)
    except ValueError:
        raise PlaceError(f'{text} is no quoted value: write a JSON string, for example "a, b"') from None
    return value


def split_list(text: str) -> list[str]:
    """The items of a list that commas with a blank behind them part, outside of brackets and quotations."""
    items, start, open_, in_quotes = list[str](), 0, list[str](), False
    skip = False
    for i, c in enumerate(text):
        if skip:
            skip = False
        elif in_quotes:
            skip, in_quotes = c == "\\", c != '"'
        elif c == '"':
            in_quotes = True
        elif c in BRACKETS.values():
            open_.append(c)
        elif c in BRACKETS and (not open_ or open_.pop() != BRACKETS[c]):
            raise PlaceError(f"{text!r}: {c} closes nothing; quote a value that holds it")
        elif c == "," and not open_ and text[i + 1 : i + 2].isspace():
            items.append(text[start:i].strip())
            start = i + 1
    if open_ or in_quotes:
        raise PlaceError(
            f"{text!r}: {open_[-1] if open_ else 'a quotation'} is not closed; quote a value that holds it"
        )
    return [*items, text[start:].strip()]


def join_coordinates(coordinates: Mapping[str, str]) -> str:
    """`component=decoder.3.attn.z[2]@answer, task=addition`; a value that would be read otherwise is a JSON string.

    PlaceError for a name that is no word.
    """
    for name in coordinates:
        if not re.fullmatch(NAME, name):
            raise PlaceError(f"{name!r} is no name of a coordinate: use letters, digits and _")
    return ", ".join(f"{name}={quoted(value)}" for name, value in coordinates.items())


def split_coordinates(text: str) -> dict[str, str]:
    """The coordinates that `join_coordinates` wrote, in their order; PlaceError says what would be valid."""
    out: dict[str, str] = {}
    for item in split_list(text) if text.strip() else ():
        name, equals, value = item.partition("=")
        name, value = name.strip(), value.strip()
        if not (equals and value and re.fullmatch(NAME, name)):
            raise PlaceError(f"{item!r} in {text!r}: write name=value, parted by a comma and a blank")
        if name in out:
            raise PlaceError(f"{name} stands twice in {text!r}: give each coordinate once")
        out[name] = unquoted(value)
    return out


class Named(Protocol):
    """The fields of a component that words are made of."""

    @property
    def stack(self) -> str: ...
    @property
    def block(self) -> int | None: ...
    @property
    def part(self) -> str: ...
    @property
    def units(self) -> tuple[int, ...]: ...
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


_NOUNS = {  # singular and plural of a whole part, before "of block 3" or "of blocks 3 and 4"
    "conv": "the convolutions",
    "embed": "the embedding",
    "resid_pre": "the residual stream before",
    "resid_mid": "the residual stream in the middle of",
    "resid_post": "the residual stream after",
    "final": "the final residual stream",
    "logits": "the logits",
}
_SUBLAYERS = {"attn": "attention", "cross": "cross-attention", "mlp": "MLP"}
_ASPECTS = {"q": "queries", "k": "keys", "v": "values", "pattern": "pattern", "act": "hidden activations"}


def listed(items: Iterable[object]) -> str:
    """`1, 2 and 3`."""
    texts = [str(i) for i in items]
    return texts[0] if len(texts) == 1 else ", ".join(texts[:-1]) + " and " + texts[-1]


def numbers(values: Sequence[int]) -> str:
    """`1, 2 and 5`; more than five in a row as `1 to 8`."""
    is_run = len(values) > 5 and list(values) == list(range(values[0], values[-1] + 1))
    return f"{values[0]} to {values[-1]}" if is_run else listed(values)


def _of_anchor(text: str, roles: Mapping[str, str]) -> str:
    anchor = parse_anchor(text)
    if anchor.index is not None:
        if anchor.index >= 0:
            return f"position {anchor.index}"
        return "the last position" if anchor.index == -1 else f"position {-anchor.index} from the end"
    name = roles.get(anchor.name, "the answer" if anchor.name == "answer" else anchor.name.replace("_", " "))
    return name if anchor.policy == "all" else f"the {anchor.policy} position of {name}"


def where(c: Named, roles: Mapping[str, str]) -> str:
    """What follows the component itself: pass, anchor and key, each with a blank before it."""
    text = "" if c.passes is None else f" on pass {c.passes}"
    if c.anchor:
        text += (" from " if c.key else " at ") + _of_anchor(c.anchor, roles)
    if c.key:
        text += " to " + _of_anchor(c.key, roles) + (f" in the {c.key_stack}" if c.key_stack else "")
    return text


def what(c: Named, blocks: Sequence[int]) -> str:
    """The component without its anchor, in words; `blocks` are all the blocks that are said together."""
    many = len(blocks) > 1
    at = (
        f"{'' if c.stack == 'decoder' else c.stack + ' '}block{'s' if many else ''} {numbers(blocks)}" if blocks else ""
    )
    part = PARTS[c.part]
    sublayer, _, aspect = c.part.partition(".")
    cross = "cross-attention " if sublayer == "cross" else ""
    if c.feature:
        kind, _, name = c.feature.partition(":")
        named = f"the direction {name.partition('~')[0]}" if kind == "dir" else f"feature {name}"
        return f"{named} in {what(_Plain(c), blocks)}"
    if c.units:
        noun = part.unit if len(c.units) == 1 else part.units
        if part.unit in ("logit", "neuron"):
            text = f"{noun} {numbers(c.units)}"
        elif part.unit == "head":
            text = f"{cross}{noun} {numbers(c.units)}"
            text = f"the {_ASPECTS[aspect]} of {text}" if aspect in _ASPECTS else text
        else:
            return f"{noun} {numbers(c.units)} of {what(_Plain(c, units=()), blocks)}"
        return f"{text} of {at}" if at else text
    if c.part == "block":
        return at
    if c.part in _NOUNS:
        joint = " " if part.in_block else (" of the " + c.stack if c.stack != "decoder" else "")
        return f"{_NOUNS[c.part]}{joint}{at}"
    whole = f"the {_SUBLAYERS[sublayer]}{'s' if many and sublayer == 'mlp' else ''} of {at}"
    return f"the {_ASPECTS[aspect]} of {whole}" if aspect in _ASPECTS else whole


class _Plain:
    """A component without its feature, or with other units."""

    def __init__(self, c: Named, units: tuple[int, ...] | None = None) -> None:
        self.stack, self.block, self.part, self.passes = c.stack, c.block, c.part, c.passes
        self.anchor, self.key, self.key_stack = c.anchor, c.key, c.key_stack
        self.units = c.units if units is None else units
        self.feature = ""


def words(members: Sequence[Named], roles: Mapping[str, str]) -> str:
    """Components in plain words, those that differ in their block alone said together."""

    def kind(c: Named) -> tuple[object, ...]:
        return c.stack, RANK[c.part], c.units, c.feature, where(c, roles)

    ends = {where(c, roles) for c in members}
    shared = ends.pop() if len(ends) == 1 else None
    said: list[str] = []
    for _, group in _grouped(members, kind):
        first = group[0]
        blocks = [c.block for c in group if c.block is not None]
        said.append(what(first, blocks) + (where(first, roles) if shared is None else ""))
    return listed(said) + (shared or "")


def _grouped(members: Sequence[Named], key: Callable[[Named], tuple[object, ...]]) -> list[tuple[object, list[Named]]]:
    order = {k: i for i, k in reversed(list(enumerate(map(key, members))))}
    return [(k, list(g)) for k, g in groupby(sorted(members, key=lambda c: order[key(c)]), key)]
