"""Make a legal move in a game of Othello on six by six squares; what stands on the board is known and never shown."""

import random
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from tools.tasks.example import Counterfactual, Example
from tools.tasks.task import Draw, Family, Options, Split

CHUNK = 256  # games at once
FEWEST, MOST = 8, 26  # moves made so far
TRIES = 40


class _Options(Options):
    fewest: int = Field(default=FEWEST, ge=6, le=30, description="moves made so far, at least")
    most: int = Field(default=MOST, ge=6, le=30, description="and at most")


def _make(options: _Options) -> Draw:
    def draw(split: Split, rng: random.Random) -> Iterator[Example]:
        import numpy as np

        from tools.subjects.othello import data

        while True:
            generator = np.random.default_rng(rng.getrandbits(64))
            games = data.games(split, CHUNK, generator)
            turns = generator.integers(options.fewest, max(options.fewest, options.most) + 1, CHUNK)
            going = games.legal[np.arange(CHUNK), turns] != 0
            found = data.positions(games, np.where(going, turns, 0))
            for i in np.flatnonzero(going).tolist():
                same = np.flatnonzero(going & (turns == turns[i])).tolist()
                made = _example(games.moves, found, i, int(turns[i]), same, rng)
                if made is not None:
                    yield made

    return draw


def _example(moves: Any, found: Any, i: int, turn: int, same: list[int], rng: random.Random) -> Example | None:
    """A position with a twin of as many moves: the target is legal in the one alone, the foil in the other. None where no
    twin is found, or no square's colour matters. The square that is supposed to have the other colour is one that matters to two
    moves or more, where there is such a one.
    """
    from tools.subjects.othello.data import COLOURS, RULES, SIDES

    names, board, legal = RULES.names, found.board[i], found.legal[i]
    empty = board == 0
    change = (found.flipped[i] != legal).sum(1) * found.flipped[i].any(1)
    matters = (change >= min(2, change.max())).nonzero()[0].tolist() if change.any() else []
    twin = target = foil = None
    for _ in range(TRIES):
        j = rng.choice(same)
        both = empty & (found.board[j] == 0)
        mine, theirs = (
            (a & ~b & both).nonzero()[0].tolist() for a, b in ((legal, found.legal[j]), (found.legal[j], legal))
        )
        if mine and theirs:
            twin, target, foil = j, rng.choice(mine), rng.choice(theirs)
            break
    if twin is None or target is None or foil is None or not matters:
        return None

    def words(squares: Any) -> tuple[str, ...]:
        return tuple(f" {names[s]}" for s in squares)

    side = found.sides[i]
    labels = {f"side.{n}": SIDES[v + 1] for n, v in zip(names, side.tolist(), strict=True)}
    labels |= {f"colour.{n}": COLOURS[v + 1] for n, v in zip(names, board.tolist(), strict=True)}
    s = rng.choice(matters)
    other = {f"side.{names[s]}": SIDES[1 - side[s]], f"colour.{names[s]}": COLOURS[1 - board[s]]}
    text, twin_text = (" ".join(names[m] for m in moves[k, :turn]) for k in (i, twin))
    return Example.of_text(
        text,
        f" {names[target]}",
        f" {names[foil]}",
        twin_text,
        words(empty.nonzero()[0]),
        {"moves": turn, "to_move": "black" if found.blacks_turn[i] else "white"},
        group=text,
        labels=labels,
        accepted=words(legal.nonzero()[0]),
        counterfactuals=(Counterfactual(other, words(found.flipped[i, s].nonzero()[0])),),
    )


FAMILIES = (
    Family(
        "othello", "Make a legal move in a game of Othello on six by six squares.", _Options, _make, subject="othello",
        private=True, offers=("labels", "counterfactuals"),
        labels={"moves": "the number of moves so far", "to_move": "the colour that moves", "side.*": "whose disc lies there"},
    ),
)  # fmt: skip
