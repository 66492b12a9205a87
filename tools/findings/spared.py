"""Which components are spared: not needed alone, as far as explore examples show.

A control made of components must not hold what the task needs anyway. Whether one does is read from explore examples alone,
also where a statement is put to unseen ones: what unseen examples say must not choose what they are compared with.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from experiments_db.places import Component
from tools.findings.kind import Bench
from tools.methods.effects import Condition

SCREEN = 64  # explore examples on which each is removed alone
AT_ONCE = 8
MOST = 48  # components that are tried
ALONE = "none of which explore examples show to be needed alone"


def spared(bench: Bench, among: Sequence[Component], wanted: int) -> list[Component]:
    """Up to `wanted` of the components, in an order drawn by the seed, that are not needed alone.

    Needed alone is what lowers the objective by the smallest effect that counts or more, on the mean of explore examples of
    the statement's class, under any of its interventions.
    """
    order = np.random.default_rng([bench.ctx.seed, len(among)]).permutation(len(among))[:MOST]
    ctx, examples = replace(bench.ctx, split="explore"), bench.seen[:SCREEN]
    screen, found = Bench(ctx, bench.statement, bench.task, examples), list[Component]()
    for start in range(0, len(order), AT_ONCE):
        tried = [among[i] for i in order[start : start + AT_ONCE]]
        removed = {c: [Condition.of(c, how) for how in bench.statement.done] for c in tried}
        screen.scores([x for conditions in removed.values() for x in conditions])
        found += [c for c in tried if not any(_costs(screen, x) for x in removed[c])]
        if len(found) >= wanted:
            break
    return found[:wanted]


def _costs(screen: Bench, condition: Condition) -> bool:
    """Whether it lowers the objective by what counts."""
    (without,) = screen.scores([condition])
    return float(np.nanmean(screen.difference(screen.intact, without).values)) >= screen.smallest > 0
