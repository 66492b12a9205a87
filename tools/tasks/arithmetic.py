r"""Addition, subtraction and three-term chains, few-shot: '2 + 4 = 6\n2 + 5 = 7\n4 + 2 =' -> ' 6'.

The query decides the split, by its unordered operands; the lines before it always come from the train side. The group
is the unordered problem, so that `3 + 4`, `4 + 3` and `3+4` are one.
"""

import random
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from tools.tasks.spans import compose, fill, shifted
from tools.tasks.task import Example, Family, Options, Split, split_of

Op = Literal["+", "-"]
Side = Literal["train", "explore", "confirm"]
Spans = dict[str, tuple[int, int]]


class ArithmeticOptions(Options):
    """How problems are drawn and written."""

    digits: Literal["any", "1x1", "1x2", "2x1", "2x2", "3x3"] = Field(
        default="any", description="digits of the first and second operand of the query; any mixes 1x1 to 2x2"
    )
    format: Literal["spaced", "compact"] = Field(default="spaced", description="'2 + 4 = 6' or '2+4=6'")
    shots: Literal["any", "0", "1", "2", "3", "4", "8"] = Field(
        default="any", description="worked lines; any is 1 to 4"
    )


def side(op: Op, a: int, b: int) -> Side:
    """Which split the problem `a op b` belongs to."""
    return split_of("arithmetic", op, *(sorted((a, b)) if op == "+" else (a, b)))


def solve(op: Op, a: int, b: int) -> int:
    """A + b or a - b."""
    return a + b if op == "+" else a - b


def operand(rng: random.Random, digits: int) -> int:
    """A number of exactly this many digits; 0 counts as one."""
    return rng.randrange(10) if digits == 1 else rng.randrange(10 ** (digits - 1), 10**digits)


def problem(rng: random.Random, op: Op, digits: tuple[int, int], allowed: tuple[Side, ...]) -> tuple[int, int] | None:
    """A random problem of these sizes on an allowed side; None if 1000 draws bring none."""
    for _ in range(1000):
        a, b = operand(rng, digits[0]), operand(rng, digits[1])
        if op == "-" and a < b:
            a, b = b, a
        if side(op, a, b) in allowed:
            return a, b
    return None


def line(op: Op, a: int, b: int, style: str) -> tuple[str, str]:
    """(question, answer) as text: ('2 + 4 =', ' 6') or ('2+4=', '6')."""
    space = " " if style == "spaced" else ""
    return _question(op, a, b, style)[0], f"{space}{solve(op, a, b)}"


def _question(op: Op, a: int, b: int, style: str) -> tuple[str, Spans]:
    space = " " if style == "spaced" else ""
    return compose([("operand1", str(a)), space, ("operator", op), space, ("operand2", str(b)), space, ("equals", "=")])


def group(op: Op, a: int, b: int) -> str:
    """The independent problem: what `side` goes by."""
    a, b = sorted((a, b)) if op == "+" else (a, b)
    return f"{a}{op}{b}"


def labels(op: Op, a: int, b: int) -> dict[str, int]:
    """The variables that computing `a op b` by its digits goes through; carry is the borrow of a subtraction."""
    result = solve(op, a, b)
    units = a % 10 + b % 10 if op == "+" else a % 10 - b % 10
    return {
        "units1": a % 10,
        "tens1": a // 10 % 10,
        "units2": b % 10,
        "tens2": b // 10 % 10,
        "units_sum" if op == "+" else "units_difference": units,
        "result_units": result % 10,
        "result_tens": result // 10 % 10,
        "carry": int(not 0 <= units < 10),
    }


def _sizes(rng: random.Random, digits: str) -> tuple[int, int]:
    text = rng.choice(("1x1", "1x2", "2x1", "2x2", "2x2")) if digits == "any" else digits
    return int(text[0]), int(text[2])


def _draw(op: Op, options: ArithmeticOptions, split: Split, rng: random.Random) -> Iterator[Example]:
    while True:
        sizes = _sizes(rng, options.digits)
        query = problem(rng, op, sizes, (split,))
        if query is not None:
            # A generator of its own, so that shots and format do not change which problem comes next.
            example = _example(op, options, split, query, sizes, random.Random(rng.getrandbits(64)))
            if example is not None:
                yield example


def _example(
    op: Op, options: ArithmeticOptions, split: Split, query: tuple[int, int], sizes: tuple[int, int], rng: random.Random
) -> Example | None:
    """The query behind worked lines; None where there is no twin or no line."""
    a, b = query
    shots = rng.randint(1, 4) if options.shots == "any" else int(options.shots)
    lines = [problem(rng, op, sizes, ("train",)) for _ in range(shots)]
    twin = _twin(rng, op, a, b, split)
    if twin is None or None in lines:
        return None
    context = "".join("".join(line(op, *p, options.format)) + "\n" for p in lines if p is not None)
    question, spans = _question(op, a, b, options.format)
    other, foil = line(op, *twin, options.format)
    return Example.of_text(
        context + question,
        line(op, a, b, options.format)[1],
        foil=foil,
        twin=context + other,
        metadata={
            "a": a,
            "b": b,
            "result": solve(op, a, b),
            "carry": (a % 10 + b % 10 >= 10) if op == "+" else (a % 10 < b % 10),
            "shots": shots,
            "digits": f"{sizes[0]}x{sizes[1]}",
        },
        group=group(op, a, b),
        labels=labels(op, a, b),
        spans={**({"shots": (0, len(context))} if context else {}), **shifted(spans, len(context))},
    )


def _twin(rng: random.Random, op: Op, a: int, b: int, split: Split) -> tuple[int, int] | None:
    """The same problem with one operand changed to another of as many digits, never from the other split."""
    forbidden = "confirm" if split == "explore" else "explore"
    for _ in range(200):
        which = rng.random() < 0.5
        new = operand(rng, len(str(a if which else b)))
        c, d = (new, b) if which else (a, new)
        old, changed = solve(op, a, b), solve(op, c, d)
        if changed == old or changed < 0 or side(op, c, d) == forbidden:
            continue
        if len(str(changed)) == len(str(old)):
            return c, d
    return None


def _chain(split: Split, rng: random.Random) -> Iterator[Example]:
    while True:
        lines = [_three(rng, "train"), _three(rng, "train")]
        a, b, c = _three(rng, split)
        d = rng.choice([x for x in range(1, 10) if x != b and len(str(a + x + c)) == len(str(a + b + c))] or [b])
        if d == b or split_of("chain", (a, d, c)) not in (split, "train"):
            continue
        text = "".join(f"{x} + {y} + {z} = {x + y + z}\n" for x, y, z in lines)
        query, spans = fill(
            "{operand1} + {operand2} + {operand3} {equals}",
            {"operand1": str(a), "operand2": str(b), "operand3": str(c), "equals": "="},
        )
        yield Example.of_text(
            text + query,
            f" {a + b + c}",
            foil=f" {a + d + c}",
            twin=f"{text}{a} + {d} + {c} =",
            metadata={"a": a, "b": b, "c": c, "partial": a + b, "result": a + b + c},
            group=f"{a}+{b}+{c}",
            labels={"later_partial": b + c, "carry": int(a + b + c >= 10)},
            spans={"shots": (0, len(text)), **shifted(spans, len(text))},
        )


def _three(rng: random.Random, wanted: Side) -> tuple[int, int, int]:
    while True:
        terms = rng.randrange(1, 10), rng.randrange(1, 10), rng.randrange(1, 10)
        if split_of("chain", terms) == wanted:
            return terms


OPERANDS = {"a": "the first operand", "b": "the second operand"}
LABELS = {
    **OPERANDS,
    **{
        f"{at}{i}": f"the {at} of the {nth} operand"
        for at in ("units", "tens")
        for i, nth in ((1, "first"), (2, "second"))
    },
    "carry": "the carry from the units",
    "shots": "the number of worked lines",
    "digits": "the digits of the operands",
}
THREE = {
    **OPERANDS,
    "c": "the third operand",
    "partial": "the first two operands' sum",
    "later_partial": "the last two operands' sum",
}
FAMILIES = (
    Family(
        "addition",
        "Few-shot addition of i-digit and j-digit numbers.",
        ArithmeticOptions,
        lambda o: lambda s, r: _draw("+", o, s, r),
        labels=LABELS,
    ),
    Family(
        "subtraction",
        "Few-shot subtraction; results are never negative.",
        ArithmeticOptions,
        lambda o: lambda s, r: _draw("-", o, s, r),
        labels=LABELS,
    ),
    Family(
        "arithmetic",
        "Sums of three one-digit numbers, which need an intermediate value: '3 + 1 + 5 ='.",
        Options,
        lambda _: _chain,
        labels=THREE,
    ),
)
