"""Programs that bring several tokens, or several steps, together."""

import random
from collections.abc import Mapping, Sequence

from benchmarks.planted.compiler.language import START, Design, Head, Lookup, Operands, Shown
from benchmarks.planted.programs.words import CAPITALS, DIGITS, LETTERS, MANY, SIZE, WORDS, table_of


def _operands(first: Sequence[str], second: Sequence[str], layouts: Sequence[Sequence[str]],
              table: Mapping[tuple[str, ...], str], heads: tuple[Head, Head], words: tuple[str, ...]) -> Design:  # fmt: skip
    """Two operands that two heads gather and an MLP looks up together; in a layout they are written 1 and 2."""

    def draw(r: random.Random) -> Operands:
        return r.choice(first), r.choice(second), r.randrange(len(layouts))

    def show(v: Operands) -> Shown:
        a, b, layout = str(v[0]), str(v[1]), layouts[int(str(v[2]))]
        tokens = (START, *({"1": a, "2": b}.get(w, w) for w in layout))
        roles = {f"operand{i}": (layout.index(i) + 1, layout.index(i) + 2) for i in "12"}
        return Shown(tokens, (table[a, b],), roles, f"{a} {b}", source={0: "operand1", 1: "operand2"})

    outs = tuple(sorted(set(table.values())))
    variables = {"a": tuple(first), "b": tuple(second), "out": outs}
    steps = (*heads, Lookup(name="join", reads=("a", "b"), table=table))
    flows = tuple((f"operand{i + 1}", h.name, "answer") for i, h in enumerate(heads))
    return Design(tuple(dict.fromkeys((*words, *outs))), variables, steps, draw, show, flows)


def compare(rng: random.Random) -> Design:
    """Two heads gather numbers by their distance; an MLP compares them."""
    numbers = DIGITS[: rng.randint(8, 11)]
    table = {(a, b): "<" if int(a) < int(b) else ">" if int(a) > int(b) else "~" for a in numbers for b in numbers}
    heads = (
        Head(name="left", offset=3, writes="a", looks="operand1"),
        Head(name="right", offset=1, writes="b", looks="operand2"),
    )
    return _operands(numbers, numbers, ["1^2="], table, heads, (*numbers, "^", "="))


def modular(rng: random.Random) -> Design:
    """Two heads gather operands by their class, wherever they stand; an MLP adds them modulo m."""
    m = rng.choice((7, 9, 11))
    first, second = tuple(rng.sample(CAPITALS, m)), tuple(rng.sample(DIGITS, m))
    outs = rng.sample(LETTERS, m)
    table = {(a, b): outs[(i + j) % m] for i, a in enumerate(first) for j, b in enumerate(second)}
    heads = (
        Head(name="left", keys=first, writes="a", looks="operand1"),
        Head(name="right", keys=second, writes="b", looks="operand2"),
    )
    return _operands(first, second, ["1+2=", "2+1=", "+12=", "+21="], table, heads, (*first, *second, "+", "="))


def chain(rng: random.Random) -> Design:
    """An MLP enriches the subject at its own position, a head moves the attribute, an MLP maps it by the relation."""
    subjects = tuple(rng.sample(CAPITALS, 20))
    fillers, relations = tuple(rng.sample(LETTERS, 8)), ("?", "!", "@")
    kinds = ("kind0", "kind1", "kind2", "kind3", "kind4", "kind5")
    attributes = {(s,): kinds[i % 6] for i, s in enumerate(rng.sample(subjects, 20))}
    outs = rng.sample(DIGITS, 18)
    table = {(k, r): outs[6 * j + i] for i, k in enumerate(kinds) for j, r in enumerate(relations)}

    def draw(r: random.Random) -> Operands:
        return (r.choice(subjects), r.choice(relations), r.randrange(4), *(r.choice(fillers) for _ in range(4)))

    def show(v: Operands) -> Shown:
        subject, relation, at, *rest = v
        where, words = int(str(at)), tuple(map(str, rest))
        tokens = (START, *words[:where], str(subject), *words[where:], str(relation))
        answer = table[attributes[(str(subject),)], str(relation)]
        return Shown(
            tokens, (answer,), {"subject": (where + 1, where + 2)}, f"{subject} {relation}", source={0: "subject"}
        )

    steps = (
        Lookup(name="enrich", reads=("tok",), table=attributes, writes="attribute", at=("subject",)),
        Head(name="move", keys=subjects, reads="attribute", writes="moved", looks="subject"),
        Lookup(name="relate", reads=("moved", "tok"), table=table),
    )
    words = (*subjects, *fillers, *relations, *outs)
    variables = {"attribute": kinds, "moved": kinds, "out": tuple(outs)}
    return Design(words, variables, steps, draw, show, (("subject", "move", "answer"),))


def relay(rng: random.Random) -> Design:
    """One head copies a token to a marker, another from the marker to the answer: a route through two heads."""
    items, fillers = tuple(rng.sample(WORDS, MANY)), tuple(rng.sample(LETTERS, 8))

    def draw(r: random.Random) -> Operands:
        return (r.choice(items), r.randrange(3), *(r.choice(fillers) for _ in range(4)))

    def show(v: Operands) -> Shown:
        item, at, *rest = v
        where, words = int(str(at)), tuple(map(str, rest))
        tokens = (START, *words[:where], str(item), *words[where:3], "|", words[3], "=")
        roles = {"item": (where + 1, where + 2), "marker": (5, 6)}
        return Shown(tokens, (str(item),), roles, str(item), source={0: "item"})

    steps = (
        Head(name="fetch", keys=items, writes="held", at=("marker",), looks="item"),
        Head(name="hand", keys=("|",), reads="held", looks="marker"),
    )
    flow = (("item", "fetch", "marker", "hand", "answer"),)
    return Design((*items, *fillers, "|", "="), {"held": items, "out": items}, steps, draw, show, flow)


def routes(rng: random.Random) -> Design:
    """'?' asks for the token before it, '!' for the image of the capital: each class of examples has its own components."""
    letters, capitals = tuple(rng.sample(LETTERS, SIZE)), tuple(rng.sample(CAPITALS, 24))
    table = table_of(capitals, letters, rng)

    def draw(r: random.Random) -> Operands:
        return (r.choice("?!"), r.choice(capitals), r.randrange(4), *r.sample(letters, 4))

    def show(v: Operands) -> Shown | None:
        sign, capital, at, *rest = v
        where, words = int(str(at)), tuple(map(str, rest))
        if len(set(words)) < 4:
            return None
        tokens = (START, *words[:where], str(capital), *words[where:], str(sign))
        near = sign == "?"
        answer = words[-1] if near else table[(str(capital),)]
        roles = {"capital": (where + 1, where + 2), "last": (5, 6)}
        return Shown(tokens, (answer,), roles, " ".join(tokens) if near else str(capital), "near" if near else "far",
                     source={1: "capital", 6: "last"})  # fmt: skip

    steps = (
        Head(name="near", offset=1, when=("?",), only="near", looks="last"),
        Head(name="far", keys=capitals, when=("!",), writes="asked", only="far", looks="capital"),
        Lookup(name="map", reads=("asked",), table=table, only="far"),
    )
    variables = {"asked": capitals, "out": letters}
    flows = (("last", "near", "answer"), ("capital", "far", "answer"))
    return Design((*letters, *capitals, "?", "!"), variables, steps, draw, show, flows, ("near", "far"))


def other_name(rng: random.Random) -> Design:
    """Two names, one of them again: a head promotes all names alike, another suppresses the one that stands there twice."""
    names = tuple(rng.sample(CAPITALS, SIZE))

    def draw(r: random.Random) -> Operands:
        a, b = r.sample(names, 2)
        return a, b, r.randrange(2)

    def show(v: Operands) -> Shown | None:
        a, b, again = str(v[0]), str(v[1]), int(str(v[2]))
        if a == b:
            return None
        roles = {"names": (1, 4), "repeated": (5, 6)}
        other = (a, b)[1 - again]
        tokens = (START, a, "and", b, ",", (a, b)[again], "?")
        return Shown(tokens, (other,), roles, " ".join(tokens), candidates=(a, b))

    steps = (
        Head(name="promote", keys=names),
        Head(name="suppress", offset=1, gain=-1.0, looks="repeated", suppresses=True),
    )
    return Design((*names, "and", ",", "?"), {"out": names}, steps, draw, show)
