"""What a run confirmed against what is true: which targets it named, which of its findings are false, how sure it was.

A finding is compared as the statement that it is: kind, components, positions, class of examples, interventions. A case is
exact when every target is named at the finest level planted and every finding that calls something needed is true. Each
confirmed finding that is false counts, whatever its kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.stats import beta

from benchmarks.planted.facts import Target
from benchmarks.planted.judging import Judge, Verdict
from benchmarks.planted.ranking import claimed
from benchmarks.planted.sites import Map, Site
from experiments_db.findings import Finding, Statement
from tools import statistics

__all__ = ["Said", "Scored", "Summary", "claimed", "interval", "names", "score", "skill", "summarise", "text_of"]
NEEDED = ("necessary", "jointly_necessary")
RESAMPLE = "resample(donor)"


@dataclass(frozen=True)
class Said:
    """One confirmed finding. text: what it says, in places; by: who judged it."""

    kind: str
    text: str
    verdict: Verdict
    by: str


@dataclass(frozen=True)
class Scored:
    """One case for one method. named, targets: how many targets were named, of how many. settled: probability and whether
    it came true, for every finding that was settled. ending: found, cannot, ...; empty for a ranking.
    auroc, precision: of the scores that a ranking gives to places, None for a planner.
    """

    case: str
    origin: str
    method: str
    targets: int
    named: int
    exact: bool
    said: tuple[Said, ...] = ()
    missed: tuple[str, ...] = ()
    settled: tuple[tuple[float, bool], ...] = ()
    ending: str = ""
    experiments: int = 1
    tokens: int = 0
    seconds: float = 0.0
    auroc: float | None = None
    precision: float | None = None
    made: str = ""
    stamp: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def false(self) -> tuple[Said, ...]:
        """What is not so."""
        return tuple(s for s in self.said if s.verdict == "false")

    @property
    def quiet(self) -> bool:
        """Of a null: it was said, and nothing named."""
        return self.ending in ("cannot", "not_found") and not any(s.kind in NEEDED for s in self.said)


def score(
    findings: Sequence[Finding], judge: Judge, targets: Sequence[Target]
) -> tuple[tuple[Said, ...], tuple[str, ...], bool]:
    """(what each confirmed finding is worth, targets that were not named, whether the case is exact)."""
    standing = [f for f in findings if f.stands]
    said = tuple(Said(f.statement.kind, text_of(f.statement), *judge.verdict(f.statement)) for f in standing)
    statements = [f.statement for f in standing]
    missed = tuple(str(t) for t in targets if not names(statements, t, judge.whole))
    needed = [s for s in said if s.kind in NEEDED]
    return said, missed, not missed and all(s.verdict == "true" for s in needed)


def text_of(s: Statement) -> str:
    """A statement in a line: places, class, interventions."""
    among = f" among {s.among}" if s.among else ""
    return (
        f"{s.components or s.path}{among}{' (' + ', '.join(s.interventions) + ')' if s.interventions else ''}".strip()
    )


def names(statements: Sequence[Statement], target: Target, whole: Map) -> bool:
    """Whether statements name a target: its very units and positions, in its class, under all its interventions; a set,
    under one of them. Heads name the attention that they belong to where no head is known to be the one.
    """
    ops: set[str] = set()
    for s in statements:
        if s.kind not in NEEDED or (s.among.partition("=")[2] or None) != target.of_class or s.objective != "accuracy":
            continue
        where = replace(whole, among=s.among)
        try:
            sites = where.sites(s.set) if s.set is not None else []
        except ValueError:
            continue
        done = {{RESAMPLE: "resample"}.get(i, i) for i in s.interventions}
        asked = [sites] if s.kind == "jointly_necessary" else [] if target.together else [[site] for site in sites]
        if any(_same(of, target, where) for of in asked):
            ops |= done
    return bool(ops & set(target.ops)) if target.together else ops >= set(target.ops)


def _same(sites: Sequence[Site], target: Target, where: Map) -> bool:
    """Whether sites are the target's, each of them one of its and each of its among them."""

    def alike(site: Site, planted: Site) -> bool:
        inside = site.units <= planted.units if target.of_attention else site.units == planted.units
        return inside and where.same(site.anchor, planted.anchor)

    if not target.of_attention and len(sites) != len(target.sites):
        return False
    matched = all(any(alike(s, p) for p in target.sites) for s in sites)
    return bool(sites) and matched and all(any(alike(s, p) for s in sites) for p in target.sites)


@dataclass(frozen=True)
class Summary:
    """One method over all cases. Shares come with a 95% interval (Clopper and Pearson 1934)."""

    method: str
    exact: tuple[int, int]
    named: tuple[int, int]
    false: tuple[int, int]
    unjudged: int
    nulls: tuple[int, int]
    ece: float
    skill: float
    settled: int
    auroc: float
    precision: float
    experiments: float
    tokens: float
    seconds: float
    slowest: float


def summarise(method: str, rows: Sequence[Scored]) -> Summary:
    """The table's line for a method. false: confirmed findings that are false, of those that could be judged."""
    real, nulls = [r for r in rows if r.targets], [r for r in rows if not r.targets]
    said = [s for r in rows for s in r.said]
    judged = [s for s in said if s.verdict != "unjudged"]
    p = [x for r in rows for x, _ in r.settled]
    y = [float(t) for r in rows for _, t in r.settled]
    nan = float("nan")

    def mean(values: Sequence[float | None]) -> float:
        known = [v for v in values if v is not None]
        return float(np.mean(known)) if known else nan

    return Summary(
        method, (sum(r.exact for r in real), len(real)), (sum(r.named for r in real), sum(r.targets for r in real)),
        (sum(s.verdict == "false" for s in judged), len(judged)), len(said) - len(judged),
        (sum(r.quiet for r in nulls), len(nulls)),
        statistics.expected_calibration_error(p, y) if p else nan, skill(p, y), len(p),
        mean([r.auroc for r in rows]), mean([r.precision for r in rows]), mean([float(r.experiments) for r in rows]),
        mean([float(r.tokens) for r in rows]), float(np.median([r.seconds for r in rows])) if rows else nan,
        max((r.seconds for r in rows), default=nan),
    )  # fmt: skip


def skill(p: Sequence[float], y: Sequence[float]) -> float:
    """Brier skill against the base rate; not a number where everything came out the same way."""
    return statistics.brier_skill(p, y) if p and len(set(y)) > 1 else float("nan")


def interval(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share."""
    if n == 0:
        return 0.0, 1.0
    a = (1 - level) / 2
    return (float(beta.ppf(a, k, n - k + 1)) if k else 0.0), (float(beta.ppf(1 - a, k + 1, n - k)) if k < n else 1.0)
