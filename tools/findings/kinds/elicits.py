"""Heads hold whether an answer is right, and the model heeds it when they are shifted: pushed by `dose` standard deviations
towards right answers, where the answer is made, it gives the right answer in more examples, by at least the smallest share.

The direction of each head is the difference of its mean output at the last token of question and right answer and that of
question and foil (mass-mean, Li et al. 2023; Marks and Tegmark 2023), from explore examples, never from the example's own
group. More become right than with random directions of the same norm at these heads, and than with as many other heads
shifted along their own directions.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from experiments_db.findings import Statement
from experiments_db.places import Component, ComponentSet, Intervention
from experiments_db.records import tagged_hash
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind, mean_of, tenth_of_examples
from tools.findings.phrases import on_task, place, within
from tools.methods.effects import Condition
from tools.methods.tool import ToolInputError
from tools.methods.truth import FOLDS, Heads
from tools.tasks.task import unit_hash

DRAWS = 3


def _check(s: Statement) -> None:
    if any(c.part != "attn.z" or not c.units or c.anchor != "answer" for c in s.members):
        raise ToolInputError(
            "elicits is about heads where the answer is made: components that end in attn.z[3]@answer, not "
            f"{s.components}"
        )
    if len({c.stack for c in s.members}) > 1:
        raise ToolInputError("elicits is about heads of one stack: name those of the stack that answers")
    how = s.done[0]
    if len(s.done) != 1 or how.op != "add" or how.source != "truth" or how.dose is None:
        raise ToolInputError(
            "elicits shifts heads towards right answers, once: interventions ['add(truth, 4)'], 4 standard deviations; given is "
            f"{', '.join(map(str, s.done)) or 'none'}"
        )


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    assert s.set is not None
    (how,) = s.done
    heads = Heads.read(bench.ctx.subject, bench.seen, bench.ctx.max_tokens, s.members[0].stack)
    vectors, directions = _directions(heads, bench), dict[str, Tensor]()

    def shift(members: Sequence[Component], **control: int) -> Condition:
        changes: list[tuple[ComponentSet, Intervention]] = []
        for c in members:
            vector = vectors[c.but(anchor="")]
            name = f"dir:truth~{tagged_hash('direction', [str(c), vector.tolist()])[-12:]}"
            directions[name] = torch.tensor(vector)
            changes.append((ComponentSet.of(c), Intervention(op="add", direction=name, dose=how.dose)))
        return Condition(tuple(changes), control=bool(control), draw=control.get("draw", 0))

    others = [s_.singles() for s_ in bench.random_sets(len(s.members), bench.others(s.members), DRAWS)]
    conditions = [shift(s.members), *(shift(s.members, draw=d) for d in range(DRAWS)), *map(shift, others)]
    mine, *rest = bench.scores(conditions, directions)
    random, elsewhere = rest[:DRAWS], rest[DRAWS:]
    where = {"component": str(s.set), "intervention": str(how)}

    def beyond(base: np.ndarray) -> Quantity:
        return Quantity("right", "share of examples", mine.correct - base, (-1.0, 1.0))

    def mean(found: Sequence[object]) -> np.ndarray:
        return mean_of([np.asarray(x.correct, dtype=np.float64) for x in found])  # type: ignore[attr-defined]  # scores

    controls = [(f"the mean of {DRAWS} random directions of the same norm", mean(random))]
    if elsewhere:
        controls.append((f"the mean of {len(elsewhere)} sets of as many other heads", mean(elsewhere)))
    return [
        bench.effect(beyond(bench.intact.correct.astype(np.float64)), bench.smallest, **where),
        *(bench.beyond((beyond(base),), name, 0.0, **where) for name, base in controls),
    ]


def _directions(heads: Heads, bench: Bench) -> dict[Component, np.ndarray]:
    """For each head one standard deviation towards right answers, (n, channels), fitted on other groups than the example's."""
    fold = [int(unit_hash("fold", g) * FOLDS) for g in bench.groups]
    seen = [int(unit_hash("fold", g) * FOLDS) for g in heads.groups]
    if not set(heads.groups) & set(bench.groups):
        fold, seen = [0] * len(fold), [1] * len(seen)
    by_fold = {
        k: heads.only([i for i, f in enumerate(seen) if f != k]).directions("mass_mean") for k in sorted(set(fold))
    }
    rows = np.stack([by_fold[k] for k in fold], 1).astype(np.float32)
    return dict(zip(heads.places, rows, strict=True))


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    return (
        f"The model can be made to tell more of what it holds {on_task(s)}: with {within(place(s, roles))} shifted by "
        f"{s.done[0].dose:g} standard deviations towards right answers, {{effect}} more of unseen examples are answered "
        "right{control}."
    )


KIND = Kind(
    "elicits", "shifting heads towards what sets right answers apart from wrong ones makes the model answer right more often",
    _measure, _sentence, needs=("components",), interventions=("add(truth, 4)",), foils=True, capable=False, check=_check,
    least=tenth_of_examples, unit="share of examples",
)  # fmt: skip
