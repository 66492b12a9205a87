"""Where a design's steps lie in a model, and the model's shape: drawn by seed within what the steps need."""

import math
import random
from dataclasses import dataclass
from typing import Literal

from benchmarks.planted.compiler.language import START, Design, Head, Lookup, writers

Family = Literal["gpt2", "llama", "gpt_neox"]
FAMILIES: tuple[Family, ...] = ("gpt2", "llama", "gpt_neox")
POSITIONS = 16
SLOW = 8  # rotary pairs from here on hardly turn within the positions that there are (Llama)
ROTARY_SHARE = 0.25  # of a head's dimensions (GPT-NeoX)


@dataclass(frozen=True)
class Plan:
    """Where each step lies, and the model's shape. places: step -> (block, head; None for an MLP).
    idle: what all other places hold: zero, noise or a shadow. hidden: neurons of each MLP. norm: see `weights`.
    """

    family: Family
    blocks: int
    heads: int
    head_dim: int
    width: int
    hidden: int
    norm: Literal["epsilon", "anchor"]
    parallel: bool  # attention and MLP of a block read the same residual stream
    places: dict[str, tuple[int, int | None]]
    idle: dict[tuple[int, int | None], str]


def plan(design: Design, family: Family, rng: random.Random) -> Plan:
    """Draw a shape and places that respect what reads what."""
    parallel = family == "gpt_neox" and rng.random() < 0.5
    heads = rng.choice((3, 4, 5, 6))
    blocks, places = _places(design, heads, parallel, rng)
    n = len(columns(design, family))
    # A head holds a domain's words among its values and, where rotation leaves room, among its keys and queries.
    still = 1 + max((matched(design, s, family) for s in design.steps if isinstance(s, Head)), default=0)
    room = {"gpt2": still, "llama": still + 2 * SLOW, "gpt_neox": math.ceil(still / 0.75)}[family]
    room = max(room, 24, *(len(copied(design, s)[0]) for s in design.steps if isinstance(s, Head)))
    head_dim = 8 * math.ceil(max(room, (n + 17) / heads if family != "llama" else 0) / 8)
    width = heads * head_dim if family != "llama" else heads * math.ceil((n + rng.randint(17, 48)) / heads)
    entries = max([len(s.table) for s in design.steps if isinstance(s, Lookup)] + [rng.choice((32, 48, 64))])
    every = [(b, h) for b in range(blocks) for h in (*range(heads), None)]
    kinds = ("zero", "noise", "noise", "shadow")
    idle = {place: rng.choice(kinds) for place in every if place not in places.values()}
    return Plan(family, blocks, heads, head_dim, width, entries + rng.randint(4, 12), rng.choice(("epsilon", "anchor")),
                parallel, places, idle)  # fmt: skip


def _places(
    design: Design, heads: int, parallel: bool, rng: random.Random
) -> tuple[int, dict[str, tuple[int, int | None]]]:
    """Blocks and places by rejection: each place with one step, each writer before its readers."""
    for _ in range(100_000):
        blocks = rng.randint(2, 6)
        places: dict[str, tuple[int, int | None]] = {
            s.name: (rng.randrange(blocks), rng.randrange(heads) if isinstance(s, Head) else None) for s in design.steps
        }
        if len(set(places.values())) == len(places) and all(
            _before(places[w.name], places[s.name], parallel)
            for s in design.steps
            for v in s.inputs().values()
            for w in writers(design.steps, v)
        ):
            return blocks, places
    raise AssertionError("a program of this module fits into six blocks")


def _before(a: tuple[int, int | None], b: tuple[int, int | None], parallel: bool) -> bool:
    return a[0] < b[0] or (a[0] == b[0] and a[1] is not None and b[1] is None and not parallel)


def columns(design: Design, family: Family) -> dict[tuple[str, str], int]:
    """(variable, word) -> direction."""
    names = [("", "one"), ("", "anchor"), *(("tok", w) for w in (START, *design.words))]
    names += [(v, w) for v, domain in design.variables.items() for w in domain]
    names += [("pos", str(i)) for i in range(POSITIONS if family == "gpt2" else 0)]
    return {name: i for i, name in enumerate(names)}


def matched(design: Design, head: Head, family: Family) -> int:
    """How many dimensions of queries and keys a head's selection takes, rotary ones apart."""
    if head.offset is not None:
        return POSITIONS - head.offset if family == "gpt2" else 0
    return 1 if head.equal is None else len(shared_words(design, head))


def shared_words(design: Design, head: Head) -> list[str]:
    """The words that both variables of an equality can hold."""
    assert head.equal is not None
    a, b = (set(design.words) if v == "tok" else set(design.variables[v]) for v in head.equal)
    return sorted(a & b)


def copied(design: Design, head: Head) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Directions that a head reads and, in the same order, those that it writes."""
    domain = (START, *design.words) if head.reads == "tok" else design.variables[head.reads]
    target = design.variables[head.writes]
    named = [(w, head.values.get(w) if head.values else w) for w in domain]
    pairs = [(w, x) for w, x in named if x in target]
    return [(head.reads, w) for w, _ in pairs], [(head.writes, str(x)) for _, x in pairs]
