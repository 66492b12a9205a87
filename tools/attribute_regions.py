"""What in an image decides its class: attributions of pixels gathered into regions, ranked, and held against what is known.

Integrated gradients from four baselines (black, the image's mean colour, noise, a blur), checked to add up to what they
explain; regions by segmentation, ranked by attribution (XRAI). Where examples have roles with boxes or pixels: how often the
region ranked first lies on each, and how often the answer is also another one without it. Performance information curves:
how much of the answer is back (sic: its probability, aic: the answer itself) when a blurred image is brought back in the order
of the ranking. All of it beside plain gradients, an edge map, the centre and a random order, which know less or nothing of the
model; and maps of models with random weights and with shuffled labels, which should not agree. Sources: Sundararajan et al.
2017; Kapishnikov et al. 2019; Adebayo et al. 2018.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from experiments_db.records import Array, Axis, Measurement, Outcome
from tools.methods.arguments import AMONG
from tools.methods.features import random_twin
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
from tools.methods.regions import POINTS, Mask, Ranked, area, brought_back, candidates, curve, lies_on, ranked
from tools.methods.saliency import (
    BASELINES,
    Maps,
    Seen,
    answers,
    baseline,
    blurred,
    centre,
    changed,
    edges,
    gradients,
    integrated,
    normalised,
    rank_correlation,
    relabelled,
    seen,
)
from tools.methods.saying import examples_of
from tools.methods.tables import text_table
from tools.methods.tool import Context, ToolArgs
from tools.ports.image import to_bytes
from tools.statistics import Groups

KIND: Literal["experiment"] = "experiment"
NEEDS = "image"
EXAMPLE = {"task": "shape", "examples": 16}
OWN, PIXELS, PLAIN, EDGES, CENTRE, RANDOM = (
    "regions by integrated gradients", "pixels by integrated gradients", "regions by plain gradients", "regions by edges",
    "regions by nearness to the centre", "regions at random",
)  # fmt: skip
SHOWN = 8  # images that are kept with their maps
SIDE = 64  # pixels of a kept image's longer side, at most
SMALL = 3_000_000  # parameters of a model of which a copy is trained on shuffled labels
IMAGES = "share of images"
AREA = "area under the curve"


class Args(ToolArgs):
    """Arguments of attribute_regions."""

    task: str = Field(description="a task whose examples are images; see list_tasks")
    steps: int = Field(
        default=24, ge=4, le=512, description="points on the way from baseline to image; more where they do not add up"
    )
    sanity: bool = Field(
        default=True,
        description="compare the maps with those of a model of random weights and of one with shuffled labels",
    )
    among: str = AMONG
    examples: int = Field(default=32, ge=8, le=1024, description="how many images to use")


def run(args: Args, ctx: Context) -> Outcome:
    """Attribute, rank, and hold the ranking against roles, curves and controls."""
    subject = ctx.subject
    task, examples = load_examples(ctx, args.task, args.examples, args.among)
    given, groups, where = seen(subject, examples, ctx.max_tokens), groups_of(examples), where_of(ctx, task, args.among)
    maps: dict[str, Maps] = {}
    out: list[Measurement] = []
    for name in BASELINES:
        ctx.progress(f"integrated gradients from {name}")
        found = integrated(
            subject, given.pixels, baseline(given.pixels, subject, name, ctx.seed), given.said, args.steps, given.most
        )
        maps[name] = found.maps
        missed = float(np.abs(found.error).sum() / max(1e-9, np.abs(found.whole).sum()))
        out.append(
            Measurement(
                name="completeness_error", unit="share of what is attributed", value=missed, n=len(examples),
                groups=groups.count, variant=f"from {name}", **where,
            )
        )  # fmt: skip
    own = normalised([maps[name] for name in BASELINES])
    plain = gradients(subject, given.pixels, given.said, given.most)
    blind = np.random.default_rng([ctx.seed, 11]).random(own.shape)
    by_method = {OWN: own, PLAIN: plain, EDGES: edges(given.pixels), CENTRE: centre(given.pixels), RANDOM: blind}
    regions = [candidates(raw) for raw in given.raw]
    rankings = {k: [ranked(m, r) for m, r in zip(v, regions, strict=True)] for k, v in by_method.items()}
    for name in BASELINES:
        rankings[f"{OWN}, from {name}"] = [ranked(m, r) for m, r in zip(maps[name], regions, strict=True)]
    out += _on_roles(ctx, given, rankings, groups, where)
    orders = {OWN: _values(rankings[OWN]), PIXELS: own}
    orders |= {k: _values(rankings[k]) for k in (PLAIN, EDGES, CENTRE, RANDOM)}
    out += _curves(ctx, given, orders, groups, where)
    if args.sanity:
        out += _sanity(
            args, ctx, given, {"integrated gradients": maps["blur"], "plain gradients": plain}, groups, where
        )
    head = f"regions that decide the class on {examples_of(task, args.among)} ({ctx.split}, n={len(examples)})"
    return Outcome(
        text="\n".join([head, *_tables(out)]), measurements=tuple(out),
        arrays=_shown(given, _names(ctx, given), own, rankings[OWN], plain, by_method[EDGES]),
    )  # fmt: skip


def _values(found: Sequence[Ranked]) -> Maps:
    return np.stack([r.value for r in found])


def _names(ctx: Context, given: Seen) -> list[str]:
    return [str(ctx.subject.model.config.id2label[int(c)]) for c in given.said]


# -- against what is known -----------------------------------------------------------------------------------------------


def _on_roles(
    ctx: Context, given: Seen, rankings: Mapping[str, Sequence[Ranked]], groups: Groups, where: Mapping[str, Any]
) -> list[Measurement]:
    """For every role and ranking: how often the first region lies on it, and how often it does and the answer rests on it."""
    out: list[Measurement] = []
    firsts = {k: [r.first for r in found] for k, found in rankings.items()}
    rests = {k: changed(ctx.subject, given, first) for k, first in firsts.items()}
    for role in dict.fromkeys(name for roles in given.roles for name in roles):
        masks = given.on(role)
        there = np.array([m is not None for m in masks])
        whose = Groups.of(groups.codes[there])
        hit = {k: _hits(first, masks)[there] for k, first in firsts.items()}
        both = {k: hit[k] * rests[k][there] for k in hit}
        for name, values in (("hit", hit), ("decides", both)):
            order = list(values)
            own = np.stack([values[k] for k in order])
            made = averages(own, whose, (0.0, 1.0))
            apart = differences(own, values[RANDOM], whose, (-1.0, 1.0))
            chance = made[order.index(RANDOM)]
            out += [
                measured(
                    name,
                    IMAGES,
                    e,
                    control=None if k == RANDOM else control_of(RANDOM, chance, d),
                    label=role,
                    variant=k,
                    **where,
                )
                for k, e, d in zip(order, made, apart, strict=True)
            ]
    return out


def _hits(firsts: Sequence[Mask], masks: Sequence[Mask | None]) -> np.ndarray:
    return np.array([m is not None and lies_on(f, m) for f, m in zip(firsts, masks, strict=True)], dtype=float)


def _curves(
    ctx: Context, given: Seen, orders: Mapping[str, Maps], groups: Groups, where: Mapping[str, Any]
) -> list[Measurement]:
    """Performance information curves of every order, and the areas under them: the mean over images of each one's."""
    blur = blurred(given.pixels)
    smooth = [to_bytes(ctx.subject, b) for b in blur]
    chosen = given.said[:, None]
    whole, none = (
        answers(ctx.subject, p, given.most).softmax(-1).gather(1, chosen)[:, 0].double().numpy()
        for p in (given.pixels, blur)
    )
    lines: dict[str, dict[str, np.ndarray]] = {"sic": {}, "aic": {}}
    for name, values in orders.items():
        ctx.progress(f"information curves of {name}")
        steps = [brought_back(r, b, v) for r, b, v in zip(given.raw, smooth, values, strict=True)]
        levels: list[tuple[np.ndarray, np.ndarray]] = []
        for i in range(len(steps[0].kept)):
            kept = torch.from_numpy(np.stack([s.kept[i] for s in steps]))[:, None]
            logits = answers(ctx.subject, torch.where(kept, given.pixels, blur), given.most)
            same = (logits.argmax(-1) == given.said).double().numpy()
            levels.append((logits.softmax(-1).gather(1, chosen)[:, 0].double().numpy(), same))
        p, same = (np.stack([level[k] for level in levels], 1) for k in (0, 1))
        lines["sic"][name] = np.stack([curve(s, p[i], float(whole[i]), float(none[i])) for i, s in enumerate(steps)])
        lines["aic"][name] = np.stack([curve(s, same[i], 1.0, 0.0) for i, s in enumerate(steps)])
    out: list[Measurement] = []
    for kind, unit in (("sic", "of the answer's probability"), ("aic", "share of images with the answer")):
        areas = {k: area(v) for k, v in lines[kind].items()}
        chance = average(areas[RANDOM], groups, (0.0, 1.0))
        for k, values in areas.items():
            (apart,) = differences(values, areas[RANDOM], groups, (-1.0, 1.0))
            control = None if k == RANDOM else control_of(RANDOM, chance, apart)
            out.append(
                measured(f"{kind}.area", AREA, average(values, groups, (0.0, 1.0)), control=control, variant=k, **where)
            )
        for k, line in lines[kind].items():
            doses = np.linspace(0, 1, POINTS).round(6)
            made = averages(line.T, groups, (0.0, 1.0))
            out += [
                measured(kind, unit, e, variant=k, dose=float(d), **where) for d, e in zip(doses, made, strict=True)
            ]
    return out


def _sanity(
    args: Args, ctx: Context, given: Seen, own: Mapping[str, Maps], groups: Groups, where: Mapping[str, Any]
) -> list[Measurement]:
    """How far the maps agree, pixel by pixel, with those of models that cannot know what the image shows."""
    out: list[Measurement] = []
    blind = {"random weights": random_twin(ctx.subject, ctx.seed)}
    if sum(p.numel() for p in ctx.subject.model.parameters()) <= SMALL:
        ctx.progress("a copy with shuffled labels")
        blind["shuffled labels"], learnt = relabelled(ctx.subject, given, ctx.seed, ctx.check)
        learnt_by = Measurement(
            name="shuffled_labels_learnt", unit=IMAGES, value=learnt, n=len(given.raw), groups=groups.count, **where
        )
        out.append(learnt_by)
    base = baseline(given.pixels, ctx.subject, "blur", ctx.seed)
    for what, other in blind.items():
        maps = {
            "integrated gradients": integrated(other, given.pixels, base, given.said, args.steps, given.most, 1).maps,
            "plain gradients": gradients(other, given.pixels, given.said, given.most),
        }
        for k, values in maps.items():
            agreement = average(rank_correlation(own[k], values), groups, (-1.0, 1.0))
            out.append(measured("agreement", "Spearman over pixels", agreement, variant=f"{k}, {what}", **where))
    return out


# -- what is shown --------------------------------------------------------------------------------------------------------


def _shown(
    given: Seen, said: Sequence[str], own: Maps, rankings: Sequence[Ranked], plain: Maps, edged: Maps
) -> tuple[Array, ...]:
    """Some images with their maps, each of at most `SIDE` pixels a side."""
    step = -(-max(given.raw[0].shape[:2]) // SIDE)
    n = min(SHOWN, len(given.raw))
    captions = tuple(f"says {c}" for c in said[:n])
    pixels = np.stack([r[::step, ::step] for r in given.raw[:n]]).astype("<i4")
    kinds = {
        "integrated gradients": own, "regions by rank, dark first": _values(rankings),
        "the region ranked first": np.stack([r.first for r in rankings]).astype(float), "plain gradients": plain, "edges": edged,
    }  # fmt: skip
    maps = np.stack([v[:n, ::step, ::step] for v in kinds.values()]).astype("<f4")
    return (
        Array(
            name="shown:images", dtype="int32", shape=pixels.shape, data=pixels.tobytes(),
            axes=_axes(captions, pixels.shape[1:]),
        ),
        Array(
            name="shown:maps", dtype="float32", shape=maps.shape, data=maps.tobytes(),
            axes=(Axis(name="map", labels=tuple(kinds)), *_axes(captions, maps.shape[2:])),
        ),
    )  # fmt: skip


def _axes(captions: tuple[str, ...], sizes: Sequence[int]) -> tuple[Axis, ...]:
    names = ("row", "column", "channel")[: len(sizes)]
    counted = (Axis(name=n, labels=tuple(map(str, range(size)))) for n, size in zip(names, sizes, strict=True))
    return (Axis(name="image", labels=captions), *counted)


def _tables(found: Sequence[Measurement]) -> list[str]:
    """Roles and areas by ranking; completeness and sanity in lines."""
    table: dict[str, dict[str, float]] = {}
    for m in found:
        column = f"{m.name} {m.label}" if m.name in ("hit", "decides") else m.name if m.name.endswith(".area") else ""
        if column:
            table.setdefault(m.variant or "", {})[column] = m.value
    columns = list(dict.fromkeys(c for row in table.values() for c in row))
    lines = [text_table(list(table), columns, np.array([[r.get(c, np.nan) for c in columns] for r in table.values()]))]
    lines.append(
        "sic, aic: what is back of the answer against the information in the image, from its blur (0) to itself (1)"
    )
    errors = {m.variant: m.value for m in found if m.name == "completeness_error"}
    lines.append(
        "hit: the region ranked first lies on it; decides: it does, and with that region blurred (and a margin) the answer is "
        "another one"
    )
    lines.append(
        "attributions miss what they should add up to by " + ", ".join(f"{v:.1%} {k}" for k, v in errors.items())
    )
    told = [f"{m.value:.2f} ({m.variant})" for m in found if m.name == "agreement"]
    return [*lines, *([f"agreement of maps with those of models that know nothing: {', '.join(told)}"] if told else [])]
