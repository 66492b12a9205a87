"""One example with the model laid open: what is said, what each depth would say, where heads look, as it is and changed.

Both ways run in one sweep, so that what they share is computed once. It shows one example, and is evidence for nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from tools.engine.programs import identity
from tools.engine.sites import Edit, Kind, Site
from tools.methods.anchors import span_positions
from tools.methods.effects import edits_of
from tools.methods.one_example import Changes, Chosen, OneExampleArgs, changes_of, choose
from tools.methods.tool import Context, ToolInputError
from tools.ports import Asked, Batch, Encoded, Port, PortError, make_batch, port_of
from tools.subjects import Subject
from tools.tasks import Example

PATTERNS = ("attn.pattern", "cross.pattern")
MOST_WEIGHTS = 4_000_000


@dataclass(frozen=True)
class Said:
    """One thing that can be answered: its label, probability and rank (1 is top)."""

    label: str
    probability: float
    rank: int


@dataclass(frozen=True)
class AtPlace:
    """What is answered at one position that is scored: the most likely first, the right one, and the twin's where it differs."""

    label: str
    top: tuple[Said, ...]
    right: Said
    foil: Said | None


@dataclass(frozen=True)
class Side:
    """The model as it is, or changed.

    answers: at each scored position; empty where answers are no vocabulary. values: the port's quantities, summed over the
    answer. wrote: what it writes by itself, where the answer has several tokens. steps: what has run at each depth. top:
    (steps, positions) ids of the likeliest, chance: their probabilities. followed, rank: (steps, scored) probability and rank
    of the right answer. patterns: (blocks, heads, queries, keys); ran: which blocks ran at all.
    """

    answers: tuple[AtPlace, ...]
    values: Mapping[str, float]
    wrote: str | None
    steps: tuple[str, ...]
    top: Tensor
    chance: Tensor
    followed: Tensor
    rank: Tensor
    patterns: Tensor | None = None
    ran: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Stack:
    """What stands at the positions of a stack, and the roles there."""

    name: str
    labels: tuple[str, ...]
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Opened:
    """An example as it is and, where something is switched on, changed. attention: stack and kind of the patterns."""

    chosen: Chosen
    encoded: Encoded
    changes: Changes
    stacks: Mapping[str, Stack]
    readable: bool
    attention: tuple[str, Kind] | None
    intact: Side
    changed: Side | None
    why_not: Mapping[str, str] = field(default_factory=dict[str, str])


def open_example(args: OneExampleArgs, ctx: Context, chosen: Chosen | None = None) -> Opened:
    """Run the example as it is and with what is switched on. ToolInputError says what would be valid.

    chosen: what `choose` gave for these arguments, where it has been asked already.
    """
    subject, port = ctx.subject, port_of(ctx.subject)
    port.require(subject)
    chosen = chosen or choose(args, ctx)
    changes = changes_of(args, ctx, chosen)
    encoded = port.encode(subject, chosen.example)
    batch = make_batch(port, subject, [chosen.index], [chosen.example], [encoded])
    shown, why = _shown(subject, args.attention, encoded)
    readable = "rank" not in port.lacks
    if not readable:
        why["lens"] = f"{subject.name} answers with numbers: its states cannot be read as tokens or classes"
    with subject.evaluating():
        edits = edits_of(ctx, chosen.sample, [changes.condition], changes.directions)(batch)[0]
        ways = [((), {}), (edits, changes.programs)] if changes.words else [((), {})]
        states = _states(ctx, batch, ways, readable)
        sides = [_side(args, ctx, batch, s, (e, p), shown, readable) for s, (e, p) in zip(states, ways, strict=True)]
    stacks = {name: _stack(subject, port, chosen.example, encoded, name) for name in subject.stacks}
    return Opened(chosen, encoded, changes, stacks, readable, shown, sides[0], (sides[1:] or [None])[0], why)


Way = tuple[Sequence[Edit], Mapping[str, tuple[int, ...]]]


def _states(ctx: Context, batch: Batch, ways: Sequence[Way], readable: bool) -> list[list[Tensor]]:
    """For each way the residual stream after each step of its program, (positions, width); of what is unreadable the last."""
    subject = ctx.subject
    n, variants, sizes = len(subject.spec().blocks), [], list[int]()
    for edits, programs in ways:
        blocks = programs.get(subject.readout, identity(n).blocks)
        depths = range(len(blocks) + 1) if readable else [len(blocks)]
        variants += [subject.variant({**programs, subject.readout: blocks[:d]}, edits) for d in depths]
        sizes.append(len(depths))
    found, _ = subject.sweep(batch.inputs, variants, lambda h, _: h[0], max_tokens=ctx.max_tokens)
    out: list[list[Tensor]] = []
    for size in sizes:
        out.append(found[:size])
        found = found[size:]
    return out


def _side(
    args: OneExampleArgs, ctx: Context, batch: Batch, states: Sequence[Tensor], way: Way,
    shown: tuple[str, Kind] | None, readable: bool,
) -> Side:  # fmt: skip
    subject, port = ctx.subject, port_of(ctx.subject)
    edits, programs = way
    blocks = programs.get(subject.readout, identity(len(subject.spec().blocks)).blocks)
    at, n = batch.columns, batch.encoded[0].lengths[subject.readout]
    read = port.read(subject, states[-1][at], _asked(batch))
    meant = {k: v.double() for k, v in read.items() if readable or k in port.objectives}
    values = {k: float(v.nansum()) for k, v in meant.items() if not v.isnan().all()}
    empty = torch.zeros(0, 0)
    top = chance = followed = rank = empty
    answers: tuple[AtPlace, ...] = ()
    if readable:
        logprob = [port.distribution(subject, h[:n]) for h in states]
        top = torch.stack([p.argmax(-1) for p in logprob]).cpu()
        chance = torch.stack([p.amax(-1).exp() for p in logprob]).cpu()
        own = [p[at].gather(1, batch.targets[:, None]) for p in logprob]
        followed = torch.stack([o[:, 0].exp() for o in own]).cpu()
        rank = torch.stack([(p[at] > o).sum(-1) + 1 for p, o in zip(logprob, own, strict=True)]).cpu()
        answers = _answers(subject, port, batch, logprob[-1][at], args.top_k)
    patterns, ran = _patterns(subject, batch, way, shown)
    steps = ("embed", *(f"block {b}" for b in blocks)) if readable else ()
    return Side(answers, values, _wrote(ctx, batch, edits, programs), steps, top, chance, followed, rank, patterns, ran)


def _asked(batch: Batch) -> Asked:
    k, (encoded,) = len(batch.targets), batch.encoded
    foils, differs = batch.targets.clone(), torch.zeros(k, dtype=torch.bool, device=batch.targets.device)
    if encoded.foil is not None:
        foils[encoded.foil[0]], differs[encoded.foil[0]] = encoded.foil[1], True
    first = torch.arange(k, device=batch.targets.device) == 0
    return Asked(batch.targets, foils, differs, first)


def _answers(subject: Subject, port: Port, batch: Batch, logprob: Tensor, top_k: int) -> tuple[AtPlace, ...]:
    """What is said at each scored position, (scored, vocab) log-probabilities."""
    (encoded,) = batch.encoded
    out: list[AtPlace] = []

    def said(row: Tensor, index: int) -> Said:
        label = port.answer_label(subject, index)
        return Said(label, float(row[index].exp()), int((row > row[index]).sum()) + 1)

    for i, row in enumerate(logprob):
        best = row.topk(min(top_k, len(row))).indices.tolist()
        foil = encoded.foil if encoded.foil is not None and encoded.foil[0] == i else None
        target = int(encoded.targets[i])
        out.append(
            AtPlace(
                port.answer_label(subject, target), tuple(said(row, b) for b in best), said(row, target),
                None if foil is None else said(row, int(foil[1])),
            )
        )  # fmt: skip
    return tuple(out)


def _wrote(ctx: Context, batch: Batch, edits: Sequence[Edit], programs: Mapping[str, tuple[int, ...]]) -> str | None:
    """What the model writes by itself where the answer has several tokens; None where that says nothing more, or cannot be."""
    port, (encoded,) = port_of(ctx.subject), batch.encoded
    there = all(_is_before_answer(e, encoded.before) for e in edits if e.site.stack == ctx.subject.readout)
    if not port.writes or len(encoded.targets) < 2 or not there:
        return None
    try:
        return port.write(ctx.subject, batch.examples, ctx.max_tokens, program=dict(programs), edits=tuple(edits))[0]
    except PortError:
        return None


def _is_before_answer(edit: Edit, before: int) -> bool:
    """Whether an edit means something before the answer is there."""
    if edit.positions is None:
        return edit.value.dim() < 3 or edit.value.shape[1] == 1
    return int(edit.positions.max()) < before


def _shown(subject: Subject, asked: str, encoded: Encoded) -> tuple[tuple[str, Kind] | None, dict[str, str]]:
    """Which patterns are shown, and why none are."""
    there = attention_of(subject)
    if asked and asked not in there:
        raise ToolInputError(f"attention: there is no {asked!r}; this model has {', '.join(there) or 'none in reach'}")
    if not there:
        return None, {"attention": f"attention weights are out of reach in {subject.name}"}
    name = asked or there[0]
    stack, kind = name.split(".", 1)[0], cast("Kind", f"{name.split('.', 1)[1]}.pattern")
    spec = subject.spec(stack)
    size = len(spec.blocks) * spec.n_heads * encoded.lengths[stack] * encoded.lengths[spec.keys_in(kind)]
    if size > MOST_WEIGHTS:
        return None, {"attention": f"{size:,} attention weights are too many to show: take a shorter input"}
    return (stack, kind), {}


def attention_of(subject: Subject) -> list[str]:
    """The attentions whose weights are in reach, those of the stack that is read out first, as STACK.attn or STACK.cross."""
    return [
        f"{name}.{kind.partition('.')[0]}"
        for name, spec in reversed(subject.stacks.items())
        for kind in PATTERNS
        if kind in spec.kinds
    ]


def _patterns(
    subject: Subject, batch: Batch, way: Way, shown: tuple[str, Kind] | None
) -> tuple[Tensor | None, tuple[bool, ...]]:
    """Weights of every head, (blocks, heads, queries, keys), zeros where a block did not run; the last time where it ran twice."""
    if shown is None:
        return None, ()
    stack, kind = shown
    spec = subject.spec(stack)
    sites = [Site(stack, b, kind) for b in range(len(spec.blocks))]
    edits, programs = way
    captured = subject.run(batch.inputs, dict(programs), edits, capture=sites).captured
    (encoded,) = batch.encoded
    n, m = encoded.lengths[stack], encoded.lengths[spec.keys_in(kind)]
    blank = torch.zeros(spec.n_heads, n, m)
    out = [
        captured[s][0].float().unflatten(-1, (spec.n_heads, -1)).transpose(0, 1)[:, :n, :m].cpu()
        if s in captured
        else blank
        for s in sites
    ]
    return torch.stack(out), tuple(s in captured for s in sites)


def _stack(subject: Subject, port: Port, example: Example, encoded: Encoded, name: str) -> Stack:
    """Labels of a stack's positions; those that read the answer have its tokens."""
    labels = port.labels(subject, example, stack=name)
    n = encoded.lengths[name]
    if name == subject.readout and len(labels) < n:
        labels = [*labels, *(port.answer_label(subject, int(t)) for t in encoded.targets[: n - len(labels)])]
    roles = [list[str]() for _ in range(n)]
    for role in example.spans:
        try:
            found = span_positions(subject, example, role, stack=name)
        except ToolInputError:
            continue
        for at in found:
            roles[at].append(role)
    return Stack(name, tuple(labels[:n]), tuple("/".join(r) for r in roles))
