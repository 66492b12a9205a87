"""Measure exactly what a finding would say, on explore examples: its effects with intervals, its controls, and what the same
on unseen examples would make of it.

This is how a finding begins: examine, then predict from it, then confirm. What is confirmed is what was examined: the very
components, interventions, task, direction and smallest effect. Kinds of finding are listed by list_kinds.
"""

from typing import Literal

from pydantic import Field

from experiments_db.places import ComponentSet
from experiments_db.records import Outcome
from tools.findings.examining import examine
from tools.findings.kind import kind_of
from tools.findings.sealing import statement_of
from tools.methods.arguments import EXAMPLES_TO_TEST
from tools.methods.effects import Condition
from tools.methods.forecasting import Work
from tools.methods.measuring import load_examples
from tools.methods.tool import Context, ToolArgs

KIND: Literal["experiment"] = "experiment"
EXAMPLE = {"kind": "necessary", "task": "addition", "components": ["*.0.mlp.out@answer"]}


class Args(ToolArgs):
    """Arguments of examine."""

    kind: str = Field(description="a kind that list_kinds names, such as necessary")
    task: str = Field(description="a task spec; see list_tasks")
    among: str = Field(default="", description="only examples of this class, for example carry=1")
    components: list[str] = Field(
        default=[],
        description="the components it is about, for example ['*.0.attn.z[0,3]@answer']; together one set",
    )
    path: str = Field(default="", description="for kinds about a route: sender -> receiver")
    universe: list[str] = Field(default=[], description="for sufficient: all components among which the set is enough")
    interventions: list[str] = Field(
        default=[],
        description="what is done to them, all must hold: resample(donor), zero, mean; empty: as the kind asks",
    )
    objective: str = Field(default="accuracy", description="accuracy, probability, margin (to the foil) or nll")
    other_task: str = Field(default="", description="for differs, similar, mixed, one_concept, quiet: the other task")
    other_among: str = Field(default="", description="for differs: the class to compare with")
    label: str = Field(default="", description="for decodable: a label, or a family such as side.*")
    program: str = Field(default="", description="for tolerates: the program, for example skip 3")
    smallest: float | None = Field(
        default=None, description="a stricter smallest effect than a tenth of what there is to lose"
    )
    examples: int = EXAMPLES_TO_TEST


def work(args: Args, ctx: Context) -> list[Work]:
    """What is done to the components, each by itself or all at once, and its controls."""
    statement = statement_of(ctx, args.model_dump())
    kind = kind_of(statement.kind)
    if kind.own or not set(kind.needs) <= {"components"}:
        return []
    task, examples = load_examples(ctx, args.task, args.examples, args.among)
    if not statement.components:
        return [Work(task, examples)]
    made = kind.complete(statement)
    sets = [ComponentSet.of(c) for c in made.members] if kind.each else [ComponentSet.parse(made.components)]
    conditions = [Condition.of(s, how, control=c) for c in (0, 1) for how in made.done for s in sets]
    return [Work(task, examples, conditions)]


def run(args: Args, ctx: Context) -> Outcome:
    """Measure it."""
    return examine(statement_of(ctx, args.model_dump()), ctx)
