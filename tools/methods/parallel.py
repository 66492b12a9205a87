"""Parallel examples: the same problems in the wordings of several tasks, paired by their groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tools.methods.anchors import length_in
from tools.methods.scoring import encoded_all
from tools.methods.tool import ToolInputError
from tools.ports import Encoded, port_of
from tools.subjects import Subject
from tools.tasks import Example, Task

FEWEST = 16


@dataclass(frozen=True)
class Parallel:
    """Problems that several tasks pose, in the order of the first.

    names: of the tasks. examples: for each task one example a problem; encoded: the same as the model is given them.
    groups: the problems.
    """

    subject: Subject
    names: tuple[str, ...]
    examples: tuple[tuple[Example, ...], ...]
    encoded: tuple[tuple[Encoded, ...], ...]
    groups: np.ndarray

    def cells(self, which: Sequence[int], stack: str) -> list[tuple[int, ...]]:
        """How many positions each problem takes in some of the tasks, where it is read and in a stack: what negatives share."""
        stacks = dict.fromkeys((port_of(self.subject).reading(self.subject), self.subject.spec(stack).name))
        rows = zip(*(self.encoded[i] for i in which), strict=True)
        return [tuple(length_in(self.subject, e, s) for e in row for s in stacks) for row in rows]


def parallel(subject: Subject, sets: Sequence[tuple[Task, Sequence[Example]]]) -> Parallel:
    """The problems that all tasks have in common, by group. ToolInputError where there is nothing to compare."""
    names = tuple(task.name for task, _ in sets)
    if len(set(names)) < 2:
        raise ToolInputError("tasks: two or more different ones are needed, the same problems in different wordings")
    by_group = [{e.group: e for e in examples} for _, examples in sets]
    shared = [g for g in by_group[0] if all(g in found for found in by_group)]
    if len(shared) < FEWEST:
        raise ToolInputError(
            f"tasks: {', '.join(names)} have {len(shared)} problems (groups) in common among {len(by_group[0])}, and at least "
            f"{FEWEST} are needed: name tasks that pose the same problems, such as two formats or languages"
        )
    chosen = tuple(tuple(found[g] for g in shared) for found in by_group)
    encoded = tuple(tuple(encoded_all(subject, row)) for row in chosen)
    for (a, x), (b, y) in combinations(zip(names, encoded, strict=True), 2):
        if all(_given(e) == _given(f) for e, f in zip(x, y, strict=True)):
            raise ToolInputError(f"tasks: {a} and {b} give {subject.name} the same inputs: there is nothing to compare")
    return Parallel(subject, names, chosen, encoded, np.array(shared))


def _given(encoded: Encoded) -> object:
    return encoded.tokens, encoded.fields.get("prefix", ())
