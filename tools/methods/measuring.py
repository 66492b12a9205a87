"""From scores to measurements: the same names, units and intervals in every tool."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments_db.records import Measurement
from tools.methods.fitness import check_fit, merged
from tools.methods.scoring import Scores
from tools.methods.tool import Context, ToolInputError
from tools.statistics import intervals as statistics
from tools.statistics.intervals import Estimate
from tools.tasks import Example, Split, Task, TaskError

MAX_EXAMPLES = 4096


def load_examples(ctx: Context, spec: str, split: Split, n: int, among: str = "") -> tuple[Task, list[Example]]:
    """A task and `n` of its examples under the run's seed, each of another group, fewer where there are fewer groups.

    among: the class of examples, `carry=1`; all of them by default. ToolInputError if there is no such task or class, or
    if the subject's tokenizer cannot read it.
    """
    try:
        task = ctx.tasks.get(spec).among(among)
        examples = task.examples(split, n, ctx.seed)
    except TaskError as error:
        raise ToolInputError(str(error)) from None
    if not examples:
        raise ToolInputError(f"task {spec!r} has no examples in its {split} split")
    check_fit(ctx.subject, task, examples)
    return task, merged(ctx.subject, examples)


def measured(name: str, unit: str, estimate: Estimate, **where: Any) -> Measurement:
    """A measurement from an estimate."""
    return Measurement(
        name=name, unit=unit, value=estimate.value, low=estimate.low, high=estimate.high, n=estimate.n, **where
    )


def score_measurements(scores: Scores, *, seed: int, **where: Any) -> list[Measurement]:
    """Accuracy, NLL per answer token, median-free mean rank and, where there are foils, the logit margin."""
    out = [
        measured("accuracy", "share of examples", statistics.proportion(scores.correct), **where),
        measured("nll", "nats per answer", statistics.mean(scores.nll, seed), **where),
        measured("nll_per_token", "nats per token", statistics.mean(scores.nll / scores.tokens, seed), **where),
        measured("rank", "rank, 1 is top", statistics.mean(scores.rank.astype(np.float64), seed), **where),
    ]
    known = scores.foil_margin[~np.isnan(scores.foil_margin)]
    if len(known):
        out.append(measured("logit_margin", "logits, answer minus foil", statistics.mean(known, seed), **where))
    return out


def delta_measurements(scores: Scores, intact: Scores, *, seed: int, **where: Any) -> list[Measurement]:
    """Changes against the intact model on the same examples, with paired intervals."""
    pairs: Sequence[tuple[str, str, Callable[[Scores], np.ndarray]]] = (
        ("accuracy.delta", "share of examples", lambda s: s.correct.astype(np.float64)),
        ("nll.delta", "nats per answer", lambda s: s.nll),
        ("answer_logit.delta", "logits per answer token", _mean_token_logit),
    )
    return [
        measured(name, unit, statistics.paired_difference(get(scores), get(intact), seed), **where)
        for name, unit, get in pairs
    ]


def _mean_token_logit(scores: Scores) -> np.ndarray:
    return np.bincount(scores.token_owner, weights=scores.token_logits) / scores.tokens


def percent(estimate: Measurement) -> str:
    """'97% [93, 99]' for a share."""
    low, high = estimate.low, estimate.high
    inside = f" [{100 * low:.0f}, {100 * high:.0f}]" if low is not None and high is not None else ""
    return f"{100 * estimate.value:.0f}%{inside}"
