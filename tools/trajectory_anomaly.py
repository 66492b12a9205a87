"""Tell unusual prompts from usual ones by how the prediction forms with depth: an outlier detector on lens trajectories,
for example to find prompts with an injected instruction.

Each prompt becomes, for its last token, entropy, surprise of the model's own top token and KL to the model's own
distribution at every depth, read with the logit lens or a tuned lens. Local outlier factor and isolation forest are
fitted on normal prompts only and scored by AUROC on other normal prompts and on the anomalous ones. The control is
the same scores with labels shuffled. A detector tells two sets of prompts apart by whatever differs, length included:
compare sets that differ in one thing. Source: Belrose et al. 2023, section 5.2; Breunig et al. 2000; Liu et al. 2008.
"""

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from experiments_db.records import Control, Outcome
from tools import statistics
from tools.methods.measuring import fit_and_score, groups_of, load_examples, measured
from tools.methods.tables import as_array, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.methods.translators import corpus, fitted, kl, logprobs, prompts, split_rows, states, translate
from tools.subjects import Subject
from tools.tasks import Example

KIND: Literal["experiment"] = "experiment"
NEEDS = "next_token"
SHUFFLES = 50
EXAMPLE = {"task": "agreement", "other_task": "brackets", "examples": 64}


class Args(ToolArgs):
    """Arguments of trajectory_anomaly."""

    task: str = Field(description="a task spec: the usual prompts")
    other_task: str = Field(description="a task spec: the unusual prompts")
    lens: Literal["logit", "tuned"] = Field(
        default="logit", description="what the states are read with; tuned is fitted on the normal task"
    )
    steps: int = Field(
        default=60, ge=0, le=2000, description="for the tuned lens: KL steps after its closed-form start"
    )
    examples: int = Field(default=128, ge=40, le=2048, description="how many prompts of each kind")


def run(args: Args, ctx: Context) -> Outcome:
    """Fit both detectors on half of the normal prompts, score the rest."""
    ctx.subject.require("next_token")
    if args.task == args.other_task:
        raise ToolInputError("task and other_task are the same: there is nothing to tell apart")
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.preprocessing import StandardScaler

    normal, fit_on, others = fit_and_score(ctx, args.task, args.examples)
    odd, unusual = load_examples(ctx, args.other_task, args.examples)
    if min(len(fit_on), len(others), len(unusual)) < 20:
        raise ToolInputError(
            f"{len(fit_on) + len(others)} usual and {len(unusual)} unusual prompts are too few: at least 40 and 20"
        )
    lens = None
    if args.lens == "tuned":
        texts = corpus(ctx, [args.task], "explore", args.examples)
        lens = fitted(ctx, split_rows(texts, ctx.seed)[0].rows, args.steps)
    features = [trajectories(ctx, part, lens) for part in (fit_on, others, unusual)]
    scaler = StandardScaler().fit(features[0])
    train, test = scaler.transform(features[0]), scaler.transform(np.concatenate(features[1:]))
    labels = np.r_[np.zeros(len(others), dtype=bool), np.ones(len(unusual), dtype=bool)]
    detectors: dict[str, Any] = {
        "local outlier factor": LocalOutlierFactor(n_neighbors=min(20, len(train) - 1), novelty=True),
        "isolation forest": IsolationForest(n_estimators=200, random_state=ctx.seed),
    }
    where: dict[str, Any] = {"task": f"{normal.name} against {odd.name}", "split": ctx.split}
    groups = groups_of([*others, *unusual])
    rng = np.random.default_rng(ctx.seed)
    shuffles = [rng.permutation(labels) for _ in range(SHUFFLES)]
    measurements = []
    rows = np.zeros((len(detectors), 2))
    for i, (name, detector) in enumerate(detectors.items()):
        oddness = -detector.fit(train).score_samples(test)
        estimate = statistics.auroc(oddness, labels, groups)
        null = [_auroc(oddness, y) for y in shuffles]
        low, high = np.quantile(null, [0.025, 0.975])
        kind = f"labels shuffled {SHUFFLES} times: mean and 95% range"
        control = Control(kind=kind, value=float(np.mean(null)), low=float(low), high=float(high), n=len(labels))
        variant = f"{name}, {args.lens} lens"
        measurements.append(
            measured("auroc", "area under the ROC curve", estimate, control=control, variant=variant, **where)
        )
        rows[i] = estimate.value, control.value
    return Outcome(
        text=f"{normal.name} (normal) against {odd.name}, {args.lens} lens, fitted on {len(train)} normal prompts, scored on "
        f"{len(labels)} others ({ctx.split})\n" + text_table(list(detectors), ["AUROC", "shuffled"], rows, digits=3),
        measurements=tuple(measurements),
        arrays=(as_array("auroc", rows, [("detector", list(detectors)), ("labels", ["true", "shuffled"])]),),
    )


def _auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The share of pairs in which the positive scores higher, ties counting one half."""
    from scipy.stats import rankdata

    ranks = rankdata(scores)
    positives = int(labels.sum())
    wins = ranks[labels].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * (len(labels) - positives)))


def trajectories(ctx: Context, examples: list[Example], lens: torch.Tensor | None) -> np.ndarray:
    """(examples, 3 x depths): entropy, surprise of the final top token, KL to the final distribution, by depth."""
    subject: Subject = ctx.subject
    h = states(subject, prompts(ctx, examples).rows, ctx.max_tokens, last=True).h
    if lens is not None:
        h = torch.cat([translate(h[:-1], lens), h[-1:]])
    with subject.evaluating():
        final = logprobs(subject, h[-1])
        top = final.argmax(-1, keepdim=True)
        columns: list[torch.Tensor] = []
        for depth in h:
            read = logprobs(subject, depth)
            columns += [-(read.exp() * read).sum(-1), -read.gather(1, top)[:, 0], kl(final, read)]
    return torch.stack(columns, 1).cpu().double().numpy()
