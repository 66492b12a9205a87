"""Attention patterns of every head, with scores for known kinds: previous token, first token, duplicate token,
induction; and, for a task, how much one of its positions attends to each of the positions before it.

Without a task the text is random tokens said twice (Olsson et al. 2022): induction is attention from the second half
to the token AFTER the earlier occurrence, duplicate to the earlier occurrence itself. Scores are means over queries,
then over sequences. The control is what a head that spreads its attention evenly over all earlier tokens would score.
A pattern says where a head looks, not that what it sees matters: patch or ablate it.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from experiments_db.places import Component
from experiments_db.records import Measurement, Outcome
from tools.engine.programs import ProgramError, parse
from tools.engine.sites import Kind
from tools.methods.anchors import length_in, positions
from tools.methods.arguments import AMONG, DEPTH, EXAMPLES, components
from tools.methods.layout import select_components
from tools.methods.measuring import (
    Where,
    averages,
    control_of,
    differences,
    groups_of,
    load_examples,
    measured,
    where_of,
)
from tools.methods.readings import patterns
from tools.methods.saying import examples_of
from tools.methods.scoring import encoded_all, microbatches
from tools.methods.tables import as_array, grid, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.methods.written import written
from tools.ports import Batch, port_of, replace_target
from tools.statistics import Groups
from tools.subjects import Inputs, Subject
from tools.tasks import Example

KIND: Literal["experiment"] = "experiment"
EXAMPLE = {"components": ["*.0-1.attn.pattern[*]"], "examples": 16}
SCORES = ("previous", "first", "duplicate", "induction")
EVEN = "attention spread evenly over earlier tokens"
UNIT = "share of attention"
Programs = Mapping[str, Sequence[int]]


class Args(ToolArgs):
    """Arguments of attention."""

    task: str | None = Field(
        default=None, description="a task spec, for where one of its positions looks; null for repeated random tokens"
    )
    components: list[str] = components(["attn.pattern[*]"], "which heads, as attn.pattern[*] without a position")
    at: str = Field(
        default="-1",
        description="for a task: the anchor that looks: a span, or -1, the last position before the answer",
    )
    keys: list[str] = Field(
        default=[],
        max_length=32,
        description="for a task: the anchors that are looked at, such as operand1; empty is every position by itself",
    )
    depth: int = DEPTH
    program: str = Field(default="", description="a layer program to run a task under, as skip 3 or encoder: skip 4-5")
    written: bool = Field(
        default=False,
        description="for a task: look while the model writes its own answer, not the right one; the entropy is then given for "
        "answers that repeat words and for those that do not",
    )
    length: int = Field(default=16, ge=4, le=256, description="without a task: tokens in the part that is repeated")
    among: str = AMONG
    examples: int = EXAMPLES


def run(args: Args, ctx: Context) -> Outcome:
    """Score every head."""
    heads = select_components(ctx.subject, args.components)
    bad = next((c for c in heads if not c.part.endswith("pattern") or not c.units or c.anchor), None)
    if bad:
        name = ctx.subject.readout
        raise ToolInputError(
            f"components: {bad} is no head here; write {name}.0.attn.pattern[*], and the position in at"
        )
    several = {(c.stack, c.part) for c in heads}
    if len(several) > 1:
        named = " and ".join(sorted(f"{stack}.*.{part}" for stack, part in several))
        raise ToolInputError(f"components: one stack's self-attention or cross-attention at a time, not {named}")
    spec = ctx.subject.spec(heads[0].stack)
    if not args.task and (not spec.causal or heads[0].part != "attn.pattern"):
        raise ToolInputError("the scores are about earlier tokens of a text; name a task, and where its positions look")
    with ctx.subject.evaluating():
        return _on_task(args, ctx, heads, args.task) if args.task else _on_repeats(args, ctx, heads)


def _program(args: Args, ctx: Context) -> dict[str, tuple[int, ...]]:
    """The program by its stack; none where all of the model runs."""
    if not args.program:
        return {}
    stack, text = ctx.subject.program_of(args.program)
    try:
        return {stack: parse(text, len(ctx.subject.spec(stack).blocks))[1].blocks}
    except ProgramError as error:
        raise ToolInputError(f"program: {error}") from None


def _own_answers(ctx: Context, examples: list[Example], programs: Programs) -> tuple[list[Example], np.ndarray]:
    """The examples with what the model writes for an answer, and which of these repeat a word; empty answers are left out."""
    said = written(ctx, examples, programs)
    judged = [
        port_of(ctx.subject).judge(e, text).get("repeated", (0.0, 1.0)) for e, text in zip(examples, said, strict=True)
    ]
    kept = [i for i, text in enumerate(said) if text]
    if len(kept) < 8:
        raise ToolInputError(f"written: the model writes {len(kept)} answers that are not empty; at least 8 are needed")
    out = [replace_target(examples[i], said[i]) for i in kept]
    return out, np.array([judged[i][0] > 0 for i in kept])


def _seen(
    subject: Subject, inputs: Inputs, heads: Sequence[Component], programs: Programs | None = None
) -> list[Tensor]:
    """One head's weights for each component, (batch, queries, keys)."""
    blocks = sorted({c.block or 0 for c in heads})
    found = patterns(subject, inputs, heads[0].stack, blocks, cast("Kind", heads[0].part), programs)
    return [found[blocks.index(c.block or 0)][:, c.units[0]] for c in heads]


def kinds_of(pattern: Tensor, ids: Tensor) -> dict[str, Tensor]:
    """Scores per sequence and head, (batch, heads); NaN where a sequence has no query that the score is about.

    pattern: (batch, heads, seq, seq). ids: (batch, seq) tokens. For duplicate and induction only queries whose token
    occurred before count; attention to all earlier occurrences, or to what followed them, is added up.
    """
    seq = ids.shape[1]
    earlier = torch.ones(seq, seq, dtype=torch.bool, device=ids.device).tril(-1)
    same = (ids[:, :, None] == ids[:, None, :]) & earlier
    after = torch.zeros_like(same)
    after[:, :, 1:] = same[:, :, :-1]
    after &= torch.ones_like(earlier).tril()
    where = {
        "previous": torch.eye(seq, dtype=torch.bool, device=ids.device).roll(-1, 1).tril(-1).expand_as(same),
        "first": (torch.arange(seq, device=ids.device) == 0).expand_as(same) & earlier,
        "duplicate": same,
        "induction": after & same.any(-1, keepdim=True),
    }
    out: dict[str, Tensor] = {}
    for name, mask in where.items():
        queries = mask.any(-1)
        given = (pattern * mask[:, None]).sum(-1)
        out[name] = (given * queries[:, None]).sum(-1) / queries.sum(-1, keepdim=True)
    return out


def _rows(name: str, own: np.ndarray, even: np.ndarray, wheres: Sequence[Where], groups: Groups) -> list[Measurement]:
    """Shares of attention, (k, n), each beside attention spread evenly, (k, n)."""
    of = (
        averages(own, groups, (0.0, 1.0)),
        averages(even, groups, (0.0, 1.0)),
        differences(own, even, groups, (-1.0, 1.0)),
    )
    rows = zip(wheres, *of, strict=True)
    return [
        measured(name, UNIT, mine, control=control_of(EVEN, base, apart), **where) for where, mine, base, apart in rows
    ]


def _on_repeats(args: Args, ctx: Context, heads: list[Component]) -> Outcome:
    subject = ctx.subject
    subject.require("next_token")
    generator = torch.Generator().manual_seed(ctx.seed)
    vocabulary = int(subject.model.config.vocab_size)
    longest = subject.max_positions
    if longest is not None and 2 * args.length > longest:
        raise ToolInputError(
            f"length: twice {args.length} tokens are more than the model's {longest} positions: at most {longest // 2}"
        )
    if args.length > vocabulary:
        raise ToolInputError(f"length: the tokens are drawn without repetition, and the vocabulary has {vocabulary}")
    rows = [torch.randperm(vocabulary, generator=generator)[: args.length].tolist() * 2 for _ in range(args.examples)]
    found: dict[str, list[Tensor]] = {name: [] for name in SCORES}
    even: dict[str, list[Tensor]] = {name: [] for name in SCORES}
    step = max(1, ctx.max_tokens // (2 * args.length))
    for at in range(0, len(rows), step):
        inputs = subject.inputs(rows[at : at + step])
        ids = inputs.fields["input_ids"]
        uniform = torch.ones(ids.shape[1], ids.shape[1], device=ids.device).tril()
        uniform = (uniform / uniform.sum(-1, keepdim=True)).expand(len(ids), 1, -1, -1)
        mine = torch.stack(_seen(subject, inputs, heads), 1)
        for name, values in kinds_of(mine, ids).items():
            found[name].append(values.T.cpu().double())
        for name, values in kinds_of(uniform, ids).items():
            even[name].append(values.T.cpu().double())
    groups = Groups.of(list(range(len(rows))))
    wheres = [{"component": str(c), "variant": "repeated random tokens"} for c in heads]
    measurements: list[Measurement] = []
    lines = [
        f"attention on {args.examples} random sequences of {args.length} tokens, said twice: share of attention, blocks x heads"
    ]
    arrays = []
    for name in SCORES:
        own, base = torch.cat(found[name], 1).numpy(), torch.cat(even[name], 1).numpy()
        measurements += _rows(name, own, np.broadcast_to(base, own.shape), wheres, groups)
        rows_, columns, table = grid(measurements, name, "block", "unit_index")
        lines.append(f"{name} (evenly spread: {base.mean():.2f})\n" + text_table(rows_, columns, table))
        arrays.append(as_array(name, table, [("block", rows_), ("head", columns)], UNIT))
    return Outcome(text="\n".join(lines), measurements=tuple(measurements), arrays=tuple(arrays))


def _on_task(args: Args, ctx: Context, heads: list[Component], name: str) -> Outcome:
    subject = ctx.subject
    task, examples = load_examples(ctx, name, args.examples, args.among)
    programs, repeats = _program(args, ctx), None
    if args.written:
        examples, repeats = _own_answers(ctx, examples, programs)
    spec, kind = subject.spec(heads[0].stack), cast("Kind", heads[0].part)
    there = spec.keys_in(kind)
    shortest = min(length_in(subject, e, there) for e in encoded_all(subject, examples))
    keys = args.keys or [str(-1 - i) for i in range(min(args.depth, shortest))]
    if args.at == "all" or "all" in keys:
        raise ToolInputError("at and keys name positions, such as answer, -1 or a span of the examples; all is none")
    own = np.zeros((len(heads), len(keys), len(examples)))
    even = np.zeros((len(keys), len(examples)))
    entropy = np.zeros((len(heads), len(examples)))
    for batch in microbatches(subject, examples, ctx.max_tokens):
        rows = list(batch.indices)
        found = _seen(subject, batch.inputs, heads, programs)
        queries = _mask(subject, batch, args.at, spec.name, found[0].shape[1])
        spread = _spread(found[0], batch.inputs.of(there), causal=spec.causal and kind == "attn.pattern")
        for j, key in enumerate(keys):
            looked = _mask(subject, batch, key, there, found[0].shape[2])
            even[j, rows] = _share(spread, queries, looked)
            for i, pattern in enumerate(found):
                own[i, j, rows] = _share(pattern, queries, looked)
        for i, pattern in enumerate(found):
            spare = -(pattern.double() * pattern.double().clamp(min=1e-30).log()).sum(-1)  # (batch, queries)
            entropy[i, rows] = ((spare * queries).sum(-1) / queries.sum(-1)).cpu().numpy()
    base = {
        **where_of(ctx, task, args.among),
        "program": args.program or None,
        "variant": "its own answers" if args.written else None,
    }
    wheres = [
        {**base, "component": str(c.but(anchor=args.at, key=key, key_stack=other))}
        for other in ("" if there == spec.name else there,)
        for c in heads
        for key in keys
    ]
    flat = own.reshape(-1, len(examples))
    measurements = _rows("attention", flat, np.tile(even, (len(heads), 1)), wheres, groups_of(examples))
    classes = {base["variant"]: np.ones(len(examples), dtype=bool)}
    if repeats is not None and min(repeats.sum(), (~repeats).sum()) >= 4:
        classes |= {"answers that repeat words": repeats, "answers that repeat none": ~repeats}
    for variant, rows in classes.items():
        some = groups_of([e for e, there in zip(examples, rows, strict=True) if there])
        for c, e in zip(heads, averages(entropy[:, rows], some), strict=True):
            at = {**base, "variant": variant, "component": str(c.but(anchor=args.at))}
            measurements.append(measured("entropy", "nats, of a query's attention", e, **at))
    text = (
        f"where position {args.at} of {examples_of(task, args.among)} "
        f"looks ({ctx.split}, n={len(examples)}): share of attention, heads x "
        "positions\n"
    )
    table = own.mean(-1)
    names = [str(c) for c in heads]
    return Outcome(
        text=text + text_table(names, keys, table),
        measurements=tuple(measurements),
        arrays=(as_array("attention", table, [("head", names), ("key", keys)], UNIT),),
    )


def _spread(pattern: Tensor, lengths: Sequence[int], *, causal: bool) -> Tensor:
    """Attention spread evenly over what each query can see, (batch, queries, keys)."""
    keys = torch.arange(pattern.shape[2], device=pattern.device)
    seen = (keys < torch.tensor(lengths, device=pattern.device)[:, None])[:, None].expand_as(pattern).float()
    if causal:
        queries = torch.arange(pattern.shape[1], device=pattern.device)
        seen = (keys[None] <= queries[:, None]).float().expand_as(pattern)
    return seen / seen.sum(-1, keepdim=True)


def _mask(subject: Subject, batch: Batch, anchor: str, stack: str, length: int) -> Tensor:
    """Which positions of each row an anchor is, (batch, length)."""
    at = positions(subject, batch, anchor, stack=stack)
    assert at is not None
    return torch.zeros(len(batch.examples), length, device=at.device).scatter(1, at, 1.0)


def _share(pattern: Tensor, queries: Tensor, keys: Tensor) -> np.ndarray:
    """Attention from the queries to the keys, averaged over queries, (batch)."""
    given = (pattern * keys[:, None]).sum(-1)
    return ((given * queries).sum(-1) / queries.sum(-1)).cpu().double().numpy()
