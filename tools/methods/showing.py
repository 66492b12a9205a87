"""Tasks and examples as text, in the model's own tokens: what somebody needs to see before asking anything about them."""

from collections import Counter
from collections.abc import Sequence

from tools.methods.anchors import length_in, span_positions
from tools.methods.tool import TaskBook, ToolInputError
from tools.ports import port_of
from tools.subjects import Subject
from tools.tasks import Example, Task, chance_level, label_families

LOOKED_AT = 256
SHOWN_OF_SPAN = 6  # tokens of a span; of a longer one the first and the last
MOST_VALUES = 6  # of a label that is written out


def task_lines(subject: Subject, task: Task, seed: int, among: str = "", n: int = 2) -> list[str]:
    """What a task's explore examples have in common, and `n` of them: chance, lengths in tokens, spans, labels with values.

    TaskError where there is no such class of examples.
    """
    if among:
        task.might_have(among, task.examples("explore", LOOKED_AT, seed))
    examples = task.among(among).examples("explore", LOOKED_AT, seed)
    if not examples:
        return [f"{task.name}: no examples to explore"]
    more = "" if len(examples) < LOOKED_AT else " or more"
    port = port_of(subject)
    stack = port.reading(subject)
    lengths = sorted(length_in(subject, port.encode(subject, e), stack) for e in examples)
    long = f"{lengths[0]}" if lengths[0] == lengths[-1] else f"{lengths[0]} to {lengths[-1]}"
    twins = sum(e.twin is not None for e in examples)
    lines = [
        f"{task.name}{f', {among}' if among else ''}: {len(examples)}{more} independent problems to explore, inputs of {long} "
        f"tokens, chance {chance_level(examples, task.choices):.3f}, {twins} with a twin"
        + (f", answers among {', '.join(map(repr, task.choices))}" if task.choices else "")
    ]
    lines += [f"  labels: {said}" for said in filter(None, [label_values(examples)])]
    for e in examples[:n]:
        lines += [f"  {line}" for line in example_lines(subject, e)]
    return lines


def own_examples(subject: Subject, tasks: TaskBook, seed: int) -> str:
    """The tasks that the user brought along, with examples; those that a planner made are not in it."""
    brought = [t.name for t in tasks.made() if t.origin == "file"]
    return "\n".join(line for name in brought for line in task_lines(subject, tasks.get(name), seed))


def example_lines(subject: Subject, e: Example) -> list[str]:
    """One example: its tokens, the roles that spans of them have, right answer, foil and twin, labels."""
    tokens = port_of(subject).labels(subject, e)
    lines = [f"{' '.join(map(repr, tokens))} -> {e.answer!r}"]
    if roles := _roles(subject, e, tokens):
        lines.append(f"  roles (anchors, not tokens): {'; '.join(roles)}")
    if e.twin is not None:
        lines.append(f"  twin {e.twin!r} -> {e.foil!r}")
    elif e.foil is not None:
        lines.append(f"  foil {e.foil!r}")
    if e.accepted:
        lines.append(f"  right are {', '.join(map(repr, e.rights))}")
    for c in e.counterfactuals:
        supposed = ", ".join(f"{name}={value}" for name, value in c.labels.items())
        lines.append(f"  with {supposed} right would be {', '.join(map(repr, c.answers))}")
    if e.values:
        lines.append("  " + ", ".join(_value(e, name, members) for name, members in label_families(e.values).items()))
    return lines


def _roles(subject: Subject, e: Example, tokens: Sequence[str]) -> list[str]:
    """Each span's name, its tokens, and where they lie, counted from the end: `operand1: '7' at -4`; none that is not there."""
    told: list[str] = []
    for role in e.spans:
        try:
            at = sorted(span_positions(subject, e, role))
        except ToolInputError:
            continue
        if at:
            first, last = at[0] - len(tokens), at[-1] - len(tokens)
            where = f"{first}" if first == last else f"{first} to {last}"
            said = " ".join(repr(tokens[i]) for i in (at if len(at) <= SHOWN_OF_SPAN else [*at[:1], *at[-1:]]))
            told.append(f"{role}: {said.replace(' ', ' ... ', 1) if len(at) > SHOWN_OF_SPAN else said} at {where}")
    return told


def _value(e: Example, name: str, members: Sequence[str]) -> str:
    """A label with its value; of a family how often there is which."""
    if members == [name]:
        return f"{name}={e.values[name]}"
    counts = Counter(str(e.values[m]) for m in members)
    return f"{name} ({', '.join(f'{v}: {n}' for v, n in sorted(counts.items()))})"


def label_values(examples: Sequence[Example]) -> str:
    """Each label that examples have, with its values and how many have them, or with how many values there are; '' for none."""
    told: list[str] = []
    for name, members in label_families(dict.fromkeys(n for e in examples for n in e.values)).items():
        counts = Counter(str(e.values[m]) for e in examples for m in members if m in e.values)
        if len(counts) <= MOST_VALUES:
            told.append(f"{name} ({', '.join(f'{v}: {n}' for v, n in sorted(counts.items()))})")
        else:
            told.append(f"{name} ({len(counts)} values)")
    return "; ".join(told)
