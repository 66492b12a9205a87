"""A unit goes with one thing in one corpus and with another in a second: its concept changes (Bolukbasi et al. 2021).

On each corpus the few features of what stands at a position that best predict the unit are fitted on explore examples. What they
predict of the corpus' other examples, and the other corpus' features, scaled anew, do not, is lost: more than half of it, on each
corpus, and more than for the best of 39 random directions and of as many units of a model of random weights. What only one corpus
has cannot be carried over, so that features which both have may take its place. See `cross_dataset`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments_db.findings import Statement
from experiments_db.places import PARTS
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind, Nulls, tenth_of_examples
from tools.findings.phrases import is_or_are, place
from tools.methods.concepts import Compared, best_of, compare, corpus_of, inside
from tools.methods.tool import ToolInputError
from tools.methods.unit_values import DRAWN, Read, beside, random_directions, unit_of, untrained, values
from tools.subjects import Subject
from tools.tasks import TaskError

UNIT = "share of the variance where it varies more"
BEST = f"the best of {DRAWN} random directions"
BLIND = f"the best of {DRAWN} in a model of random weights"
HALF = 0.5


@dataclass(frozen=True)
class Meanings:
    """A statement's unit on its two corpora, beside random directions and beside what is read in a model of random weights."""

    own: Compared
    random: Compared
    blind: Compared


def one_unit(s: Statement) -> None:
    """ToolInputError unless a statement is about one unit and two corpora."""
    (c, *more) = s.members or (None,)
    if c is None or more or c.anchor or PARTS[c.part].is_pattern:
        raise ToolInputError(
            f"{s.kind} is about one unit wherever it stands, as STACK.2.mlp.act[37] or STACK.3.attn.z[2], not {s.components}"
        )
    if s.other_task == s.task:
        raise ToolInputError(f"{s.kind} is between two corpora: name another task as other_task")


def meanings(s: Statement, bench: Bench, *, fit: bool = True) -> Meanings:
    """Concepts fitted on explore examples, in halves where these are what they are scored on, and scored on the bench's.

    fit: without it variances alone are told.
    """
    ctx, (c,) = bench.ctx, s.members
    try:
        other = ctx.tasks.get(s.other_task)
        tried = [list(bench.examples), other.examples(ctx.split, s.examples, ctx.seed, ctx.draw)]
        known = [t.examples("explore", s.examples, ctx.seed) for t in (bench.task, other)]
    except TaskError as error:
        raise ToolInputError(str(error)) from None
    unit = unit_of(ctx, c, [*known[0], *known[1]], s.label)
    seen = known if ctx.split == "confirm" else [[], []]

    def read(subject: Subject, how: Read) -> list[list[np.ndarray]]:
        return [values(subject, [*a, *b], unit.within, how, ctx.max_tokens) for a, b in zip(seen, tried, strict=True)]

    own = read(ctx.subject, beside(unit.read, random_directions(unit, ctx.seed)))
    first, second = (
        corpus_of(ctx.subject, name, c.stack, [len(x) for x in found], a, b)
        for name, found, a, b in zip((s.task, s.other_task), own, seen, tried, strict=True)
    )

    def compared(found: list[list[np.ndarray]]) -> Compared:
        return compare((first, second), (inside(first, found[0]), inside(second, found[1])), fit=fit)

    twin, how = untrained(ctx.subject, unit, ctx.seed)
    mine = compared(own)
    return Meanings(mine.of(slice(0, 1)), mine.of(slice(1, None)), compared(read(twin, how)))


def must_exceed(s: Statement, bench: Bench, what: str) -> list[Contrast]:
    """A quantity of both corpora: there, on each by itself, more than half of what the own concepts explain, and above the best
    random direction and the best unit of a model of random weights.
    """
    found = meanings(s, bench)
    groups, mine = found.own.groups, found.own.both(what)[0]
    out = [bench.effect(Quantity(what, UNIT, mine), bench.smallest, groups, component=s.components)]
    for control, other in ((BEST, found.random), (BLIND, found.blind)):
        beyond = Quantity(what, UNIT, mine - other.both(what)[best_of(other, what)])
        out.append(bench.beyond((beyond,), control, 0.0, groups, component=s.components))
    for side in (found.own.first, found.own.second):
        # Less what has to be there, so that where a unit means nothing, this is not shown, and is no proof that it is not so.
        here = Quantity(f"{what} there", UNIT, getattr(side, what)[0] - bench.smallest)
        alone = f"the smallest effect that counts, on {side.corpus.name} by itself"
        out.append(bench.beyond((here,), alone, 0.0, side.groups, component=s.components))
    most = Quantity(f"{what} of its own", UNIT, mine - HALF * found.own.both("own")[0])
    out.append(bench.beyond((most,), "half of what its own concepts explain", 0.0, groups, component=s.components))
    return out


def along(s: Statement) -> str:
    """', read along the direction of a label,' where it is."""
    return f", read along the direction of {s.label}," if s.label else ""


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    return must_exceed(s, bench, "lost")


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    return (
        f"{place(s, roles)}{along(s)} {is_or_are(s)} not one thing in {s.task} and in {s.other_task}: of its variance, {{effect}} "
        "go with what stands there in either and not with what predicts it in the other{control}."
    )


KIND = Kind(
    "mixed", "a unit's concept changes from task to other_task: what predicts it on the one does not on the other", _measure,
    _sentence, needs=("components", "other_task"), allows=("label",), check=one_unit, capable=False, least=tenth_of_examples,
    unit=UNIT, locates=False,
    nulls=Nulls({"shuffled_answers": "it is about activations on the examples, whatever the answer"}),
)  # fmt: skip
