"""What a unit means on several corpora: is it one thing? For neurons, channels, heads' and labels' directions and features of
sparse autoencoders.

A unit that looks like one concept on one corpus can look like another elsewhere (Bolukbasi et al. 2021). Corpora are tasks. On
each the examples on which the unit is most active are shown, and a concept is fitted: the few features of what stands at a
position (its token, the tokens before, their kinds, the position) that best predict the activation there. It is fitted on one half
of the examples and scored on the other half, and on the other corpora up to a scale and an offset. The concept changes between
two corpora where each has one of its own that the other's does not predict. Controls: the activations in another order, the best of
39 random directions, and the best of as many units of a model of random weights. Where a unit hardly varies on a corpus, that
corpus says nothing of what it means.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
from pydantic import Field

from experiments_db.records import Measurement, Outcome
from tools.methods.arguments import components
from tools.methods.concepts import Compared, Corpus, best_of, compare, concepts, corpus_of, inside
from tools.methods.layout import select_components
from tools.methods.measuring import average, control_of, differences, load_examples, measured, percent
from tools.methods.shading import Shown, shaded
from tools.methods.tables import text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.methods.unit_values import DRAWN, Read, Unit, beside, random_directions, unit_of, untrained, values
from tools.statistics import Groups
from tools.subjects import Subject
from tools.tasks import Example

KIND: Literal["experiment"] = "experiment"
EXAMPLE = {"tasks": ["addition", "copying"], "components": ["*.2.mlp.act[37]"], "examples": 64}
NEEDS = "units"
MOST_UNITS, MOST_CORPORA = 8, 8
SHARE = "share of the variance where it varies more"
SHUFFLED, BEST = "its activations in another order", f"the best of {DRAWN} random directions"
TWIN = f"the best of {DRAWN} in a model of random weights"
Rows = np.ndarray


class Args(ToolArgs):
    """Arguments of cross_dataset."""

    tasks: list[str] = Field(
        min_length=2, max_length=MOST_CORPORA, description="the corpora: task specs, the user's own among them"
    )
    components: list[str] = components(
        ["*.2.mlp.act[37]"], "a neuron or channel, a head, a whole part, or a feature as *.2.resid_post[sae:NAME/17]"
    )
    label: str = Field(
        default="",
        description="label=value of the first corpus' examples: heads and parts are read along the difference of its means; empty "
        "is along their first principal component",
    )
    shown: int = Field(
        default=3, ge=1, le=8, description="how many of the most active examples of each corpus are shown"
    )
    examples: int = Field(default=128, ge=16, le=1024, description="how many examples of each corpus")


def run(args: Args, ctx: Context) -> Outcome:
    """Each unit on each corpus, then each pair of corpora."""
    chosen = select_components(ctx.subject, args.components)
    if len(chosen) > MOST_UNITS:
        raise ToolInputError(f"components: {len(chosen)} units are too many for one call: name at most {MOST_UNITS}")
    names = list(dict.fromkeys(args.tasks))
    if len(names) < 2:
        raise ToolInputError("tasks: name at least two different corpora")
    examples = {name: load_examples(ctx, name, args.examples)[1] for name in names}
    everything = [e for name in names for e in load_examples(ctx, name, args.examples, split="explore")[1]]
    out: list[Measurement] = []
    shown: list[Shown] = []
    texts: list[str] = []
    for component in chosen:
        ctx.progress(str(component))
        unit = unit_of(ctx, component, everything, args.label)
        made, drawn, text = _unit(ctx, unit, examples, args.shown)
        out += made
        shown += drawn
        texts.append(text)
    head = f"units on {len(names)} corpora ({ctx.split}, at most {args.examples} examples each)\n"
    return Outcome(text=head + "\n".join(texts), measurements=tuple(out), arrays=shaded(shown))


def _unit(
    ctx: Context, unit: Unit, examples: Mapping[str, Sequence[Example]], count: int
) -> tuple[list[Measurement], list[Shown], str]:
    subject = ctx.subject
    how = beside(unit.read, random_directions(unit, ctx.seed))
    own = {name: _values(ctx, subject, unit, how, e) for name, e in examples.items()}
    stack = unit.component.stack
    corpora = {
        name: corpus_of(subject, name, stack, [len(v) for v in own[name]], [], e) for name, e in examples.items()
    }
    both = {n: inside(corpora[n], own[n]) for n in examples}
    wide = {n: v[:, :1] for n, v in both.items()}
    twin, read = untrained(subject, unit, ctx.seed)
    blind = {n: inside(corpora[n], _values(ctx, twin, unit, read, e)) for n, e in examples.items()}
    rng = np.random.default_rng(ctx.seed)
    shuffled = {n: rng.permuted(v, axis=0) for n, v in wide.items()}
    where = {"component": str(unit.component), "split": ctx.split}
    out: list[Measurement] = []
    said: list[str] = [f"{unit.component}{f', {unit.words}' if unit.words else ''}"]
    for name, corpus in corpora.items():
        beside_it = np.hstack([wide[name], shuffled[name]])
        mine = compare((corpus, corpus), (beside_it, beside_it)).first
        out += _corpus(corpus, wide[name], both[name][:, 1:], mine, {**where, "task": name})
        (concept,) = concepts(corpus, wide[name], fold=-2)
        told = ", ".join(f"{n} ({w:+.2g})" for n, w in zip(concept.names, concept.weights, strict=True)) or "nothing"
        explained = next(m for m in reversed(out) if m.name == "explained")
        if explained.low is None or explained.low <= 0:
            told = f"nothing that was tried explains it on held-out text (nearest: {told})"
        else:
            told = f"goes with {told}, {percent(explained)} of the variance on held-out text"
        said.append(f"  {name}: {told}")
    alive = {
        m.task for m in out if m.name == "variance" and m.control is not None and m.value > LEAST * m.control.value
    }
    rows: list[list[float]] = []
    pairs: list[str] = []
    for a, b in combinations(corpora, 2):
        pair = (corpora[a], corpora[b])
        found, other = compare(pair, (both[a], both[b])), compare(pair, (blind[a], blind[b]))
        made = _pair(found, other, {**where, "task": a, "variant": f"and {b}"})
        out += made
        of = {m.name: m for m in made}
        pairs.append(f"{a} and {b}: {verdict(of, alive=bool({a, b} & alive))}")
        rows.append([of[n].value for n in ("ratio", "own", "carried", "lost")])
    table = text_table(pairs, ["ratio", "own", "carried", "lost"], np.array(rows))
    shown = [
        Shown(str(unit.component), name, *top)
        for name, corpus in corpora.items()
        for top in _top(corpus, wide[name][:, 0], count)
    ]
    legend = (
        "own: what its own concepts explain; carried: what those of the other corpus do; lost: what these miss; ratio: the lesser "
        "variance over the larger. The first position of a sequence is left out."
    )
    return out, shown, "\n".join([*said, table, legend])


def _values(ctx: Context, subject: Subject, unit: Unit, read: Read, examples: Sequence[Example]) -> list[Rows]:
    return values(subject, examples, unit.within, read, ctx.max_tokens)


def _corpus(corpus: Corpus, own: Rows, drawn: Rows, found: Any, where: dict[str, Any]) -> list[Measurement]:
    """How much a unit varies on a corpus, beside random directions; and what its concept explains, beside shuffled activations."""
    groups = Groups.of(corpus.groups)
    mine, others = (corpus.mean((v - v.mean(0)) ** 2) for v in (own, drawn))
    base = others.mean(0)
    control = control_of(
        f"the mean of {DRAWN} random directions of length 1",
        average(base, groups),
        differences(mine[0], base, groups)[0],
    )
    out = [measured("variance", "squared activation", average(mine[0], groups), control=control, **where)]
    whose = Groups.of(found.groups)
    real, other = found.own
    control = control_of(SHUFFLED, average(other, whose), differences(real, other, whose)[0])
    out.append(measured("explained", "share of the variance", average(real, whose), control=control, **where))
    return out


def _pair(found: Compared, other: Compared, where: dict[str, Any]) -> list[Measurement]:
    """On two corpora, the mean of both: what a unit's own concepts explain, what is carried over, what is lost."""
    groups = Groups.of(found.groups)
    out: list[Measurement] = []
    for name in ("own", "carried", "lost"):
        mine, rows, blind = found.both(name)[0], found.both(name)[1:], other.both(name)
        best, twin = rows[int(rows.mean(1).argmax())], blind[best_of(other, name)]
        control = control_of(BEST, average(best, groups), differences(mine, best, groups)[0])
        out.append(measured(name, SHARE, average(mine, groups), control=control, **where))
        control = control_of(TWIN, average(twin, groups))
        out.append(
            measured(f"{name}.beyond_random_init", SHARE, differences(mine, twin, groups)[0], control=control, **where)
        )
    first, second = (s.spread[0].mean() for s in (found.first, found.second))
    less = found.first if first < second else found.second
    ratio = average(less.spread[0], Groups.of(less.groups))
    out.append(
        measured("ratio", "variance of the lesser over that of the larger", ratio, label=less.corpus.name, **where)
    )
    return out


QUIET, LEAST = 0.1, 0.1


def verdict(of: Mapping[str, Measurement], *, alive: bool) -> str:
    """What the intervals of a pair say: the concept changes, it is one, it is quiet on one of them, or none of these.

    alive: on one of the two it varies at least a tenth as much as random directions do.
    """
    if not alive:
        return "hardly varies on either"
    ratio, own, carried, lost = (of[n] for n in ("ratio", "own", "carried", "lost"))

    def clear(m: Measurement) -> bool:
        beyond = of[f"{m.name}.beyond_random_init"].low
        control = None if m.control is None else m.control.difference_low
        return min(-1.0 if x is None else x for x in (m.low, beyond, control)) > 0 and (m.low or 0.0) > LEAST

    if ratio.high is not None and ratio.high < QUIET:
        return f"quiet on {ratio.label}"
    if clear(lost) and lost.value > own.value / 2:
        return "CHANGES"
    if clear(carried) and carried.value > own.value / 2:
        return "one concept"
    return "open"


def _top(corpus: Corpus, values: Rows, count: int) -> list[tuple[tuple[str, ...], Rows]]:
    """Tokens and activations of the examples whose largest activation is largest, one a problem."""
    ends = np.cumsum(corpus.lengths)
    parts = [slice(e - n, e) for e, n in zip(ends, corpus.lengths, strict=True)]
    order = sorted(range(len(parts)), key=lambda i: -float(values[parts[i]].max()))
    return [(corpus.tokens[parts[i]], values[parts[i]]) for i in order[:count]]
