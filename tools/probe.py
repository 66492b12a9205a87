"""Fit a probe that reads a label from activations, per layer and position: is the variable there, in a form that a
linear map (or a small MLP) can read?

The label is any metadata of the task, such as an operand, a carry or a number, or the answer; `% 2` after it gives
parity. Classes are scored by accuracy, numbers by R2, always on examples the probe was not fitted on: with split
confirm it is fitted on explore and scored on confirm. The control is the same probe on shuffled labels (selectivity,
Hewitt and Liang 2019); beside it stand the share of the most frequent class and the same probe on a randomly
initialised twin of the model. What can be read need not be used.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments_db.records import Control, Measurement, Outcome
from tools.findings.null_twins import null_twin
from tools.methods.arguments import SPLIT, SplitName, check_blocks
from tools.methods.features import class_labels, collect, labels_of, number_labels, site_list
from tools.methods.measuring import load_examples, measured
from tools.methods.tables import as_array, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.statistics import intervals as statistics
from tools.tasks import Example

KIND: Literal["experiment"] = "experiment"
EXAMPLE = {"task": "addition", "label": "a % 2", "components": 16, "examples": 128}
TRAIN_SHARE = 0.7


class Args(ToolArgs):
    """Arguments of probe."""

    task: str = Field(description="a task spec; see list_tasks")
    label: str = Field(
        description="what is read: a metadata key of the task's examples, or answer; with ' % 2' its parity"
    )
    target: Literal["class", "number"] = Field(default="class", description="class: accuracy; number: regression, R2")
    model: Literal["linear", "mlp"] = Field(
        default="linear", description="logistic or ridge regression, or one hidden layer of 64"
    )
    site: str = Field(
        default="resid_post", description="kind of site that is read, such as resid_post, attn.out, mlp.out, attn.z"
    )
    layers: list[int] = Field(default=[], description="which blocks, counted from 0; empty means every block")
    positions: Literal["last", "each"] = Field(
        default="last", description="the prompt's last token, or one position at a time"
    )
    depth: int = Field(
        default=6, ge=1, le=32, description="for positions each: how many, counted back from the last as -1"
    )
    components: int | None = Field(
        default=None,
        ge=1,
        description="reduce the activations to so many principal components first; null uses all channels",
    )
    split: SplitName = SPLIT
    examples: int = Field(default=256, ge=40, le=4096, description="how many examples to use")


@dataclass(frozen=True)
class _Data:
    """Rows to fit on and rows to score on, with labels."""

    train: np.ndarray
    test: np.ndarray
    y_train: np.ndarray
    y_test: np.ndarray


def run(args: Args, ctx: Context) -> Outcome:
    """Probe every layer and position."""
    layers = check_blocks(ctx, args.layers)
    sites = site_list(ctx, args.site, layers)
    task, fitted, scored = _examples(args, ctx)
    both = [*fitted, *scored]
    y, names = _targets(args, both)
    n_train = len(fitted)
    places = [str(-1 - i) for i in range(args.depth)] if args.positions == "each" else ["last"]
    own = collect(ctx.subject, both, sites, places, ctx.max_tokens)
    width = next(iter(own.values())).shape[1]
    _check_size(args, n_train, width)
    twin = collect(null_twin(ctx.subject, "random_init", ctx.seed), both, sites, places, ctx.max_tokens)
    rng = np.random.default_rng(ctx.seed)
    shuffled = rng.permutation(y)
    majority = (
        float(np.mean(y[n_train:] == np.bincount(y[:n_train].astype(int)).argmax())) if args.target == "class" else 0.0
    )
    where: dict[str, Any] = {"task": task, "split": args.split, "variant": f"{args.model} probe", "token": args.label}
    name, unit = ("accuracy", "share of examples") if args.target == "class" else ("r2", "share of variance explained")
    measurements: list[Measurement] = []
    for (site, place), x in own.items():
        at: dict[str, Any] = {**where, "site": str(site), "layer": site.block, "position": place}
        mine = _fit(args, _Data(x[:n_train], x[n_train:], y[:n_train], y[n_train:]), ctx.seed)
        other = _fit(args, _Data(x[:n_train], x[n_train:], shuffled[:n_train], shuffled[n_train:]), ctx.seed)
        untrained = twin[site, place]
        random = _fit(args, _Data(untrained[:n_train], untrained[n_train:], y[:n_train], y[n_train:]), ctx.seed)
        control = Control(
            kind="the same probe on shuffled labels", value=other.value, low=other.low, high=other.high, n=other.n
        )
        measurements.append(measured(name, unit, mine, control=control, **at))
        measurements.append(measured(f"{name}.random_init", unit, random, **at))
        measurements.append(
            Measurement(
                name="selectivity",
                unit=f"{unit}, minus shuffled labels",
                value=mine.value - other.value,
                n=mine.n,
                **at,
            )
        )
    baseline = Measurement(name="majority", unit=unit, value=majority, n=len(scored), **where)
    what = f"{len(names)} classes" if names else "a number"
    text = (
        f"{args.model} probe of {args.label} ({what}) at {args.site}, {task} ({args.split}): {name} on "
        f"{len(scored)} examples, fitted on "
        f"{n_train}; {'most frequent class' if names else 'mean'} {majority:.2f}\n"
    )
    picked = [m for m in measurements if m.name == name]
    random_init = {(m.layer, m.position): m.value for m in measurements if m.name == f"{name}.random_init"}
    rows = [f"{m.layer} {m.position}" for m in picked]
    values = np.array(
        [[m.value, m.control.value if m.control else np.nan, random_init[m.layer, m.position]] for m in picked]
    )
    table = np.array([m.value for m in picked]).reshape(len(layers), len(places))
    return Outcome(
        text=text + text_table(rows, [name, "shuffled", "random init"], values),
        measurements=(*measurements, baseline),
        arrays=(as_array(name, table, [("layer", layers), ("position", places)], unit),),
    )


def _examples(args: Args, ctx: Context) -> tuple[str, list[Example], list[Example]]:
    """(task, examples to fit on, examples to score on), split by example."""
    task, explore = load_examples(ctx, args.task, "explore", args.examples)
    if args.split == "confirm":
        return task.name, explore, load_examples(ctx, args.task, "confirm", args.examples)[1]
    order = np.random.default_rng(ctx.seed).permutation(len(explore))
    cut = int(TRAIN_SHARE * len(explore))
    return task.name, [explore[i] for i in order[:cut]], [explore[i] for i in order[cut:]]


def _targets(args: Args, examples: list[Example]) -> tuple[np.ndarray, list[str]]:
    values = labels_of(examples, args.label)
    if args.target == "class":
        return class_labels(values)
    numbers = number_labels(values)
    if numbers is None or np.ptp(numbers) == 0:
        raise ToolInputError(f"label: {args.label} does not vary, or is no number: use target class, or another label")
    return numbers, []


def _check_size(args: Args, n_train: int, width: int) -> None:
    features = args.components or width
    if args.components is not None and args.components > min(width, n_train):
        raise ToolInputError(
            f"components: at most {min(width, n_train)} with {n_train} examples to fit on and {width} channels"
        )
    if features > n_train:
        raise ToolInputError(
            f"{features} features and {n_train} examples to fit on: such a probe can read any label. Set components to at most "
            f"{max(1, n_train // 2)}, or examples to at least {int(np.ceil((features + 1) / TRAIN_SHARE))}"
        )


def _fit(args: Args, data: _Data, seed: int) -> statistics.Estimate:
    """Score of a probe on the rows it was not fitted on."""
    steps: list[Any] = [StandardScaler()]
    if args.components is not None:
        steps.append(PCA(args.components, random_state=seed))
    hidden: dict[str, Any] = {
        "hidden_layer_sizes": (64,),
        "alpha": 1e-2,
        "max_iter": 400,
        "early_stopping": len(data.train) >= 100,
        "random_state": seed,
    }
    if args.target == "class":
        steps.append(LogisticRegression(max_iter=300, C=0.1) if args.model == "linear" else MLPClassifier(**hidden))
        if len(np.unique(data.y_train)) < 2:
            raise ToolInputError("label: the examples to fit on have only one class: use more examples")
        predicted = make_pipeline(*steps).fit(data.train, data.y_train).predict(data.test)
        return statistics.proportion(predicted == data.y_test)
    steps.append(RidgeCV(np.logspace(-2, 4, 13)) if args.model == "linear" else MLPRegressor(**hidden))
    mean, scale = data.y_train.mean(), data.y_train.std() or 1.0
    predicted = make_pipeline(*steps).fit(data.train, (data.y_train - mean) / scale).predict(data.test) * scale + mean
    return statistics.r_squared(data.y_test, predicted, seed)
