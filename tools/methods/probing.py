"""Probes: can a label be read from activations? And what an unfair advantage would look like: control tasks, shuffled
labels, and the same architecture with random weights.

A control task gives every token at the probed position a random label, the same one wherever it stands (Hewitt and Liang
2019): a probe that does it as well as the real one has learned the tokens, not the variable.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from experiments_db.places import Component
from tools import statistics
from tools.methods.anchors import positions
from tools.methods.measuring import shares
from tools.methods.scoring import batch_of, encoded_all
from tools.methods.tool import ToolInputError
from tools.statistics import Estimate, Groups, Undefined
from tools.subjects import Subject
from tools.tasks import Example

CONTROL_TASK = "control task: a random label for every token at the position"
SHUFFLED = "the same probe on shuffled labels (the token at the position does not vary)"


@dataclass(frozen=True)
class Probe:
    """How a label is read. target: classes are scored by accuracy, numbers by R2. dimensions: principal components first.

    model: a linear map, an MLP, or the nearest of the classes' centroids.
    """

    target: Literal["class", "number"] = "class"
    model: Literal["linear", "mlp", "centroid"] = "linear"
    dimensions: int | None = None

    def predict(self, train: NDArray[Any], y: NDArray[Any], test: NDArray[Any], seed: int) -> NDArray[Any]:
        """What it reads from the rows of `test` after it was fitted on those of `train`."""
        from sklearn.decomposition import PCA
        from sklearn.linear_model import LogisticRegression, RidgeCV
        from sklearn.neighbors import NearestCentroid
        from sklearn.neural_network import MLPClassifier, MLPRegressor
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        steps: list[Any] = [StandardScaler()]
        if self.dimensions is not None:
            steps.append(PCA(self.dimensions, random_state=seed))
        hidden: dict[str, Any] = {
            "hidden_layer_sizes": (64,), "alpha": 1e-2, "max_iter": 400, "early_stopping": len(train) >= 100,
            "random_state": seed,
        }  # fmt: skip
        if self.target == "class":
            if len(np.unique(y)) < 2:
                raise ToolInputError("label: the examples to fit on have only one class: use more examples")
            by_model = {
                "linear": lambda: LogisticRegression(max_iter=300, C=0.1),
                "mlp": lambda: MLPClassifier(**hidden),
                "centroid": NearestCentroid,
            }
            return make_pipeline(*steps, by_model[self.model]()).fit(train, y).predict(test)
        steps.append(RidgeCV(np.logspace(-2, 4, 13)) if self.model == "linear" else MLPRegressor(**hidden))
        mean, scale = y.mean(), y.std() or 1.0
        return make_pipeline(*steps).fit(train, (y - mean) / scale).predict(test) * scale + mean

    def margins(
        self, train: NDArray[Any], y: NDArray[Any], test: NDArray[Any], truth: NDArray[Any], seed: int
    ) -> NDArray[np.float64]:
        """How much nearer each row of `test` lies to its own class's centroid than to the nearest other's.

        (other - own) / (other + own) of Euclidean distances after the same preparation as `predict`: 1 at the own centroid, 0
        half-way, -1 at another's. 0 for a class that no row of `train` has.
        """
        from sklearn.decomposition import PCA
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        steps: list[Any] = [StandardScaler()]
        if self.dimensions is not None:
            steps.append(PCA(self.dimensions, random_state=seed))
        prepared = make_pipeline(*steps).fit(train)
        x, new = (np.asarray(prepared.transform(rows), dtype=np.float64) for rows in (train, test))
        classes = np.unique(y)
        centroids = np.stack([x[y == c].mean(0) for c in classes])
        away = np.linalg.norm(new[:, None] - centroids[None], axis=-1)
        mine = truth[:, None] == classes[None]
        own, other = np.where(mine, away, np.inf).min(-1), np.where(mine, np.inf, away).min(-1)
        known, whole = mine.any(-1), np.maximum(own + other, 1e-30)
        return np.where(known, (other - np.where(known, own, 0.0)) / np.where(known, whole, 1.0), 0.0)

    def score(self, truth: NDArray[Any], predicted: NDArray[Any], groups: Groups) -> Estimate:
        """Accuracy, or the share of the variance that is explained, with its interval where the data have one."""
        if self.target == "class":
            return shares(predicted == truth, groups)[0]
        try:
            return statistics.r_squared(truth, predicted, groups)
        except Undefined:
            missed, spread = np.mean((truth - predicted) ** 2), max(float(np.var(truth)), 1e-12)
            return Estimate(float(1 - missed / spread), -np.inf, np.inf, groups.n, groups.count)


def control_labels(
    subject: Subject, examples: Sequence[Example], component: Component, y: NDArray[Any], seed: int
) -> NDArray[Any] | None:
    """Labels of the control task at a component's position, drawn as often as the real ones are.

    None where the token there does not vary, or there are none: then every example would have the same label.
    """
    encoded = encoded_all(subject, examples)
    stack = subject.spec(component.stack).name
    if any(e.reads != stack for e in encoded) or any(
        len(e.tokens) < e.lengths[stack] - len(e.targets) for e in encoded
    ):
        return None  # no tokens stand at its positions
    at = positions(subject, batch_of(subject, examples), component.anchor or "all", stack=stack)
    read = [(*e.tokens, *e.targets[:-1]) for e in encoded]
    kinds = [row if at is None else tuple(row[i] for i in at[n].tolist()) for n, row in enumerate(read)]
    if len(set(kinds)) < 2:
        return None
    rng = np.random.default_rng(seed)
    order = {kind: i for i, kind in enumerate(dict.fromkeys(kinds))}
    drawn = rng.permutation(y)[: len(order)] if len(order) <= len(y) else rng.choice(y, len(order))
    if len(set(drawn.tolist())) < 2:  # few kinds, and one label by chance
        drawn[0] = next(v for v in y if v != drawn[0])
    return np.array([drawn[order[kind]] for kind in kinds])


def without_means(states: NDArray[Any], kinds: Sequence[object], fitted: int) -> NDArray[Any]:
    """States, (n, channels), less the mean of those of the first `fitted` that have the same kind; less the mean of all of them
    for a kind that is not among these.
    """
    out, seen = states - states[:fitted].mean(0), np.array([str(k) for k in kinds])
    for kind in np.unique(seen[:fitted]):
        here = seen == kind
        out[here] = states[here] - states[:fitted][here[:fitted]].mean(0)
    return out


def check_size(probe: Probe, n_train: int, width: int, share: float) -> None:
    """ToolInputError for a probe with more features than examples to fit on: it can read any label."""
    if probe.dimensions is not None and probe.dimensions > min(width, n_train):
        raise ToolInputError(
            f"dimensions: at most {min(width, n_train)} with {n_train} examples to fit on and {width} channels"
        )
    features = probe.dimensions or width
    if features > n_train:
        raise ToolInputError(
            f"{features} features and {n_train} examples to fit on: such a probe can read any label. Set dimensions to at most "
            f"{max(1, n_train // 2)}, or examples to at least {int(np.ceil((features + 1) / share))}"
        )
