"""Score answers under many variants at once: whatever the subject's port reads at the positions that predict them.

The scored positions are selected first, stacked over all variants, and read out once at the end.
"""

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from tools.engine.executor import SweepCost, Variant
from tools.engine.lanes import side_by_side
from tools.engine.version import ALIKE, APART, LANES, SMALL, TOGETHER
from tools.ports import Asked, Batch, Encoded, Port, Scores, make_batch, port_of
from tools.ports import batch_of as _batch_of
from tools.ports.vocabulary import QUICK
from tools.subjects import Subject
from tools.tasks import Example, Task

UNEMBED_ROWS = 2048
FEW_ROWS, LOGITS = 96, 2**22  # that are read out in one piece: rows, below which products are slow, and numbers
READ_BYTES, COPIES = 4 * 2**30, 2  # that pieces read out side by side may take; of what is read, at once
NEARLY, ROWS = 1.1, 8  # times as long may rows of a batch be that has as many
FEW = 4  # conditions, up to which a sweep has too few batches of blocks to run side by side
PIECES, ENOUGH = 4, 16  # batches that such a sample is cut into, and the examples of one below which products are slow
MakeVariants = Callable[[Batch], Sequence[Variant]]
Columns = dict[str, np.ndarray]


def encoded_all(subject: Subject, examples: Sequence[Example]) -> list[Encoded]:
    """Each example as the subject's port gives it to the model."""
    port = port_of(subject)
    return [port.encode(subject, e) for e in examples]


def microbatches(
    subject: Subject,
    examples: Sequence[Example],
    max_tokens: int = 2048,
    among: Sequence[int] | None = None,
    most: int | None = None,
) -> list[Batch]:
    """Sort by length and cut into batches of at most `max_tokens` positions (at least one example each).

    among: a few of the examples, by their place in the sample, which the batches' indices keep; all of them by default. Batches
    have rows of nearly one length, but for the first few: many variants fill them, there is little padding, and what stands
    before an edit is not run. Before version ALIKE of the engine only those of a few examples have, whatever their number.
    most: examples of one batch; as many as fit by default.
    """
    few = 1 if subject.engine < ALIKE else ROWS
    alike = among is not None or subject.engine >= ALIKE
    port, encoded = port_of(subject), encoded_all(subject, examples)
    port.require(subject)
    order = sorted(range(len(examples)) if among is None else among, key=lambda i: encoded[i].size)
    groups: list[list[int]] = []
    for i in order:
        longer = alike and bool(groups) and encoded[i].size > NEARLY * encoded[groups[-1][0]].size
        full = bool(groups) and (len(groups[-1]) == most or encoded[i].size * (len(groups[-1]) + 1) > max_tokens)
        if not groups or full or (longer and len(groups[-1]) >= few):
            groups.append([])
        groups[-1].append(i)
    return [make_batch(port, subject, g, [examples[i] for i in g], [encoded[i] for i in g]) for g in groups]


def batch_of(subject: Subject, examples: Sequence[Example]) -> Batch:
    """All the examples as one batch, in the order given."""
    return _batch_of(port_of(subject), subject, examples)


def read_at_once(subject: Subject, max_tokens: int) -> int:
    """How many states are read out in one piece: fewer where pieces lie side by side in memory."""
    rows = min(UNEMBED_ROWS, max_tokens)
    if subject.engine >= LANES:
        rows = max(1, rows // 4)
    if (
        subject.engine >= QUICK
    ):  # pieces of a large vocabulary are small, so that every lane has its share of a few answers
        rows = min(rows, max(FEW_ROWS, LOGITS // read_width(subject)))
    return rows


def read_width(subject: Subject) -> int:
    """How many numbers are read of a state: one a word, where there are words."""
    return getattr(subject.model.config, "vocab_size", None) or max(s.width for s in subject.stacks.values())


def closed_tokens(
    subject: Subject, examples: Sequence[Example], choices: Sequence[str]
) -> Int[Tensor, "n choices"] | None:
    """What each choice begins with in each example's place, since that may depend on what it follows.

    None where one example's choices cannot decide: then accuracy means the same in all of them.
    """
    port = port_of(subject)
    rows = [port.choices(subject, e, closed) if (closed := e.choices or choices) else None for e in examples]
    if not rows or None in rows or len({len(row) for row in rows if row}) > 1:
        return None
    return torch.tensor(rows, dtype=torch.long, device=subject.device)


def accepted_tokens(subject: Subject, examples: Sequence[Example]) -> Int[Tensor, "n most"] | None:
    """The ids of every right answer, -1 beyond as many as an example has; None where each has one."""
    if not any(e.accepted for e in examples):
        return None
    port = port_of(subject)
    rows = [port.accepted(subject, e) for e in examples]
    most = max(map(len, rows))
    return torch.tensor([[*row, *[-1] * (most - len(row))] for row in rows], dtype=torch.long, device=subject.device)


def score(
    subject: Subject,
    examples: Sequence[Example],
    make_variants: MakeVariants,
    *,
    choices: Sequence[str] = (),
    max_tokens: int = 2048,
    kl: bool = False,
    on_progress: Callable[[int], None] | None = None,
    among: Sequence[int] | None = None,
    few: bool = False,
    unread: int = 0,
) -> tuple[list[Scores], SweepCost]:
    """Score every variant on every example.

    make_variants: called once for each batch, so that edits can carry per-example values; it must return the same
    number of variants each time. among: which of the examples, by their place in the sample; all of them by default.
    few: whether variants are so few that smaller batches of examples had better run side by side than what is in one.
    unread: how many of the first variants are run, for what others share with them, and not scored.
    Returns one Scores for each other variant, examples in the order given.
    """
    order = range(len(examples)) if among is None else among
    port, total = port_of(subject), SweepCost()
    collected: list[list[tuple[Batch, Columns]]] = []
    closed, accepted = closed_tokens(subject, examples, choices), accepted_tokens(subject, examples)
    rows, apart = read_at_once(subject, max_tokens), few and _suits_apart(subject)
    most = max(ENOUGH, math.ceil(len(order) / PIECES)) if apart else None

    def scored(batch: Batch, variants: Sequence[Variant]) -> tuple[list[Columns], SweepCost]:
        first = int(batch.columns.min())
        states, cost = subject.sweep(
            batch.inputs,
            variants,
            lambda h, _: h[batch.rows, batch.columns - first],
            read_from=first,
            max_tokens=max_tokens,
            on_progress=on_progress,
        )
        own, right = (None if t is None else t[list(batch.indices)] for t in (closed, accepted))
        return _read_out(port, subject, batch, states[unread:], own, right, rows=rows, kl=kl), cost

    with subject.evaluating():
        batches = microbatches(subject, examples, max_tokens, among, most)
        todo = (partial(scored, batch, make_variants(batch)) for batch in batches)
        wide = min(_read_wide(subject, rows), *(spec.lanes() for spec in subject.stacks.values())) if apart else 1
        found = side_by_side(list(todo), wide) if apart else (run() for run in todo)
        for batch, (tables, cost) in zip(batches, found, strict=True):
            total = total + cost
            collected = collected or [[] for _ in tables]
            for variant, table in enumerate(tables):
                collected[variant].append((batch, table))
    return [_assemble(port, parts, order) for parts in collected], total


def _suits_apart(subject: Subject) -> bool:
    """Whether blocks are so wide that running them side by side gains, on a processor: however many cores it has."""
    wide = min(spec.width for spec in subject.stacks.values()) > SMALL
    return wide and subject.engine >= APART and subject.device.type == "cpu"


def score_tasks(
    subject: Subject,
    tasks: Sequence[tuple[Task, Sequence[Example]]],
    variants: Sequence[Variant],
    max_tokens: int = 2048,
) -> list[list[Scores]]:
    """Score the same variants on several tasks: for each of them one Scores for each variant, as `score` gives them.

    Examples of all tasks share batches, but for those of tasks whose answers are chosen among another number of choices, or are
    several. Before version TOGETHER of the engine each task had its own.
    """
    if subject.engine < TOGETHER:
        return [
            score(subject, examples, lambda _: variants, choices=task.choices, max_tokens=max_tokens)[0]
            for task, examples in tasks
        ]
    alike = defaultdict[tuple[int, bool], list[int]](list)
    for at, (task, examples) in enumerate(tasks):
        closed = closed_tokens(subject, examples, task.choices)
        alike[0 if closed is None else closed.shape[1], any(e.accepted for e in examples)].append(at)
    out: dict[int, list[Scores]] = {}
    for (choices, _), members in alike.items():
        joined = [
            replace(e, choices=tuple(e.choices or tasks[at][0].choices) if choices else ())
            for at in members
            for e in tasks[at][1]
        ]
        found, _ = score(subject, joined, lambda _: variants, max_tokens=max_tokens)
        end = 0
        for at in members:
            first, end = end, end + len(tasks[at][1])
            out[at] = [s.part(first, end) for s in found]
    return [out[at] for at in range(len(tasks))]


def _read_out(
    port: Port,
    subject: Subject,
    batch: Batch,
    states: Sequence[Tensor],
    closed: Int[Tensor, "batch choices"] | None,
    accepted: Int[Tensor, "batch most"] | None = None,
    *,
    rows: int,
    kl: bool,
) -> list[Columns]:
    """Per variant: columns over the batch's answer tokens.

    closed: the choices' first tokens in each example's place; accepted: the right answers, where there are several. rows: how
    many states are read out at once.
    """
    k, device = len(batch.targets), subject.device
    foils, start = batch.targets.clone(), 0
    differs = torch.zeros(k, dtype=torch.bool, device=device)
    for e in batch.encoded:
        if e.foil is not None:
            foils[start + e.foil[0]], differs[start + e.foil[0]] = e.foil[1], True
        start += len(e.targets)
    first = torch.ones(k, dtype=torch.bool, device=device)
    first[1:] = batch.rows[1:] != batch.rows[:-1]
    stacked = torch.cat(list(states))
    targets, foils, differs, first = (t.repeat(len(states)) for t in (batch.targets, foils, differs, first))
    choices, right = (None if t is None else t[batch.rows].repeat(len(states), 1) for t in (closed, accepted))
    base = port.distribution(subject, stacked[:k]) if kl else None
    probable = None if base is None or subject.engine < QUICK else base.exp()

    # What is read lies in tensors of all pieces: small ones, kept between pieces' logits, would leave gaps that no logits fit in.
    joined, filling = dict[str, Tensor](), threading.Lock()

    def read(at: int) -> None:
        part = slice(at, at + rows)
        here = stacked[part]
        shut = None if choices is None else choices[part]
        accept = None if right is None else right[part]
        among = None if base is None else torch.arange(at, at + len(here), device=device) % k
        asked = Asked(targets[part], foils[part], differs[part], first[part], shut, base, accept, among, probable)
        found = port.read(subject, here, asked)
        with filling:
            if not joined:
                joined.update({name: column.new_empty(len(stacked)) for name, column in found.items()})
            for name, whole in joined.items():
                whole[part] = found[name]

    side_by_side([partial(read, at) for at in range(0, len(stacked), rows)], _read_wide(subject, rows))
    columns = {name: whole.cpu().numpy() for name, whole in joined.items()}
    return [{n: c[v * k : (v + 1) * k] for n, c in columns.items()} for v in range(len(states))]


def _read_wide(subject: Subject, rows: int) -> int:
    """How many pieces of so many states are read out side by side: as memory allows."""
    return max(1, min(subject.lanes(), READ_BYTES // (COPIES * 4 * rows * read_width(subject))))


def _assemble(port: Port, parts: Sequence[tuple[Batch, Columns]], order: Sequence[int]) -> Scores:
    n, place = len(order), {index: at for at, index in enumerate(order)}
    nll, kl, tokens = np.zeros(n), np.zeros(n), np.zeros(n, dtype=np.int64)
    correct, rank, margin = np.ones(n, dtype=bool), np.zeros(n, dtype=np.int64), np.full(n, np.nan)
    logits: list[tuple[int, int, float]] = []
    said: dict[int, tuple[int, ...]] = {}
    own = {name: np.zeros(n) for name in parts[0][1] if name not in USUAL}
    sums = {"nll": nll, "kl": kl, **own}
    for batch, table in parts:
        at = np.array([place[i] for i in batch.indices], dtype=np.int64)
        counts = [len(e.targets) for e in batch.encoded]
        ends = np.cumsum(counts, dtype=np.int64)
        starts = ends - counts
        tokens[at], rank[at] = counts, table["rank"][starts]
        spans = [slice(a, b) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
        single = len(spans) == len(table["nll"])  # one part an answer: there is nothing to add up
        for name, values in sums.items():
            column = table[name].astype(np.float64)
            values[at] = column if single else [column[span].sum() for span in spans]
        top, found = table["top"].astype(bool), table["margin"]
        correct[at] = top if single else [top[span].all() for span in spans]
        margin[at] = found if single else [_first(found[span]) for span in spans]
        answers = table["logit"].tolist()
        logits += [(i, j, x) for i, span in zip(at.tolist(), spans, strict=True) for j, x in enumerate(answers[span])]
        if "said" in table:
            for index, span in zip(at.tolist(), spans, strict=True):
                wrong = np.flatnonzero(~top[span])
                said[index] = tuple(table["said"][span].tolist()[: wrong[0] + 1 if len(wrong) else None])
    logits.sort()
    units = UNITS | {n: o.unit for n, o in port.objectives.items()}
    return Scores(
        nll, tokens, correct, rank, margin,
        np.array([x for _, _, x in logits]), np.array([i for i, _, _ in logits], dtype=np.int64), kl, own, port.lacks,
        {"logit_margin": port.margin_unit} | {n: units[n] for n in own if n in units},
        tuple(said[i] for i in sorted(said)),
    )  # fmt: skip


def _first(values: np.ndarray) -> float:
    """The first that is a number."""
    there = values[~np.isnan(values)]
    return float(there[0]) if len(there) else np.nan


UNITS = {"set_errors": "answers wrongly in or out of the likeliest ones"}
USUAL = frozenset({"nll", "rank", "top", "said", "logit", "margin", "kl"})
