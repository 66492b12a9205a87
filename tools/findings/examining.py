"""Measure a statement on the examples at hand: every contrast that must hold, with its interval, control and p value.

The same code measures on explore examples, for a first look, and on confirm examples, once, to settle a finding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments_db.findings import Statement
from experiments_db.records import Control, Measurement, Outcome
from tools import statistics
from tools.findings.contrast import Contrast, p_absent, p_contradicted
from tools.findings.kind import Bench, Kind, kind_of, tenth_of_task
from tools.findings.sureness import features, probability
from tools.methods.measuring import average, measured, percent
from tools.methods.pairing import auto_twins
from tools.methods.scoring import microbatches
from tools.methods.tool import Context, ToolInputError
from tools.statistics import Groups
from tools.tasks import TaskError

WHOLE = "whole statement, by its largest p value (intersection-union test): p = "
EACH_QUANTITY = 4  # the first version of the engine whose texts name every quantity that can decide
CONFIRMED_WITH = 4  # findings in a first round: what the power that is said assumes


def bench_for(statement: Statement, ctx: Context) -> Bench:
    """The statement's examples on the context's split, or none where its kind makes its own; ToolInputError for too few."""
    try:
        kind, task = kind_of(statement.kind), ctx.tasks.get(statement.task)
        chosen = task.among(statement.among) if statement.among else task
        if kind.own:
            return Bench(ctx, statement, chosen, [])
        sample = chosen.sample(ctx.split, statement.examples, ctx.seed, ctx.draw)
    except TaskError as error:
        raise ToolInputError(str(error)) from None
    examples = list(sample.examples)
    if kind.foils:
        examples = [e for e in examples if e.foil is not None]
    if kind.twins:
        twins = auto_twins(ctx.subject, chosen, examples, ctx.seed)
        examples = [e for e in twins if e.twin is not None and e.foil is not None]
    groups, least = len({e.group for e in examples}), statistics.MINIMUM["proportion"]
    if groups < least:
        asks = "a twin of the same length and a foil" if kind.twins else "a foil, a wrong answer of its own"
        lacks = f". {statement.kind} takes examples with {asks}" if kind.twins or kind.foils else ""
        raise ToolInputError(
            f"task {statement.task!r} has {groups} independent problems that {statement.kind} can be tested on: at least {least} "
            f"are needed, and more to show anything{lacks}"
        )
    return Bench(ctx, statement, chosen, examples)


def examine(statement: Statement, ctx: Context) -> Outcome:
    """All that must hold for the statement, as measurements; on explore examples also the chance to confirm it."""
    kind = kind_of(statement.kind)
    statement = kind.complete(statement)
    bench = bench_for(statement, ctx)
    if ctx.lifted:
        bench = without_capability(bench)
        statement = bench.statement
    elif kind.capable and bench.gap <= 0:
        raise ToolInputError(
            f"the intact model does not do {statement.task} better than chance on these {len(bench.examples)} examples, so nothing "
            "can be needed for it: examine kind cannot"
        )
    _check_smallest(kind, statement, bench)
    contrasts = list(kind.measure(statement, bench))
    where = {"task": bench.task.name, "split": ctx.split, "among": statement.among or None}
    first = _smallest(kind, bench, contrasts, where) if kind.own else _intact(kind, bench, contrasts, where)
    rows = [*first, *(m for c in contrasts for m in _rows(c, contrasts, where))]
    rows += _decisions(contrasts, bench, where)
    if ctx.split == "explore":
        rows += _prospects(contrasts, bench, where)
    return Outcome(text=_text(statement, contrasts, rows, bench), measurements=tuple(rows))


def without_capability(bench: Bench) -> Bench:
    """The bench with a quantity that exists where the model cannot do the task: at chance there is no accuracy to lose.

    For accuracy the margin between answer and foil, or where examples have none the answer's nll; with fewer problems than a
    test of either needs, its probability.
    """
    if bench.statement.objective != "accuracy":
        return bench
    enough = len(set(bench.groups)) >= statistics.MINIMUM["mean"]
    foils = all(e.foil is not None for b in microbatches(bench.ctx.subject, bench.examples) for e in b.encoded)
    objective = "probability" if not enough else "margin" if foils else "nll"
    return replace(bench, statement=bench.statement.model_copy(update={"objective": objective}))


def _check_smallest(kind: Kind, statement: Statement, bench: Bench) -> None:
    """A smallest effect may be made stricter, never laxer, and both outcomes have to be possible."""
    if statement.smallest is None or bench.ctx.split != "explore":
        return
    standard = bench.standard
    laxer = statement.smallest > standard if kind.stays else statement.smallest < standard
    if statement.smallest <= 0 or laxer:
        way = "at most" if kind.stays else "at least"
        raise ToolInputError(
            f"smallest: {statement.smallest:g} would make {statement.kind} easier to come true; it may be {way} {standard:.3g}, or "
            "left out"
        )
    bounds = (0.0, 1.0) if kind.unit else bench.objective.bounds
    if not kind.stays and bounds is not None and statement.smallest >= bounds[1]:
        raise ToolInputError(
            f"smallest: no effect ({kind.unit or statement.objective}) can be larger than {bounds[1]:g}, so it cannot come true"
        )


def _smallest(kind: Kind, bench: Bench, contrasts: Sequence[Contrast], where: Mapping[str, Any]) -> list[Measurement]:
    return [
        Measurement(
            name="smallest",
            unit=_unit(kind, bench),
            value=bench.smallest,
            **_count(contrasts, bench),
            **where,
        )
    ]


def _unit(kind: Kind, bench: Bench) -> str:
    """The unit of the smallest effect: shares of examples are of those that are right, where answers are right or wrong."""
    about_right = kind.least is tenth_of_task and not bench.right_or_wrong
    return bench.objective.unit if about_right else kind.unit or bench.objective.unit


def _count(contrasts: Sequence[Contrast], bench: Bench) -> dict[str, int]:
    """Examples and independent groups behind the whole: the bench's, or those that its kind made."""
    groups = bench.groups or contrasts[0].groups
    return {"n": len(groups), "groups": len(set(groups))}


def _intact(kind: Kind, bench: Bench, contrasts: Sequence[Contrast], where: Mapping[str, Any]) -> list[Measurement]:
    n, groups = len(bench.examples), len(set(bench.groups))
    if not bench.right_or_wrong:
        o = bench.objective
        of = average(o.of(bench.intact) * o.sign, Groups.of(bench.groups))
        guess = Measurement(name="chance", unit=o.unit, value=o.sign * bench.guessed(), n=n, groups=groups, **where)
        first = measured(o.name, o.unit, of, program="intact", **where)
        return [first, guess, *_smallest(kind, bench, contrasts, where)]
    accuracy = statistics.proportion(bench.intact.correct, bench.groups)
    return [
        Measurement(
            name="accuracy", unit="share of examples", value=accuracy.value, low=accuracy.low, high=accuracy.high, n=n,
            groups=groups, program="intact", **where,
        ),
        Measurement(name="chance", unit="share of examples", value=bench.chance, n=n, groups=groups, **where),
        *_smallest(kind, bench, contrasts, where),
    ]  # fmt: skip


def _rows(c: Contrast, contrasts: Sequence[Contrast], where: Mapping[str, Any]) -> list[Measurement]:
    """The estimates of one contrast and its p value."""
    place = {**where, "component": c.component or None, "intervention": c.intervention or None}
    named: Mapping[str, Any] = {**place, "variant": None if c.role == "effect" else f"against {c.control}"}
    n, groups = len(c.groups), len(set(c.groups))
    out: list[Measurement] = []
    for i, q in enumerate(c.quantities):
        e = c.estimate(i)
        value = float(q.values.mean()) if e is None else e.value
        low, high = (None, None) if e is None else (_finite(e.low), _finite(e.high))
        name = "effect" if c.role == "effect" else f"beyond_control.{q.name}"
        control = _control(c, value, contrasts) if c.role == "effect" else None
        out.append(
            Measurement(
                name=name, unit=q.unit, value=value, low=low, high=high, n=n, groups=groups, control=control, **named
            )
        )
    out.append(Measurement(name="p", unit="p value", value=c.p(), n=n, groups=groups, **named))
    return out


def _control(c: Contrast, value: float, contrasts: Sequence[Contrast]) -> Control | None:
    """The effect that the control has at the same place, from the difference between the two."""
    mine = [
        k for k in contrasts if k.role == "control" and (k.component, k.intervention) == (c.component, c.intervention)
    ]
    for k in mine:
        for i, q in enumerate(k.quantities):
            if q.name == c.quantities[0].name:
                e, beyond = k.estimate(i), float(q.values.mean())
                low, high = (None, None) if e is None else (_finite(e.low), _finite(e.high))
                if c.must == "below":  # what is small here is what the control loses more of: own minus control is less
                    beyond, low, high = -beyond, None if high is None else -high, None if low is None else -low
                return Control(
                    kind=k.control, value=value - beyond, n=len(k.groups), difference=beyond, difference_low=low,
                    difference_high=high,
                )  # fmt: skip
    return None


def _finite(x: float) -> float | None:
    return x if abs(x) < float("inf") else None


def _decisions(contrasts: Sequence[Contrast], bench: Bench, where: Mapping[str, Any]) -> list[Measurement]:
    """P values of the ways in which the whole statement can turn out not to be so."""
    values = {
        "p_contradicted": p_contradicted(contrasts),
        "p_absent": p_absent(contrasts),
    }
    return [
        Measurement(name=k, unit="p value", value=v, **_count(contrasts, bench), **where) for k, v in values.items()
    ]


def _prospects(contrasts: Sequence[Contrast], bench: Bench, where: Mapping[str, Any]) -> list[Measurement]:
    """Chance that unseen examples confirm it if what is seen here is true, and the calibrated probability."""
    seen = features(contrasts, statistics.share(1) / CONFIRMED_WITH)
    values = {"power": seen.power, "probability": probability(seen)}
    return [
        Measurement(name=k, unit="probability", value=v, **_count(contrasts, bench), **where) for k, v in values.items()
    ]


def _text(s: Statement, contrasts: Sequence[Contrast], rows: Sequence[Measurement], bench: Bench) -> str:
    """What was found, one line a contrast, effect and control side by side."""
    first = {m.name: m for m in rows[:3]}
    smallest, intact = first["smallest"], ""
    if "chance" in first:
        m = rows[0]
        said = percent(m) if m.name == "accuracy" else f"{m.value:.3g} {m.unit}"
        intact = f"intact {m.name} {said}, chance {first['chance'].value:.2f}; "
    about = f"on {s.task}{f' among {s.among}' if s.among else ''}" if bench.examples else "on sequences of its own"
    lines = [
        f"{s.kind} {about} ({smallest.split}, n={smallest.n}, {smallest.groups} independent groups): {intact}smallest effect that "
        f"counts {smallest.value:.3g} ({smallest.unit})"
    ]
    for c in contrasts:
        must = {"exceed": ">", "stay": "within", "below": "<"}[c.must]
        lines.append(f"  {c.words}: {_shown(c, bench)} {must} {c.bound:.3g}: p = {c.p():.2g}")
    named = {m.name: m.value for m in rows if m.component is None and m.variant is None}
    holds = max(c.p() for c in contrasts)
    lines.append(f"{WHOLE}{holds:.2g}")
    if "power" in named:
        lines.append(
            f"power on as many unseen examples {named['power']:.2f}, calibrated probability to be confirmed "
            f"{named['probability']:.2f}"
        )
    return "\n".join(lines)


def _shown(c: Contrast, bench: Bench) -> str:
    """The mean of a contrast with its interval; where any of several quantities decides, of each of them."""
    told: list[str] = []
    for i, q in enumerate(c.quantities):
        e = c.estimate(i)
        told.append(f"{q.values.mean():.3f}" if e is None else f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]")
    if len(told) == 1 or bench.ctx.subject.engine < EACH_QUANTITY:
        return f"{told[0]}, has to be"
    named = ", ".join(f"{q.name} {text}" for q, text in zip(c.quantities, told, strict=True))
    return f"{named}, one of which has to be (its p times {len(told)})"
