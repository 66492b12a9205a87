"""Pushing a component along the difference of two class means moves the answer: with `dose` times that difference added, the
foil beats the answer in at least the smallest share of examples, and more than random directions of the same norm do.

The means are those of explore examples. label: of two values, where an example is pushed to the other one; or `answer`,
where it is pushed from its own answer's mean to its foil's. Marks and Tegmark 2023; Turner et al. 2023.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from experiments_db.findings import Statement
from experiments_db.places import Component, Intervention
from experiments_db.records import tagged_hash
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind, mean_of, tenth_of_examples
from tools.findings.phrases import is_or_are, on_task, place
from tools.methods.effects import Condition
from tools.methods.features import collect, labels_of
from tools.methods.tool import ToolInputError
from tools.ports import flipped

DRAWS = 3
FEWEST = 4  # explore examples of a class, for its mean


def _check(s: Statement) -> None:
    if len(s.set or ()) != 1:
        raise ToolInputError(
            f"steers is about one component, not {len(s.set or ())}: name one, and examine the others by themselves"
        )
    how = s.done[0]
    if len(s.done) != 1 or how.op != "add" or how.source != "label" or how.dose is None:
        raise ToolInputError(
            "steers adds the difference of the label's class means, once: interventions ['add(label, 2)'], 2 the dose, or leave "
            f"interventions out; given is {', '.join(map(str, s.done)) or 'none'}"
        )


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    assert s.set is not None
    (how,) = s.done
    component = s.set.one
    kept, directions = _directions(s, bench, _features(bench, component))
    if not kept.any():
        raise ToolInputError(
            f"label: no example's own and other value of {s.label} both have {FEWEST} of the {len(bench.seen)} explore examples, "
            f"which their means take: use {_valid(bench)}, or a task with fewer answers"
        )
    name = f"dir:{'.'.join(s.label.split()) or 'label'}~{tagged_hash('direction', directions.tolist())[-12:]}"
    add = Intervention(op="add", direction=name, dose=how.dose)
    conditions = [Condition.of(s.set, add), *(Condition.of(s.set, add, control=1, draw=d) for d in range(DRAWS))]
    mine, *random = bench.scores(conditions, {name: torch.tensor(directions)})
    groups = [g for g, k in zip(bench.groups, kept, strict=True) if k]

    def contrast_with(base: np.ndarray) -> Quantity:
        return Quantity("flipped", "share of examples", (flipped(mine) - base)[kept], (-1.0, 1.0))

    where = {"component": str(s.set), "intervention": str(how)}
    against = f"the mean of {DRAWS} random directions of the same norm"
    randomly = contrast_with(mean_of([flipped(r) for r in random]))
    return [
        bench.effect(contrast_with(flipped(bench.intact)), bench.smallest, groups, **where),
        bench.beyond((randomly,), against, 0.0, groups, **where),
    ]


def _features(bench: Bench, component: Component) -> np.ndarray:
    return collect(bench.ctx.subject, bench.seen, [component], bench.ctx.max_tokens)[component]


def _directions(s: Statement, bench: Bench, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each example of the bench whether its two classes are known, and the difference of their means (n, channels)."""
    seen = np.array([str(v) for v in labels_of(bench.seen, s.label)])
    own = [str(v) for v in labels_of(bench.examples, s.label)]
    values = sorted(set(seen))
    if s.label == "answer":
        other = [(e.foil or "").strip() for e in bench.examples]
    elif len(values) == 2:
        other = [values[1] if v == values[0] else values[0] for v in own]
    else:
        raise ToolInputError(
            f"label: steers needs a label of two values, or answer; {s.label} has {len(values)}: use {_valid(bench)}"
        )
    means = {v: x[seen == v].mean(0) for v in values if (seen == v).sum() >= FEWEST}
    kept = np.array([a in means and b in means for a, b in zip(own, other, strict=True)])
    rows = [means[b] - means[a] if k else np.zeros(x.shape[1]) for a, b, k in zip(own, other, kept, strict=True)]
    return kept, np.stack(rows).astype(np.float32)


def _valid(bench: Bench) -> str:
    """The labels by which these examples could be steered: those of two values that are both frequent enough, and answer."""
    known = sorted(set.intersection(*(set(e.values) for e in bench.seen)))
    counts = {name: Counter(str(v) for v in labels_of(bench.seen, name)) for name in known}
    two = [n for n, c in counts.items() if len(c) == 2 and min(c.values()) >= FEWEST]
    by_answer = Counter(e.answer.strip() for e in bench.seen)
    pairs = any(min(by_answer[e.answer.strip()], by_answer[(e.foil or "").strip()]) >= FEWEST for e in bench.examples)
    return " or ".join([*two, *(["answer"] if pairs else [])]) or "another task: none of its labels can be used"


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    what = "its own answer's to its foil's" if s.label == "answer" else f"its own {s.label}'s to the other's"
    return (
        f"{place(s, roles)} {'steer' if is_or_are(s) == 'are' else 'steers'} the answer {on_task(s)}: pushed {s.done[0].dose:g} "
        f"times from the mean of {what}, {{effect}} of examples go over to the foil{{control}}."
    )


KIND = Kind(
    "steers", "adding dose times the difference of the label's class means moves the answer over to the foil", _measure, _sentence,
    needs=("components", "label"), interventions=("add(label, 2)",), foils=True, check=_check, least=tenth_of_examples,
    unit="share of examples",
)  # fmt: skip
