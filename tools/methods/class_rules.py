"""Rules that tell a class of examples from the others by what is known of them without a model: conditions of `among`."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tools.tasks import Example
from tools.tasks.conditions import Condition, known, parse

RARE = 0.05  # a condition that holds for fewer examples, or for all but so few, is none
UNWRITABLE = frozenset(",[]{}")  # what divides conditions, and references to what is measured of a class
FEW = 4  # numbers with more values than these are parted by thresholds
MANY = 12  # values beyond which none is a class by itself
GAINED = 0.05  # accuracy that a second condition has to add
Members = NDArray[np.bool_]


def best_rule(examples: Sequence[Example], members: Members) -> str:
    """The condition, or pair of them, that tells members from others best, by the mean of the shares that it gets right of
    each; labels and metadata come before what is visible where both are as good. Empty where nothing divides the examples.
    """
    rows = [known(e) for e in examples]
    own = dict.fromkeys(name for e in examples for name in e.values)
    keys = [k for k in dict.fromkeys([*own, *(k for row in rows for k in row)]) if all(k in row for row in rows)]
    tried = [c for key in keys for c in _conditions(key, [row[key] for row in rows])]
    if not tried:
        return ""
    holds = np.array([[c.holds(row) for row in rows] for c in tried])
    alone = balanced(holds, members)
    first = int(alone.argmax())
    both = balanced(holds & holds[first], members)
    second = int(both.argmax())
    if both[second] >= alone[first] + GAINED:
        return f"{tried[first]},{tried[second]}"
    return str(tried[first])


def largest_class(examples: Sequence[Example], members: Members) -> str:
    """The condition that holds for most examples and for members alone; labels and metadata come before what is visible where
    both hold for as many. Empty where none does.
    """
    rows = [known(e) for e in examples]
    own = dict.fromkeys(name for e in examples for name in e.values)
    best, most = "", 0
    for key in dict.fromkeys([*own, *(k for row in rows for k in row)]):
        for c in _exact(key, [row[key] for row in rows if key in row]):
            holds = np.array([c.holds(row) for row in rows], dtype=np.bool_)
            if holds.sum() > most and not (holds & ~members).any() and parse(str(c)) == (c,):
                best, most = str(c), int(holds.sum())
    return best


def _exact(key: str, values: Sequence[object]) -> Iterator[Condition]:
    """Each value, and all but it, where there are few; each bound of numbers."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        for bound in sorted({float(str(v)) for v in values}):
            yield from (Condition(key, ">=", f"{bound:g}"), Condition(key, "<", f"{bound:g}"))
    if len(texts := dict.fromkeys(map(str, values))) <= MANY:
        for value in texts:
            if value and value.strip() == value and not UNWRITABLE & set(key + value):
                yield Condition(key, "=", value)
                if len(texts) > 2:
                    yield Condition(key, "!=", value)


def balanced(holds: NDArray[np.bool_], members: Members) -> NDArray[np.float64]:
    """Mean of the shares that rules (k, n) get right among members and among others, (k,)."""
    inside, outside = max(1, int(members.sum())), max(1, int((~members).sum()))
    return 0.5 * ((holds & members).sum(-1) / inside + (~holds & ~members).sum(-1) / outside)


def _conditions(key: str, values: Sequence[object]) -> Iterator[Condition]:
    """Those that hold for some of the values, and not for nearly all."""
    n, counts = len(values), Counter(str(v) for v in values)
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == n and len(counts) > FEW:
        for bound in sorted({float(np.quantile(numbers, q, method="higher")) for q in np.linspace(0.1, 0.9, 9)}):
            if RARE * n <= sum(v >= bound for v in numbers) <= (1 - RARE) * n:
                yield from (Condition(key, ">=", f"{bound:g}"), Condition(key, "<", f"{bound:g}"))
        return
    for value, count in counts.items():
        if RARE * n <= count <= (1 - RARE) * n and value.strip() == value and not UNWRITABLE & set(value):
            yield Condition(key, "=", value)
            if len(counts) > 2:
                yield Condition(key, "!=", value)
