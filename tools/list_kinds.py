"""The kinds of finding that can be examined, predicted and confirmed, and what each takes."""

from typing import Literal

from experiments_db.records import Outcome
from tools.findings.kind import kinds
from tools.methods.tool import Context, ToolArgs

KIND: Literal["notebook"] = "notebook"
EXAMPLE: dict[str, object] = {}


class Args(ToolArgs):
    """No arguments."""


def run(args: Args, ctx: Context) -> Outcome:
    """One line a kind."""
    del args
    name = ctx.subject.readout
    lines = [
        f"{k.name}({', '.join(('task', *k.needs, *(f'{a}?' for a in k.allows)))}): {k.says}"
        + (f"; tested under {' and '.join(k.interventions)}" if k.interventions else "")
        for k in kinds().values()
        if k.name != "own" or ctx.sandbox is not None
    ]
    lines += [
        f"Components: {name}.0.attn.z[0,3]@answer; where a head looks (attends, moves): {name}.0.attn.pattern[0]@answer<-operand1",
        f"A path: {name}.0.attn.z[1]@answer -> {name}.2.mlp.out@answer. Interventions: resample(donor), zero, mean",
    ]
    return Outcome(text="\n".join(lines))
