"""Random games by split, the positions in them as their mover sees them, and what a square of another colour would allow."""

from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from jaxtyping import Bool, Int

from tools.subjects._splits import Split, side
from tools.subjects.othello.rules import Games, Rules, random_games

RULES = Rules(6)
OPENING = 6  # moves; games with one opening share a side of the split
SPECIAL = ("<start>", "<unk>")
HELD_OUT = 10  # one game in so many is on a side that is not trained on
COLOURS, SIDES = ("white", "empty", "black"), ("theirs", "empty", "mine")


def vocabulary() -> tuple[str, ...]:
    """Token strings in the order of their ids: specials, squares."""
    return (*SPECIAL, *RULES.names)


def games(split: Split, n: int, generator: np.random.Generator) -> Games:
    """Random games of a side of the split, n of them."""
    parts: list[Games] = []
    while sum(len(p.moves) for p in parts) < n:
        drawn = random_games(RULES, n if split == "train" else HELD_OUT * n, generator)
        kept = np.array([_side(*opening) == split for opening in drawn.moves[:, :OPENING].tolist()])
        parts.append(Games(*(getattr(drawn, f.name)[kept] for f in fields(Games))))
    return Games(*(np.concatenate([getattr(p, f.name) for p in parts])[:n] for f in fields(Games)))


@cache
def _side(*opening: int) -> Split:
    return side("othello", opening)


@dataclass(frozen=True)
class Positions:
    """n positions with somebody to move.

    board: 1 black, -1 white, 0 empty; blacks_turn: who moves. legal: where to. flipped: where to if a square had the other
    colour and all else stood as it does; of an empty square what is legal anyway.
    """

    board: Int[np.ndarray, "n squares"]
    blacks_turn: Bool[np.ndarray, " n"]
    legal: Bool[np.ndarray, "n squares"]
    flipped: Bool[np.ndarray, "n squares squares"]

    @property
    def sides(self) -> Int[np.ndarray, "n squares"]:
        """1 the mover's own, -1 the other's, 0 empty."""
        return self.board * np.where(self.blacks_turn, 1, -1)[:, None]


def positions(games: Games, turns: Int[np.ndarray, " n"]) -> Positions:
    """Of each game the position before the move of a turn, counted from 0."""
    rows = np.arange(len(turns))
    black, white, blacks = (getattr(games, name)[rows, turns] for name in ("black", "white", "blacks_turn"))
    own, other = np.where(blacks, black, white), np.where(blacks, white, black)
    bits = np.uint64(1) << np.arange(RULES.squares, dtype=np.uint64)
    turned = np.where((own | other)[:, None] & bits, bits, np.uint64(0))  # an empty square stays empty
    legal = RULES.legal((own[:, None] ^ turned).ravel(), (other[:, None] ^ turned).ravel())
    n, k = len(turns), RULES.squares
    board = RULES.unpack(black).astype(np.int64) - RULES.unpack(white).astype(np.int64)
    return Positions(board, blacks, RULES.unpack(games.legal[rows, turns]), RULES.unpack(legal).reshape(n, k, k))
