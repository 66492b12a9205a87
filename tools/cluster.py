"""Do all examples need the same components? Examples are clustered by what each of them loses when each component is removed, under
both kinds of removal, and each cluster is described by a rule over what can be known of an example without the model.

Several clusters are reported only where they lie further apart than those of the same effects shuffled among the examples, each
component by itself. The rule is found on half of the examples and scored on the others; it is written as `among`
takes it, so that the class can be examined, and confirmed on examples whose effects nobody has seen.
"""

from typing import Literal

import numpy as np
from pydantic import Field

from experiments_db.places import Intervention
from experiments_db.records import Control, Measurement, Outcome
from tools import statistics
from tools.methods.arguments import AMONG, check_size, components
from tools.methods.class_rules import best_rule
from tools.methods.effects import Condition, score_under, sets_of, with_donors
from tools.methods.layout import chosen_components
from tools.methods.measuring import (
    averages,
    control_of,
    differences,
    groups_of,
    load_examples,
    measured,
    percent,
    shares,
    where_of,
)
from tools.methods.saying import examples_of
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.ports import Scores
from tools.tasks import Example
from tools.tasks.conditions import known, parse

KIND: Literal["experiment"] = "experiment"
LOCALISES = True
EXAMPLE = {"task": "addition", "components": ["attn.z[*]@answer", "mlp.out@answer"]}
HOWS = ("resample(donor)", "zero")
SHUFFLES = 99
ALPHA = 0.01
TIED = 1e-3  # silhouettes that differ by less are alike
SMALLEST_CLUSTER = 0.1  # share of the examples
LEAST = 24  # examples in each half
SILENT = 0.1  # a component whose removal costs no example more takes no part
SHUFFLED = "the same effects shuffled among the examples"
LARGER = "always the more frequent answer"


class Args(ToolArgs):
    """Arguments of cluster."""

    task: str = Field(description="a task spec; see list_tasks")
    components: list[str] = components(["attn.z[*]@answer", "mlp.out@answer"], "what is removed, each by itself")
    among: str = AMONG
    examples: int = Field(
        default=128, ge=2 * LEAST, le=2048, description="how many examples, half of them to find rules"
    )


def run(args: Args, ctx: Context) -> Outcome:
    """Cluster the examples of one half, describe each cluster, and score the descriptions on the other."""
    task, loaded = load_examples(ctx, args.task, args.examples, args.among)
    found = chosen_components(ctx.subject, args.components, loaded, 8)
    sets = sets_of(found, "each")
    check_size(len(HOWS) * len(sets), "conditions")
    hows = [Intervention.parse(h) for h in HOWS]
    kept, left_out = with_donors(ctx, loaded, found, hows[0])
    intact, *scores = score_under(ctx, task, kept, [Condition.of(s, how) for how in hows for s in sets])
    if "nll" in intact.lacks:
        raise ToolInputError(f"{ctx.subject.name} gives no probability of the right answer that an example could lose")
    right = np.flatnonzero(intact.correct) if "accuracy" not in intact.lacks else np.arange(len(kept))
    if len(right) < 2 * LEAST:
        raise ToolInputError(
            f"the intact model is right on {len(right)} of {len(kept)} examples: {2 * LEAST} are needed to ask what each needs"
        )
    right = np.random.default_rng(ctx.seed).permutation(right)
    examples, lost = [kept[i] for i in right], lost_shares(intact, scores)[right]
    half = len(right) // 2
    # What is missed under both removals: another example's activation can mislead where this one's is not needed, and zero
    # is as much for all. Zero beside it: both say the same where it depends on the example, not on who stands in for it.
    resampled, zeroed = lost[:, : len(sets)], lost[:, len(sets) :]
    needs = np.hstack([np.minimum(resampled, zeroed), zeroed])
    needs = needs[:, needs[:half].max(0) >= SILENT]
    least = max(2, int(SMALLEST_CLUSTER * half))
    made = statistics.clusters(needs[:half], least, seed=ctx.seed) if needs.size else None
    null = statistics.shuffled_silhouettes(needs[:half], least, SHUFFLES, seed=ctx.seed) if made else np.zeros(SHUFFLES)
    width = made.silhouette if made else 0.0
    p = (1 + int((null >= width - TIED).sum())) / (1 + SHUFFLES)
    groups, where = groups_of(examples), where_of(ctx, task, args.among)
    beside = Control(kind=SHUFFLED, value=float(null.mean()), n=half)
    out = [
        Measurement(name="silhouette", unit="mean silhouette", value=width, n=half, control=beside, **where),
        Measurement(name="p", unit="share of shuffles as far apart", value=p, n=half, **where),
    ]
    several = made is not None and width > 0 and p <= ALPHA
    count = len(made.centres) if made is not None and several else 1
    out.append(Measurement(name="clusters", unit="clusters", value=float(count), n=half, **where))
    text = [
        f"clusters of {examples_of(task, args.among)} ({ctx.split}, n={len(examples)}) by what they lose without each of "
        f"{len(sets)} components, under {' and '.join(HOWS)}: mean silhouette {width:.2f}, shuffled {null.mean():.2f} (p={p:.2f})"
    ]
    if made is None or not several:
        text.append("no more than one cluster: all examples need the same, as far as these effects tell")
        return Outcome(text="\n".join(text) + left_out, measurements=tuple(out))
    labels = made.nearest(needs)
    for k in range(count):
        mine, name = labels == k, f"cluster {k + 1}"
        (share,) = shares(mine, groups)
        out.append(measured("share", "share of examples", share, label=name, **where))
        own = groups_of([e for e, m in zip(examples, mine, strict=True) if m])
        rows = averages(lost[mine].T, own, (-1.0, 1.0))
        places = [(s, how) for how in hows for s in sets]
        losses = [
            measured("lost", "share of the right answer's probability", e, component=str(s), intervention=str(how),
                     label=name, **where)
            for e, (s, how) in zip(rows, places, strict=True)
        ]  # fmt: skip
        out += losses
        both = [a.component for a, b in zip(losses, losses[len(sets) :], strict=False) if min(a.value, b.value) >= 0.5]
        said = ", ".join(map(str, both)) or "none of them by itself"
        text.append(
            f"{name}: {percent(out[-len(losses) - 1])} of examples, lose half or more under both removals without {said}"
        )
        told, words = _rule(examples, mine, half, name, where)
        out += told
        text.append(words)
    return Outcome(text="\n".join(text) + left_out, measurements=tuple(out))


def lost_shares(intact: Scores, scores: list[Scores]) -> np.ndarray:
    """What share of the right answer's probability each condition costs each example, (n, conditions), from -1 (it at least
    doubles) to 1 (all is lost).
    """
    return np.stack([np.clip(1 - np.exp(np.minimum(intact.nll - s.nll, 1.0)), -1.0, 1.0) for s in scores], axis=1)


def _rule(
    examples: list[Example], mine: np.ndarray, half: int, name: str, where: dict[str, object]
) -> tuple[list[Measurement], str]:
    """The best rule of a cluster by the first half, scored on the rest."""
    rule = best_rule(examples[:half], mine[:half])
    if not rule:
        return [], "  nothing that is known of the examples divides them"
    rest, members = examples[half:], mine[half:]
    wanted = parse(rule)
    holds = np.array([all(c.holds(known(e, wanted)) for c in wanted) for e in rest])
    groups = groups_of(rest)
    hits = (holds == members).astype(float)
    larger = (members == (members.mean() >= 0.5)).astype(float)
    (own,), (base,), (apart,) = shares(hits, groups), shares(larger, groups), differences(hits, larger, groups)
    m = measured(
        "told",
        "share of held-out examples",
        own,
        control=control_of(LARGER, base, apart),
        label=name,
        variant=rule,
        **where,
    )
    right = f"right on {percent(m)} of {len(rest)} held-out examples, a guess on {100 * base.value:.0f}%"
    if apart.low <= 0:
        return [m], f"  no rule tells it from the others; the nearest, {rule!r}, is {right}"
    return [m], f"  told by among={rule!r}: {right}"
