"""How long a call will take and how much memory, before it runs: what it has to compute, at this machine's measured pace.

Computed are block runs times positions, sharing as sweeps do, states that are read out, and what each example and each condition
costs beside that. The pace of a subject is measured once, in a fraction of a second. Nothing here is recorded.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from tools.engine.adapter import BUSY, run_block
from tools.methods.anchors import positions
from tools.methods.effects import Condition, source_of
from tools.methods.scoring import COPIES, batch_of, microbatches, read_at_once, read_width
from tools.methods.tool import Context
from tools.ports import Batch
from tools.subjects import Subject
from tools.tasks import Example, Task

PROBE_SECONDS = 0.04  # one timing at most takes about as long
PROBE_TOKENS, PROBE_ROWS = 1024, 64
FLOAT = 4  # bytes of what is worked with, whatever the weights are
PLAIN, EDITED = 10, BUSY  # widths that a block holds for each position, without edits and with some
MOST_STATES = 2**30  # bytes of states that a sweep lets wait
PER_CONDITION = 2e-3  # seconds of a condition's edits, scores and intervals on a batch of the demo's pace


@dataclass(frozen=True)
class Work:
    """Conditions to be run on examples of a task, beside the intact model. share: of the examples that each needs on average."""

    task: Task
    examples: Sequence[Example]
    conditions: Sequence[Condition] = ()
    share: float = 1.0


@dataclass(frozen=True)
class Pace:
    """Seconds of one block run, of one position more in it, of one state read out, and of one example beside that."""

    run: float
    position: float
    row: float
    example: float


@dataclass(frozen=True)
class Forecast:
    """Seconds, and bytes at the peak beyond what the process holds already."""

    seconds: float
    bytes: float

    def __add__(self, other: "Forecast") -> "Forecast":
        """Of two pieces of work, one after the other."""
        return Forecast(self.seconds + other.seconds, max(self.bytes, other.bytes))

    @property
    def text(self) -> str:
        """'about 12 s and 40 MB'."""
        s = self.seconds
        took = f"{s / 60:.0f} min" if s >= 90 else f"{s:.0f} s" if s >= 2 else f"{s:.1f} s"
        size = f"{self.bytes / 1e9:.1f} GB" if self.bytes >= 1e9 else f"{self.bytes / 1e6:.0f} MB"
        return f"about {took} and {size}"


Clock = Callable[[], float]


def measure(subject: Subject, examples: Sequence[Example], clock: Clock = time.perf_counter) -> Pace:
    """The pace of a subject on this machine, from a block in the middle and its head on some examples of a task.

    clock: seconds; those of the wall are what a budget of minutes is about.
    """
    examples = examples[:8]
    started = clock()
    with subject.evaluating():
        batch = batch_of(subject, examples)
        spec = subject.spec()
        call = subject.call(batch.inputs)
        example = (clock() - started) / len(examples)
        middle, size = len(spec.blocks) // 2, call.start.shape[0] * call.start.shape[1]
        once = _clocked(lambda: run_block(call, middle, call.start), clock)
        copies = max(2, min(PROBE_TOKENS // size, int(PROBE_SECONDS / once) + 1))
        many = torch.cat([call.start] * copies)
        twice = _clocked(lambda: run_block(call, middle, many, [()] * copies), clock)
        position = max((twice - once) / (size * (copies - 1)), 1e-9)
        states = call.start.reshape(-1, call.start.shape[-1])[:1].repeat(PROBE_ROWS, 1)
        row = _clocked(lambda: _read(subject, states), clock) / PROBE_ROWS
    return Pace(max(0.0, once - size * position), position, row, example)


def _clocked(way: Callable[[], object], clock: Clock) -> float:
    """Seconds of the quickest of a few calls, the first of which warms up."""
    found: list[float] = []
    while len(found) < 2 or (sum(found) < PROBE_SECONDS and len(found) < 4):
        start = clock()
        way()
        found.append(clock() - start)
    return min(found)


def _read(subject: Subject, states: torch.Tensor) -> None:
    """Roughly what a port reads of logits."""
    logits = subject.unembed(states).float()
    logits.logsumexp(-1)
    logits.argmax(-1)
    (logits > logits[:, :1]).sum(-1)


def forecast(ctx: Context, works: Sequence[Work], pace: Pace) -> Forecast:
    """Time and memory of pieces of work, one after the other."""
    found = Forecast(0.0, 0.0)
    for work in works:
        found += _one(ctx, work, pace)
    return found


def _one(ctx: Context, work: Work, pace: Pace) -> Forecast:
    subject = ctx.subject
    blocks = sum(len(s.blocks) for s in subject.stacks.values())
    width = max(s.width for s in subject.stacks.values())
    conditions = len(work.conditions)
    sources = {source_of(how) for c in work.conditions for _, how in c.changes}
    controls = any(c.control for c in work.conditions)
    passes = (
        len(sources - {"own"})
        + (controls or "own" in sources)
        + any(how.op == "mean" for c in work.conditions for _, how in c.changes)
    )
    seconds, peak = 0.0, 0.0
    with subject.evaluating():
        wide, piece = subject.lanes(), read_at_once(subject, ctx.max_tokens)
    for batch in microbatches(subject, work.examples, ctx.max_tokens):
        size, length = len(batch.examples), max(e.size for e in batch.encoded)
        tokens, runs, waiting = _units(ctx, batch, work.conditions, length)
        rows = len(batch.targets) * (1 + work.share * conditions)
        swept = work.share * (tokens * pace.position + runs * pace.run)
        seconds += blocks * (1 + passes) * (size * length * pace.position + pace.run) + size * pace.example
        seconds += swept / min(wide, max(1.0, runs / blocks)) + rows * pace.row / min(wide, -(-rows // piece))
        seconds += conditions * PER_CONDITION * (1 + length * size / ctx.max_tokens)
        busy = max(ctx.max_tokens, size * length)
        caches = 3 * blocks * size * length * width  # states, keys and values of the unchanged run
        live = (EDITED if any(c.changes for c in work.conditions) else PLAIN) * busy * width + busy * length * max(
            s.n_heads for s in subject.stacks.values()
        ) // 2
        kept = (1 + conditions) * len(batch.targets) * width * 2
        logits = COPIES * min(rows, piece) * read_width(subject)
        states = min(waiting * width, MOST_STATES / FLOAT)
        at_once = min(wide, max(1.0, runs / blocks))
        peak = max(peak, FLOAT * (caches + kept + states + at_once * max(live, logits)))
    return Forecast(seconds, float(peak))


def _units(ctx: Context, batch: Batch, conditions: Sequence[Condition], length: int) -> tuple[float, float, float]:
    """What conditions take in a batch beside the intact run: positions times blocks, block runs, and positions that wait."""
    subject, size = ctx.subject, len(batch.examples)
    spec = subject.spec()
    blocks = len(spec.blocks)
    known: dict[str, int] = {}
    edges: set[tuple[int, ...]] = set()
    at: dict[tuple[int, int], int] = defaultdict(int)  # (block, first position): conditions
    suffixes = len(subject.stacks) == 1 and "cached_generation" in subject.capabilities
    for c in conditions:
        for _, program in c.programs:
            edges |= {program[: i + 1] for i in range(len(program))}
        found = [m for made, _ in c.changes for m in made]
        if found:
            whole = not suffixes or any(m.anchor in ("", "all") or m.part.endswith("pattern") for m in found)
            start = 0 if whole else min(_first(ctx, batch, m.anchor, known) for m in found)
            for block in range(min(m.block or 0 for m in found), blocks):
                at[block, start] += 1
    whole_run = tuple(range(blocks))
    edges -= {whole_run[: i + 1] for i in range(blocks)}
    for e in edges:
        at[e[-1], 0] += 1
    tokens = float(sum(n * size * (length - start) for (_, start), n in at.items()))
    runs = sum(-(-n // max(1, ctx.max_tokens // (size * (length - start)))) for (_, start), n in at.items())
    waiting: dict[int, float] = defaultdict(float)
    for (block, start), n in at.items():
        waiting[block] += n * size * (length - start)
    return tokens, float(runs), max(waiting.values(), default=0.0)


def _first(ctx: Context, batch: Batch, anchor: str, known: dict[str, int]) -> int:
    if anchor not in known:
        at = positions(ctx.subject, batch, anchor)
        known[anchor] = 0 if at is None else int(at.min())
    return known[anchor]
