"""Programs that look for an earlier occurrence of the last token."""

import random
from collections.abc import Sequence

from benchmarks.planted.compiler.language import START, AnyStep, Design, Head, Lookup, Operands, Shown
from benchmarks.planted.programs.words import DIGITS, LETTERS, MANY, SIZE, WORDS, table_of


def _repeated(letters: tuple[str, ...], length: int, steps: Sequence[AnyStep]) -> Design:
    """Lists of different letters, then one of them again; the answer is the `length` tokens that followed it."""
    names = ("value",) if length == 1 else tuple(f"value{i + 1}" for i in range(length))

    def draw(r: random.Random) -> Operands:
        n = r.choice((4, 5, 6)) + length
        return (*r.sample(letters, n), r.randrange(n - length))

    def show(v: Operands) -> Shown | None:
        items, at = tuple(map(str, v[:-1])), int(str(v[-1]))
        if len(set(items)) < len(items) or at + length >= len(items):
            return None
        roles = {"key": (at + 1, at + 2)} | {n: (at + 2 + i, at + 3 + i) for i, n in enumerate(names)}
        others = tuple(i for i in items if i != items[at]) if length == 1 else ()
        return Shown((START, *items, items[at]), items[at + 1 : at + 1 + length], roles, " ".join((*items, str(at))),
                     candidates=others, source={at + 1 + i: n for i, n in enumerate(names)})  # fmt: skip

    flows = (("value", "match", "answer"),) if length == 1 else ()
    return Design(letters, {"out": letters, "before": letters}, tuple(steps), draw, show, flows)


def induction(rng: random.Random) -> Design:
    """A head writes each token's predecessor; a head finds the position whose predecessor is the last token."""
    steps = [
        Head(name="prev", offset=1, writes="before", at=("value",), spare=("zero",), looks="key"),
        Head(name="match", equal=("tok", "before"), looks="value"),
    ]
    return _repeated(tuple(rng.sample(LETTERS, SIZE)), 1, steps)


def phrase(rng: random.Random) -> Design:
    """Induction with answers of two or three tokens."""
    n = rng.choice((2, 3))
    at = tuple(f"value{i + 1}" for i in range(n))
    steps = [
        Head(name="prev", offset=1, writes="before", at=at, spare=("zero",)),
        Head(name="match", equal=("tok", "before")),
    ]
    return _repeated(tuple(rng.sample(LETTERS, SIZE)), n, steps)


def match_lookup(rng: random.Random) -> Design:
    """Pairs of key and value, then a key: two heads find its value, an MLP maps that."""
    letters, values = tuple(rng.sample(LETTERS, SIZE)), tuple(rng.sample(WORDS, MANY))
    table = table_of(values, DIGITS, rng)

    def draw(r: random.Random) -> Operands:
        n = r.choice((3, 4, 5))
        return (r.randrange(n), *r.sample(letters, n), *r.sample(values, n))

    def show(v: Operands) -> Shown | None:
        n, at = len(v) // 2, int(str(v[0]))
        keys, held = tuple(map(str, v[1 : n + 1])), tuple(map(str, v[n + 1 :]))
        if len(set(keys)) < n:
            return None
        pairs = [w for pair in zip(keys, held, strict=True) for w in pair]
        roles = {"key": (2 * at + 1, 2 * at + 2), "value": (2 * at + 2, 2 * at + 3)}
        return Shown((START, *pairs, keys[at]), (table[(held[at],)],), roles, held[at], source={n + 1 + at: "value"})

    steps = (
        Head(name="prev", offset=1, writes="before", at=("value",), spare=("zero",), looks="key"),
        Head(name="match", equal=("tok", "before"), writes="found", looks="value"),
        Lookup(name="map", reads=("found",), table=table),
    )
    variables = {"before": letters, "found": values, "out": DIGITS}
    return Design((*letters, *values, *DIGITS), variables, steps, draw, show, (("value", "match", "answer"),))


def duplicate(rng: random.Random) -> Design:
    """Whether the last token stood there before: what induction finds, or the start where it finds nothing."""
    letters = tuple(rng.sample(LETTERS, SIZE))
    n = rng.randint(4, 6)

    def draw(r: random.Random) -> Operands:
        items = r.sample(letters, n + 1)
        return (*items[:n], r.choice((items[n], items[r.randrange(n - 1)])))

    def show(v: Operands) -> Shown | None:
        items = tuple(map(str, v))
        if len(set(items[:-1])) < n or items[-1] == items[-2]:
            return None
        again = items[-1] in items[:-1]
        at = items.index(items[-1]) + 1
        roles = {"first": (at, at + 1), "after": (at + 1, at + 2)} if again else {}
        return Shown((START, *items), ("yes" if again else "no",), roles, " ".join(items),
                     "repeated" if again else "new", ("yes", "no"))  # fmt: skip

    said = {**dict.fromkeys(letters, "yes"), START: "no"}
    steps = (
        Head(name="prev", offset=1, writes="before", at=("after",), only="repeated", spare=("zero",), looks="first"),
        Head(name="match", equal=("tok", "before"), values=said),
    )
    return Design((*letters, "yes", "no"), {"before": letters, "out": ("yes", "no")}, steps, draw, show,
                  classes=("new", "repeated"))  # fmt: skip
