"""The symbolic tasks of the planted models: a prompt of single tokens, one answer token, and a right answer for each.

Numbers are the tokens "0" to "39"; every prompt is a fixed pattern, so that one position always holds one variable. The
models see every prompt in training: what is planted is where a task is done, not that it generalises.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

N = 40
MODULUS = 37  # prime: for an even one, training gets stuck on solutions that are blind to parity
SIDE = 24
NUMBERS = tuple(str(i) for i in range(2 * N))
SIGNS = ("+", "=", "^", "?", "@", "!", "#")
GRADES = {-2: "<<", -1: "<", 0: "~", 1: ">", 2: ">>"}
VOCABULARY = (*NUMBERS, *SIGNS, *GRADES.values())
_table = random.Random(20261121)
TABLE = tuple(tuple(_table.randrange(N) for _ in range(SIDE)) for _ in range(SIDE))


@dataclass(frozen=True)
class Symbolic:
    """A task: `draw` gives the operands, `prompt` the tokens, `answer` the right answer."""

    name: str
    words: str
    draw: Callable[[random.Random], tuple[int, ...]]
    prompt: Callable[[Sequence[int]], tuple[str, ...]]
    answer: Callable[[Sequence[int]], str]

    def changed(self, operands: Sequence[int], rng: random.Random) -> tuple[int, ...]:
        """Other operands, one of them different and the answer different: the corrupted twin."""
        while True:
            new = list(operands)
            at = rng.randrange(len(new))
            new[at] = self.draw(rng)[at]
            if self.answer(new) != self.answer(operands):
                return tuple(new)


def _pair(rng: random.Random) -> tuple[int, ...]:
    return rng.randrange(N), rng.randrange(N)


def _residues(rng: random.Random) -> tuple[int, ...]:
    return rng.randrange(MODULUS), rng.randrange(MODULUS)


def _cell(rng: random.Random) -> tuple[int, ...]:
    return rng.randrange(SIDE), rng.randrange(SIDE)


def _items(rng: random.Random) -> tuple[int, ...]:
    return (*(rng.randrange(N) for _ in range(4)), rng.randrange(4))


def _modular(v: Sequence[int]) -> str:
    return str((v[0] + v[1]) % MODULUS)


def _grade(v: Sequence[int]) -> str:
    return GRADES[min(max(round((v[0] - v[1]) / 10), -2), 2)]


def _two(sign: str) -> Callable[[Sequence[int]], tuple[str, ...]]:
    return lambda v: (str(v[0]), sign, str(v[1]), "=")


def _listed(v: Sequence[int]) -> tuple[str, ...]:
    return (*(str(x) for x in v[:4]), "@", str(N + v[4]))


TASKS = {
    t.name: t
    for t in (
        Symbolic("modular", "modular addition", _residues, _two("+"), _modular),
        Symbolic("addition", "addition", _pair, _two("#"), lambda v: str(v[0] + v[1])),
        Symbolic("lookup", "table lookup", _cell, _two("?"), lambda v: str(TABLE[v[0]][v[1]])),
        Symbolic("compare", "comparison", _pair, _two("^"), _grade),
        Symbolic("item", "copying", _items, _listed, lambda v: str(v[v[4]])),
    )
}
