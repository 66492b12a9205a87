"""The model bears its layers run otherwise: under a layer program the objective falls by less than the smallest effect.

That says something about these layers only where the same operation elsewhere, on as many, costs more.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from experiments_db.findings import Statement
from tools.engine.programs import OPERATIONS, LayerProgram, ProgramError, parse
from tools.findings.contrast import Contrast
from tools.findings.kind import Bench, Kind, Nulls
from tools.findings.phrases import on_task
from tools.methods.effects import Condition
from tools.methods.tool import ToolInputError

DRAWS = 5


def parsed(s: Statement, bench: Bench) -> tuple[str, str, LayerProgram, str]:
    """(stack, operation, program, what was done as text) of a statement. ToolInputError for what changes nothing."""
    subject = bench.ctx.subject
    stack, text = subject.program_of(s.program)
    try:
        operation, program = parse(text, len(subject.spec(stack).blocks))
    except ProgramError as error:
        raise ToolInputError(f"program: {error}") from None
    if program.is_identity:
        raise ToolInputError(f"program: {s.program!r} leaves the model as it is")
    label = program.label if stack == subject.readout else f"{stack}: {program.label}"
    return stack, operation, program, f"program({label})"


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    stack, operation, program, how = parsed(s, bench)
    n = len(bench.ctx.subject.spec(stack).blocks)
    elsewhere = _elsewhere(operation, program, n, bench.ctx.seed)
    mine, *others = bench.scores([Condition(programs=((stack, p.blocks),)) for p in (program, *elsewhere)])
    lost = bench.difference(bench.intact, mine)
    out = [Contrast("effect", "below", bench.smallest, (lost,), bench.groups, how)]
    if others:
        beyond = tuple(bench.apart(n, mine, others) for n in dict.fromkeys((s.objective, *bench.usual)))
        out.append(
            bench.beyond(beyond, f"{operation} of as many blocks elsewhere ({len(others)} drawn)", intervention=how)
        )
    return out


def _elsewhere(operation: str, program: LayerProgram, n: int, seed: int) -> list[LayerProgram]:
    """Other programs of one operation on as many blocks, at most DRAWS; none where the operation is about all of them."""
    intact = tuple(range(n))
    if operation in ("skip", "keep"):
        size = len(program.blocks) if operation == "keep" else n - len(program.blocks)
        made = [OPERATIONS[operation](blocks, n) for blocks in combinations(intact, size)]
    elif operation == "repeat":
        counts = [program.blocks.count(b) for b in intact]
        again, times = [b for b in intact if counts[b] > 1], max(counts)
        made = [
            LayerProgram(tuple(b for b in intact for _ in range(times if b in blocks else 1)), n, "repeat")
            for blocks in combinations(intact, len(again))
        ]
    elif operation in ("swap", "reverse"):
        moved = [i for i, b in enumerate(program.blocks) if b != i]
        apart = max(moved) - min(moved)
        made = [OPERATIONS[operation]([b, b + apart], n) for b in range(n - apart)]
    else:
        made = []
    others = [p for p in made if p.blocks != program.blocks]
    order = np.random.default_rng([seed, n, len(others)]).permutation(len(others))[:DRAWS]
    return [others[i] for i in sorted(order)]


def _sentence(s: Statement, _: Mapping[str, str] | None) -> str:
    return f"The model bears {s.program} {on_task(s)}: {{falls}} by {{effect}}, less than {{smallest}}{{control}}."


KIND = Kind(
    "tolerates", "under the layer program (skip 3, swap 1 2, repeat 4) the objective falls by less than the smallest effect",
    _measure, _sentence, needs=("program",), stays=True, locates=False,
    nulls=Nulls.none("there nothing can be lost, so that it is true"),
)  # fmt: skip
