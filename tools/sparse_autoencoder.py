"""A sparse autoencoder of a part's activations: how well it gives them back, how sparsely, and whether its features are one
thing on several corpora, beside random directions and the part's own channels or neurons.

Trained here from a seed on explore examples, or read from SAELens' files. Scored on other examples: the share of variance that it
explains, how many features are active at a position, and of the features that vary most how much of what their concepts explain
is lost from the first corpus to the second (see cross_dataset). Random dictionaries have as many directions, and these and the
channels themselves keep as many at a position. Its features are places: *.2.resid_post[sae:NAME/17].
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from experiments_db.places import PARTS, Component
from experiments_db.records import Measurement, Outcome
from tools.methods.arguments import components
from tools.methods.concepts import compare, corpus_of, inside
from tools.methods.dictionaries import (
    TRAINED,
    WEIGHTS,
    dictionary_named,
    name_of,
    random_dictionary,
    training_examples,
)
from tools.methods.layout import one_component
from tools.methods.measuring import average, averages, control_of, differences, load_examples, measured
from tools.methods.tables import text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.methods.unit_values import values
from tools.statistics import Groups

KIND: Literal["experiment"] = "experiment"
NEEDS = "units"
EXAMPLE = {"tasks": ["addition", "copying"], "components": ["*.2.mlp.act"], "dictionary": "topk.64.8.0"}
KEPT = 16  # features that vary most, whose concepts are fitted
OWN, RANDOM, CHANNELS = "dictionary", "random directions", "the part's own channels"


class Args(ToolArgs):
    """Arguments of sparse_autoencoder."""

    tasks: list[str] = Field(
        min_length=2, max_length=8, description="the corpora: tasks that it is trained and scored on"
    )
    components: list[str] = components(["*.2.mlp.act"], "the one part whose activations it is of")
    dictionary: str = Field(
        default="topk.256.8.0",
        description="topk.LATENTS.K.SEED or relu.LATENTS.L1_IN_THOUSANDTHS.SEED to train one, or a folder with cfg.json and "
        "sae_weights.safetensors",
    )
    examples: int = Field(default=64, ge=16, le=1024, description="how many examples of each corpus it is scored on")


def run(args: Args, ctx: Context) -> Outcome:
    """Train or read it, then score it beside its baselines."""
    within = one_component(ctx.subject, args.components)
    if within.units or within.anchor or not PARTS[within.part].unit or PARTS[within.part].is_pattern:
        raise ToolInputError(
            f"components: a whole part at every position is meant, as *.2.mlp.act or *.2.resid_post, not {within}"
        )
    name = _name(args)
    made = dictionary_named(ctx, name, within)
    tried = {t: _scored(args, ctx, t) for t in args.tasks}
    states = {t: values(ctx.subject, e, within, lambda h: h, ctx.max_tokens) for t, e in tried.items()}
    width = made.encoder.shape[0]
    if (has := next(iter(states.values()))[0].shape[1]) != width:
        raise ToolInputError(f"dictionary: {name} reads {width} channels, and {within} has {has}")
    groups = Groups.of([e.group for es in tried.values() for e in es])
    flat = [torch.from_numpy(x[1:]).float() for found in states.values() for x in found]
    middle = torch.cat(flat).mean(0)
    kept = max(1, round(float(torch.cat([_active(made.encode(x)) for x in flat]).mean())))
    drawn = random_dictionary(replace(made, k=kept), ctx.seed)
    readers = {OWN: (made.encode, made.reconstruct), RANDOM: (drawn.encode, drawn.reconstruct),
               CHANNELS: (lambda h: h, lambda h: _largest(h - middle, kept) + middle)}  # fmt: skip
    spread = np.array([float(((x - middle) ** 2).sum(-1).mean()) for x in flat])
    left = {n: np.array([float(((x - back(x)) ** 2).sum(-1).mean()) for x in flat]) for n, (_, back) in readers.items()}
    shares = {n: (spread - x) / spread.mean() for n, x in left.items()}
    where: dict[str, Any] = {"component": str(within), "split": ctx.split, "label": name}
    out: list[Measurement] = []
    for other in (RANDOM, CHANNELS):
        own, base = averages(np.stack([shares[OWN], shares[other]]), groups)
        control = control_of(
            f"{other}, as many at a position", base, differences(shares[OWN], shares[other], groups)[0]
        )
        out.append(
            measured("explained", "share of the variance", own, control=control, variant=f"beside {other}", **where)
        )
    sparse = np.array([float(_active(made.encode(x)).mean()) for x in flat])
    out.append(measured("l0", "features active at a position", average(sparse, groups), **where))
    out += _mixed(args, ctx, within, tried, states, {n: encode for n, (encode, _) in readers.items()}, where)
    rows = [(m, m.control.value) for m in out if m.control is not None]
    table = text_table(
        [f"{m.name} {m.variant}" for m, _ in rows],
        ["own", "control"],
        np.array([[m.value, control] for m, control in rows]),
    )
    text = f"sparse autoencoder {name} of {within}, {made.encoder.shape[1]} features, {sparse.mean():.3g} active at a position\n"
    return Outcome(
        text=f"{text}{table}\nits features are places: {within}[sae:{name}/0] to /{made.encoder.shape[1] - 1}",
        measurements=tuple(out),
    )


def _name(args: Args) -> str:
    """What the dictionary is called in places."""
    if (Path(args.dictionary) / WEIGHTS).is_file():
        return name_of(Path(args.dictionary))
    plain = [t for t in args.tasks if TRAINED.fullmatch(f"topk.1.1.0/{t}")]
    if re_trained := TRAINED.fullmatch(f"{args.dictionary}/{'/'.join(args.tasks)}"):
        return re_trained[0]
    if len(plain) < len(args.tasks) and TRAINED.fullmatch(f"{args.dictionary}/a"):
        raise ToolInputError(
            "tasks: one is trained here on tasks without options, which can stand in the names of its features"
        )
    return args.dictionary


def _scored(args: Args, ctx: Context, task: str) -> list[Any]:
    """Examples that it is not trained on."""
    load_examples(ctx, task, args.examples)
    if ctx.split == "confirm":
        return load_examples(ctx, task, args.examples)[1]
    return training_examples(ctx, [task], held_out=True)[: args.examples]


def _active(features: Tensor) -> Tensor:
    return (features > 0).sum(-1).float()


def _largest(x: Tensor, k: int) -> Tensor:
    at = x.abs().topk(min(k, x.shape[-1]), dim=-1).indices
    return torch.zeros_like(x).scatter(-1, at, x.gather(-1, at))


def _mixed(
    args: Args,
    ctx: Context,
    within: Component,
    tried: Mapping[str, Sequence[Any]],
    states: Mapping[str, Sequence[np.ndarray]],
    encoders: Mapping[str, Any],
    where: Mapping[str, Any],
) -> list[Measurement]:
    """Between the first two corpora, of the features that vary most in each dictionary: what their concepts explain, and lose."""
    a, b = args.tasks[:2]
    pair = (a, b)
    corpora = tuple(corpus_of(ctx.subject, t, within.stack, [len(x) for x in states[t]], [], tried[t]) for t in pair)
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, encode in encoders.items():
        read = [
            inside(c, [encode(torch.from_numpy(x).float()).double().numpy() for x in states[t]])
            for c, t in zip(corpora, pair, strict=True)
        ]
        top = np.argsort(-np.minimum(*(x.var(0) for x in read)), kind="stable")[:KEPT]
        compared = compare((corpora[0], corpora[1]), (read[0][:, top], read[1][:, top]))
        found[name] = {what: compared.both(what).mean(0) for what in ("own", "lost", "carried")}
    groups = Groups.of([f"{c.name} {g}" for c in corpora for g in c.groups])
    out: list[Measurement] = []
    for what in ("own", "carried", "lost"):
        for other in (RANDOM, CHANNELS):
            mine, base = found[OWN][what], found[other][what]
            control = control_of(f"as many of {other}", average(base, groups), differences(mine, base, groups)[0])
            out.append(
                measured(what, f"share of the variance, the mean of {KEPT} features", average(mine, groups), control=control,
                         task=a, variant=f"and {b}, beside {other}", **where)
            )  # fmt: skip
    return out
