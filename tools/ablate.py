"""Remove what parts of the model write, heads, attention, MLPs or whole blocks, at the positions that predict the answer or
anywhere else, and score the task: necessity.

State the intervention with every finding. `zero` takes the model off its distribution and can break what the component
has nothing to do with; `resample(donor)` puts in the activation from another example; `mean` the average activation. A component
that matters under zero but not under resample(donor) carries no information about the example. Every effect comes with its
control: a random vector of the same norm at the same site.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from experiments_db.places import ComponentSet
from experiments_db.records import Outcome
from tools.findings.kind import SMALLEST
from tools.methods.arguments import (
    AMONG,
    DEPTH,
    EXAMPLES,
    INTERVENTION,
    AblationMode,
    InterventionName,
    check_size,
    components,
    intervention_of,
)
from tools.methods.deciding import USUAL_SHARE, decide, decision_measurements, decisions_text
from tools.methods.effects import RANDOM_VECTOR, Condition, score_under, sets_of, with_donors
from tools.methods.forecasting import Work
from tools.methods.layout import chosen_components
from tools.methods.measuring import Where, effect_measurements, groups_of, load_examples, score_measurements, where_of
from tools.methods.saying import beside, examples_of
from tools.methods.tables import component_array, place_text
from tools.methods.tool import Context, ToolArgs
from tools.ports import port_of
from tools.tasks import Example, Task

KIND: Literal["experiment"] = "experiment"
LOCALISES = True
EXAMPLE = {"task": "addition", "components": ["*.1-2.mlp.out@answer"], "intervention": "resample(donor)"}


class Args(ToolArgs):
    """Arguments of ablate."""

    task: str = Field(description="a task spec; see list_tasks")
    components: list[str] = components(["attn.out@answer", "mlp.out@answer"], "what is removed")
    intervention: InterventionName = INTERVENTION
    mode: AblationMode = Field(
        default="each",
        description="each: one component at a time; together: all at once; cumulative: the first, then the first two, and "
        "so on, in the order given; decide: each on no more examples than show whether it matters, to explore",
    )
    depth: int = DEPTH
    among: str = AMONG
    examples: int = EXAMPLES


def work(args: Args, ctx: Context) -> list[Work]:
    """Each set, and its control."""
    task, examples = load_examples(ctx, args.task, args.examples, args.among)
    sets = sets_of(chosen_components(ctx.subject, args.components, examples, args.depth), args.mode)
    conditions = [Condition.of(s, intervention_of(args.intervention), control=c) for c in (0, 1) for s in sets]
    return [Work(task, examples, conditions, USUAL_SHARE if args.mode == "decide" else 1.0)]


def run(args: Args, ctx: Context) -> Outcome:
    """Score the task with each set of components removed, and with its control."""
    task, examples = load_examples(ctx, args.task, args.examples, args.among)
    found = chosen_components(ctx.subject, args.components, examples, args.depth)
    sets = sets_of(found, args.mode)
    check_size(len(sets), "conditions")
    how = intervention_of(args.intervention)
    kept, left_out = with_donors(ctx, examples, found, how)
    if args.mode == "decide":
        return _decided(args, ctx, task, kept, sets, left_out)
    groups = groups_of(kept)
    conditions = [Condition.of(s, how, control=c) for c in (0, 1) for s in sets]
    intact, *scores = score_under(ctx, task, kept, conditions)
    own, controls = scores[: len(sets)], scores[len(sets) :]
    base = where_of(ctx, task, args.among)
    wheres = [{**base, "component": str(s), "intervention": str(how)} for s in sets]
    measurements = score_measurements(intact, groups, program="intact", **base)
    measurements += effect_measurements(intact, own, wheres, groups, controls, RANDOM_VECTOR)
    judged = port_of(ctx.subject).first
    first = next((m for m in measurements if m.name == judged), measurements[0])
    shown = ["accuracy", "nll.delta"] if first.name == "accuracy" else [first.name, f"{first.name}.delta"]
    text = (
        f"{how} of each of these, {args.mode}, on {examples_of(task, args.among)} "
        f"({ctx.split}, n={len(kept)}){beside(measurements)}, intact {first.name} "
        f"{first.value:.2f}\n" + place_text(measurements, shown)
    )
    return Outcome(
        text=text + left_out,
        measurements=tuple(measurements),
        arrays=tuple(component_array(measurements, name) for name in shown),
    )


def _decided(
    args: Args, ctx: Context, task: Task, examples: Sequence[Example], sets: Sequence[ComponentSet], left_out: str
) -> Outcome:
    """Which of the sets change what the model is judged by, by a tenth of what there is to get beyond chance."""
    port = port_of(ctx.subject)
    judged, how = port.objectives[port.first], intervention_of(args.intervention)
    guessed = port.guess(judged, task, examples)
    smallest = SMALLEST * (1 - guessed if judged.name == "accuracy" else abs(guessed))
    own, controls = ([Condition.of(s, how, control=c) for s in sets] for c in (0, 1))
    found = decide(ctx, task, examples, own, judged, smallest, controls)
    base = where_of(ctx, task, args.among)
    wheres: list[Where] = [{**base, "component": str(s), "intervention": str(how)} for s in sets]
    measurements = decision_measurements(found, judged, wheres, base, [RANDOM_VECTOR] * len(sets))
    shown = [judged.name, f"{judged.name}.delta"]
    text = (
        f"{how} of each of these on {examples_of(task, args.among)} ({ctx.split}, sequential: each until its interval, which "
        f"holds at every look, says whether {judged.name} changes by more than {smallest:.3f}; at most {len(examples)} examples)"
        f"{beside(measurements)}\n{decisions_text(found, wheres)}"
    )
    return Outcome(
        text=text + left_out,
        measurements=tuple(measurements),
        arrays=tuple(component_array(measurements, name) for name in shown),
    )
