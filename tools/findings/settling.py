"""Settle findings from what was measured on confirm examples: in rounds, by Holm's method, once and for all.

Round r may spend alpha 2^-r, so that however many rounds a planner makes, a false finding is confirmed with probability
alpha at most. Everything is read from the measurements on record.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from experiments_db.findings import Fate, Finding
from experiments_db.places import Intervention
from experiments_db.records import Measurement
from tools import statistics
from tools.findings.kind import kinds
from tools.findings.phrases import CHANGES, COSTS, FALLS, RISES, WORSENS, how_words, listed, roles_of

Measured = Callable[[str], Sequence[Measurement]]
# Words that depend on the objective.
OBJECTIVES = {"falls": FALLS, "rises": RISES, "changes": CHANGES, "cost": COSTS, "worsens": WORSENS}
OTHERWISE = {  # of an objective that only one port has
    "falls": "the {} gets worse", "rises": "the {} gets better", "changes": "the {} changes", "cost": "in the {}",
    "worsens": "gets worse",
}  # fmt: skip


def settle(
    open_: Sequence[tuple[Finding, str, Sequence[Measurement] | str]], number: int, reused: Collection[str] = ()
) -> list[Finding]:
    """Fates of a round's findings: (finding, handle of its confirm experiment, its measurements or why there are none).

    reused: handles of those whose examples had been used before, for want of others.
    """
    measured = [(f, h, m) for f, h, m in open_ if not isinstance(m, str)]
    p = [whole(m).value for _, _, m in measured]
    decisions = statistics.adjusted_in_round(p, number) if p else []
    out: dict[str, Finding] = {
        f.handle: f.model_copy(update={"round": number, "experiment": h or None, "fate": "void", "reason": m})
        for f, h, m in open_
        if isinstance(m, str)
    }
    for (f, h, m), d in zip(measured, decisions, strict=True):
        fate, reason = _fate(m, d.rejected, statistics.share(number) / len(measured))
        said = sentence(f, h, m) if fate == "confirmed" else ""
        out[f.handle] = f.model_copy(
            update={
                "round": number, "experiment": h, "fate": fate, "reason": reason, "p": d.p, "threshold": d.threshold,
                "sentence": said, "reused": f.handle in reused,
            }
        )  # fmt: skip
    return [out[f.handle] for f, _, _ in open_]


def whole(rows: Sequence[Measurement]) -> Measurement:
    """The p value of the contrast that holds least: that of the whole statement."""
    return max((m for m in rows if m.name == "p"), key=lambda m: m.value)


def _fate(rows: Sequence[Measurement], passed: bool, threshold: float) -> tuple[Fate, str]:
    """The fate, with the reason of an open one. threshold: what any of the round's findings may spend on not being so."""
    if passed:
        return "confirmed", ""
    named = {m.name: m.value for m in rows if m.name in ("p_contradicted", "p_absent")}
    if named["p_contradicted"] <= threshold:
        return "contradicted", ""
    if named["p_absent"] <= threshold:
        return "absent", ""
    return "inconclusive", _why(rows, threshold)


def _why(rows: Sequence[Measurement], threshold: float) -> str:
    """What is not shown, from the contrast with the largest p value. threshold: what p of being otherwise had to reach."""
    worst = whole(rows)
    if worst.variant is not None:
        what = "control as destructive" if "random vector" in worst.variant else "not told apart from its control"
        where = f" at {worst.component}" if worst.component else ""
        how = f" under {worst.intervention}" if worst.intervention else ""
        return f"{what}: the difference {worst.variant}{where}{how} is not shown"
    e = next(
        m for m in rows if m.name == "effect" and (m.component, m.intervention) == (worst.component, worst.intervention)
    )
    if e.low is None or e.high is None:
        return f"too few independent groups ({e.groups})"
    where = f" under {e.intervention}" if e.intervention else ""
    named = {m.name: m.value for m in rows if m.name in ("smallest", "p_contradicted", "p_absent")}
    least = named.get("smallest", 0.0)
    if e.high < -least:
        return f"not enough evidence: the effect{where} is the other way round, {_short_of(named['p_contradicted'], threshold)}"
    if -least < e.low and e.high < least:
        return f"not enough evidence: the effect{where} is smaller than what counts, {_short_of(named['p_absent'], threshold)}"
    if e.low > least:
        return f"not enough evidence: the effect{where} is there, but p = {worst.value:.2g} is more than the round has left"
    return f"interval too wide: the effect{where} may be on either side of the smallest that counts"


def _short_of(p: float, threshold: float) -> str:
    return f"but p = {p:.2g} had to reach {threshold:.2g}"


def sentence(f: Finding, handle: str, rows: Sequence[Measurement], roles: Mapping[str, str] | None = None) -> str:
    """What a confirmed finding says, its numbers as references to the experiment that confirmed it.

    roles: words for the roles of its places; those of `phrases` where there are no others.
    """
    kind, s = kinds()[f.statement.kind], f.statement
    text = kind.sentence(s, roles_of(s) if roles is None else roles)
    effects = [m for m in rows if m.name == "effect"]
    by_how: dict[str | None, list[Measurement]] = {}
    for m in effects:
        by_how.setdefault(m.intervention, []).append(m)
    least = [min(group, key=lambda m: abs(m.value)) for group in by_how.values()]
    if kind.stays:
        least = [max(group, key=lambda m: abs(m.value)) for group in by_how.values()]
    several, most = any(len(group) > 1 for group in by_how.values()), "at most " if kind.stays else "at least "
    seen = [m for m in least if m.intervention is None]
    if len(seen) < len(least):
        least = [m for m in least if m.intervention is not None]
    effect = listed([_effect(handle, m, most if several else "") for m in least])
    beside: dict[str, list[str]] = {}
    for m in least:
        if m.control is not None:
            beside.setdefault(m.control.kind, []).append(reference(handle, m, "control"))
    controls = listed([f"{listed(values)} for {control}" for control, values in beside.items()])
    filled = {
        "effect": effect, "seen": listed([reference(handle, m) for m in seen]),
        "bare": listed([reference(handle, m) for m in least]),
        "control": f", against {controls}" if controls else "",
        "against": listed([v for values in beside.values() for v in values]) or "(no control on record)",
        **{n: words.get(s.objective, OTHERWISE[n].format(s.objective)) for n, words in OBJECTIVES.items()},
        **{n: reference(handle, m) for n in ("accuracy", "chance", "smallest", s.objective) for m in rows if m.name == n},
    }  # fmt: skip
    for name, value in filled.items():
        text = text.replace("{" + name + "}", value)
    return text.removesuffix(".") + f"{shown_bound(f, handle, rows)}."


def shown_bound(f: Finding, handle: str, rows: Sequence[Measurement]) -> str:
    """' (shown to exceed 30%)' where a stricter smallest effect was asked for than the kind asks by itself; else nothing."""
    bound = next((m for m in rows if m.name == "smallest"), None)
    if not f.stricter or bound is None:
        return ""
    return f" (shown to {'stay below' if kinds()[f.statement.kind].stays else 'exceed'} {reference(handle, bound)})"


def reference(handle: str, m: Measurement, part: str = "") -> str:
    """`{{E3.effect[...]}}`, for a text."""
    inside = m.key.removeprefix(m.name)
    return "{{" + f"{handle}.{m.name}{'.' + part if part else ''}{inside}" + "}}"


def _effect(handle: str, m: Measurement, least: str) -> str:
    """The effect as a reference, with what was done where that removes something."""
    done = Intervention.parse(m.intervention) if m.intervention and not m.intervention.startswith("program") else None
    removes = done is not None and done.op in ("zero", "mean", "resample") and done.source != "twin"
    return f"{least}{reference(handle, m)}{f' ({how_words(done)})' if done is not None and removes else ''}"
