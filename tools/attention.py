"""Attention patterns of every head, with scores for known kinds: previous token, first token, duplicate token,
induction; and, for a task, how much the prompt's last token attends to each of the positions before it.

Without a task the text is random tokens said twice (Olsson et al. 2022): induction is attention from the second half
to the token AFTER the earlier occurrence, duplicate to the earlier occurrence itself. Scores are means over queries,
then over sequences. The control is what a head that spreads its attention evenly over all earlier tokens would score.
A pattern says where a head looks, not that what it sees matters: patch or ablate it.
"""

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from experiments_db.records import Control, Measurement, Outcome
from tools.engine.sites import Site
from tools.methods.arguments import EXAMPLES, SPLIT, SplitName, check_blocks
from tools.methods.measuring import load_examples, measured
from tools.methods.scoring import microbatches
from tools.methods.tables import as_array, grid, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.statistics import intervals as statistics
from tools.subjects import Subject

KIND: Literal["experiment"] = "experiment"
EXAMPLE = {"layers": [0, 1], "examples": 16}
SCORES = ("previous", "first", "duplicate", "induction")


class Args(ToolArgs):
    """Arguments of attention."""

    task: str | None = Field(
        default=None, description="a task spec, for where its last token looks; null for repeated random tokens"
    )
    layers: list[int] = Field(default=[], description="which blocks, counted from 0; empty means every block")
    depth: int = Field(
        default=8, ge=1, le=64, description="for a task: how many positions, counted back from the last as -1"
    )
    length: int = Field(default=16, ge=4, le=256, description="without a task: tokens in the part that is repeated")
    split: SplitName = SPLIT
    examples: int = EXAMPLES


def run(args: Args, ctx: Context) -> Outcome:
    """Score every head."""
    layers = check_blocks(ctx, args.layers)
    spec = ctx.subject.spec()
    if "attn.pattern" not in spec.kinds:
        raise ToolInputError(f"this model's attention patterns are out of reach; it has {', '.join(spec.kinds)}")
    if not spec.causal:
        raise ToolInputError("the scores are about earlier tokens; this model attends both ways")
    with ctx.subject.evaluating():
        return _on_task(args, ctx, layers, args.task) if args.task else _on_repeats(args, ctx, layers)


def patterns(subject: Subject, inputs: Any, layers: list[int]) -> dict[int, Tensor]:
    """Attention weights by block, (batch, heads, queries, keys)."""
    spec = subject.spec()
    sites = {layer: Site(spec.name, layer, "attn.pattern") for layer in layers}
    captured = subject.run(inputs, capture=sites.values()).captured
    return {b: captured[s].float().unflatten(-1, (spec.n_heads, -1)).transpose(1, 2) for b, s in sites.items()}


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


def _on_repeats(args: Args, ctx: Context, layers: list[int]) -> Outcome:
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
    found: dict[tuple[int, str], list[np.ndarray]] = {}
    even: dict[str, list[np.ndarray]] = {}
    step = max(1, ctx.max_tokens // (2 * args.length))
    for at in range(0, len(rows), step):
        inputs = subject.inputs(rows[at : at + step])
        ids = inputs.fields["input_ids"]
        uniform = torch.ones(ids.shape[1], ids.shape[1], device=ids.device).tril()
        uniform = (uniform / uniform.sum(-1, keepdim=True)).expand(len(ids), 1, -1, -1)
        for name, values in kinds_of(uniform, ids).items():
            even.setdefault(name, []).append(values[:, 0].cpu().double().numpy())
        for layer, pattern in patterns(subject, inputs, layers).items():
            for name, values in kinds_of(pattern, ids).items():
                found.setdefault((layer, name), []).append(values.cpu().double().numpy())
    measurements: list[Measurement] = []
    for (layer, name), parts in found.items():
        values, base = np.concatenate(parts), statistics.mean(np.concatenate(even[name]), ctx.seed)
        control = Control(
            kind="attention spread evenly over earlier tokens", value=base.value, low=base.low, high=base.high, n=base.n
        )
        for head in range(values.shape[1]):
            estimate = statistics.mean(values[:, head], ctx.seed)
            measurements.append(
                measured(name, "share of attention", estimate, control=control, layer=layer, head=head,
                         site=f"{layer}.head.{head}", variant="repeated random tokens")
            )  # fmt: skip
    lines = [
        f"attention on {args.examples} random sequences of {args.length} tokens, said twice: share of attention, blocks x heads"
    ]
    arrays = []
    for name in SCORES:
        rows_, columns, table = grid(measurements, name, "layer", "head")
        control = next(m.control for m in measurements if m.name == name)
        assert control is not None
        lines.append(f"{name} (evenly spread: {control.value:.2f})\n" + text_table(rows_, columns, table))
        arrays.append(as_array(name, table, [("layer", rows_), ("head", columns)], "share of attention"))
    return Outcome(text="\n".join(lines), measurements=tuple(measurements), arrays=tuple(arrays))


def _on_task(args: Args, ctx: Context, layers: list[int], name: str) -> Outcome:
    subject = ctx.subject
    task, examples = load_examples(ctx, name, args.split, args.examples)
    heads = subject.spec().n_heads
    seen = {layer: np.full((len(examples), heads, args.depth), np.nan) for layer in layers}
    even = np.full((len(examples), args.depth), np.nan)
    for batch in microbatches(subject, examples, ctx.max_tokens):
        found = patterns(subject, batch.inputs, layers)
        for row, (index, last) in enumerate(zip(batch.indices, batch.last[:, 0].tolist(), strict=True)):
            n = min(args.depth, last + 1)
            even[index, :n] = 1 / (last + 1)
            for layer, pattern in found.items():
                weights = pattern[row, :, last, last - n + 1 : last + 1].flip(-1)
                seen[layer][index, :, :n] = weights.cpu().double().numpy()
    measurements: list[Measurement] = []
    for layer in layers:
        for head in range(heads):
            for back in range(args.depth):
                values = seen[layer][:, head, back]
                known = ~np.isnan(values)
                if known.sum() < 2:
                    continue
                base = statistics.mean(even[known, back], ctx.seed)
                control = Control(
                    kind="attention spread evenly over earlier tokens",
                    value=base.value,
                    low=base.low,
                    high=base.high,
                    n=base.n,
                )
                measurements.append(
                    measured("attention", "share of the last token's attention", statistics.mean(values[known], ctx.seed),
                             control=control, task=task.name, split=args.split, layer=layer, head=head,
                             site=f"{layer}.head.{head}", position=str(-1 - back))
                )  # fmt: skip
    labels = [f"{layer}.{head}" for layer in layers for head in range(heads)]
    places = list(dict.fromkeys(m.position for m in measurements))
    table = np.full((len(labels), len(places)), np.nan)
    for m in measurements:
        table[labels.index(f"{m.layer}.{m.head}"), places.index(m.position)] = m.value
    text = (
        f"where the last token of {task.name} looks ({args.split}, n={len(examples)}): share of attention, heads x positions "
        "counted back\n"
    )
    return Outcome(
        text=text + text_table(labels, places, table),
        measurements=tuple(measurements),
        arrays=(as_array("attention", table, [("head", labels), ("position", places)], "share of attention"),),
    )
