"""What has to be on record before something may be asked or said: capability, one confirmation each, effect beside control."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from experiments_db.records import Measurement, Prediction, Role
from tools.methods.tool import Context, History, ToolInputError
from tools.statistics.intervals import Estimate, holm, p_from_interval

LEVEL = 0.05
EVIDENCE: dict[Role, str] = {
    "necessary": "ablate, or minimal_set with goal breaking",
    "jointly_necessary": "ablate with together, or minimal_set with goal breaking",
    "sufficient": "minimal_set with goal sufficient, or patch or attribute with exact patching",
    "carries": "patch, path_patch or probe",
}


@dataclass(frozen=True)
class Capability:
    """How the intact model does a task, and where that was measured."""

    experiment: str
    accuracy: Measurement
    chance: float

    @property
    def above_chance(self) -> bool:
        """Whether the accuracy's interval lies above chance."""
        return (self.accuracy.low if self.accuracy.low is not None else self.accuracy.value) > self.chance


def capability(history: History, task: str) -> Capability | None:
    """The intact model's accuracy on a task's explore examples, if `loss` has measured it: the one with most examples."""
    found: list[Capability] = []
    for handle in history.handles("E"):
        if history.experiment(handle).tool != "loss":
            continue
        mine = [
            m
            for m in history.measurements_of(handle)
            if m.task == task and m.program == "intact" and m.split == "explore"
        ]
        named = {m.name: m for m in mine}
        if {"accuracy", "chance"} <= named.keys():
            found.append(Capability(handle, named["accuracy"], named["chance"].value))
    return max(found, key=lambda c: c.accuracy.n) if found else None


def effect_p(m: Measurement) -> float:
    """Two-sided p value of a measurement against its control, both taken as normal with the widths of their intervals.

    1 where there is no control or no interval.
    """
    c = m.control
    if c is None or m.low is None or m.high is None:
        return 1.0
    half = (m.high - m.low) / 2
    other = 0.0 if c.low is None or c.high is None else (c.high - c.low) / 2
    width = math.hypot(half, other)
    return p_from_interval(Estimate(m.value - c.value, m.value - c.value - width, m.value - c.value + width, m.n))


def outside_control(m: Measurement) -> bool:
    """Whether the measurement's interval and its control's do not touch."""
    c = m.control
    if c is None or m.low is None or m.high is None:
        return False
    low, high = (c.value if b is None else b for b in (c.low, c.high))
    return m.high < low or m.low > high


def family(measurements: Iterable[Measurement]) -> list[tuple[Measurement, float]]:
    """The comparisons with a control among these, each with its p value adjusted by Holm for their number."""
    tests = [m for m in measurements if m.control is not None and m.low is not None and m.high is not None]
    adjusted = holm(np.array([effect_p(m) for m in tests])) if tests else np.array([])
    return list(zip(tests, adjusted.tolist(), strict=True))


def confirmatory(history: History) -> list[tuple[Prediction, Measurement, float]]:
    """Scored predictions about the confirm split with what was measured, p values adjusted by Holm over all of them."""
    scored: list[tuple[Prediction, Measurement]] = []
    for p in history.predictions():
        if p.outcome is None or p.experiment is None or "split=confirm" not in p.metric:
            continue
        fitting = [m for m in history.measurements_of(p.experiment) if m.fits(p.metric)]
        if fitting:
            scored.append((p, fitting[0]))
    adjusted = holm(np.array([effect_p(m) for _, m in scored])) if scored else np.array([])
    return [(p, m, q) for (p, m), q in zip(scored, adjusted.tolist(), strict=True)]


def check_confirm_once(ctx: Context, hypothesis: str, metric: str) -> None:
    """A hypothesis goes to the confirm split once: what was predicted before then counts, nothing can be added after."""
    if "split=confirm" not in metric:
        return
    for p in ctx.history.predictions():
        if p.hypothesis == hypothesis and p.outcome is not None and "split=confirm" in p.metric:
            fate = "came true" if p.outcome else "did not come true"
            raise ToolInputError(
                f"{hypothesis} was put to the confirm split in {p.experiment} ({p.handle} {fate}): "
                "that is its one confirmation, and it can't be repeated. Settle it, or state another hypothesis"
            )
        if p.metric == metric and p.outcome is None:
            raise ToolInputError(f"{p.handle} already predicts {metric}: one prediction for each metric")


def check_localisation(ctx: Context, role: Role | None, sites: Sequence[str], experiments: Sequence[str]) -> None:
    """Raise ToolInputError unless code can see that a localisation is earned."""
    if not sites:
        raise ToolInputError("a localisation names its sites, for example decoder.0.attn.out")
    if role is None:
        raise ToolInputError(f"a localisation needs a role: {', '.join(EVIDENCE)}")
    asked = {h: ctx.history.experiment(h) for h in experiments}
    if not any(_speaks(role, e.tool, e.args) for e in asked.values()):
        cited = ", ".join(f"{h} ({e.tool})" for h, e in asked.items())
        raise ToolInputError(f"role {role} needs an experiment that can show it: {EVIDENCE[role]}; cited are {cited}")
    true = [(p, m, q) for p, m, q in confirmatory(ctx.history) if p.outcome]
    mine = [
        (p, m, q)
        for p, m, q in true
        if p.experiment in experiments and _speaks(role, asked[str(p.experiment)].tool, asked[str(p.experiment)].args)
    ]
    if not mine:
        raise ToolInputError(
            "a localisation needs a prediction that came true on the confirm split, and its experiment among "
            f"experiments; true so far: {', '.join(f'{p.handle} in {p.experiment}' for p, _, _ in true) or 'none'}"
        )
    if not any(outside_control(m) and q < LEVEL for _, m, q in mine):
        worst = ", ".join(f"{p.handle} ({m.key}, adjusted p {q:.2g})" for p, m, q in mine)
        raise ToolInputError(
            f"a localisation needs an effect outside its control's interval, after correction for the "
            f"number of confirmatory tests: {worst}. "
            "Claim an effect or an absence instead"
        )
    for task in sorted({m.task for _, m, _ in mine if m.task}):
        seen = capability(ctx.history, task)
        if seen is None or not seen.above_chance:
            raise ToolInputError(
                f"there is no measurement that the intact model can do {task}: use loss first; if it cannot, claim an absence"
            )


def _speaks(role: Role, tool: str, args: dict[str, object]) -> bool:
    """Whether an experiment of this kind can show what the role says."""
    match role:
        case "necessary" | "jointly_necessary":
            together = role == "necessary" or tool != "ablate" or bool(args.get("together") or args.get("cumulative"))
            return (tool == "ablate" and together) or (tool == "minimal_set" and args.get("goal") == "breaking")
        case "sufficient":
            return tool == "patch" or (tool == "minimal_set" and args.get("goal") == "sufficient")
        case "carries":
            return tool in ("patch", "path_patch", "probe")


def caveats(history: History, experiments: Sequence[str]) -> list[str]:
    """What a finding that rests on these experiments does not cover: one task's format, one corpus, one ablation type."""
    asked = [history.experiment(h) for h in experiments]
    tasks = {str(m.task) for h in experiments for m in history.measurements_of(h) if m.task}
    ablations = {str(e.args["ablation"]) for e in asked if "ablation" in e.args}
    patched, fitted = ("patch", "path_patch"), ("tuned_lens", "causal_basis")
    directions = {str(e.args["direction"]) for e in asked if e.tool in patched and "direction" in e.args}
    corpora = {",".join(map(str, e.args["tasks"])) for e in asked if e.tool in fitted and "tasks" in e.args}
    out: list[str] = []
    if len(tasks) == 1:
        out.append(f"one prompt format ({min(tasks)})")
    if len(ablations) == 1:
        out.append(f"one ablation type ({min(ablations)})")
    if len(directions) == 1:
        out.append(f"one direction of patching ({min(directions)})")
    if len(corpora) == 1:
        out.append(f"one corpus ({min(corpora)})")
    return out
