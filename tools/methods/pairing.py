"""Automatic twins: examples of one format serve as each other's corrupted inputs, so that no task has to bring its own.

Two examples fit where the port says so (`twin_key`, `can_foil`: as many tokens, the same roles at the same tokens, another
answer) and they are not wordings of one problem. Of those that fit, one that differs in the fewest tokens is taken: a minimal
pair. The choice looks at the whole sample and depends on nothing but the sample, the seed and the tokenizer.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from tools.methods.anchors import span_positions
from tools.methods.scoring import encoded_all
from tools.methods.tool import ToolInputError
from tools.ports import Encoded, PortError, port_of
from tools.subjects import Subject
from tools.tasks import Example, Task


@dataclass(frozen=True)
class _Row:
    """One example as tokens."""

    key: tuple[Hashable, ...]
    tokens: tuple[int, ...]
    encoded: Encoded


def auto_twins(
    subject: Subject, task: Task, examples: Sequence[Example], seed: int, *, differs_in: str | None = None
) -> list[Example]:
    """The examples, each with a twin and a foil, the twin's right answer; in the order given.

    A twin of its own is kept where it has as many tokens. Where no other example fits, twin and foil are None
    (`without_twin` counts those). differs_in: a role; then every twin is another example that differs at the tokens of
    that span and nowhere else.
    """
    port, rows = port_of(subject), _rows(subject, examples)
    groups: dict[object, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        groups[row.key, len(row.tokens)].append(i)
    if differs_in is not None and not any(differs_in in e.spans for e in examples):
        known = ", ".join(sorted({role for e in examples for role in e.spans})) or "none"
        raise ToolInputError(f"{task.name} has no span {differs_in!r} in which twins could differ; it has {known}")
    out: list[Example] = list(examples)
    for members in groups.values():
        tokens = np.array([rows[i].tokens for i in members], dtype=np.int64)
        for at, i in enumerate(members):
            if differs_in is None and has_aligned_twin(subject, examples[i]):
                continue
            has = differs_in is not None and differs_in in examples[i].spans
            inside = span_positions(subject, examples[i], differs_in or "") if has else []
            donor = _donor(
                examples, rows, members, tokens, at, inside, seed, within=differs_in is not None, can_foil=port.can_foil
            )
            out[i] = examples[i].with_twin(None if donor is None else examples[donor])
    return out


def twins_by_span(subject: Subject, examples: Sequence[Example], span: str, seed: int = 0) -> list[Example]:
    """The examples with twins that differ from them in the tokens of one role alone; twin None where there is none."""
    task = Task("the sample", "", lambda _split, _rng: iter(()))
    return auto_twins(subject, task, examples, seed, differs_in=span)


def without_twin(examples: Sequence[Example]) -> int:
    """How many examples found no twin: they can take no part in patching, and the number has to be said."""
    return sum(e.twin is None or e.foil is None for e in examples)


def _rows(subject: Subject, examples: Sequence[Example]) -> list[_Row]:
    """What is read need not be tokens: whatever stands for it at a position is numbered as it is met."""
    port, ids = port_of(subject), dict[object, int]()
    try:
        return [
            _Row(port.twin_key(subject, e, x), tuple(ids.setdefault(t, len(ids)) for t in x.tokens), x)
            for e, x in zip(examples, encoded_all(subject, examples), strict=True)
        ]
    except PortError as error:
        raise ToolInputError(str(error)) from None


def has_aligned_twin(subject: Subject, example: Example) -> bool:
    """Whether an example brings a twin of as many tokens, with another right answer."""
    if example.twin is None or example.foil is None:
        return False
    port = port_of(subject)
    here, there = (port.encode(subject, e) for e in (example, example.as_twin(example.target)))
    return here.lengths == there.lengths and here.before == there.before


def _donor(
    examples: Sequence[Example],
    rows: Sequence[_Row],
    members: Sequence[int],
    tokens: np.ndarray,
    at: int,
    inside: list[int],
    seed: int,
    *,
    within: bool,
    can_foil: Callable[[Encoded, Encoded], bool],
) -> int | None:
    """Which example of one format is the twin of the one in row `at`; among equally near ones drawn by the seed."""
    me = members[at]
    differs = tokens != tokens[at]
    distance = differs.sum(1)
    fits = distance > 0
    if within:
        outside = np.ones(tokens.shape[1], dtype=bool)
        outside[inside] = False
        fits &= ~differs[:, outside].any(1)
    for nearest in np.unique(distance[fits]):
        near = [members[int(j)] for j in np.flatnonzero(fits & (distance == nearest))]
        able = [
            i for i in near if examples[i].group != examples[me].group and can_foil(rows[me].encoded, rows[i].encoded)
        ]
        if able:
            return random.Random(f"{seed}/{examples[me].shown}").choice(sorted(able, key=lambda i: examples[i].shown))
    return None
