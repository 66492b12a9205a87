"""The words that programs draw their alphabets from, one token each."""

import random
from collections.abc import Sequence
from string import ascii_lowercase, ascii_uppercase

LETTERS, CAPITALS = tuple(ascii_lowercase), tuple(ascii_uppercase)
DIGITS = tuple(str(i) for i in range(20))
WORDS = tuple(f"{a}{i}" for a in LETTERS for i in range(10))
SIZE = 14  # words of the alphabet that a list is made of
MANY = 60  # words where each is a problem of its own


def table_of(keys: Sequence[str], values: Sequence[str], rng: random.Random) -> dict[tuple[str, ...], str]:
    """A lookup that maps keys to values, each value as often as the others."""
    shuffled = rng.sample(values, len(values))
    return {(k,): shuffled[i % len(shuffled)] for i, k in enumerate(rng.sample(keys, len(keys)))}
