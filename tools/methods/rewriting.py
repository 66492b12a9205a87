"""Change what a probe reads, at a place and at each later one, and score the answers that would then be right.

An example's counterfactual says which answers would be right if a label had another value. Whether the model uses what the
probe reads shows in whether its answers become those. `add` moves a state along the linear probe's own direction from one class
to the other until it reads the other as clearly as in a perfect reading; `optimise` descends on the state until the probe reads
the new value and all other labels as before (Li et al. 2023, Emergent World Representations; Nanda et al. 2023).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from experiments_db.places import Component, ComponentSet, Intervention
from experiments_db.records import tagged_hash
from tools.engine.sites import Edit
from tools.methods.anchors import positions
from tools.methods.batched_probes import Fitted, Labels, Model, fit, forward
from tools.methods.effects import Condition, score_under, sites_of
from tools.methods.features import collect, labels_named, labels_of
from tools.methods.interventions import select
from tools.methods.scoring import microbatches
from tools.methods.tool import Context, ToolInputError
from tools.ports import Scores
from tools.tasks import Example, Task

How = Literal["add", "optimise"]
GAP = 2.0  # between the scores of two classes in a perfect reading: 1 and -1
STEPS = 30  # of the descent
Rows = Float[Tensor, "n channels"]
Change = Callable[[int, Rows, Sequence[int]], Rows]  # (which place, states, which examples) -> states


def onward(subject_blocks: int, start: Component) -> list[Component]:
    """The residual stream after a block and after every later one. ToolInputError for anything else."""
    if start.part != "resid_post" or start.units or start.block is None:
        raise ToolInputError(
            f"components: what a probe reads is changed in the residual stream, as in {start.stack}.3.resid_post@-1, not in {start}"
        )
    return [start.but(block=b, anchor=start.anchor or "-1") for b in range(start.block, subject_blocks)]


def rewritten(
    ctx: Context, examples: Sequence[Example], places: Sequence[Component], change: Change
) -> dict[Component, Rows]:
    """What is added to each example's state at each place, one place after another: each change is made on the state that the
    earlier ones have left. ToolInputError for places of more than one position.
    """
    subject = ctx.subject
    sites = [sites_of(subject, c)[0] for c in places]
    out: dict[Component, Tensor] = {}
    with subject.evaluating():
        for batch in microbatches(subject, examples, ctx.max_tokens):
            edits: list[Edit] = []
            for i, (c, site) in enumerate(zip(places, sites, strict=True)):
                at = positions(subject, batch, c.anchor or "-1", stack=c.stack)
                if at is None or at.shape[1] != 1:
                    raise ToolInputError(f"components: one position is changed, such as @-1, not {c}")
                x = select(subject.run(batch.inputs, edits=edits, capture=[site]).captured[site], at)[:, 0]
                added = change(i, x, batch.indices).to(x.dtype) - x
                edits.append(Edit(site, "add", added[:, None], at))
                out.setdefault(c, torch.zeros(len(examples), x.shape[-1]))[list(batch.indices)] = added.float().cpu()
    return out


@dataclass(frozen=True)
class Probes:
    """Probes of some labels at places, fitted on explore examples."""

    places: tuple[Component, ...]
    fitted: Fitted

    @classmethod
    def at(
        cls, ctx: Context, examples: Sequence[Example], places: Sequence[Component], label: str, model: Model
    ) -> "Probes":
        """Fitted on the examples' states. label: one or a family."""
        names = labels_named(examples, label)
        labels = Labels.of({n: labels_of(examples, n) for n in names})
        states = collect(ctx.subject, examples, places, ctx.max_tokens)
        x = torch.stack([torch.from_numpy(states[c]) for c in places])
        return cls(tuple(places), fit(x, labels, model, ctx.seed, ctx.check))

    def of(self, places: Sequence[Component]) -> "Probes":
        """Those of some of the places."""
        at = [self.places.index(c) for c in places]
        f = self.fitted
        mean, scale, *layers = (t[at] for t in (f.mean, f.scale, *f.layers))
        return Probes(tuple(places), Fitted(f.labels, mean, scale, tuple(layers)))


@dataclass(frozen=True)
class Wanted:
    """For each of n examples one label's number and the class that it is to be read as."""

    label: Int[np.ndarray, " n"]
    value: Int[np.ndarray, " n"]

    @classmethod
    def of(cls, labels: Labels, examples: Sequence[Example]) -> "Wanted":
        """What each example's first counterfactual supposes. ToolInputError where one is about none of these labels."""
        found: list[tuple[int, int]] = []
        for e in examples:
            supposed = (
                next(((n, str(v)) for n, v in e.counterfactuals[0].labels.items() if n in labels.names), None)
                if e.counterfactuals
                else None
            )
            if supposed is None:
                about = (
                    ", ".join(e.counterfactuals[0].labels) if e.counterfactuals else "nothing: it has no counterfactual"
                )
                raise ToolInputError(
                    f"label: {e.shown!r} supposes {about}; the probe reads {', '.join(labels.names[:6])}"
                )
            name, value = supposed
            at = labels.names.index(name)
            if value not in labels.values[at]:
                raise ToolInputError(f"label: {name} is supposed to be {value!r}, which no example to fit on has")
            found.append((at, labels.values[at].index(value)))
        rows = np.array(found, dtype=np.int64).reshape(-1, 2)
        return cls(rows[:, 0], rows[:, 1])

    def first(self) -> "Wanted":
        """Of the first example alone."""
        return Wanted(self.label[:1], self.value[:1])


def change_by(how: How, probes: Probes, wanted: Wanted, dose: float = 1.0) -> Change:
    """The change that makes the probe at a place read the wanted class of one label, in each example."""
    if how == "add" and len(probes.fitted.layers) > 2:
        raise ToolInputError("how: only a linear probe has a direction to add; use optimise, or a linear model")

    def change(place: int, x: Rows, indices: Sequence[int]) -> Rows:
        label, value = wanted.label[list(indices)], wanted.value[list(indices)]
        probe = probes.fitted.at(place)
        return _added(probe, x, label, value, dose) if how == "add" else _descended(probe, x, label, value, dose)

    return change


def _added(probe: Fitted, x: Rows, label: np.ndarray, value: np.ndarray, dose: float) -> Rows:
    """Along the difference of the two classes' weights, as far as the difference of their scores has to grow."""
    scores = probe.scores(x[None])
    own = torch.from_numpy(probe.labels.read(scores)[0][np.arange(len(x)), label])
    start = torch.tensor(probe.labels.starts[:-1])[torch.from_numpy(label)]
    new = torch.from_numpy(value)
    # Where the probe reads the new value already, there is only the distance to the next one to keep.
    runner = probe.labels.apart(scores)[0][torch.arange(len(x)), torch.from_numpy(label)]
    second = runner.scatter(1, new[:, None], -torch.inf).argmax(-1)
    old = torch.where(own == new, second, own)
    weights = probe.layers[0][0] / probe.scale[0, 0][:, None]
    way = (weights[:, start + new] - weights[:, start + old]).T
    rows = torch.arange(len(x))
    gap = scores[0][rows, start + new] - scores[0][rows, start + old]
    length = ((dose * GAP - gap).clamp(min=0) / way.square().sum(-1).clamp(min=1e-12))[:, None]
    return (x.double() + length * way).to(x.dtype)


def _descended(probe: Fitted, x: Rows, label: np.ndarray, value: np.ndarray, dose: float) -> Rows:
    """Down the squared shortfall of every label's score: of the new class as far above the others as in a perfect reading, of the
    classes that are read already of the other labels no less than they were. Steps are Polyak's, each row's its own.
    """
    rows = torch.arange(len(x))
    with torch.inference_mode(mode=False), torch.enable_grad():
        mean, scale, *layers = (t.clone() for t in (probe.mean, probe.scale, *probe.layers))
        start = (x.clone()[None].double() - mean) / scale
        layers = [t.double() for t in layers]
        scores = probe.labels.apart(forward(start, layers))[0]
        codes = scores.argmax(-1)
        least = _lead(scores, codes).clamp(max=dose * GAP)
        codes[rows, torch.from_numpy(label)] = torch.from_numpy(value)
        least[rows, torch.from_numpy(label)] = dose * GAP
        moved = start.clone()
        for _ in range(STEPS):
            moved = moved.detach().requires_grad_()
            short = (least - _lead(probe.labels.apart(forward(moved, layers))[0], codes)).clamp(min=0)
            missed = short.square().sum(-1)
            (slope,) = torch.autograd.grad(missed.sum(), moved)
            step = missed / slope[0].square().sum(-1).clamp(min=1e-9)
            moved = moved - step.detach()[None, :, None] * slope
        added = (moved - start).detach() * scale.masked_fill(scale.isinf(), 0.0)
    return (x.double() + added[0]).to(x.dtype)


def _lead(scores: Float[Tensor, "n labels most"], codes: Int[Tensor, "n labels"]) -> Float[Tensor, "n labels"]:
    """How far the scores of some classes lie above the next one of their label."""
    own = scores.gather(-1, codes[..., None])
    return own[..., 0] - scores.scatter(-1, codes[..., None], -torch.inf).amax(-1)


@dataclass(frozen=True)
class Rewriting:
    """How the supposed answers are scored: under no change, the change, random changes of its size, and other examples' changes."""

    none: Scores
    changed: Scores
    random: tuple[Scores, ...]
    others: tuple[Scores, ...]


def score_changes(
    ctx: Context, task: Task, examples: Sequence[Example], added: dict[Component, Rows], draws: int = 2
) -> Rewriting:
    """Score what would be right if the counterfactuals held, with each example's own change, with random ones of the same length
    at the same places, and with those of examples of another group.
    """
    supposed = [e.supposing(e.counterfactuals[0]) for e in examples]
    rng = np.random.default_rng([ctx.seed, len(examples)])
    variants: list[dict[Component, Tensor]] = [added]
    for draw in range(draws):
        generator = torch.Generator().manual_seed(ctx.seed * 1009 + draw)
        noise = {c: torch.randn(a.shape, generator=generator) for c, a in added.items()}
        variants.append(
            {c: n / n.norm(dim=-1, keepdim=True) * added[c].norm(dim=-1, keepdim=True) for c, n in noise.items()}
        )
    for _ in range(draws):
        donor = _deranged([e.group for e in examples], rng)
        variants.append({c: _sized(a[donor], a) for c, a in added.items()})
    directions, conditions = additions(variants)
    none, changed, *controls = score_under(ctx, task, supposed, conditions, directions=directions)
    return Rewriting(none, changed, tuple(controls[:draws]), tuple(controls[draws:]))


def additions(added: Sequence[Mapping[Component, Rows]]) -> tuple[dict[str, Tensor], list[Condition]]:
    """Conditions under which each example's own vectors are added at places, with the vectors by name, (n, channels) each."""
    directions: dict[str, Tensor] = {}
    conditions: list[Condition] = []
    for k, made in enumerate(added):
        changes: list[tuple[ComponentSet, Intervention]] = []
        for c, a in made.items():
            name = f"dir:change{k}~{tagged_hash('direction', [k, str(c)])[-12:]}"
            directions[name] = a
            changes.append((ComponentSet.of(c), Intervention(op="add", direction=name, dose=1.0)))
        conditions.append(Condition(tuple(changes)))
    return directions, conditions


def _sized(other: Tensor, own: Tensor) -> Tensor:
    return other / other.norm(dim=-1, keepdim=True).clamp(min=1e-12) * own.norm(dim=-1, keepdim=True)


def _deranged(groups: Sequence[str], rng: np.random.Generator) -> list[int]:
    """For each example one of another group, by a random cycle; itself where there is no other."""
    order = rng.permutation(len(groups)).tolist()
    out = list(range(len(groups)))
    for at, i in enumerate(order):
        out[i] = next((j for k in range(1, len(order)) if groups[j := order[(at + k) % len(order)]] != groups[i]), i)
    return out


def set_errors(scores: Scores) -> Float[np.ndarray, " n"]:
    """How many answers are wrongly in or out of the likeliest ones: of the set, where there are several right ones, else 2 for a
    wrong answer.
    """
    return scores.others["set_errors"] if "set_errors" in scores.others else 2.0 * ~scores.correct


def shown_change(
    ctx: Context, task: Task, example: Example, probes: Probes, change: Change
) -> tuple[Int[np.ndarray, "readings labels"], Float[np.ndarray, "when answers"], list[str]]:
    """One example's change as it can be drawn: which value each label has, is read as at the first place, is supposed to have, and
    is read as after the change, as numbers among all values in the order they first occur; the probability of each candidate
    before and after; and the candidates.
    """
    labels, first = probes.fitted.labels, probes.places[0]
    known = list(dict.fromkeys(v for values in labels.values for v in values))
    added = rewritten(ctx, [example], probes.places, change)
    x = torch.from_numpy(collect(ctx.subject, [example], [first], ctx.max_tokens)[first])
    probe = probes.fitted.at(0)

    def read(states: Rows) -> list[str]:
        codes = probe.read(states[None])[0, 0]
        return [values[c] for values, c in zip(labels.values, codes.tolist(), strict=True)]

    true = [str(v) for v in (labels_of([example], n)[0] for n in labels.names)]
    supposed = {n: str(v) for n, v in example.counterfactuals[0].labels.items()}
    rows = [
        true,
        read(x),
        [supposed.get(n, v) for n, v in zip(labels.names, true, strict=True)],
        read(x + added[first]),
    ]
    answers = list(example.candidates or (*example.rights, *((example.foil,) if example.foil else ())))
    asked = [replace(example, target=a, accepted=(), foil=None, counterfactuals=()) for a in answers]
    copies = {c: a.expand(len(asked), -1) for c, a in added.items()}
    before, after = _under(ctx, task, asked, [copies])
    odds = np.exp(-np.stack([before.nll, after.nll]))
    return np.array([[known.index(v) for v in row] for row in rows]), odds, [a.strip() for a in answers]


def saliency(
    ctx: Context, task: Task, example: Example, probes: Probes, how: How, values: tuple[str, str], dose: float
) -> tuple[Float[np.ndarray, " labels"], str]:
    """How many nats less likely the answer that the model gives one example gets when a label is turned from one of two values to
    the other; NaN for labels that the probe reads as neither. And that answer.
    """
    labels = probes.fitted.labels
    first = probes.places[0]
    x = torch.from_numpy(collect(ctx.subject, [example], [first], ctx.max_tokens)[first])
    read = probes.fitted.at(0).read(x[None])[0, 0].tolist()
    now = [known[c] for known, c in zip(labels.values, read, strict=True)]
    turned = dict(zip(values, reversed(values), strict=True))
    at = [k for k, v in enumerate(now) if v in turned and turned[v] in labels.values[k]]
    answers = list(dict.fromkeys(example.candidates or example.rights))
    asked = [replace(example, target=a, accepted=(), foil=None, counterfactuals=()) for a in answers]
    (alone,) = _under(ctx, task, asked, [])
    answer = answers[int(alone.nll.argmin())]
    out = np.full(len(labels.names), np.nan)
    if at:
        wanted = Wanted(np.array(at), np.array([labels.values[k].index(turned[now[k]]) for k in at]))
        copies = [replace(example, target=answer, accepted=(), foil=None, counterfactuals=())] * len(at)
        added = rewritten(ctx, copies, probes.places, change_by(how, probes, wanted, dose))
        before, after = _under(ctx, task, copies, [added])
        out[at] = after.nll - before.nll
    return out, answer


def _under(
    ctx: Context, task: Task, examples: Sequence[Example], added: Sequence[dict[Component, Rows]]
) -> list[Scores]:
    """Intact, and under each set of additions."""
    directions, conditions = additions(added)
    return score_under(ctx, task, examples, conditions, directions=directions)
