"""What a reader should bear in mind about one run's findings, from what it did and did not do."""

import re
from collections.abc import Iterable, Sequence

from agent.loop.record import RunRecord
from agent.report.tested import tested
from experiments_db.findings import Finding, Statement
from experiments_db.places import PARTS, ComponentSet, Intervention, PlaceError
from experiments_db.records import Run
from tools.findings.phrases import listed
from tools.methods.one_example import ILLUSTRATIONS
from tools.statistics.multiplicity import ALPHA

MEANS = ("mixed", "one_concept", "quiet")  # what is said of units on two corpora
ABLATIONS = ("mean", "resample", "zero")


def limits(record: RunRecord, run: Run) -> list[str]:
    """One sentence or two each."""
    findings = record.findings()
    standing = [f for f in findings if f.stands]
    lines = [
        *_tasks(record, run, standing),
        *_units(record, standing),
        *_interventions(standing),
        *_failed_interventions(record, standing),
        *_sample(record, standing),
        *_looks(record, findings),
    ]
    single = record.store.rows(
        "SELECT r.number FROM run_experiments r JOIN experiments x ON x.id = r.experiment WHERE r.run = ? AND x.tool IN (?, ?) "
        "ORDER BY r.number",
        run.name,
        *ILLUSTRATIONS,
    )
    if single:
        handles = [f"E{row['number']}" for row in single]
        lines.append(
            f"Illustrations of one example each, looked at by hand, and evidence for nothing: {_some(handles)}."
        )
    void = [f"{f.handle} ({f.reason})" for f in findings if f.fate == "void"]
    if void:
        lines.append(f"Could not be measured on unseen examples: {'; '.join(void)}.")
    branch = run.settings.get("branch")
    if branch and branch["seq"]:
        lines.append(
            f"This run goes on from {branch['run']} after turn {branch['turn']}: what came before is that run's, and whoever chose "
            "to go on may have known what that run found on the unseen examples."
        )
    failed = record.store.rows(
        "SELECT r.number FROM run_experiments r JOIN results s ON s.id = r.result WHERE r.run = ? AND s.status != 'ok' "
        "ORDER BY r.number",
        run.name,
    )
    if failed:
        handles = [f"E{row['number']}" for row in failed]
        lines.append(f"Without a usable result: {_some(handles)}.")
    if run.subject == "demo":
        lines.append(
            "The demo model's number embeddings started as Fourier features: how it represents numbers says little about others."
        )
    return lines


def _some(handles: Sequence[str]) -> str:
    more = f" and {len(handles) - 20} more" if len(handles) > 20 else ""
    return f"{', '.join(handles[:20])}{more}"


def _tasks(record: RunRecord, run: Run, standing: Sequence[Finding]) -> list[str]:
    """The tasks and formats that findings hold for."""
    lines: list[str] = []
    if tasks := _distinct(f.statement.task for f in standing):
        lines.append(
            f"Findings hold for {listed(tasks)} as these examples ask it, in no other format and for no other model."
        )
    made = {t.name for t in record.store.task_data(run.name) if t.origin == "planner"}
    if own := [t for t in tasks if t in made]:
        lines.append(f"The examples of {listed(own)} were written by the planner.")
    return lines


def _units(record: RunRecord, standing: Sequence[Finding]) -> list[str]:
    """On which corpora findings about single units and directions hold, and on which else they were looked at."""
    seen: dict[str, list[str]] = {}
    looked: dict[str, list[str]] = {}
    for f in standing:
        s = f.statement
        if any(
            c.feature or (c.units and PARTS[c.part].unit in ("neuron", "channel")) or s.kind in MEANS for c in s.members
        ):
            seen.setdefault(s.components, []).extend(t for t in (s.task, s.other_task) if t)
    for row in record.experiments() if seen else ():
        asked = row.experiment.args
        about = [*asked.get("tasks", ()), asked.get("task"), asked.get("other_task")]
        for unit in seen if row.experiment.tool in ("cross_dataset", "examine") else ():
            if any(_same_place(c, unit) for c in asked.get("components") or ()):
                looked.setdefault(unit, []).extend(t for t in about if t)
    lines: list[str] = []
    for unit, tasks in seen.items():
        more = [t for t in _distinct(looked.get(unit, ())) if t not in tasks]
        also = f"; it was looked at on {listed(more)} too, and nothing of that is confirmed" if more else ""
        lines.append(
            f"What was found of {unit} holds on {listed(_distinct(tasks))} alone{also}: elsewhere a unit may mean something else."
        )
    return lines


def _same_place(one: str, other: str) -> bool:
    return re.sub(r"^\*\.", "", one) in (other, other.partition(".")[2])


def _interventions(standing: Sequence[Finding]) -> list[str]:
    """Ablation types and objectives that were used, where they were not all."""
    lines: list[str] = []
    ablated = [f for f in standing if any(_op(t) in ABLATIONS for t in f.statement.interventions)]
    one = [f for f in ablated if len({_op(t) for t in f.statement.interventions}) == 1]
    for kind in _distinct(_op(t) for f in one for t in f.statement.interventions):
        mine = [f.handle for f in one if _op(f.statement.interventions[0]) == kind]
        lines.append(f"Tested under {kind} ablation alone: {', '.join(mine)}; another kind may give another result.")
    if others := [f for f in standing if f.statement.objective != "accuracy"]:
        named = ", ".join(f"{f.handle} {f.statement.objective}" for f in others)
        lines.append(f"Measured otherwise than by accuracy: {named}.")
    return lines


def _failed_interventions(record: RunRecord, standing: Sequence[Finding]) -> list[str]:
    """Interventions under which the same was examined and did not show, left out of what was then predicted."""
    lines: list[str] = []
    for row in record.experiments():
        asked = row.experiment.args
        if row.experiment.tool != "examine" or asked.get("split", "explore") != "explore":
            continue
        about = (asked.get("kind"), asked.get("task"), asked.get("among", ""))
        places = " + ".join(asked.get("components") or ())
        alike = [
            f for f in standing if f.statement.components
            and (f.statement.kind, f.statement.task, f.statement.among) == about
            and _same_set(places, f.statement)
        ]  # fmt: skip
        if not alike:
            continue
        p: dict[str, float] = {}
        for m in record.measurements_of(row.handle):
            if m.name == "p" and m.intervention:
                p[m.intervention] = max(m.value, p.get(m.intervention, 0.0))
        for f in alike:
            failed = [how for how, value in p.items() if how not in f.statement.interventions and value > ALPHA]
            if failed:
                words = listed([Intervention.parse(how).op for how in sorted(failed)])
                lines.append(f"Under {words} ablation {f.handle} was examined too ({row.handle}), and did not show.")
    for f in standing:
        s = f.statement
        for g in record.findings():
            t = g.statement
            same = (s.kind, s.task, s.among, s.components) == (t.kind, t.task, t.among, t.components)
            if same and g.settled and g.fate != "confirmed" and set(s.interventions) < set(t.interventions):
                words = listed([_op(how) for how in t.interventions])
                lines.append(
                    f"What {f.handle} says was also predicted under {words} together ({g.handle}), and was not confirmed."
                )
    return list(dict.fromkeys(lines))


def _same_set(places: str, s: Statement) -> bool:
    """Whether places as a planner wrote them, perhaps with * for the stack, are a statement's."""
    try:
        named = re.sub(r"(^|\+ )\*\.", rf"\g<1>{s.members[0].stack}.", places)
        return ComponentSet.parse(named) == ComponentSet.parse(s.components)
    except (PlaceError, IndexError):
        return False


def _sample(record: RunRecord, standing: Sequence[Finding]) -> list[str]:
    """How many independent problems stand behind findings, and which of them had been seen."""
    lines: list[str] = []
    counts = [m.groups for f in standing for m in tested(record, f).effects]
    if counts:
        low, high = min(counts), max(counts)
        many = f"{low}" if low == high else f"{low} to {high}"
        lines.append(f"Each finding rests on {many} independent problems that the search had not seen.")
    if reused := [f.handle for f in standing if f.reused]:
        lines.append(
            f"Some of the unseen examples of {', '.join(reused)} had stood in an earlier round or run, for want of others: "
            "their p values are not those of fresh data."
        )
    return lines


def _looks(record: RunRecord, findings: Sequence[Finding]) -> list[str]:
    """How many experiments were looks only."""
    total = int(record.store.rows("SELECT count(*) AS n FROM run_experiments WHERE run = ?", record.run)[0]["n"])
    looks = total - len({f.experiment for f in findings if f.experiment})
    if not looks:
        return []
    return [
        f"{looks} of {total} experiments are looks at explore examples: their intervals are for single comparisons, and nothing "
        "that they alone show is claimed."
    ]


def _op(text: str) -> str:
    return Intervention.parse(text).op


def _distinct(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
