"""The tasks that fresh models are trained on: drawn by seed, computed for whole batches of tensors at once.

A prompt is a fixed pattern of single tokens, one token a word, so that one position always holds one role. Operands are
numbers from 0 on; words for them, signs and fillers differ by seed. The model sees every prompt in training: what is
planted is where a task is done, not that it generalises.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

import torch
from torch import Tensor

GRADES = 5
Ids = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Seeded:
    """One task. words: the vocabulary, operands' words first. layout: what stands at each position of the prompt: an operand
    (its index), a filler (-1) or a sign (its word). solve: operands (n, count) -> indices of answers' words (n, tokens).
    ranges: how many values each operand takes. roles: of the operands.
    """

    name: str
    says: str
    words: tuple[str, ...]
    layout: tuple[int | str, ...]
    ranges: tuple[int, ...]
    roles: tuple[str, ...]
    solve: Callable[[Tensor], Tensor]
    first: tuple[int, ...]  # for each operand the index of its first word
    tokens: int = 1
    fillers: int = 0

    @property
    def length(self) -> int:
        """Tokens of the prompt and of all but the last token of the answer: what the model reads."""
        return len(self.layout) + self.tokens - 1

    def positions(self, role: str) -> tuple[int, ...]:
        """Where a role lies: the tokens of an operand, or the positions that predict the answer."""
        if role == "answer":
            return tuple(range(len(self.layout) - 1, self.length))
        return (self.layout.index(self.roles.index(role)),)

    def operands(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, count) operands drawn evenly."""
        return torch.stack([torch.randint(r, (n,), generator=generator) for r in self.ranges], 1)

    def ids(self, operands: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What the model reads, (n, length), and the answers, (n, tokens)."""
        n, columns = len(operands), list[Tensor]()
        for what in self.layout:
            if isinstance(what, str):
                columns.append(torch.full((n,), self.words.index(what)))
            elif what < 0:
                columns.append(torch.randint(self.fillers, (n,), generator=generator))
            else:
                columns.append(operands[:, what] + self.first[what])
        answers = self.solve(operands)
        return torch.cat([torch.stack(columns, 1), answers[:, :-1]], 1), answers

    def batch(self, n: int, generator: torch.Generator) -> Ids:
        """Ids (n, length), answers (n, tokens), operands (n, count)."""
        drawn = self.operands(n, generator)
        return *self.ids(drawn, generator), drawn

    def changed(self, operands: Tensor, generator: torch.Generator) -> tuple[Tensor, int]:
        """Operands (count) of which one differs, and the answer; and which one it is."""
        answer = self.solve(operands[None])
        while True:
            at = int(torch.randint(len(self.ranges), (1,), generator=generator))
            new = operands.clone()
            new[at] = torch.randint(self.ranges[at], (1,), generator=generator)
            if not bool((self.solve(new[None]) == answer).all()):
                return new, at


def _words(rng: random.Random, n: int, signs: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words for values, and signs: the shapes of both differ by seed."""
    letters = rng.choice((ascii_lowercase, ascii_lowercase.upper()))
    match rng.choice(("numbers", "pairs", "numbered")):
        case "numbers":
            pool = [str(i) for i in range(100)]
        case "pairs":
            pool = [a + b for a in letters for b in letters[:8]]
        case _:
            pool = [f"{c}{i}" for i in range(4) for c in letters]
    return tuple(rng.sample(pool, n)), tuple(rng.sample(("+", "=", "^", "?", "@", "!", "#", "|", "&", "%"), signs))


def _tabled(rng: random.Random, name: str, says: str, table: Tensor, extra: Sequence[str], early: bool) -> Seeded:
    """Two operands with a table of answers; early: with fillers behind them, so that they can be joined on the way."""
    side, outs = len(table), int(table.max()) + 1
    values = max(side, outs if not extra else side)
    words, (sign, end) = _words(rng, values, 2)
    vocabulary = (*words, sign, end, *extra)
    offset = vocabulary.index(extra[0]) if extra else 0
    fillers = rng.randint(1, 2) if early else 0
    layout: tuple[int | str, ...] = (0, sign, 1, *(-1,) * fillers, end)
    if not early and rng.random() < 0.5:
        layout = (0, 1, sign, end) if rng.random() < 0.5 else (sign, 0, 1, end)
    return Seeded(
        name, says, vocabulary, layout, (side, side), ("operand1", "operand2"),
        lambda v: (table[v[:, 0], v[:, 1]] + offset)[:, None], (0, 0), fillers=values,
    )  # fmt: skip


def modular(rng: random.Random, early: bool = False) -> Seeded:
    """Addition modulo a prime, or the same with the second operand's values in another order."""
    m = rng.choice((17, 19, 23))
    order = torch.tensor(rng.sample(range(m), m))
    i = torch.arange(m)
    return _tabled(rng, "modular", f"addition modulo {m}", (i[:, None] + order[None]) % m, (), early)


def lookup(rng: random.Random, early: bool = False) -> Seeded:
    """A random table of two operands."""
    side = rng.randint(15, 20)
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    return _tabled(rng, "lookup", "table lookup", torch.randint(side, (side, side), generator=generator), (), early)


def compare(rng: random.Random, early: bool = False) -> Seeded:
    """How far two numbers are apart, in five grades."""
    n = rng.randint(18, 24)
    i = torch.arange(n)
    grade = ((i[:, None] - i[None]) / (n / 4)).round().clamp(-2, 2).long() + 2
    return _tabled(rng, "compare", "comparison", grade, ("<<", "<", "~", ">", ">>")[:GRADES], early)


def item(rng: random.Random) -> Seeded:
    """A list and the number of one of its places: the item there."""
    n, count = rng.randint(14, 28), rng.randint(3, 5)
    words, (sign,) = _words(rng, n + count, 1)
    layout = (*range(count), sign, count) if rng.random() < 0.5 else (*range(count), count)
    return Seeded(
        "item", "copying by place", (*words, sign), layout, (*(n,) * count, count),
        (*(f"item{i + 1}" for i in range(count)), "place"),
        lambda v: v.gather(1, v[:, -1:]), (*(0,) * count, n),
    )  # fmt: skip


def pair(rng: random.Random) -> Seeded:
    """A list, of which two places have to be named, always the same ones: answers of two tokens."""
    n, count = rng.randint(14, 28), rng.randint(3, 4)
    words, (sign,) = _words(rng, n, 1)
    picked = torch.tensor(rng.sample(range(count), 2))
    return Seeded(
        "pair", "copying two items", (*words, sign), (*range(count), sign), (n,) * count,
        tuple(f"item{i + 1}" for i in range(count)), lambda v: v[:, picked], (0,) * count, tokens=2,
    )  # fmt: skip
