"""What the examples of a task show by themselves: their roles, the classes they fall into, and easier tasks of the family."""

from collections import Counter
from collections.abc import Sequence
from typing import get_args

from agent.planners.base import Known
from tools import statistics
from tools.methods.tool import TaskBook, ToolInputError
from tools.tasks import Example, TaskError, families, label_families

LOOKED_AT = 256
MOST_CLASSES = 4
LEAST = statistics.MINIMUM["proportion"]  # independent problems of a class, so that something can be tested in it
EASIEST = {
    "digits": ("1x1", "1x2", "2x1", "2x2"), "shots": ("8", "4", "2", "1"), "pairs": ("2", "3"), "format": ("compact", "spaced"),
    "style": ("careful", "neutral"),
}  # fmt: skip
NAMED = {  # what asks for less: the steps of a problem; images whose decoy agrees with the shape
    "arithmetic": ("addition", "subtraction"), "shape": ("shape:decoys=right,twin=decoy",),
}  # fmt: skip


def known(tasks: TaskBook, spec: str, seed: int) -> Known:
    """Roles, classes and easier versions of a task; nothing of one that cannot be drawn from."""
    try:
        examples = tasks.get(spec).examples("explore", LOOKED_AT, seed)
    except (ToolInputError, TaskError):
        return Known()
    classes = _classes(examples)
    among = {c: [e for e in examples if _is(e, c)] for values in classes.values() for c in values}
    return Known(
        _roles(examples), classes, {c: _roles(rows) for c, rows in among.items()}, easier(spec), _trees(examples),
        *_families(examples),
    )  # fmt: skip


def _families(examples: Sequence[Example]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Families of labels that all examples have, and those that all their counterfactuals are about."""
    if not examples:
        return (), ()
    shared = [n for n in examples[0].labels if all(n in e.labels for e in examples)]
    found = [f for f in label_families(shared) if f.endswith(".*")]
    about = [{f for c in e.counterfactuals[:1] for f in label_families(c.labels)} for e in examples]
    return tuple(found), tuple(f for f in found if all(f in a for a in about))


def _trees(examples: Sequence[Example]) -> bool:
    return bool(examples) and all(any("head" in v for v in e.span_labels.values()) for e in examples)


def _roles(examples: Sequence[Example]) -> tuple[str, ...]:
    """Roles that all have, in the order of their places; a stretch of more than half of an input is no place."""
    shared = [r for r in examples[0].spans if all(r in e.spans for e in examples)] if examples else []
    small = [r for r in shared if all(_is_part(e, r) for e in examples)]
    return tuple(sorted(small, key=lambda r: examples[0].spans[r]))


def _is_part(e: Example, role: str) -> bool:
    """Whether a span is a place: of a text, no more than half of it."""
    first = next(iter(e.inputs.values()))
    return not isinstance(first, str) or e.spans[role][1] - e.spans[role][0] <= len(first) / 2


def _classes(examples: Sequence[Example]) -> dict[str, tuple[str, ...]]:
    """Labels with two to four values, each of at least `LEAST` examples; of two labels that divide alike, the first."""
    found: dict[str, tuple[str, ...]] = {}
    seen: set[frozenset[frozenset[int]]] = set()
    for name in dict.fromkeys(n for e in examples for n in e.values):
        if "." in name or not all(
            name in e.values for e in examples
        ):  # a family of labels divides examples in too many ways
            continue
        sizes = Counter(value for _, value in {(e.group, str(e.values[name])) for e in examples})
        if not 2 <= len(sizes) <= MOST_CLASSES or min(sizes.values()) < LEAST:
            continue
        parts = frozenset(
            frozenset(i for i, e in enumerate(examples) if str(e.values[name]) == value) for value in sizes
        )
        if parts not in seen:
            seen.add(parts)
            found[name] = tuple(f"{name}={value}" for value in sorted(sizes))
    return found


def _is(example: Example, condition: str) -> bool:
    name, _, value = condition.partition("=")
    return str(example.values[name]) == value


def easier(spec: str) -> tuple[str, ...]:
    """Specs of the same family that ask for less: fewer digits, more worked lines, another format; the easiest first."""
    name, _, rest = spec.partition(":")
    family = families().get(name)
    if family is None:
        return ()
    if name in NAMED:
        return tuple(v for v in NAMED[name] if v != spec)
    given: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        given[key.strip()] = value.strip()
    out: list[str] = []
    for option, values in EASIEST.items():
        if option not in family.options.model_fields:
            continue
        valid = {str(v) for v in get_args(family.options.model_fields[option].annotation)}
        # What is asked for is not easier than itself, nor is what comes after it.
        easiest = values[: values.index(given[option])] if given.get(option) in values else values
        same = given.get(option, str(family.options.model_fields[option].default))
        out += [_spec(name, {**given, option: v}) for v in easiest if v in valid and v != same]
    if {"digits", "shots"} <= set(family.options.model_fields) and given.get("digits") != "1x1":
        out.insert(0, _spec(name, {**given, "digits": "1x1", "shots": "8"}))
    return tuple(dict.fromkeys(out))


def _spec(name: str, options: dict[str, str]) -> str:
    return f"{name}:{','.join(f'{k}={v}' for k, v in options.items())}"
