"""Activation patching between each example and its corrupted twin, of any component at any position: where does the
information that separates the two lie?

Direction `noise` runs the clean input and puts in the twin's activation: how far does the answer go over to the
twin's (the activation is enough to change the answer). Direction `denoise` runs the twin and puts in the clean
activation: how far does the clean answer come back. Recovered is 0 for no effect and 1 for a complete change, the mean
move in logit margin between the two answers over the mean of a complete one, both uncertain; flipped is the share of
examples whose answer, between the two, changes over; probability, nll and accuracy are those of the input's own answer,
kl is from the unpatched run. With weights below 1 the activation is put between the two, that share of the way to the
twin's, and with `written` the model writes its own answers: the input's, the twin's, or words of both. The control adds
a random vector of the same norm at the same site; at `attn.pattern` it takes the weights of another example. Source: Meng
et al. 2022; Zhang, Nanda 2023.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from experiments_db.places import ComponentSet, Intervention
from experiments_db.records import Measurement, Outcome
from tools.findings.kind import SMALLEST
from tools.methods.arguments import AMONG, DEPTH, DIRECTION, EXAMPLES, AblationMode, Direction, check_size, components
from tools.methods.deciding import USUAL_SHARE, decide, decision_measurements, decisions_text
from tools.methods.effects import OTHER_WEIGHTS, RANDOM_VECTOR, Condition, score_under, sets_of
from tools.methods.forecasting import Work
from tools.methods.layout import chosen_components
from tools.methods.measuring import (
    ACCURACY,
    NLL,
    PROBABILITY,
    Quantity,
    Where,
    average,
    control_of,
    groups_of,
    measured,
    recoveries,
    where_of,
)
from tools.methods.saying import beside, examples_of
from tools.methods.tables import as_array, component_array, grid, place_text, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.methods.twins import donor_margin, load_pairs, whole_gap
from tools.methods.written import UNITS, rates, whose_words, written_under
from tools.ports import Objective, Scores, flipped, port_of
from tools.statistics import Estimate, Groups
from tools.tasks import Example, Task

KIND: Literal["experiment"] = "experiment"
LOCALISES = True
EXAMPLE = {"task": "addition", "components": ["resid_pre@each"]}
FLIPPED = Objective("flipped", "share of examples", flipped, lambda _: 0.0, (0.0, 1.0))
TWIN = Intervention(op="resample", source="twin")


class Args(ToolArgs):
    """Arguments of patch."""

    task: str = Field(description="a task spec; see list_tasks. Examples without a twin get another example for one")
    components: list[str] = components(["resid_pre@each"], "what is patched; @each is every position by itself")
    mode: AblationMode = Field(
        default="each",
        description="each: one component at a time; together: all at once; cumulative: more and more; decide: each on no more "
        "examples than show whether it flips answers, to explore",
    )
    direction: Direction = DIRECTION
    weights: list[Annotated[float, Field(ge=0, le=1)]] = Field(
        default=[1.0],
        min_length=1,
        max_length=16,
        description="how much of the other activation is put in: 1 is all of it, 0.5 half of both",
    )
    written: bool = Field(
        default=False,
        description="also let the model write, and count the input's own answers, the twin's, and those with words of both",
    )
    depth: int = DEPTH
    among: str = AMONG
    examples: int = EXAMPLES


def work(args: Args, ctx: Context) -> list[Work]:
    """Each set under each weight, and its control; of writing nothing is known beforehand."""
    if args.written:
        return []
    task, receivers = load_pairs(ctx, args.task, args.examples, args.direction, args.among)
    sets = sets_of(chosen_components(ctx.subject, args.components, receivers, args.depth), args.mode)
    changes = [(s, _resampled(w)) for s in sets for w in sorted(set(args.weights))]
    conditions = [Condition.of(s, how, control=c) for c in (0, 1) for s, how in changes]
    return [Work(task, receivers, conditions, USUAL_SHARE if args.mode == "decide" else 1.0)]


def run(args: Args, ctx: Context) -> Outcome:
    """Patch every component, and measure the move from one answer to the other."""
    task, receivers = load_pairs(ctx, args.task, args.examples, args.direction, args.among)
    sets = sets_of(chosen_components(ctx.subject, args.components, receivers, args.depth), args.mode)
    weights = sorted(set(args.weights))
    changes = [(s, _resampled(w)) for s in sets for w in weights]
    check_size(len(changes), "conditions")
    conditions = [Condition.of(s, how, control=c) for c in (0, 1) for s, how in changes]
    where = {**where_of(ctx, task, args.among), "variant": args.direction}
    wheres: list[Where] = [{**where, "component": str(s), "intervention": str(how)} for s, how in changes]
    if weights != [1.0]:
        wheres = [{**at, "dose": w} for at, w in zip(wheres, weights * len(sets), strict=True)]
    if args.mode == "decide":
        return _decided(args, ctx, task, receivers, conditions, wheres)
    base, *scores = score_under(ctx, task, receivers, conditions, kl=True)
    own, controls = scores[: len(changes)], scores[len(changes) :]
    donor, groups = donor_margin(ctx, receivers), groups_of(receivers)
    gap = whole_gap(base.foil_margin, donor, task.name)
    unit = port_of(ctx.subject).margin_unit.partition(",")[0]
    measurements = [
        measured("margin.base", unit, average(base.foil_margin, groups), **where),
        measured("margin.donor", unit, average(donor, groups), **where),
        *_effects(
            base, own, controls, donor - base.foil_margin, wheres, [_control_kind(s) for s, _ in changes], groups
        ),
    ]
    head = (
        f"{args.direction} patching on {examples_of(task, args.among)} ({ctx.split}, "
        f"n={len(receivers)}){beside(measurements)}, recovered margin "
        f"(whole gap {gap:.2f} {unit})\n"
    )
    names = ["recovered", "flipped"]
    if args.written:
        said = written_under(ctx, receivers, conditions[: len(changes)])
        judged = [[whose_words(e, t) for e, t in zip(receivers, texts, strict=True)] for texts in said]
        measurements += rates(receivers, judged, wheres)
        names += [n for n in UNITS if any(m.name == n for m in measurements) and n.startswith("w")]
    if weights == [1.0]:
        text, arrays = place_text(measurements, names), [component_array(measurements, n) for n in names[:2]]
    else:
        grids = {n: grid(measurements, n, "component", "dose") for n in names}
        text = "\n".join(f"{n}, components x weights\n{text_table(*g)}" for n, g in grids.items())
        arrays = [as_array(n, g[2], [("component", g[0]), ("weight", g[1])]) for n, g in grids.items()]
    return Outcome(text=head + text, measurements=tuple(measurements), arrays=tuple(arrays))


def _decided(
    args: Args,
    ctx: Context,
    task: Task,
    receivers: Sequence[Example],
    conditions: Sequence[Condition],
    wheres: list[Where],
) -> Outcome:
    """Which patches flip more than a tenth of the answers."""
    if args.written:
        raise ToolInputError(
            "mode decide only reads which of two answers is ahead: leave out written, or use mode each"
        )
    own, controls = conditions[: len(wheres)], conditions[len(wheres) :]
    found = decide(ctx, task, receivers, own, FLIPPED, SMALLEST, controls, read=_flips_seen)
    where, kinds = where_of(ctx, task, args.among), [_control_kind(c.changes[0][0]) for c in own]
    measurements = decision_measurements(found, FLIPPED, wheres, where, kinds, of_intact=False)
    text = (
        f"{args.direction} patching on {examples_of(task, args.among)} ({ctx.split}, sequential: each until its interval, which "
        f"holds at every look, says whether more than {SMALLEST:.0%} of the answers flip; at most {len(receivers)} examples)"
        f"{beside(measurements)}\n{decisions_text(found, wheres)}"
    )
    if "dose" not in wheres[0]:
        array = component_array(measurements, FLIPPED.name)
    else:
        rows, columns, values = grid(measurements, FLIPPED.name, "component", "dose")
        array = as_array(FLIPPED.name, values, [("component", rows), ("weight", columns)])
    return Outcome(text=text, measurements=tuple(measurements), arrays=(array,))


def _resampled(weight: float) -> Intervention:
    """The twin's activation, or what lies that share of the way to it."""
    return TWIN if weight == 1.0 else Intervention(op="resample", source="twin", dose=weight)


def _flips(scores: Scores, base: Scores) -> np.ndarray:
    """Whether the answer changes over between the two, 0 or 1 an example."""
    return ((scores.foil_margin > 0) != (base.foil_margin > 0)).astype(float)


def _flips_seen(scores: Scores, base: Scores) -> np.ndarray:
    """The same, not a number where a margin is none."""
    there = np.isfinite(scores.foil_margin) & np.isfinite(base.foil_margin)
    return np.where(there, _flips(scores, base), np.nan)


def _control_kind(components: ComponentSet) -> str:
    """What the control of a set is: a random vector is no distribution over tokens."""
    patterns = {c.part.endswith("pattern") for c in components}
    return ", ".join(OTHER_WEIGHTS if p else RANDOM_VECTOR for p in sorted(patterns))


def _effects(
    base: Scores,
    own: Sequence[Scores],
    controls: Sequence[Scores],
    gap: np.ndarray,
    wheres: Sequence[Where],
    kinds: Sequence[str],
    groups: Groups,
) -> list[Measurement]:
    """Every quantity of every patch beside its control, in the order of the patches."""

    def moved(scores: Sequence[Scores]) -> np.ndarray:
        return np.stack([s.foil_margin - base.foil_margin for s in scores])

    def ratios() -> list[list[Estimate]]:
        a, b = moved(own), moved(controls)
        return [recoveries(x, gap, groups) for x in (a, b, a - b)]

    def by(q: Quantity) -> Callable[[], list[list[Estimate]]]:
        def three() -> list[list[Estimate]]:
            a, b = (np.stack([q.of(s) for s in scores]) for scores in (own, controls))
            return [q.estimates(a, groups), q.estimates(b, groups), q.changes(a, b, groups)]

        return three

    flips = Quantity(FLIPPED.name, FLIPPED.unit, lambda s: _flips(s, base), FLIPPED.bounds, binary=True)
    kl = Quantity("kl", "nats from the unpatched run", lambda s: s.kl)
    plain = tuple(q for q in (flips, PROBABILITY, NLL, ACCURACY, kl) if q.name not in base.lacks)
    out: list[list[Measurement]] = [[] for _ in own]
    rows = [("recovered", "of the margin between clean and twin", ratios), *((q.name, q.unit, by(q)) for q in plain)]
    for name, unit, estimates in rows:
        for place, where, kind, mine, other, apart in zip(out, wheres, kinds, *estimates(), strict=True):
            place.append(measured(name, unit, mine, control=control_of(kind, other, apart), **where))
    return [m for place in out for m in place]
