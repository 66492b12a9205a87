"""Places of facts and of claims, made comparable: which units of the model they hold, and at which tokens of the examples.

An anchor is a set of positions in each example, so that `-1` and `answer` are one place where answers have one token, and a role is
the same place as the index at which it always stands.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments_db.places import Component, ComponentSet, parse_anchor
from tools.tasks.conditions import parse, visible

Unit = tuple[int, int | None]  # block, and head; None for the MLP


@dataclass(frozen=True)
class Row:
    """An example as the model reads it, one token a word."""

    prompt: tuple[str, ...]
    answer: tuple[str, ...]
    twin: tuple[str, ...]
    foil: tuple[str, ...]
    spans: dict[str, tuple[int, int]]
    twin_spans: dict[str, tuple[int, int]]
    values: dict[str, Any]
    group: str
    candidates: int

    def meets(self, among: str) -> bool:
        """Whether it is one of a class (`key=value`)."""
        values = {**visible(" ".join(self.prompt), {}), **self.values}
        return all(c.holds(values) for c in parse(among))

    def at(self, anchor: str, *, twin: bool = False) -> tuple[int, ...]:
        """The positions of an anchor, none where the example does not have the role."""
        n = len(self.prompt)
        if anchor in ("", "all"):
            return tuple(range(n + len(self.answer) - 1))
        if anchor == "answer":
            return tuple(range(n - 1, n + len(self.answer) - 1))
        if anchor == "answer.first":
            return (n - 1,)
        asked = parse_anchor(anchor)
        if asked.position is not None:
            return (n + asked.position,) if -n <= asked.position < 0 else (asked.position,)
        spans = self.twin_spans if twin else self.spans
        if asked.name not in spans:
            return ()
        found = tuple(range(*spans[asked.name]))
        which = anchor.partition(".")[2]
        return found[:1] if which == "first" else found[-1:] if which == "last" else found


def rows_of(file: Path) -> tuple[Row, ...]:
    """The examples of a task file whose tokens are words."""
    return tuple(_row(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines())


def _row(data: dict[str, Any]) -> Row:
    prompt, answer, twin, foil = (tuple(str(data[k]).split()) for k in ("prompt", "answer", "twin", "foil"))
    spans = {r: _words(data["prompt"], s) for r, s in data.get("spans", {}).items()}
    moved = {r: _words(data["twin"], s) for r, s in (data.get("twin_spans") or data.get("spans", {})).items()}
    values = {**data.get("metadata", {}), **data.get("labels", {})}
    return Row(
        prompt,
        answer,
        twin,
        foil,
        spans,
        moved,
        values,
        data.get("group") or data["prompt"],
        len(data.get("candidates") or ()),
    )


def _words(text: str, span: Sequence[int]) -> tuple[int, int]:
    first = len(text[: span[0]].split())
    return first, first + len(text[span[0] : span[1]].split())


@dataclass(frozen=True)
class Site:
    """One place: units of the model at an anchor. whole: the sublayer itself, of which the units are all there are."""

    units: frozenset[Unit]
    anchor: str
    whole: bool = False

    @property
    def sublayers(self) -> frozenset[Unit]:
        """The units with heads taken for their attention, (block, -1)."""
        return frozenset((b, None if h is None else -1) for b, h in self.units)


@dataclass(frozen=True)
class Map:
    """A model's heads, and examples by which anchors are compared. among: the class of examples (`key=value`) that counts."""

    blocks: int
    heads: int
    rows: tuple[Row, ...] = field(repr=False)
    among: str = ""

    @cached_property
    def mine(self) -> tuple[Row, ...]:
        """The examples of the class."""
        return tuple(r for r in self.rows if r.meets(self.among))

    def sites(self, places: Iterable[str] | ComponentSet) -> list[Site]:
        """One for each component; ValueError for what is neither attention, heads nor MLP."""
        members = places.members if isinstance(places, ComponentSet) else [Component.parse(p) for p in places]
        return [site for c in members for site in self._sites(c)]

    def _sites(self, c: Component) -> Iterator[Site]:
        assert c.block is not None
        anchor = c.anchor or "all"
        match c.part:
            case "mlp.out":
                yield Site(frozenset({(c.block, None)}), anchor, whole=True)
            case "attn.out":
                yield Site(frozenset((c.block, h) for h in range(self.heads)), anchor, whole=True)
            case "attn.z":
                for h in c.units or range(self.heads):
                    yield Site(frozenset({(c.block, h)}), anchor)
            case _:
                raise ValueError(f"{c} is no sublayer")

    def holds(self, wide: str, narrow: str) -> bool:
        """Whether one anchor has all positions of the other, in every example that has the latter."""
        return wide == narrow or all(set(r.at(narrow)) <= set(r.at(wide)) for r in self.mine if r.at(narrow))

    def same(self, a: str, b: str) -> bool:
        """Whether two anchors are the same positions in every example that has either."""
        return a == b or all(set(r.at(a)) == set(r.at(b)) for r in self.mine)

    def removes(self, claimed: Sequence[Site], target: Site) -> bool:
        """Whether what is claimed, removed, takes all of the target away."""
        return target.units <= {u for s in claimed if self.holds(s.anchor, target.anchor) for u in s.units}
