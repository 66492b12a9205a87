"""A variable can be read off a component by a linear map, fitted on explore examples and tried on others.

It is right more often than naming the most frequent value; than a control task (Hewitt and Liang 2019: the tokens that stand
at the anchor get random values where they decide the variable, else each problem does), which a probe can only learn by heart;
and than the same probe on models of the same kind with weights drawn anew. What can be decoded need not be used. Of a family
of labels (`side.*`) the effect is the share of them that is read right, in each example.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from experiments_db.findings import Statement
from experiments_db.places import Component
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind, Nulls, mean_of, tenth_of_examples
from tools.findings.null_twins import null_twin
from tools.findings.phrases import capital, on_task, place, within
from tools.methods.batched_probes import Labels, fit
from tools.methods.features import collect, labels_named, labels_of
from tools.methods.readings import tokens_at
from tools.methods.tool import Context, ToolInputError
from tools.subjects import Subject
from tools.tasks import Example
from tools.tasks.task import unit_hash

FOLDS = 5
FITTED = 768  # explore examples on which a family of labels is fitted
TWINS = 3  # models with random weights
DECIDES = 0.9  # of the examples have the most frequent value of what stands at the anchor: then it decides the variable
Texts = np.ndarray


def _check(s: Statement) -> None:
    if len(s.set or ()) != 1:
        raise ToolInputError("decodable is about one component (heads of one part may be named together)")


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    assert s.set is not None
    return (_family_read_off if s.label.endswith(".*") else read_off)(bench, s.set.one, s.label, TWINS)


def read_off(bench: Bench, component: Component, label: str, twins: int) -> list[Contrast]:
    """What must hold for a label to be read from a component. twins: models with random weights that must do worse; with none,
    that the label is there is enough, in whatever model.
    """
    ctx, seen, tried = bench.ctx, bench.seen, bench.examples
    y, truth = (np.array([str(v) for v in labels_of(e, label)]) for e in (seen, tried))
    if len(set(y)) < 2:
        raise ToolInputError(f"label: {label} has one value only in these examples, {y[0]!r}")
    train = [e.group for e in seen]
    x, new = (_features(ctx, ctx.subject, e, component) for e in (seen, tried))
    made, wanted = _control_task(bench, y, component.anchor)

    def is_right(a: np.ndarray, b: np.ndarray, labels: Texts, target: Texts) -> np.ndarray:
        return (predicted(a, labels, train, b, bench.groups) == target).astype(float)

    own, by_heart = is_right(x, new, y, truth), is_right(x, new, made, wanted)
    drawn: list[np.ndarray] = []
    for i in range(twins):
        twin = null_twin(ctx.subject, seed=ctx.seed + i)
        a, b = (_features(ctx, twin, e, component) for e in (seen, tried))
        drawn.append(is_right(a, b, y, truth))
    values, counts = np.unique(y, return_counts=True)
    most = (truth == values[counts.argmax()]).astype(float)
    where = {"component": str(component)}

    def apart(base: np.ndarray) -> Quantity:
        return Quantity("accuracy", "share of examples", own - base, (-1.0, 1.0))

    # Models with random weights differ from one another: beyond their mean by as much as counts, not by anything at all.
    controls = [("naming the most frequent value", most, bench.smallest), ("a control task", by_heart, 0.0)]
    if drawn:
        controls.append((f"the mean of {twins} models with random weights", mean_of(drawn), bench.smallest))
    return [
        bench.effect(Quantity("accuracy", "share of examples", own, (0.0, 1.0)), bench.smallest, **where),
        *(bench.beyond((apart(base),), name, least, **where) for name, base, least in controls),
    ]


def _family_read_off(bench: Bench, component: Component, label: str, twins: int) -> list[Contrast]:
    """The same for every label of a family at once, by ridge regressions; the control task gives each token a random problem's."""
    ctx, (both, n) = bench.ctx, fitted_and_tried(bench)
    labels = Labels.of({name: labels_of(both, name) for name in labels_named(both, label)})
    at = [int(unit_hash("control task", ctx.seed, t) * n) for t in tokens_at(ctx, both, component.anchor)]

    x = _features(ctx, ctx.subject, both, component)
    own, by_heart = share_read(x, labels, n), share_read(x, labels.rows(np.array(at)), n)
    subjects = [null_twin(ctx.subject, seed=ctx.seed + i) for i in range(twins)]
    blind = [share_read(_features(ctx, s, both, component), labels, n) for s in subjects]
    most = np.array([np.bincount(column).argmax() for column in labels.codes[:n].T])
    commonest = (labels.codes[n:] == most).mean(-1)
    where, unit = {"component": str(component)}, f"share of {label}"

    def apart(base: np.ndarray) -> Quantity:
        return Quantity("accuracy", unit, own - base, (-1.0, 1.0))

    return [
        bench.effect(Quantity("accuracy", unit, own, (0.0, 1.0)), bench.smallest, **where),
        bench.beyond((apart(commonest),), "naming each one's most frequent value", bench.smallest, **where),
        bench.beyond((apart(by_heart),), "a control task", 0.0, **where),
        bench.beyond(
            (apart(mean_of(blind)),), f"the mean of {twins} models with random weights", bench.smallest, **where
        ),
    ]


def fitted_and_tried(bench: Bench) -> tuple[list[Example], int]:
    """Explore examples to fit a family of labels on, then those of the bench; and how many the first are."""
    held = {e.group for e in bench.examples}
    drawn = bench.task.examples("explore", FITTED + len(held), bench.ctx.seed)
    seen = [e for e in drawn if e.group not in held][:FITTED]
    return [*seen, *bench.examples], len(seen)


def share_read(x: np.ndarray, labels: Labels, cut: int) -> np.ndarray:
    """The share of each example's labels that ridge probes, fitted on the first `cut` rows, read right of the others."""
    states = torch.from_numpy(x)[None]
    read = fit(states[:, :cut], labels.rows(slice(cut)), "ridge").read(states[:, cut:])[0]
    return (read == labels.codes[cut:]).mean(-1)


def is_read(bench: Bench, component: Component, label: str) -> np.ndarray:
    """Whether a probe fitted on explore examples reads the label from a component, 0 or 1 an example of the bench."""
    seen, tried = bench.seen, bench.examples
    y, truth = (np.array([str(v) for v in labels_of(e, label)]) for e in (seen, tried))
    x, new = (_features(bench.ctx, bench.ctx.subject, e, component) for e in (seen, tried))
    return (predicted(x, y, [e.group for e in seen], new, bench.groups) == truth).astype(float)


def _features(ctx: Context, subject: Subject, examples: Sequence[Example], component: Component) -> np.ndarray:
    return collect(subject, examples, [component], ctx.max_tokens)[component]


def _control_task(bench: Bench, y: Texts, anchor: str) -> tuple[Texts, Texts]:
    """Random values for what the probe could tell apart by heart, as often as the true ones, for seen and tried examples."""
    both = bench.seen, bench.examples
    types: list[Sequence[object]] = [tokens_at(bench.ctx, examples, anchor) for examples in both]
    if _decided(types[0], y) < DECIDES:
        types = [[e.group for e in examples] for examples in both]
    order = np.sort(y)

    def value(of: object) -> str:
        return str(order[int(unit_hash("control task", bench.ctx.seed, of) * len(order))])

    return np.array([value(t) for t in types[0]]), np.array([value(t) for t in types[1]])


def _decided(types: Sequence[object], y: Texts) -> float:
    """How often an example has its type's most frequent value."""
    counts = Counter(zip(types, y.tolist(), strict=True))
    most = {t: max(n for (u, _), n in counts.items() if u == t) for t in set(types)}
    return sum(most.values()) / len(y)


def predicted(x: np.ndarray, y: Texts, train: Sequence[str], new: np.ndarray, tried: Sequence[str]) -> Texts:
    """The values that a ridge classifier reads, never fitted on an example of the group that it reads."""
    if not set(train) & set(tried):
        return _fit(x, y, new)
    folds = [np.array([int(unit_hash("fold", g) * FOLDS) for g in groups]) for groups in (train, tried)]
    out = np.empty(len(new), dtype=object)
    for k in range(FOLDS):
        fitted, read = folds[0] != k, folds[1] == k
        if read.any():
            out[read] = _fit(x[fitted], y[fitted], new[read])
    return out


def _fit(x: np.ndarray, y: Texts, new: np.ndarray) -> Texts:
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(set(y)) < 2:
        return np.full(len(new), y[0], dtype=object)
    probe = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(0, 5, 6)))
    return np.asarray(probe.fit(x.astype(np.float64), y).predict(new.astype(np.float64)), dtype=object)


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    if s.label.endswith(".*"):
        return (
            f"The labels {s.label} can be decoded from {within(place(s, roles))} {on_task(s)}: linear probes read {{effect}} of "
            "them right, of unseen examples{control}."
        )
    return (
        f"{capital(s.label)} can be decoded from {within(place(s, roles))} {on_task(s)}: a linear probe is right for {{effect}} of "
        "unseen examples{control}."
    )


KIND = Kind(
    "decodable", "a linear probe reads the label from the component, beyond a control task and a random model", _measure,
    _sentence, needs=("components", "label"), check=_check, capable=False, least=tenth_of_examples, unit="share of examples",
    nulls=Nulls({"shuffled_answers": "labels and activations are there what they were"}),
)  # fmt: skip
