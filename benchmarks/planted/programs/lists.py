"""Programs on lists: the answer depends on one place in the list, or on all alike."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from benchmarks.planted.compiler.language import START, AnyStep, Design, Head, Lookup, Operands, Shown
from benchmarks.planted.programs.words import CAPITALS, DIGITS, LETTERS, MANY, SIZE, WORDS, table_of


def _listed(
    rng: random.Random, steps: Callable[[tuple[str, ...], int], Sequence[AnyStep]], back: int,
    variables: Mapping[str, tuple[str, ...]] | None = None, answer: Mapping[tuple[str, ...], str] | None = None,
    alphabet: tuple[str, ...] = (), flows: tuple[tuple[str, ...], ...] = (("item", "copy", "answer"),),
) -> Design:  # fmt: skip
    """Lists of different letters and a question mark; the answer is the letter `back` places before it, or its image."""
    letters = alphabet or tuple(rng.sample(LETTERS, SIZE))

    def draw(r: random.Random) -> Operands:
        return tuple(r.sample(letters, r.choice((back + 1, back + 2, back + 3))))

    def show(v: Operands) -> Shown | None:
        items = tuple(map(str, v))
        if len(set(items)) < len(items):
            return None
        at = len(items) + 1 - back
        word = items[-back]
        image = answer[(word,)] if answer else word
        group = word if answer else " ".join(items)
        return Shown((START, *items, "?"), (image,), {"item": (at, at + 1)}, group,
                     candidates=() if answer else items, source={len(items) - back: "item"})  # fmt: skip

    outs = tuple(sorted(set(answer.values()))) if answer else letters
    words = tuple(dict.fromkeys((*letters, *outs, "?")))
    return Design(words, {"out": outs, **(variables or {})}, tuple(steps(letters, back)), draw, show, flows)


def previous(rng: random.Random) -> Design:
    """One head copies the token before."""
    return _listed(rng, lambda _, k: [Head(name="copy", offset=k, looks="item")], 1)


def skip(rng: random.Random) -> Design:
    """One head copies the token two to four places back."""
    return _listed(rng, lambda _, k: [Head(name="copy", offset=k, looks="item")], rng.randint(2, 4))


def lookup(rng: random.Random) -> Design:
    """One MLP maps the last token; no head takes part."""
    keys = tuple(rng.sample(WORDS, MANY))
    table = table_of(keys, DIGITS, rng)

    def draw(r: random.Random) -> Operands:
        return tuple(r.sample(keys, 4))

    def show(v: Operands) -> Shown:
        items = tuple(map(str, v))
        return Shown((START, *items), (table[items[-1:]],), {"rest": (1, 4)}, items[-1], source={3: "answer"})

    step = Lookup(name="map", reads=("tok",), table=table)
    return Design((*keys, *DIGITS), {"out": DIGITS}, (step,), draw, show, (("answer",),))


def majority(rng: random.Random) -> Design:
    """One head looks at all tokens of two classes alike: the more frequent class wins."""
    a, b = tuple(rng.sample(LETTERS, 7)), tuple(rng.sample(CAPITALS, 7))
    n = rng.choice((5, 7, 9))

    def draw(r: random.Random) -> Operands:
        first = n // 2 + r.choice((-1, 0, 1, 2))  # close, so that one token decides
        items = [r.choice(a if i < first else b) for i in range(n)]
        return tuple(r.sample(items, n))

    def show(v: Operands) -> Shown:
        items = tuple(map(str, v))
        more = "small" if sum(w in a for w in items) > n / 2 else "big"
        return Shown((START, *items, "?"), (more,), {"items": (1, n + 1)}, " ".join(items), candidates=("small", "big"))

    named = {**dict.fromkeys(a, "small"), **dict.fromkeys(b, "big")}
    head = Head(name="count", keys=(*a, *b), values=named, looks="items")
    return Design((*a, *b, "?", "small", "big"), {"out": ("small", "big")}, (head,), draw, show)


def backup(rng: random.Random) -> Design:
    """Two heads copy the same token: either is enough when the other is zeroed."""
    return _listed(
        rng, lambda _, k: [Head(name=n, offset=k, looks="item", backup="pair") for n in ("copy", "again")],
        rng.randint(1, 3), flows=(),
    )  # fmt: skip


def vote(rng: random.Random) -> Design:
    """Three heads copy the same token: any one may be zeroed, or say something else."""
    names, ops = ("copy", "again", "thrice"), ("zero", "resample")
    return _listed(
        rng, lambda _, k: [Head(name=n, offset=k, looks="item", backup="trio", covers=ops) for n in names],
        rng.randint(1, 3), flows=(),
    )  # fmt: skip


def constant(rng: random.Random) -> Design:
    """A head copies, and an MLP maps what it copied only where another MLP has said 'go', which it says always.

    Zeroing the latter breaks everything; its output from another example is the same.
    """
    letters = tuple(rng.sample(WORDS, MANY))
    table = table_of(letters, DIGITS, rng)
    gated = {(k, "go"): v for (k,), v in table.items()}

    def steps(_: tuple[str, ...], k: int) -> Sequence[AnyStep]:
        return [
            Head(name="copy", offset=k, writes="copied", looks="item"),
            Lookup(name="always", reads=(), table={(): "go"}, writes="gate", ops=("zero",)),
            Lookup(name="map", reads=("copied", "gate"), table=gated),
        ]

    return _listed(rng, steps, rng.randint(1, 3), {"copied": letters, "gate": ("go",)}, table, letters)


def unable(rng: random.Random) -> Design:
    """Nothing but noise: the model cannot do it."""
    return replace(_listed(rng, lambda *_: [], rng.randint(1, 3), flows=()), able=False)


def shadow(rng: random.Random) -> Design:
    """A head finds and copies the right token into directions that nothing reads: it can be decoded, and is not used."""
    letters = tuple(rng.sample(LETTERS, SIZE))

    def steps(_: tuple[str, ...], k: int) -> Sequence[AnyStep]:
        return [Head(name="copy", offset=k, writes="unread", at=(), looks="item")]

    design = _listed(rng, steps, rng.randint(1, 3), {"unread": letters}, alphabet=letters, flows=())
    return replace(design, able=False)
