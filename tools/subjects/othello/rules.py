"""Othello on boards of up to eight by eight, for many games at once: positions are two bit sets, a bit a square.

Squares are counted row by row from the top left and named by column and row: `a1`, `b1`, ... Black begins. Who has no move
passes; a game ends where neither side has one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray

Bits = NDArray[np.uint64]
DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


@dataclass(frozen=True)
class Rules:
    """The game on a board of size x size squares."""

    size: int = 6

    @property
    def squares(self) -> int:
        """How many squares there are."""
        return self.size**2

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Each square's name, in order."""
        return tuple(f"{chr(97 + c)}{r + 1}" for r in range(self.size) for c in range(self.size))

    @cached_property
    def centre(self) -> tuple[int, ...]:
        """The four squares that are taken from the start: white, black, black, white."""
        h, n = self.size // 2, self.size
        return ((h - 1) * n + h - 1, (h - 1) * n + h, h * n + h - 1, h * n + h)

    def start(self, n: int) -> tuple[Bits, Bits]:
        """(black, white) of n games that begin."""
        a, b, c, d = (1 << s for s in self.centre)
        return np.full(n, b | c, np.uint64), np.full(n, a | d, np.uint64)

    @cached_property
    def _steps(self) -> tuple[tuple[int, np.uint64], ...]:
        """For each direction by how many bits a set moves, and the squares that can be arrived at."""
        n, steps = self.size, list[tuple[int, np.uint64]]()
        for dr, dc in DIRECTIONS:
            inside = [r * n + c for r in range(n) for c in range(n) if 0 <= r - dr < n and 0 <= c - dc < n]
            steps.append((dr * n + dc, np.uint64(sum(1 << s for s in inside))))
        return tuple(steps)

    def legal(self, own: Bits, other: Bits) -> Bits:
        """The squares that the side with `own` may move to, (n)."""
        empty, out = ~(own | other), np.zeros_like(own)
        for by, inside in self._steps:
            run = _moved(own, by) & inside & other
            for _ in range(self.size - 3):
                run |= _moved(run, by) & inside & other
            out |= _moved(run, by) & inside & empty
        return out

    def play(self, own: Bits, other: Bits, move: Bits) -> tuple[Bits, Bits]:
        """Both sides after the first one's move, one bit a game; a game whose move has no bit stays as it is."""
        turned = np.zeros_like(own)
        for by, inside in self._steps:
            run = _moved(move, by) & inside & other
            for _ in range(self.size - 3):
                run |= _moved(run, by) & inside & other
            closed = (_moved(run, by) & inside & own) != 0
            turned |= np.where(closed, run, np.uint64(0))
        return own | move | turned, other & ~turned

    def unpack(self, bits: Bits) -> Bool[np.ndarray, "n squares"]:
        """A set's squares, one truth value each."""
        return ((bits[:, None] >> np.arange(self.squares, dtype=np.uint64)) & np.uint64(1)).astype(bool)

    def pack(self, squares: Bool[np.ndarray, "n squares"]) -> Bits:
        """The opposite of `unpack`."""
        return (squares.astype(np.uint64) << np.arange(self.squares, dtype=np.uint64)).sum(1, dtype=np.uint64)


def _moved(bits: Bits, by: int) -> Bits:
    return bits << np.uint64(by) if by > 0 else bits >> np.uint64(-by)


@dataclass(frozen=True)
class Games:
    """n games up to the longest: what was played, and what stood on the board before each move.

    moves: the square, -1 once a game is over. black, white: the two sides before the move, passes taken. blacks_turn: who
    moves. legal: where to, empty once a game is over.
    """

    moves: Int[np.ndarray, "n turns"]
    black: NDArray[np.uint64]
    white: NDArray[np.uint64]
    blacks_turn: Bool[np.ndarray, "n turns"]
    legal: NDArray[np.uint64]


def random_games(rules: Rules, n: int, generator: np.random.Generator) -> Games:
    """Games in which each move is drawn from the legal ones, all alike likely, n of them."""
    turns = rules.squares - 4
    given = generator.random((turns, n))

    def choose(turn: int, legal: NDArray[np.uint64]) -> Int[np.ndarray, " n"]:
        open_ = rules.unpack(legal)
        nth = (given[turn] * open_.sum(1)).astype(np.int64)
        return (open_.cumsum(1) <= nth[:, None]).sum(1)

    return _played(rules, n, turns, choose)


def replayed(rules: Rules, moves: Int[np.ndarray, "n turns"]) -> Games:
    """Given games, -1 from where each is over on, and one turn more that is not played: the position at the end.

    ValueError names the first move that the rules do not allow.
    """
    n, turns = moves.shape

    def choose(turn: int, legal: NDArray[np.uint64]) -> Int[np.ndarray, " n"]:
        chosen = moves[:, turn] if turn < turns else np.full(n, -1)
        allowed = rules.unpack(legal)[np.arange(n), np.clip(chosen, 0, None)]
        for game in np.flatnonzero((chosen >= 0) & ~allowed):
            name = rules.names[chosen[game]]
            raise ValueError(f"game {game}: move {turn + 1}, {name}, is not allowed there")
        return chosen

    return _played(rules, n, turns + 1, choose)


Choose = Callable[[int, Bits], NDArray[np.int64]]  # (which turn, what is legal) -> a square for each game


def _played(rules: Rules, n: int, turns: int, choose: Choose) -> Games:
    own, other = rules.start(n)
    blacks, seen = np.ones(n, bool), list[tuple[np.ndarray, ...]]()
    for turn in range(turns):
        legal = rules.legal(own, other)
        if (legal == 0).any():
            others = rules.legal(other, own)
            passes = (legal == 0) & (others != 0)
            own, other = np.where(passes, other, own), np.where(passes, own, other)
            blacks, legal = blacks ^ passes, np.where(passes, others, legal)
        chosen = np.where(legal == 0, -1, choose(turn, legal))
        black, white = np.where(blacks, own, other), np.where(blacks, other, own)
        seen.append((chosen, black, white, blacks, legal))
        moved = chosen >= 0
        bit = np.where(moved, np.uint64(1) << np.clip(chosen, 0, None).astype(np.uint64), np.uint64(0))
        own, other = rules.play(own, other, bit)
        own, other = np.where(moved, other, own), np.where(moved, own, other)
        blacks = blacks ^ moved
    return Games(*(np.stack(column, 1) for column in zip(*seen, strict=True)))
