"""Whether a model has the mechanism that was planted: ablations of every component, by themselves and together."""

import random
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.planted.cases import Case
from benchmarks.planted.net import Edits, Net, batch, parts
from benchmarks.planted.tasks import TASKS


def checks(net: Net, case: Case) -> dict[str, float]:
    """Accuracy: intact; least and most under the ablations that the case's truth speaks of.

    planted: the highest accuracy that ablating a planted component (or redundant set) leaves; others: the lowest that
    ablating another one leaves; both over zero and resample, at the last and at all positions. together: the lowest that
    ablating all the others at once leaves, at the last position; everywhere: the same at all positions. either: the
    lowest that zeroing one of a redundant set leaves; resampling one of them says nothing, since the model cannot know
    which of the two is right.
    """
    rng = random.Random(case.seed + 1_000_003)
    planted, others = parts(case)
    out: dict[str, float] = {}
    sets = [[p] for p in planted if p not in case.redundant] + ([list(case.redundant)] if case.redundant else [])
    if case.heads:
        sets.append([f"{case.attention[0]}.attn"])
    for task in (TASKS[t] for t in case.tasks):
        ids, answers, _ = batch(task, 1000, rng)
        record: dict[str, Tensor] = {}
        intact = (net(ids, Edits(record=record)).argmax(-1) == answers).float().mean().item()
        out[f"{task.name}.intact"] = intact
        perm = torch.randperm(len(ids), generator=torch.Generator().manual_seed(case.seed))

        left = partial(_accuracy_without, net, ids, answers, record, perm)
        ways = [(z, e) for z in (True, False) for e in (False, True)]
        if task.name == case.task:
            out["planted"] = max((left(s, z, e) for s in sets for z, e in ways), default=0.0)
        out[f"{task.name}.others"] = min(left([o], z, e) for o in others for z, e in ways)
        if case.redundant:
            out[f"{task.name}.either"] = min(left([r], True, e) for r in case.redundant for e in (False, True))
        out[f"{task.name}.together"] = min(left(others, z, False) for z in (True, False))
        out[f"{task.name}.everywhere"] = min(left(others, z, True) for z in (True, False))
        if case.decoy:
            out[f"{task.name}.decoy zero"] = max(left([case.decoy], True, e) for e in (False, True))
            out[f"{task.name}.decoy resample"] = min(left([case.decoy], False, e) for e in (False, True))
    return out


def _accuracy_without(
    net: Net, ids: Tensor, answers: Tensor, record: dict[str, Tensor], perm: Tensor, names: Sequence[str],
    zero: bool, everywhere: bool,
) -> float:  # fmt: skip
    """Accuracy with components zeroed, or taken from other examples, at the last position or everywhere."""
    seq = ids.shape[1]
    where = torch.ones(seq, dtype=torch.bool) if everywhere else torch.arange(seq) == seq - 1
    values = {c: torch.zeros_like(record[c]) if zero else record[c][perm] for c in names}
    logits = net(ids, Edits(dict.fromkeys(names, where.expand(ids.shape)), values))
    return (logits.argmax(-1) == answers).float().mean().item()


def accepted(case: Case, found: dict[str, float]) -> bool:
    """Whether the ablations agree with the planted truth."""
    if case.kind == "cannot":
        return all(v >= 0.98 for k, v in found.items() if k.endswith(".intact"))
    bounds = {".intact": 0.98, ".others": 0.95, ".together": 0.95, ".either": 0.95, "resample": 0.95}
    mine = {k: v for k, v in found.items() if k.startswith(case.task)}
    high = all(v >= b for k, v in mine.items() for end, b in bounds.items() if k.endswith(end))
    # A second task is there to show that a decoy's removal hurts it too, which takes a model that does it.
    high = high and all(v >= 0.95 for k, v in found.items() if k.endswith((".intact", "resample")))
    low = {f"{task}.decoy zero": 0.4 if task == case.task else 0.6 for task in case.tasks if case.decoy}
    return high and found["planted"] <= 0.4 and all(found[k] <= bound for k, bound in low.items())
