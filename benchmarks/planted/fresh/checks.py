"""Whether a trained network has the mechanism that was planted, and no other: ablations at each place, alone and together."""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.planted.fresh.net import Edits, Net
from benchmarks.planted.fresh.train import Recipe

HIGH, EXAMPLES = 0.96, 500


@torch.no_grad()
def checks(net: Net, recipe: Recipe, seed: int = 0) -> dict[str, float]:
    """Accuracies. intact; chance: of the commonest answer. planted: the most that is left when what is planted is removed at its
    role; others: the least that is left when a component that takes no part is removed, at the answer or everywhere;
    away: the same for planted ones away from their roles; together: all that take no part at once, at the answer and (everywhere)
    at all positions; either: one of a backup zeroed. All but `either` over zeroing and resampling.
    """
    task, generator = recipe.task, torch.Generator().manual_seed(seed + 7)
    ids, answers, _ = task.batch(EXAMPLES, generator)
    record: dict[str, Tensor] = {}
    right = (net(ids, task.tokens, Edits(record=record)).argmax(-1) == answers).all(-1)
    perm = torch.randperm(EXAMPLES, generator=generator)
    everywhere, at_answer = torch.ones(task.length, dtype=torch.bool), recipe.mask("answer")

    def left(places: Sequence[tuple[str, Tensor]], zero: bool) -> float:
        values = {c: torch.zeros_like(record[c]) if zero else record[c][perm] for c, _ in places}
        edits = Edits({c: where.expand(ids.shape) for c, where in places}, values)
        return float((net(ids, task.tokens, edits).argmax(-1) == answers).all(-1).float().mean())

    single = [[(p.name, recipe.mask(p.role))] for p in recipe.parts if p.name not in recipe.backup]
    both = [[(p.name, recipe.mask(p.role)) for p in recipe.parts if p.name in recipe.backup]]
    whole = [[(f"{b}.attn", recipe.mask(p.role))] for p in recipe.parts if not recipe.backup
             for b, _, head in [p.name.partition(".head.")] if head]  # fmt: skip
    sets = [*single, *(both if recipe.backup else []), *whole]
    ways, spans = (True, False), (everywhere, at_answer)
    away = [(p.name, ~recipe.mask(p.role)) for p in recipe.parts]
    common = torch.unique(answers, dim=0, return_counts=True)[1].max() / EXAMPLES
    out = {
        "intact": float(right.float().mean()),
        "chance": float(common),
        "planted": max((left(s, z) for s in sets for z in ways), default=0.0),
        "others": min(left([(o, w)], z) for o in recipe.others for w in spans for z in ways),
        "away": min((left([a], z) for a in away for z in ways), default=1.0),
        "together": min(left([(o, at_answer) for o in recipe.others], z) for z in ways),
        "everywhere": min(left([*((o, everywhere) for o in recipe.others), *away], z) for z in ways),
    }
    if recipe.backup:
        out["either"] = min(left([place], True) for place in both[0])
    return out


def accepted(found: dict[str, float]) -> bool:
    """Whether the ablations agree with what was planted."""
    kept = all(found[k] >= HIGH for k in ("others", "away", "together", "either") if k in found)
    return found["intact"] >= 0.98 and kept and found["planted"] <= max(0.4, found["chance"] + 0.15)
