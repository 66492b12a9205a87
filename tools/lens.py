"""Read the residual stream after every block as if it were the last: top tokens, the rank and probability of watched
tokens, at one or at every position of a prompt; or, over a task's examples, how well each depth already answers.

Depth d is the state after d blocks: depth 0 is the embedding and the last depth is the model itself. With `norm` the
final norm is applied first (the logit lens, nostalgebraist 2020), without it the head reads the raw state (Alammar 2021).
A late reading is no proof that nothing is computed earlier: the state may hold the answer in a form the head cannot read.
"""

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from experiments_db.records import Array, Measurement, Outcome
from tools.engine.sites import Site
from tools.methods.answers import INTACT, keep
from tools.methods.arguments import AMONG, EXAMPLES
from tools.methods.layout import depth_component
from tools.methods.measuring import groups_of, load_examples, score_measurements, where_of
from tools.methods.saying import examples_of
from tools.methods.scoring import encoded_all, score
from tools.methods.tables import as_array, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.ports import port_of
from tools.ports.text import encode
from tools.subjects import Inputs, Subject

KIND: Literal["experiment"] = "experiment"
EXAMPLE = {"task": "agreement", "examples": 32}


class Args(ToolArgs):
    """Arguments of lens."""

    prompt: str | None = Field(default=None, description="a text to read; give either prompt or task")
    task: str | None = Field(default=None, description="a task spec: the answer's rank and probability at every depth")
    watch: list[str] = Field(default=[], max_length=8, description="for a prompt: texts whose first token to follow")
    top_k: int = Field(default=5, ge=1, le=50, description="for a prompt: how many top tokens at each place")
    at: Literal["-1", "all"] = Field(default="-1", description="for a prompt: -1, where it ends, or every position")
    norm: bool = Field(default=True, description="apply the final norm before the head")
    among: str = AMONG
    examples: int = EXAMPLES


def run(args: Args, ctx: Context) -> Outcome:
    """Read a prompt or a task at every depth."""
    if (args.prompt is None) == (args.task is None):
        raise ToolInputError("give either prompt or task")
    if args.task is not None:
        return _task(args, ctx, args.task)
    ctx.subject.require("next_token")
    ids = ctx.subject.tokens(args.prompt) if args.prompt else []
    if not ids:
        raise ToolInputError("the prompt has no tokens: give some text")
    labels = [ctx.subject.token_label(t) for t in ids]
    return _prompt(args, ctx, args.prompt or "", ctx.subject.inputs([ids]), labels)


def _task(args: Args, ctx: Context, name: str) -> Outcome:
    task, examples = load_examples(ctx, name, args.examples, args.among)
    n = len(ctx.subject.spec().blocks)
    if not args.norm:
        raise ToolInputError("norm=false is for prompts; tasks are read through the final norm")
    # Stopping after d blocks and reading out IS the lens at depth d.
    variants = [ctx.subject.variant({ctx.subject.readout: range(d)}) for d in range(n + 1)]
    scores, _ = score(ctx.subject, examples, lambda _: variants, choices=task.choices, max_tokens=ctx.max_tokens)
    places = [str(depth_component(ctx.subject, depth, "answer")) for depth in range(n + 1)]
    read = {f"logit lens at {place}": s for place, s in zip(places, scores, strict=True)}
    keep(ctx, task, examples, {INTACT: scores[-1], **read})
    where, groups = where_of(ctx, task, args.among), groups_of(examples)
    measurements: list[Measurement] = []
    for depth, own in enumerate(scores):
        measurements += score_measurements(own, groups, component=places[depth], variant="logit lens", **where)
    head = f"lens on {examples_of(task, args.among)} ({ctx.split}, n={len(examples)}), by depth (blocks passed)\n"
    if "rank" in scores[0].lacks:  # no token or class is read: how well each depth answers, and no more
        objectives = port_of(ctx.subject).objectives
        by_depth = np.array([[np.nanmean(o.read(s)) for o in objectives.values()] for s in scores])
        table = text_table(range(n + 1), list(objectives), by_depth)
        axes = [("depth", range(n + 1)), ("objective", list(objectives))]
        return Outcome(
            text=head + table, measurements=tuple(measurements), arrays=(as_array("by_depth", by_depth, axes),)
        )
    values = np.array([[s.correct.mean(), np.median(s.rank), s.nll.mean()] for s in scores])
    ranks = np.array([s.rank for s in scores], dtype=np.int64)
    axes = [("depth", range(n + 1)), ("example", [e.shown[-30:] + e.answer for e in examples])]
    # One example in full, position by position: the shortest, so that the grid can be read.
    encoded = encoded_all(ctx.subject, examples)
    at = min(range(len(examples)), key=lambda i: encoded[i].lengths[ctx.subject.readout])
    port, shown = port_of(ctx.subject), examples[at]
    inputs, labels = port.inputs(ctx.subject, [encoded[at]]), port.labels(ctx.subject, shown, stack=ctx.subject.readout)
    one = _prompt(args.model_copy(update={"at": "all", "watch": []}), ctx, shown.shown, inputs, labels)
    measurements += [m for m in one.measurements if m.name == "top1"]
    return Outcome(
        text=head + text_table(range(n + 1), ["accuracy", "median rank", "nll"], values),
        measurements=tuple(measurements),
        arrays=(as_array("rank", ranks, axes, "rank, 1 is top"), *one.arrays),
    )


def _prompt(args: Args, ctx: Context, prompt: str, inputs: Inputs, said: list[str]) -> Outcome:
    """One input's grid. said: what stands at each position of the stack that is read out."""
    subject, port = ctx.subject, port_of(ctx.subject)
    watched = {w: encode(subject, prompt, w)[1][0] for w in args.watch}
    with subject.evaluating():
        logits = _depths(subject, inputs, args)[:, : len(said)]
        logprob = logits.float().log_softmax(-1)
    positions = range(len(said)) if args.at == "all" else [len(said) - 1]
    top = logprob.topk(min(args.top_k, logprob.shape[-1]), dim=-1)
    measurements: list[Measurement] = []
    for depth in range(logprob.shape[0]):
        for column, position in enumerate(positions):
            place: dict[str, Any] = {
                "component": str(depth_component(subject, depth, str(position - len(said)))),
                "variant": "norm" if args.norm else "no norm",
            }
            row = logprob[depth, column]
            for text, token in watched.items():
                rank = int((row > row[token]).sum()) + 1
                measurements += [
                    Measurement(name="rank", unit="rank, 1 is top", value=rank, n=1, token=text, **place),
                    Measurement(name="logprob", unit="nats", value=float(row[token]), n=1, token=text, **place),
                ]
            best = int(row.argmax())
            label = port.answer_label(subject, best)
            chance = float(row[best].exp())
            measurements.append(Measurement(name="top1", unit="probability", value=chance, n=1, token=label, **place))
            entropy = float(-(row.exp() * row).nan_to_num().sum())
            measurements.append(Measurement(name="entropy", unit="nats", value=entropy, n=1, **place))
            size = float(logits[depth, column].float().norm())
            measurements.append(Measurement(name="logit_norm", unit="logits, Euclidean", value=size, n=1, **place))
    labels = [f"{i - len(said)} {said[i]}" for i in positions]
    axes = [("depth", range(logprob.shape[0])), ("position", labels)]
    arrays: list[Array] = [
        as_array(
            "top_token", top.indices.cpu().numpy().astype(np.int64), [*axes, ("place", range(top.indices.shape[-1]))]
        ),
        as_array(
            "top_logprob", top.values.double().cpu().numpy(), [*axes, ("place", range(top.values.shape[-1]))], "nats"
        ),
    ]
    return Outcome(
        text=_grid_text(subject, prompt, logprob, top.indices, top.values, watched, labels),
        measurements=tuple(measurements),
        arrays=tuple(arrays),
    )


def _depths(subject: Subject, inputs: Inputs, args: Args) -> Tensor:
    """Logits at every depth, (depths, positions, vocab)."""
    spec = subject.spec()
    sites = [Site(spec.name, b, "resid_pre") for b in range(len(spec.blocks))]
    run = subject.run(inputs, capture=sites)
    states = torch.cat([*(run.captured[s] for s in sites), run.final])
    if args.at == "-1":
        states = states[:, -1:]
    return torch.cat([subject.unembed(h[None], norm=args.norm) for h in states])


def _grid_text(
    subject: Subject,
    prompt: str,
    logprob: Tensor,
    top: Tensor,
    values: Tensor,
    watched: dict[str, int],
    labels: list[str],
) -> str:
    lines = [f"lens on {prompt!r}: depth, position, top tokens with probability"]
    for depth in range(logprob.shape[0]):
        for column, label in enumerate(labels):
            tops = ", ".join(
                f"{port_of(subject).answer_label(subject, int(t))!r} {float(v.exp()):.2f}"
                for t, v in zip(top[depth, column], values[depth, column], strict=True)
            )
            row = logprob[depth, column]
            ranks = "".join(f"; {w!r} rank {int((row > row[t]).sum()) + 1}" for w, t in watched.items())
            where = "" if len(labels) == 1 else f" {label!r}"
            lines.append(f"{depth}{where}: {tops}{ranks}")
    return "\n".join(lines)
