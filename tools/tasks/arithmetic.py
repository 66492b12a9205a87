r"""Addition, subtraction and three-term chains, few-shot: '2 + 4 = 6\n2 + 5 = 7\n4 + 2 =' -> ' 6'.

The query decides the split, by its unordered operands; the lines before it always come from the train side.
"""

import random
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from tools.tasks.task import Example, Family, Options, Split, split_of

Op = Literal["+", "-"]
Side = Literal["train", "explore", "confirm"]


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
    return (f"{a} {op} {b} =", f" {solve(op, a, b)}") if style == "spaced" else (f"{a}{op}{b}=", f"{solve(op, a, b)}")


def _sizes(rng: random.Random, digits: str) -> tuple[int, int]:
    text = rng.choice(("1x1", "1x2", "2x1", "2x2", "2x2")) if digits == "any" else digits
    return int(text[0]), int(text[2])


def _draw(op: Op, options: ArithmeticOptions, split: Split, rng: random.Random) -> Iterator[Example]:
    while True:
        sizes = _sizes(rng, options.digits)
        query = problem(rng, op, sizes, (split,))
        if query is None:
            continue
        a, b = query
        shots = rng.randint(1, 4) if options.shots == "any" else int(options.shots)
        lines = [problem(rng, op, sizes, ("train",)) for _ in range(shots)]
        if any(p is None for p in lines):
            continue
        context = "".join("".join(line(op, *p, options.format)) + "\n" for p in lines if p is not None)
        question, answer = line(op, a, b, options.format)
        twin = _twin(rng, op, a, b, split)
        if twin is None:
            continue
        other, foil = line(op, *twin, options.format)
        yield Example(
            context + question,
            answer,
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
        lines = [tuple(rng.randrange(1, 10) for _ in range(3)) for _ in range(3)]
        if split_of("chain", lines[-1]) != split:
            continue
        text = "".join(f"{a} + {b} + {c} = {a + b + c}\n" for a, b, c in lines[:-1])
        a, b, c = lines[-1]
        d = rng.choice([x for x in range(1, 10) if x != b and len(str(a + x + c)) == len(str(a + b + c))] or [b])
        if d == b or split_of("chain", (a, d, c)) not in (split, "train"):
            continue
        yield Example(
            f"{text}{a} + {b} + {c} =",
            f" {a + b + c}",
            foil=f" {a + d + c}",
            twin=f"{text}{a} + {d} + {c} =",
            metadata={"a": a, "b": b, "c": c, "partial": a + b, "result": a + b + c},
        )


FAMILIES = (
    Family(
        "addition",
        "Few-shot addition of i-digit and j-digit numbers.",
        ArithmeticOptions,
        lambda o: lambda s, r: _draw("+", o, s, r),
    ),
    Family(
        "subtraction",
        "Few-shot subtraction; results are never negative.",
        ArithmeticOptions,
        lambda o: lambda s, r: _draw("-", o, s, r),
    ),
    Family(
        "arithmetic",
        "Sums of three one-digit numbers, which need an intermediate value: '3 + 1 + 5 ='.",
        Options,
        lambda _: _chain,
    ),
)
