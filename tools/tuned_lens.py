"""Read the residual stream at every depth through a translator fitted for that depth: the tuned lens, beside the logit
lens.

Without a prompt: how far each lens' distribution is from the model's own on texts that it was not fitted on (KL), and
how far its average distribution is from the model's average (bias), by depth. With `transfer` also the KL of every
translator used at every other depth. With `lens_of` the lens of another model of the same shape, such as the one that this was
tuned from, is fitted on that model and read here: the share of the tuned lens' advantage over the logit lens that survives, by
depth, beside that of a lens of random weights. With a prompt: top tokens at every depth. The corpus is prompts and answers of
tasks; a lens fitted on one corpus speaks of that corpus. What a lens reads was put there by training the lens as well
as the model: it is a correlation. Source: Belrose et al. 2023; started in closed form (ridge) instead of at zero,
which with steps=0 is the whole fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from experiments_db.records import Array, Measurement, Outcome
from tools.methods.features import random_twin
from tools.methods.layout import depth_component
from tools.methods.measuring import average, control_of, differences, measured, recoveries
from tools.methods.tables import as_array, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.methods.translators import Corpus, Start, corpus, fitted, kl, logprobs, split_rows, states, translate
from tools.statistics import Groups
from tools.subjects import Subject, SubjectError, built_in, load_subject

KIND: Literal["experiment"] = "experiment"
NEEDS = "next_token"
EXAMPLE = {"tasks": ["addition", "agreement"], "examples": 64, "steps": 40}


class Args(ToolArgs):
    """Arguments of tuned_lens."""

    tasks: list[str] = Field(
        min_length=1, max_length=16, description="task specs whose prompts and answers are the corpus"
    )
    prompt: str | None = Field(
        default=None, min_length=1, description="a text to read; null compares the lenses on held-out texts"
    )
    transfer: bool = Field(default=False, description="without a prompt: use every translator at every depth")
    lens_of: str = Field(
        default="",
        description="without a prompt: a model of the same shape, by folder or built-in name, whose lens is also read here",
    )
    top_k: int = Field(default=3, ge=1, le=20, description="with a prompt: how many top tokens at each place")
    start: Start = Field(
        default="ridge",
        description="ridge: the closed-form fit; zero: no translation, which with steps=0 is the logit lens",
    )
    steps: int = Field(default=100, ge=0, le=2000, description="KL steps after the start")
    examples: int = Field(default=128, ge=16, le=4096, description="how many examples of each task the corpus has")


def run(args: Args, ctx: Context) -> Outcome:
    """Fit, or load, the lens and read with it."""
    ctx.subject.require("next_token")
    if args.lens_of and args.prompt is not None:
        raise ToolInputError("lens_of: lenses are compared on held-out texts: leave out prompt")
    texts = corpus(ctx, args.tasks, "explore", args.examples)
    train, held_out = split_rows(texts, ctx.seed)
    lens = fitted(ctx, train.rows, args.steps, args.start)
    if args.prompt is not None:
        return _read(args, ctx, lens, args.prompt, texts.name)
    if ctx.split == "confirm":
        held_out = corpus(ctx, args.tasks, "confirm", args.examples)
    made = _carried(args, ctx, train.rows) if args.lens_of else None
    with ctx.subject.evaluating():
        return _compare(args, ctx, lens, held_out, texts.name, made)


@dataclass(frozen=True)
class _Carried:
    """Lenses that were fitted on other models: one of the same shape, and one of random weights. words: whose."""

    words: str
    lens: Tensor
    null: Tensor


def _carried(args: Args, ctx: Context, rows: Sequence[tuple[int, ...]]) -> _Carried:
    """ToolInputError unless the other model is there and its states mean something here."""
    subject = ctx.subject
    if args.lens_of not in built_in() and not Path(args.lens_of).expanduser().is_dir():
        raise ToolInputError(f"lens_of: {args.lens_of!r} is no folder and none of {', '.join(built_in())}")
    try:
        other = load_subject(args.lens_of, device=str(subject.device), dtype=str(subject.dtype).removeprefix("torch."))
    except SubjectError as error:
        raise ToolInputError(f"lens_of: {error}") from None
    if (theirs := _shape(other)) != (own := _shape(subject)):
        raise ToolInputError(f"lens_of: {args.lens_of} is {theirs}, and {subject.name} is {own}: they have to be alike")
    if other.fingerprint == subject.fingerprint:
        raise ToolInputError(f"lens_of: {args.lens_of} is the very model that is studied: name another one")
    models = (other.like(subject), random_twin(subject, ctx.seed))
    lens, null = (fitted(replace(ctx, subject=m), rows, args.steps, args.start) for m in models)
    return _Carried(f"lens of {args.lens_of} ({other.fingerprint[:12]})", lens, null)


def _shape(subject: Subject) -> str:
    spec = subject.spec()
    tokens = (subject.parts or {}).get("tokenizer", "")[:8]
    return f"{subject.family.name} of {len(spec.blocks)} blocks, width {spec.width}, tokenizer {tokens or 'unknown'}"


def _compare(args: Args, ctx: Context, lens: Tensor, texts: Corpus, name: str, made: _Carried | None = None) -> Outcome:
    rows, groups = texts.rows, texts.groups
    s = states(ctx.subject, rows, ctx.max_tokens)
    truth = logprobs(ctx.subject, s.h[-1])
    depths = s.h.shape[0]
    where: dict[str, Any] = {"task": name, "split": ctx.split}
    measurements: list[Measurement] = []
    table = np.zeros((depths, 4))
    survives: list[list[float]] = []
    for depth in range(depths):
        plain = logprobs(ctx.subject, s.h[depth])
        tuned = (
            truth
            if depth == depths - 1
            else logprobs(ctx.subject, translate(s.h[depth][None], lens[depth : depth + 1])[0])
        )
        kls = [_by_text(kl(truth, q), s.owner) for q in (plain, tuned)]
        biases = [_bias(truth, q) for q in (plain, tuned)]
        table[depth] = [kls[0].mean(), kls[1].mean(), *biases]
        base, tuned_kl = average(kls[0], groups), average(kls[1], groups)
        (change,) = differences(kls[1], kls[0], groups)
        control = control_of("logit lens on the same texts", base, change)
        place: dict[str, Any] = {"component": str(depth_component(ctx.subject, depth)), **where}
        own, overall = "nats a token, from the model's own", "nats, of the average distribution"
        measurements += [
            measured("kl", own, tuned_kl, control=control, variant="tuned lens", **place),
            measured("kl", own, base, variant="logit lens", **place),
            measured("kl.delta", "nats a token, tuned minus logit lens", change, **place),
            Measurement(
                name="bias",
                unit=overall,
                value=biases[1],
                n=len(rows),
                groups=groups.count,
                variant="tuned lens",
                **place,
            ),
            Measurement(
                name="bias",
                unit=overall,
                value=biases[0],
                n=len(rows),
                groups=groups.count,
                variant="logit lens",
                **place,
            ),
        ]
        if made is not None and depth < depths - 1:
            both = [
                logprobs(ctx.subject, translate(s.h[depth][None], x[depth : depth + 1])[0])
                for x in (made.lens, made.null)
            ]
            there = [_by_text(kl(truth, q), s.owner) for q in both]
            found = _survival(kls[0], kls[1], there, groups, made.words, place)
            measurements += found
            survives.append([m.value for m in found])
    lines = [
        f"lenses fitted on {name}, read on {len(rows)} other texts ({ctx.split}), by depth (blocks passed), nats",
        text_table(range(depths), ["KL logit", "KL tuned", "bias logit", "bias tuned"], table, digits=3),
    ]
    arrays: list[Array] = [
        as_array(
            "lenses",
            table,
            [("depth", range(depths)), ("quantity", ["KL logit", "KL tuned", "bias logit", "bias tuned"])],
            "nats",
        )
    ]
    if made is not None:
        columns = [f"KL {made.words}", "KL lens of random weights", "share that survives"]
        lines.append(
            f"{made.words}, read here\n" + text_table(range(depths - 1), columns, np.array(survives), digits=3)
        )
        arrays.append(
            as_array(
                "carried", np.array(survives), [("depth", range(depths - 1)), ("quantity", columns)], "nats a token"
            )
        )
    if args.transfer:
        matrix = np.zeros((depths - 1, depths - 1))
        for own in range(depths - 1):
            for at in range(depths - 1):
                out = logprobs(ctx.subject, translate(s.h[at][None], lens[own : own + 1])[0])
                estimate = average(_by_text(kl(truth, out), s.owner), groups)
                matrix[own, at] = estimate.value
                measurements.append(
                    measured(
                        "transfer.kl",
                        "nats a token, from the model's own",
                        estimate,
                        component=str(depth_component(ctx.subject, at)),
                        variant=f"translator of depth {own}",
                        **where,
                    )
                )
        lines.append(
            "transfer: KL of the translator of one depth (row) used at another (column)\n"
            + text_table(range(depths - 1), range(depths - 1), matrix)
        )
        arrays.append(
            as_array(
                "transfer", matrix, [("translator", range(depths - 1)), ("depth", range(depths - 1))], "nats a token"
            )
        )
    return Outcome(text="\n".join(lines), measurements=tuple(measurements), arrays=tuple(arrays))


def _survival(
    logit: np.ndarray, own: np.ndarray, carried: Sequence[np.ndarray], groups: Groups, words: str, place: dict[str, Any]
) -> list[Measurement]:
    """What a carried lens and that of random weights are off, and which share of the advantage over the logit lens is left."""
    theirs, null = carried
    unit, kind = "nats a token, from the model's own", "lens of random weights, read here"
    (change,) = differences(theirs, null, groups)
    control = control_of(kind, average(null, groups), change)
    out = [
        measured("kl", unit, average(theirs, groups), control=control, variant=words, **place),
        measured("kl", unit, average(null, groups), variant=kind, **place),
    ]
    share, nothing, apart = (
        recoveries(x, logit - own, groups)[0] for x in (logit - theirs, logit - null, null - theirs)
    )
    beside = control_of(kind, nothing, apart)
    unit = "share of the advantage over the logit lens"
    return [*out, measured("survives", unit, share, control=beside, variant=words, **place)]


def _by_text(values: Tensor, owner: np.ndarray) -> np.ndarray:
    """Means over each text's tokens: texts are the independent units."""
    v = values.cpu().double().numpy()
    return np.bincount(owner, weights=v) / np.bincount(owner)


def _bias(truth: Tensor, q: Tensor) -> float:
    """KL between average distributions."""
    n = torch.tensor(float(truth.shape[0])).log().item()
    return max(0.0, float(kl(truth.logsumexp(0) - n, q.logsumexp(0) - n)))


def _read(args: Args, ctx: Context, lens: Tensor, prompt: str, name: str) -> Outcome:
    subject = ctx.subject
    ids = subject.tokens(prompt)
    if not ids:
        raise ToolInputError("the prompt has no tokens: give some text")
    with subject.evaluating():
        h = states(subject, [ids], ctx.max_tokens).h
        read = torch.cat([logprobs(subject, translate(h[:-1], lens)), logprobs(subject, h[-1:])])
    top = read.topk(min(args.top_k, read.shape[-1]), dim=-1)
    measurements: list[Measurement] = []
    lines = [f"tuned lens (fitted on {name}) on {prompt!r}: depth, top tokens with probability at the last position"]
    for depth in range(read.shape[0]):
        for position in range(len(ids)):
            best = int(top.indices[depth, position, 0])
            place = str(depth_component(subject, depth, str(position - len(ids))))
            measurements.append(
                Measurement(
                    name="top1", unit="probability", value=float(top.values[depth, position, 0].exp()), n=1, component=place,
                    token=subject.token_label(best), variant="tuned lens", task=name,
                )
            )  # fmt: skip
        tops = zip(top.indices[depth, -1].tolist(), top.values[depth, -1].exp().tolist(), strict=True)
        lines.append(f"{depth}: " + ", ".join(f"{subject.token_label(t)!r} {p:.2f}" for t, p in tops))
    labels = [f"{i - len(ids)} {subject.token_label(t)}" for i, t in enumerate(ids)]
    axes = [("depth", range(read.shape[0])), ("position", labels), ("place", range(top.indices.shape[-1]))]
    return Outcome(
        text="\n".join(lines),
        measurements=tuple(measurements),
        arrays=(
            as_array("top_token", top.indices.cpu().numpy().astype(np.int64), axes),
            as_array("top_logprob", top.values.double().cpu().numpy(), axes, "nats"),
        ),
    )
