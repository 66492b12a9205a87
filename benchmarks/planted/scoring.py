"""From a run's record to the benchmark's numbers: what was confirmed, how it compares with what was planted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.planted.cases import BLOCKS, HEADS, Case
from experiments_db.findings import Finding
from experiments_db.places import Component


@dataclass(frozen=True)
class Found:
    """What a method says of one case.

    claimed: components, or sets joined by +, with the method's confidence. scores: a number for every component, higher
    is more likely planted. verdict: found, not_found, cannot, unclear, or empty for a method that has none.
    """

    claimed: Mapping[str, float]
    scores: Mapping[str, float]
    verdict: str = ""
    confidences: tuple[tuple[float, bool], ...] = ()
    experiments: int = 0
    tokens: int = 0
    seconds: float = 0.0


def components(case: Case) -> list[str]:
    """Every attention and MLP; in a case with planted heads, that attention's heads in its place."""
    out: list[str] = []
    for b in range(BLOCKS):
        split = bool(case.heads) and b in case.attention
        out += [f"{b}.head.{h}" for h in range(HEADS)] if split else [f"{b}.attn"]
        out.append(f"{b}.mlp")
    return out


def positives(case: Case) -> frozenset[str]:
    """Components that are planted, alone or in a set."""
    return frozenset(c for name in case.truth for c in name.split("+"))


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


def calibration_error(pairs: Sequence[tuple[float, bool]], bins: int = 10) -> float:
    """Expected calibration error (Naeini et al. 2015): confidence against share true, over equal bins, by their weight."""
    if not pairs:
        return float("nan")
    p, y = np.array([c for c, _ in pairs]), np.array([t for _, t in pairs], dtype=float)
    at = np.minimum((p * bins).astype(int), bins - 1)
    return float(sum((at == b).mean() * abs(p[at == b].mean() - y[at == b].mean()) for b in np.unique(at)))


@dataclass(frozen=True)
class Row:
    """One method over all cases."""

    method: str
    planted: int
    exact: float
    sites: float
    auroc: float
    precision: float
    false_findings: int
    nulls: int
    not_found: float
    calibration: float
    experiments: float
    tokens: float
    seconds: float
    slowest: float


def summarise(method: str, results: Sequence[tuple[Case, Found]]) -> Row:
    """The table's line for a method.

    exact: cases with a mechanism of which every planted site, and nothing else, was named; sites: planted sites that were
    named; false_findings: named sites or sets that are not planted, over all cases; not_found: nulls with nothing named.
    """
    real = [(c, f) for c, f in results if c.truth]
    nulls = [(c, f) for c, f in results if not c.truth]
    exact = [set(f.claimed) == c.truth for c, f in real]
    named = [t in f.claimed for c, f in real for t in c.truth]
    ranked = [
        ([f.scores[x] for x in components(c)], [x in positives(c) for x in components(c)]) for c, f in real if f.scores
    ]
    return Row(
        method, len(real), float(np.mean(exact)), float(np.mean(named)),
        float(np.mean([auroc(s, y) for s, y in ranked])) if ranked else float("nan"),
        float(np.mean([average_precision(s, y) for s, y in ranked])) if ranked else float("nan"),
        sum(len(set(f.claimed) - c.truth) for c, f in results), len(nulls),
        float(np.mean([not f.claimed and f.verdict in ("cannot", "not_found") for _, f in nulls])) if nulls else float("nan"),
        calibration_error([x for _, f in results for x in f.confidences]),
        float(np.mean([f.experiments for _, f in results])), float(np.mean([f.tokens for _, f in results])),
        float(np.median([f.seconds for _, f in results])), max(f.seconds for _, f in results),
    )  # fmt: skip
