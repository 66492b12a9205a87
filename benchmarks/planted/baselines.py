"""What a reader of a single pass would name: the places whose effect is at least half of the largest.

Every ranking scores the same places: attentions (their heads where heads are planted; all heads of a compiled program) and
MLPs, at the answer and at every role that all examples have. A ranking cannot say that there is nothing, that places are
missed only together, or which class needs them.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from benchmarks.planted.facts import component
from benchmarks.planted.posed import Posed
from benchmarks.planted.ranking import auroc, average_precision
from benchmarks.planted.scoring import Said, Scored
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, ToolInputError, discover
from tools.subjects import Subject, load_subject

EXAMPLES, STEPS = 64, 8
AT_ONCE = 64  # components that a tool takes in one call
EAP_IG = "EAP-IG over nodes"
BASELINES = (
    "zero ablation, one pass", "resample ablation, one pass", "activation patching", "attribution patching", EAP_IG,
    "weight norms",
)  # fmt: skip


def places(posed: Posed) -> dict[str, str]:
    """Name of each place that is scored -> its component: `3.head.1@answer` -> `decoder.3.attn.z[1]@answer`."""
    units = {u for t in posed.targets for s in t.sites if not s.whole for u in s.units}
    split = {b for b, _ in units} if posed.origin != "compiled" else set(range(posed.blocks))
    out: dict[str, str] = {}
    for b in range(posed.blocks):
        heads = [f"{b}.head.{h}" for h in range(posed.heads)] if b in split else [f"{b}.attn"]
        for name in (*heads, f"{b}.mlp"):
            out |= {f"{name}@{anchor}": component(name, anchor) for anchor in posed.anchors}
    return out


def positives(posed: Posed, wanted: Mapping[str, str]) -> frozenset[str]:
    """The places that are planted, alone or in a set, for all examples or a class of them."""
    planted = [s for t in posed.targets for s in t.sites]
    found: set[str] = set()
    for name, text in wanted.items():
        (mine,) = posed.whole.sites([text])
        if any(mine.units == s.units and posed.whole.same(mine.anchor, s.anchor) for s in planted):
            found.add(name)
    return frozenset(found)


def rank(posed: Posed) -> list[Scored]:
    """Each baseline's line for a case."""
    subject = load_subject(str(posed.model), device="cpu", dtype="float32")
    ctx = Context(subject, OfflineTasks([posed.task]), Nothing())
    wanted = places(posed)
    true = positives(posed, wanted)
    rows: list[Scored] = []
    for method in BASELINES:
        began = time.perf_counter()
        scores = _scores(method, posed, subject, ctx, wanted)
        rows.append(judged(posed, method, scores, true, time.perf_counter() - began))
    return rows


def judged(posed: Posed, method: str, scores: Mapping[str, float], true: frozenset[str], seconds: float) -> Scored:
    """A ranking as a line: it claims, as sure as it can be, what has at least half of the largest effect."""
    top = max(max(scores.values()), 1e-9)
    named = [n for n, s in scores.items() if s >= top / 2]
    said = tuple(Said("necessary", n, "true" if n in true else "false", "facts") for n in named)
    sets = sum(t.together for t in posed.targets)
    # What nothing tells apart from its partners, or holds in one class alone, is named where each of its places is.
    hit = sum(all(_named(posed, s, named) for s in t.sites) for t in posed.targets)
    y = [n in true for n in scores]
    ranked = any(y) and not all(y)
    return Scored(
        posed.name, posed.origin, method, len(posed.targets), hit, bool(true) and not sets and set(named) == true, said,
        settled=tuple((1.0, n in true) for n in named), ending="found", seconds=seconds,
        auroc=auroc([*scores.values()], y) if ranked else None,
        precision=average_precision([*scores.values()], y) if ranked else None,
    )  # fmt: skip


def _named(posed: Posed, site: Any, named: Sequence[str]) -> bool:
    wanted = places(posed)
    return any(
        mine.units == site.units and posed.whole.same(mine.anchor, site.anchor)
        for n in named
        for mine in posed.whole.sites([wanted[n]])
    )


def _scores(method: str, posed: Posed, subject: Subject, ctx: Context, wanted: Mapping[str, str]) -> dict[str, float]:
    if method == "weight norms":
        return {n: _norm(subject, n) for n in wanted}
    tool, quantity, given = _tool(method)
    found: dict[str, float] = dict.fromkeys(wanted, 0.0)
    names = {text: n for n, text in wanted.items()}
    texts = list(wanted.values())
    for start in range(0, len(texts), AT_ONCE):
        asked = {"task": posed.task.stem, "components": texts[start : start + AT_ONCE], "examples": EXAMPLES, **given}
        try:
            rows = discover()[tool].run(discover()[tool].parse(asked), ctx).measurements
        except ToolInputError:
            if posed.targets:
                raise
            break  # twins that change nothing, in a model that cannot do the task
        for m in rows:
            if m.name == quantity and m.component in names:
                found[names[m.component]] = -m.value if quantity == "accuracy.delta" else abs(m.value)
    return found


def _tool(method: str) -> tuple[str, str, dict[str, Any]]:
    """The tool that a ranking comes from, the quantity, and arguments.

    EAP-IG (Hanna et al. 2024), for nodes in place of edges: the difference between the twin's activation and the own one, times the
    gradient of the margin, averaged over points between the two prompts' embeddings.
    """
    match method:
        case "attribution patching":
            return "attribute", "attribution", {"method": "patching", "check": 0}
        case "EAP-IG over nodes":
            return "attribute", "attribution", {"method": "patching", "check": 0, "steps": STEPS}
        case "activation patching":
            return "patch", "recovered", {}
        case _:
            return "ablate", "accuracy.delta", {"intervention": method.partition(" ")[0]}


def _norm(subject: Subject, name: str) -> float:
    """Frobenius norm of what a place writes with; a head's share of its block's output projection."""
    where = name.partition("@")[0]
    spec = subject.spec()
    block: Any = spec.blocks[int(where.split(".")[0])]
    if where.endswith("mlp"):
        last = [m for m in block.mlp.modules() if getattr(m, "weight", None) is not None and m.weight.ndim == 2][-1]
        return float(last.weight.detach().float().norm())
    module = block.get_submodule(spec.o_proj)
    weight: torch.Tensor = module.weight.detach().float()
    weight = weight if isinstance(module, Conv1D) else weight.T  # rows: what comes in
    if ".head." in where:
        width, head = weight.shape[0] // spec.n_heads, int(where.rpartition(".")[2])
        weight = weight[head * width : (head + 1) * width]
    return float(weight.norm())
