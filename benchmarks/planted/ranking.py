"""Rankings and names: what confirmed findings call needed at the level of a shipped case, and how well scores rank."""

from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks.planted.cases import BLOCKS, HEADS, Case
from experiments_db.findings import Finding
from experiments_db.places import Component


def components(case: Case) -> list[str]:
    """Every attention and MLP; in a case with planted heads, that attention's heads in its place."""
    out: list[str] = []
    for b in range(BLOCKS):
        split = bool(case.heads) and b in case.attention
        out += [f"{b}.head.{h}" for h in range(HEADS)] if split else [f"{b}.attn"]
        out.append(f"{b}.mlp")
    return out


def component_of(c: Component) -> str:
    """`decoder.3.attn.out@answer` as 3.attn, `decoder.3.attn.z[1]@answer` as 3.head.1; any other place by its own text."""
    if c.anchor in ("answer", "-1") and c.part == "attn.z" and len(c.units) == 1:
        return f"{c.block}.head.{c.units[0]}"
    whole = c.anchor in ("answer", "-1") and not c.units and c.part in ("attn.out", "mlp.out")
    return f"{c.block}.{c.part.partition('.')[0]}" if whole else str(c)


def claimed(findings: Iterable[Finding], case: Case) -> dict[str, float]:
    """What confirmed findings say is needed, alone or together, at the level at which the case is planted, each with the
    probability that it was predicted with.

    A finding about single heads stands for their attention where heads are not planted; where they are, it replaces the
    one about the whole attention, which says less.
    """
    found: dict[str, float] = {}
    for f in findings:
        if not f.stands or f.statement.kind not in ("necessary", "jointly_necessary"):
            continue
        members = [component_of(c) for c in f.statement.members]
        if not case.heads:
            members = [f"{m.split('.')[0]}.attn" if ".head." in m else m for m in members]
        together = f.statement.kind == "jointly_necessary"
        names = ["+".join(sorted(set(members)))] if together else sorted(set(members))
        for name in names:
            found[name] = max(found.get(name, 0.0), f.probability)
    if case.heads:
        (block,) = case.attention
        if any(f"{block}.head." in name for name in found):
            found.pop(f"{block}.attn", None)
    return found


def auroc(scores: Sequence[float], truth: Sequence[bool]) -> float:
    """Probability that a planted component scores above another; ties count one half."""
    s, y = np.asarray(scores), np.asarray(truth)
    wins = (s[y][:, None] > s[~y][None]) + 0.5 * (s[y][:, None] == s[~y][None])
    return float(wins.mean())


def average_precision(scores: Sequence[float], truth: Sequence[bool]) -> float:
    """Mean precision at the planted components, ties broken against the method."""
    s, y = np.asarray(scores), np.asarray(truth)
    order = np.lexsort((y, -s))
    hits = np.cumsum(y[order])
    return float((hits / np.arange(1, len(s) + 1))[y[order]].mean())
