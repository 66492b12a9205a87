"""A map of what a head's queries and keys are near to: both in one space, over many sequences.

Keys are moved by one vector and both are scaled by c and 1/c, which leaves attention as it is, so that near means attended (Yeh
et al. 2023); the largest change of attention by it is measured. Given for every head: how well distance follows the dot product
before and after; and how often the nearest keys of OTHER sequences share a label with their query (token, position, the
position before, kind, role; of images row, column and colour), beside what shuffled labels would give. Laid out in a plane by
PCA, t-SNE or UMAP. In models with rotary positions queries and keys are taken after the rotation, so that position is part of
where they lie.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from experiments_db.places import Component
from experiments_db.records import Measurement, Outcome
from tools.methods.arguments import AMONG
from tools.methods.kept_points import kept_points, looks_of
from tools.methods.measuring import (
    average,
    averages,
    control_of,
    differences,
    groups_of,
    load_examples,
    measured,
    where_of,
)
from tools.methods.point_labels import point_labels
from tools.methods.query_keys import Attending, attention, captured, follows, joint, plane, shared
from tools.methods.saying import examples_of
from tools.methods.tables import by_component, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.statistics import Groups

KIND: Literal["experiment"] = "experiment"
EXAMPLE = {"task": "copying", "blocks": [0], "examples": 16}
SHUFFLED = "shuffled labels"
KEPT = 150  # positions whose queries and keys are kept to be drawn, the same of every head
SHARE = "share of nearest keys of other sequences"
RANKS = "Spearman over queries and the keys that they see"


class Args(ToolArgs):
    """Arguments of qk_map."""

    task: str = Field(description="a task spec; see list_tasks")
    blocks: list[int] = Field(default=[], description="blocks whose heads are mapped; empty is all of them")
    stack: str = Field(
        default="", description="whose heads, encoder or decoder; empty is the stack that reads the input"
    )
    layout: Literal["pca", "tsne", "umap"] = Field(default="pca", description="how points are laid out in the plane")
    among: str = AMONG
    examples: int = Field(default=32, ge=8, le=512, description="how many sequences")


def run(args: Args, ctx: Context) -> Outcome:
    """Map every head of the blocks."""
    task, examples = load_examples(ctx, args.task, args.examples, args.among)
    subject = ctx.subject
    spec = subject.spec(args.stack or next(iter(subject.stacks)))
    blocks = args.blocks or list(range(len(spec.blocks)))
    wrong = next((b for b in blocks if not 0 <= b < len(spec.blocks)), None)
    if wrong is not None:
        raise ToolInputError(f"blocks: {wrong} is none; {spec.name} has blocks 0 to {len(spec.blocks) - 1}")
    groups, where = groups_of(examples), where_of(ctx, task, args.among)
    out: list[Measurement] = []
    heads: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    lengths: list[int] = []
    worst = rebuilt = 0.0
    labels: dict[str, np.ndarray] = {}
    kept = np.zeros(0, np.int64)
    for block in blocks:
        ctx.progress(f"block {block}")
        found = captured(subject, examples, spec.name, block, ctx.max_tokens)
        lengths = [x.keys.shape[1] for x in found]
        if not labels:
            labels = point_labels(subject, examples, spec.name, lengths)
            kept = np.sort(np.random.default_rng(ctx.seed).permutation(sum(lengths))[:KEPT])
        for head in range(spec.n_heads):
            place = Component(stack=spec.name, block=block, part="attn.pattern", units=(head,))
            made, points, changed, off = _head(
                found, head, labels, groups, {**where, "component": str(place)}, kept, causal=spec.causal
            )
            worst, rebuilt = max(worst, changed), max(rebuilt, off)
            out += made
            heads[f"{block}.{head}"] = plane(points, args.layout, ctx.seed), looks_of(found, head, kept)
    count: dict[str, Any] = {"n": len(examples), "groups": groups.count, **where}
    out.append(Measurement(name="attention_change", unit="share of attention, at most", value=worst, **count))
    out.append(Measurement(name="attention_rebuilt", unit="share of attention, at most off", value=rebuilt, **count))
    text = _text(out, f"{examples_of(task, args.among)} ({ctx.split}, n={len(examples)})", worst, rebuilt)
    shown = kept_points(subject, examples, spec.name, lengths, kept, heads, labels)
    return Outcome(text=text, measurements=tuple(out), arrays=shown)


def _head(
    found: Sequence[Attending],
    head: int,
    labels: Mapping[str, np.ndarray],
    groups: Groups,
    where: Mapping[str, Any],
    kept: np.ndarray,
    *,
    causal: bool,
) -> tuple[list[Measurement], np.ndarray, float, float]:
    """Measurements of one head, its points (queries, then keys, of those that are kept), how much its attention changes in the
    joint space, and how far it is from the model's own where scores are divided by the root of the width.
    """
    q, k = (np.concatenate([getattr(x, side)[head] for x in found]) for side in ("queries", "keys"))
    space = joint([(x.queries[head], x.keys[head]) for x in found], causal=causal)
    factor = q.shape[-1] ** -0.5
    before, after = np.full(len(found), np.nan), np.full(len(found), np.nan)
    worst = rebuilt = 0.0
    for i, x in enumerate(found):
        a, b, w = x.queries[head], x.keys[head], x.weights[head]
        own, moved = (
            attention(s, t, causal=causal, factor=factor) for s, t in ((a, b), (space.queries(a), space.keys(b)))
        )
        worst, rebuilt = max(worst, float(np.abs(own - moved).max())), max(rebuilt, float(np.abs(own - w).max()))
        before[i] = follows(a, b, causal=causal)
        after[i] = follows(space.queries(a), space.keys(b), causal=causal)
    out: list[Measurement] = []
    known = ~np.isnan(before) & ~np.isnan(after)
    if known.any():
        whose = Groups.of(groups.codes[known])
        base = average(before[known], whose, (-1.0, 1.0))
        (apart,) = differences(after[known], before[known], whose, (-2.0, 2.0))
        control = control_of("queries and keys as they are", base, apart)
        out.append(measured("follows", RANKS, average(after[known], whose, (-1.0, 1.0)), control=control, **where))
    lengths = [x.keys.shape[1] for x in found]
    order = np.random.default_rng([head, len(q)]).permutation(len(q))
    for name, given in labels.items():
        if len(set(given.ravel())) < 2:
            continue
        own, other = shared(space, q, k, lengths, given, order)
        value, base = averages(np.stack([own, other]), groups, (0.0, 1.0))
        (apart,) = differences(own, other, groups, (-1.0, 1.0))
        out.append(measured("shares", SHARE, value, control=control_of(SHUFFLED, base, apart), label=name, **where))
    return out, np.concatenate([space.queries(q)[kept], space.keys(k)[kept]]), worst, rebuilt


def _text(found: Sequence[Measurement], about: str, worst: float, rebuilt: float) -> str:
    rows, columns, values = by_component(found, ["follows"])
    labels = list(dict.fromkeys(m.label for m in found if m.name == "shares" and m.label))
    beyond = {(m.component, m.label): m.control.difference for m in found if m.name == "shares" and m.control}
    table = np.array(
        [[*line, *(beyond.get((r, label), np.nan) for label in labels)] for r, line in zip(rows, values, strict=True)]
    )
    table = table.astype(float)
    head = f"queries and keys in one space, on {about}\n"
    says = (
        "follows: how nearness follows the dot product, control: as it was; the others: how much more often than with "
    )
    says += (
        "shuffled labels the nearest keys of other sequences share it. The joint space changes attention by at most "
    )
    says += f"{worst:.1e}"
    own = f"; dividing scores by the root of the width gives the model's own to {rebuilt:.1e}"
    return head + text_table(rows, [*columns, *labels], table) + "\n" + says + own
