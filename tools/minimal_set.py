"""Search for a smallest set of components that a task needs, greedily: a set whose removal breaks it (breaking), or a
set that alone keeps it when everything else of its kind is removed (sufficient).

One by one is not enough: where one component can stand in for another, neither is missed alone. The breaking search
first removes, at each step, the component whose removal hurts most given what is gone; then it puts back what is not
needed, so that the set is minimal: every member is missed within it. Broken is an accuracy below the half-way point
between intact and chance; kept is one above 90% of intact. The control is random sets of the same size. State the
ablation type.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from experiments_db.records import Control, Measurement, Outcome
from tools.engine.executor import Variant
from tools.engine.sites import HEADED, Edit, Kind, Site
from tools.methods.arguments import EXAMPLES, SPLIT, SplitName, check_blocks
from tools.methods.interventions import activations, channels, derangement, select, units_of
from tools.methods.measuring import load_examples, measured
from tools.methods.scoring import Microbatch, Scores, score
from tools.methods.tables import as_array
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.statistics import intervals as statistics
from tools.tasks import Example, Task, chance_level

KIND: Literal["experiment"] = "experiment"
LOCALISES = True
EXAMPLE = {"task": "addition", "component": "attn", "goal": "breaking", "ablation": "resample"}
Part = tuple[str, Site, int | None]
RANDOM_SETS = 5


class Args(ToolArgs):
    """Arguments of minimal_set."""

    task: str = Field(description="a task spec; see list_tasks")
    component: Literal["attn", "mlp", "block", "head"] = Field(description="what the sets are made of")
    goal: Literal["breaking", "sufficient"] = Field(
        description="breaking: removing the set breaks the task; sufficient: removing everything else of the kind does not"
    )
    ablation: Literal["zero", "resample"] = Field(
        description="what takes a component's place; name it in every finding"
    )
    layers: list[int] = Field(default=[], description="which blocks, counted from 0; empty means every block")
    members: list[str] = Field(
        default=[],
        description="score this set instead of searching, for example ['2.head.0', '3.head.1']: to confirm one",
    )
    position: Literal["last", "all"] = Field(
        default="last", description="last: only the prompt's last token; all: every token"
    )
    max_size: int = Field(default=6, ge=1, le=24, description="give up beyond a set of this size")
    split: SplitName = SPLIT
    examples: int = EXAMPLES


@dataclass(frozen=True)
class _Search:
    """Scores sets of components; every call is one sweep over several sets."""

    ctx: Context
    args: Args
    task: Task
    examples: list[Example]
    parts: tuple[str, ...]
    sites: dict[str, tuple[Part, ...]]

    def accuracy(self, sets: list[frozenset[str]]) -> list[Scores]:
        """How the model answers with each set removed."""
        scores, _ = score(
            self.ctx.subject, self.examples, lambda b: self._variants(b, sets), choices=self.task.choices,
            max_tokens=self.ctx.max_tokens,
        )  # fmt: skip
        return scores

    def _variants(self, batch: Microbatch, sets: list[frozenset[str]]) -> list[Variant]:
        subject = self.ctx.subject
        blocks = tuple(range(len(subject.spec().blocks)))
        positions = batch.last if self.args.position == "last" else None
        every = {p for s in sets for name in s for p in self.sites[name]}
        edits = dict[Part, Edit]()
        if self.args.ablation == "zero":
            edits = {p: Edit(p[1], "scale", torch.zeros(()), positions, units_of(p[2])) for p in every}
        elif every:
            full = activations(subject, batch, [site for _, site, _ in sorted(every, key=lambda p: p[0])])
            lengths = [0 if positions is not None else n for n in batch.inputs.lengths]
            donors, _ = derangement(lengths, torch.Generator().manual_seed(self.ctx.seed))
            for p in every:
                h = self._part(full[p[1]], p, positions)
                edits[p] = Edit(p[1], "set", h[donors.to(h.device)], positions, units_of(p[2]))
        order = {name: i for i, name in enumerate(self.parts)}
        return [
            Variant(blocks, tuple(edits[p] for name in sorted(s, key=order.__getitem__) for p in self.sites[name]))
            for s in sets
        ]

    def _part(self, h: Tensor, part: Part, positions: Tensor | None) -> Tensor:
        heads = self.ctx.subject.spec().n_heads if part[1].kind in HEADED else 1
        return channels(select(h, positions), part[2], heads)


def run(args: Args, ctx: Context) -> Outcome:
    """Search, and score the set found, the intact model and random sets of the same size."""
    layers = check_blocks(ctx, args.layers)
    task, examples = load_examples(ctx, args.task, args.split, args.examples)
    sites = _sites(args, ctx, layers)
    search = _Search(ctx, args, task, examples, tuple(sites), sites)
    (intact,) = search.accuracy([frozenset()])
    chance, own = chance_level(examples, task.choices), float(intact.correct.mean())
    if statistics.proportion(intact.correct).low <= chance:
        raise ToolInputError(
            f"the intact model cannot do {task.name}: accuracy {own:.2f}, chance {chance:.2f}. There is no set to look for"
        )
    broken, kept = (own + chance) / 2, 0.9 * own
    everything = frozenset(search.parts)
    unknown = [m for m in args.members if m not in everything]
    if unknown:
        raise ToolInputError(f"members: there is no {unknown[0]!r}; there are {', '.join(search.parts)}")
    if args.members:
        found, path = frozenset(args.members), []
        removed = found if args.goal == "breaking" else everything - found
    elif args.goal == "breaking":
        found, path = _breaking(search, broken)
        removed = found
    else:
        found, path = _sufficient(search, kept)
        removed = everything - found if found is not None else None
    where: dict[str, Any] = {
        "task": task.name,
        "split": args.split,
        "variant": args.ablation,
        "position": args.position,
    }
    measurements = [
        measured("accuracy", "share of examples", statistics.proportion(intact.correct), program="intact", **where),
        Measurement(name="chance", unit="share of examples", value=chance, n=len(examples), **where),
    ]
    lines = [
        f"{args.goal} set of {args.component} for {task.name} ({args.ablation} at {args.position} position(s), {args.split}, "
        f"n={len(examples)}): intact accuracy {own:.2f}, chance {chance:.2f}"
    ]
    lines += [f"  {'+'.join(s) or 'nothing'}: {a:.2f}" for s, a in path]
    if found is None or removed is None:
        lines.append(f"no {args.goal} set of at most {args.max_size} was found")
        size = Measurement(name="size", unit="components; 0 is none found", value=0, n=len(examples), **where)
        return Outcome(text="\n".join(lines), measurements=(*measurements, size), arrays=(_array(path),))
    label = "+".join(n for n in search.parts if n in found)
    measurements += _judged(search, found, removed, label, intact, where)
    measurements.append(Measurement(name="size", unit="components", value=len(found), n=len(examples), **where))
    lines.append(f"found {label}")
    for m in measurements:
        if m.site is not None and m.name == "accuracy":
            control = f", random sets of the same size {m.control.value:.2f}" if m.control else ""
            lines.append(
                f"  accuracy with {m.site} {'removed' if args.goal == 'breaking' else 'alone left'}: {m.value:.2f}{control}"
            )
    return Outcome(text="\n".join(lines), measurements=tuple(measurements), arrays=(_array(path),))


def _sites(args: Args, ctx: Context, layers: list[int]) -> dict[str, tuple[Part, ...]]:
    spec = ctx.subject.spec()
    if args.component == "head":
        return {
            f"{b}.head.{h}": ((f"{b}.head.{h}", Site(spec.name, b, "attn.z"), h),)
            for b in layers
            for h in range(spec.n_heads)
        }
    kinds: dict[str, tuple[Kind, ...]] = {"attn": ("attn.out",), "mlp": ("mlp.out",), "block": ("attn.out", "mlp.out")}
    return {
        f"{b}.{args.component}": tuple((f"{b}.{k}", Site(spec.name, b, k), None) for k in kinds[args.component])
        for b in layers
    }


Path = list[tuple[tuple[str, ...], float]]


def _value(scores: Scores) -> float:
    """What the search compares: accuracy, and among equals the loss, so that a tie is no accident of order."""
    return float(scores.correct.mean()) - 1e-6 * float(min(scores.nll.mean(), 1e4))


def _breaking(search: _Search, broken: float) -> tuple[frozenset[str] | None, Path]:
    """Add the most harmful component until the task breaks; then drop every member that is not needed for that."""
    chosen: tuple[str, ...] = ()
    path: Path = []
    accuracy = 1.0
    while accuracy >= broken:
        rest = [p for p in search.parts if p not in chosen]
        if not rest or len(chosen) >= search.args.max_size:
            return None, path
        values = [_value(s) for s in search.accuracy([frozenset((*chosen, p)) for p in rest])]
        best = int(np.argmin(values))
        chosen, accuracy = (*chosen, rest[best]), values[best]
        path.append((chosen, accuracy))
    found = list(chosen)
    for member in chosen[:-1]:
        less = frozenset(found) - {member}
        if less and _value(search.accuracy([less])[0]) < broken:
            found.remove(member)
            path.append((tuple(found), _value(search.accuracy([less])[0])))
    return frozenset(found), path


def _sufficient(search: _Search, kept: float) -> tuple[frozenset[str] | None, Path]:
    """Remove the least needed component as long as the task is kept."""
    left = list(search.parts)
    path: Path = []
    while left:
        gone = frozenset(search.parts) - set(left)
        values = [_value(s) for s in search.accuracy([gone | {p} for p in left])]
        best = int(np.argmax(values))
        if values[best] < kept:
            break
        del left[best]
        path.append((tuple(left), values[best]))
    return (frozenset(left), path) if len(left) <= search.args.max_size else (None, path)


def _judged(
    search: _Search, found: frozenset[str], removed: frozenset[str], label: str, intact: Scores, where: dict[str, Any]
) -> list[Measurement]:
    """Accuracy with the set removed (or alone left) beside random sets of its size; and each member's own share in it."""
    rng = np.random.default_rng(search.ctx.seed)
    others = [p for p in search.parts if p not in found]
    sets: list[frozenset[str]] = []
    everything = frozenset(search.parts)
    for _ in range(RANDOM_SETS if len(others) >= len(found) else 0):
        drawn = frozenset(str(x) for x in rng.choice(others, len(found), replace=False))
        sets.append(drawn if search.args.goal == "breaking" else everything - drawn)
    members = [n for n in search.parts if n in found]
    within = [found - {m} if search.args.goal == "breaking" else removed | {m} for m in members]
    mine, *rest = search.accuracy([removed, *sets, *within])
    controls, apart = rest[: len(sets)], rest[len(sets) :]
    accuracy = statistics.proportion(mine.correct)
    control = None
    if controls:
        c = statistics.mean(np.mean([s.correct for s in controls], 0), search.ctx.seed)
        control = Control(
            kind=f"{len(controls)} random sets of the same size", value=c.value, low=c.low, high=c.high, n=c.n
        )
    delta = statistics.paired_difference(mine.correct.astype(float), intact.correct.astype(float), search.ctx.seed)
    out = [
        measured("accuracy", "share of examples", accuracy, control=control, site=label, **where),
        measured("accuracy.delta", "share of examples", delta, site=label, **where),
    ]
    for member, s in zip(members, apart, strict=True):
        if len(members) > 1:
            out.append(
                measured(
                    "accuracy",
                    "share of examples",
                    statistics.proportion(s.correct),
                    site=f"{label} without {member}",
                    **where,
                )
            )
    return out


def _array(path: Path) -> Any:
    """The accuracies along the search."""
    return as_array(
        "search",
        np.array([a for _, a in path] or [0.0]),
        [("set", ["+".join(s) or "nothing" for s, _ in path] or ["none"])],
        "share of examples",
    )
