"""The compiled programs: what each computes, on which prompts, and through which steps.

Each function makes a program's `Design` from a seeded generator: lists, tables, distances and alphabets differ by seed.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.planted.compiler.language import Design
from benchmarks.planted.programs.joins import chain, compare, modular, other_name, relay, routes
from benchmarks.planted.programs.lists import backup, constant, lookup, majority, previous, shadow, skip, unable, vote
from benchmarks.planted.programs.recall import duplicate, induction, match_lookup, phrase


@dataclass(frozen=True)
class Program:
    """A named maker of designs."""

    name: str
    words: str
    design: Callable[[random.Random], Design]


PROGRAMS = {
    f.__name__: Program(f.__name__, (f.__doc__ or "").split("\n")[0], f)
    for f in (
        previous, skip, lookup, induction, phrase, match_lookup, duplicate, compare, modular, chain, relay, majority,
        routes, other_name, backup, vote, constant, unable, shadow,
    )
}  # fmt: skip
