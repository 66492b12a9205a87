"""The parts of a composite kind: statements of other kinds that must all hold, on the same examples.

The test of the whole is an intersection-union of theirs (Berger 1982): its contrasts are all of theirs.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast
from tools.findings.kind import Bench, kind_of


def part(bench: Bench, kind: str, **fields: Any) -> Sequence[Contrast]:
    """What must hold for a statement of another kind about the same task, class of examples and objective.

    fields: of that statement. Its smallest effect is its kind's own unless they say otherwise. What is known of the model's
    answers is shared with the bench.
    """
    s = bench.statement
    about: dict[str, Any] = {"task": s.task, "among": s.among, "objective": s.objective, "examples": s.examples}
    mine = kind_of(kind).complete(Statement(kind=kind, **{**about, **fields}))
    made = Bench(bench.ctx, mine, bench.task, bench.examples, known=bench.known)
    return kind_of(kind).measure(mine, made)


def condition(contrast: Contrast, words: str) -> Contrast:
    """What must hold beside the effect that the whole is about, said in words as what it is compared with."""
    return replace(contrast, role="control", control=words)
