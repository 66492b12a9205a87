"""The words and texts that places are written with: parts, anchors, lists, quoted values, coordinates, ranges of indices.

No place is known here yet; `places` has the grammar.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple

NAME = r"[A-Za-z][A-Za-z0-9_]*"
BRACKETS = {"]": "[", ")": "(", "}": "{"}


class PlaceError(ValueError):
    """A place that cannot be; the message says what would be valid."""


def plain_message(message: str) -> str:
    """What a record says is wrong with it, without the words that pydantic puts before it."""
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")


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
    name: Part(name, unit, unit and unit + "s", name not in ("conv", "embed", "final", "logits"), meaning)
    for name, unit, meaning in (
        ("conv", "channel", "what the convolutions before the first block put out"),
        ("embed", "channel", "what the embedding puts into the residual stream, positions included"),
        ("resid_pre", "channel", "the residual stream that enters the block"),
        ("attn.q", "head", "the heads' queries, after any rotation by position"),
        ("attn.k", "head", "the heads' keys, likewise, one for each query head"),
        ("attn.v", "head", "the heads' values, one for each query head"),
        ("attn.pattern", "head", "the heads' attention weights, from the anchor to the key behind <-"),
        ("attn.z", "head", "the heads' outputs, before the output projection"),
        ("attn.out", "channel", "what attention adds to the residual stream"),
        ("cross.q", "head", "as attn.q, of cross-attention"),
        ("cross.k", "head", "as attn.k, of cross-attention; its anchor lies in the stack attended to"),
        ("cross.v", "head", "as attn.v, of cross-attention; its anchor lies in the stack attended to"),
        ("cross.pattern", "head", "as attn.pattern, of cross-attention; its key lies in the stack attended to"),
        ("cross.z", "head", "as attn.z, of cross-attention"),
        ("cross.out", "channel", "as attn.out, of cross-attention"),
        ("resid_mid", "channel", "the residual stream between attention and MLP"),
        ("mlp.act", "neuron", "the hidden activations of the MLP"),
        ("mlp.out", "channel", "what the MLP adds to the residual stream"),
        ("block", "", "all that the block adds to the residual stream"),
        ("resid_post", "channel", "the residual stream that leaves the block"),
        ("final", "channel", "the residual stream after the last block and the final norm"),
        ("logits", "logit", "what the model puts out, one number for each token or class"),
    )
}
RANK = {name: i for i, name in enumerate(PARTS)}


class Anchor(NamedTuple):
    """A position of an example: one of its roles (`name`) with a policy, or a position, negative from the end."""

    name: str
    policy: Literal["first", "last", "all"] = "all"
    position: int | None = None

    def __str__(self) -> str:
        if self.position is not None:
            return str(self.position)
        return self.name if self.policy == "all" else f"{self.name}.{self.policy}"


@lru_cache(maxsize=4096)
def parse_anchor(text: str) -> Anchor:
    """The anchor that `answer`, `answer.first`, `operand1.last` or `-2` names; PlaceError says what would be valid.

    `answer` is all positions that predict the answer; every other name is a span of the example. A name alone is all
    of its positions, so that `operand1.all` is `operand1`.
    """
    text = re.sub(r"\s*\.\s*", ".", text.strip())
    if re.fullmatch("-?[0-9]{1,9}", text):
        return Anchor("", position=int(text))
    found = re.fullmatch(rf"({NAME})(?:\.(first|last|all))?", text)
    if not found or found[1] in ("each", "all"):
        raise PlaceError(
            f"{text!r} is no anchor: write answer, a role of the example such as operand1, either with .first, .last or "
            ".all, or an index such as -2; each and all stand in the arguments of tools only"
        )
    policy: Literal["first", "last", "all"] = found[2] or "all"  # type: ignore[assignment]  # the pattern admits no other
    return Anchor(found[1], policy)


def anchor_rank(text: str) -> tuple[Any, ...]:
    """A sort key: no anchor, positions from the start, names, positions from the end."""
    if not text or not re.fullmatch("-?[0-9]+", text):
        return (2 if text else 0), 0, natural(text)
    return (3 if text[0] == "-" else 1), int(text), natural("")


def natural(text: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """A sort key by which `word10` comes after `word9`; different texts have different keys."""
    pieces = [(p, p.lstrip("0")) for p in re.findall("[0-9]+|[^0-9]+", text)]
    # Digits are compared by their number and then one by one: Python refuses integers of thousands of digits.
    return tuple((0, len(d), d) if p[0] in "0123456789" else (1, 0, p) for p, d in pieces), text


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


def spans(text: str) -> str:
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


def chosen(spans: str, n: int, unit: str, where: str) -> list[int]:
    """The indices that `spans` wrote, of n; PlaceError names the valid range."""
    if spans == "*":
        if not n:
            raise PlaceError(f"{where} has no {unit}s that can be named: leave the brackets out")
        return list(range(n))
    pairs = [tuple(map(int, item.split("-"))) for item in spans.split(",")]
    if (last := pairs[-1][-1]) >= n:
        raise PlaceError(f"{unit} {last} is out of range: {where} has {range_of(unit, n)}")
    return [i for pair in pairs for i in range(pair[0], pair[-1] + 1)]


def range_of(unit: str, n: int) -> str:
    """`heads 0 to 3`."""
    return f"{unit}s 0 to {n - 1}" if n else f"no {unit}s that can be named"
