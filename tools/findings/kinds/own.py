"""What a planner's own code shows, beyond random weights and beyond shuffled answers or labels.

program: the code's address (code:1f0c...). Without a label the code gives edits, and what it shows is how far the objective falls
under them: by more than under random vectors of the same norms, than the same code on models with random weights brings about
there, and than where answers are other problems'. With a label it gives features or values, and what it shows is that a linear
probe reads the label from them on examples that it was not fitted on: more often than naming the most frequent value, than one
fitted on shuffled labels, and than on models with random weights. The code is never told which model it is given.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind, Nulls, mean_of, tenth_of_examples, tenth_of_gap
from tools.findings.kinds.decodable import predicted
from tools.findings.null_twins import null_twin, shuffled_answers
from tools.findings.phrases import capital, on_task
from tools.methods.effects import RANDOM_VECTOR, score_under
from tools.methods.own import PREFIX, ask, code_of, labels_for, listed, on, under
from tools.methods.tool import ToolInputError
from tools.ports import Scores
from tools.sandbox import Returned
from tools.subjects import Subject

TWINS = 3  # models with random weights


def _check(s: Statement) -> None:
    if not s.program.startswith(PREFIX):
        raise ToolInputError(
            f"own is about code that has been run: program is its address, {PREFIX}..., which experiment says"
        )


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    code = code_of(bench.ctx, s.program)
    twins = [null_twin(bench.ctx.subject, seed=bench.ctx.seed + i) for i in range(TWINS)]
    wants = _asked(s, bench, code, bench.ctx.subject)
    others = [_asked(s, bench, code, twin) for twin in twins]
    return (
        _edits(bench, wants, list(zip(twins, others, strict=True))) if not s.label else _read(s, bench, wants, others)
    )


def _asked(s: Statement, bench: Bench, code: str, subject: Subject) -> Returned:
    found = ask(bench.ctx, subject, code, listed(s.set), bench.examples, bench.seen)
    if bool(found.edits) == bool(s.label):
        raise ToolInputError(
            "label: own takes one where the code gives features or values, and none where it gives edits"
        )
    return found


def _edits(bench: Bench, mine: Returned, twins: Sequence[tuple[Subject, Returned]]) -> list[Contrast]:
    if bench.gap <= 0:
        raise ToolInputError(
            f"the intact model does not do {bench.statement.task} better than chance: no edit can show anything"
        )
    ctx, task, examples = bench.ctx, bench.task, bench.examples
    own, noise, directions = under(ctx, ctx.subject, mine.edits, examples)
    edited, random = bench.scores([own, noise], directions)
    shuffled = shuffled_answers(examples, ctx.seed)
    fall = bench.difference(bench.intact, edited)
    drawn = list[np.ndarray]()
    for twin, found in twins:
        there, _, vectors = under(ctx, twin, found.edits, examples)
        drawn.append(_fall(bench, *score_under(on(ctx, twin), task, examples, [there], directions=vectors)))
    elsewhere = _fall(bench, *score_under(ctx, task, shuffled, [own], directions=directions))
    apart = partial(_apart, bench, fall.values)
    return [
        bench.effect(fall, bench.smallest),
        bench.beyond(bench.tell_apart(random, edited), f"a {RANDOM_VECTOR}"),
        bench.beyond((apart(mean_of(drawn)),), f"the mean of {TWINS} models with random weights", bench.smallest),
        bench.beyond((apart(elsewhere),), "shuffled answers", bench.smallest),
    ]


def _fall(bench: Bench, intact: Scores, edited: Scores) -> np.ndarray:
    return bench.difference(intact, edited).values


def _apart(bench: Bench, fall: np.ndarray, other: np.ndarray) -> Quantity:
    """How much further the objective falls than elsewhere; not under the objective's name, which random vectors go by."""
    bounds = bench.objective.difference_bounds
    twice = None if bounds is None else (2 * bounds[0], 2 * bounds[1])
    return Quantity(f"fall of {bench.objective.name}", bench.objective.unit, fall - other, twice)


def _read(s: Statement, bench: Bench, mine: Returned, twins: Sequence[Returned]) -> list[Contrast]:
    seen, tried = bench.seen, bench.examples
    y, truth = (labels_for(bench.ctx, bench.task, e, s.label) for e in (seen, tried))
    if len(set(y)) < 2:
        raise ToolInputError(f"label: {s.label} has one value only in these examples, {y[0]!r}")
    train = [e.group for e in seen]

    def is_right(found: Returned, labels: np.ndarray) -> np.ndarray:
        assert found.rows is not None
        assert found.fitting is not None
        return (predicted(found.fitting, labels, train, found.rows, bench.groups) == truth).astype(float)

    own, chance = is_right(mine, y), is_right(mine, np.random.default_rng(bench.ctx.seed).permutation(y))
    values, counts = np.unique(y, return_counts=True)
    most = (truth == values[counts.argmax()]).astype(float)
    random = mean_of([is_right(t, y) for t in twins])
    controls = {
        "shuffled labels": chance,
        f"the mean of {TWINS} models with random weights": random,
        "naming the most frequent value": most,
    }
    return [
        bench.effect(Quantity("accuracy", "share of examples", own, (0.0, 1.0)), bench.smallest),
        *(
            bench.beyond((Quantity("accuracy", "share of examples", own - base, (-1.0, 1.0)),), name, bench.smallest)
            for name, base in controls.items()
        ),
    ]


def _least(bench: Bench) -> float:
    return tenth_of_examples(bench) if bench.statement.label else tenth_of_gap(bench)


def _sentence(s: Statement, _: Mapping[str, str] | None) -> str:
    if not s.label:
        return (
            f"Under the edits of the planner's own experiment {s.program} {{falls}} by {{effect}} {on_task(s)}{{control}}, beyond "
            "the same code on random-init twins and shuffled answers."
        )
    return (
        f"{capital(s.label)} can be read from what the planner's own experiment {s.program} computes {on_task(s)}: a linear probe "
        "is right for {effect} of unseen examples{control}, beyond the same code on random-init twins."
    )


KIND = Kind(
    "own", "what an experiment's own code shows, beyond random weights and shuffled answers or labels: edits that lower the "
    "objective, or features from which a probe reads the label", _measure, _sentence, needs=("program",),
    allows=("components", "label"), capable=False, check=_check, least=_least, locates=False,
    nulls=Nulls.none("its own test holds it against random weights and shuffled answers or labels"),
)  # fmt: skip
