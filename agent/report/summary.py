"""What a run came to, in a few plain words and numbers from its record, so that two runs can be laid side by side."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from agent.loop.record import Reading
from agent.report.numbers import number_text
from agent.report.references import substitute
from agent.report.text import inert
from experiments_db.records import Prediction, Run
from experiments_db.store import Store

VERDICTS = {
    "found": "Found",
    "not_found": "Not found",
    "cannot": "The model cannot do it",
    "unclear": "Unclear",
}


@dataclass(frozen=True)
class Summary:
    """One run: its question, who asked, and what came of it. `questions` are the ids of its experiments."""

    run: str
    goal: str
    subject: str
    planner: str
    verdict: str
    conclusion: str
    claims: tuple[str, ...]
    predictions: str
    questions: frozenset[str]


def verdict(status: str, reason: str) -> str:
    """How a run ended, in words."""
    return VERDICTS.get(reason, "Finished") if status == "finished" else "No conclusion"


def calibration(predictions: Sequence[Prediction]) -> tuple[int, int, float] | None:
    """(came true, tested, Brier score) of the predictions that were tested; None where none was."""
    scored = [p for p in predictions if p.outcome is not None]
    if not scored:
        return None
    brier = sum((p.probability - float(bool(p.outcome))) ** 2 for p in scored) / len(scored)
    return sum(bool(p.outcome) for p in scored), len(scored), brier


def summary(record: Reading) -> Summary:
    """What a run came to."""
    store, name = record.store, record.run
    run = store.run(name)
    notes, scores = record.notes(), calibration(record.predictions())

    def plain(text: str) -> str:
        return substitute(text, lambda inside: number_text(inside, record))

    if run.status == "finished" and notes:
        conclusion = plain(notes[-1].text)
    else:
        conclusion = (
            "The run is under way." if run.status == "running" else f"The run ended before its end: {run.reason}"
        )
    return Summary(
        run=name,
        goal=run.goal,
        subject=run.subject,
        planner=run.planner,
        verdict=verdict(run.status, run.reason),
        conclusion=conclusion,
        claims=tuple(f"{c.kind}: {plain(c.text)} (confidence {c.confidence:g})" for c in record.claims()),
        predictions=f"{scores[0]} of {scores[1]} came true, Brier score {scores[2]:.3f}"
        if scores
        else "none was tested",
        questions=frozenset(
            r["id"] for r in store.rows("SELECT experiment AS id FROM run_experiments WHERE run = ?", name)
        ),
    )


def side_by_side(a: Summary, b: Summary, width: int = 58) -> str:
    """Two summaries as text in two columns."""
    shared = len(a.questions & b.questions)
    rows = [(s.run, s.goal, s.subject, f"planner {s.planner}", f"{s.verdict}. {s.conclusion}") for s in (a, b)]
    lines: list[str] = []
    cells = [*zip(*rows, strict=True)]
    claims = max(len(a.claims), len(b.claims))
    cells += [tuple(s.claims[i] if i < len(s.claims) else "" for s in (a, b)) for i in range(claims)]
    cells.append(tuple(f"predictions: {s.predictions}" for s in (a, b)))
    cells.append(tuple(f"{len(s.questions)} experiments, {shared} of them in both" for s in (a, b)))
    for left, right in cells:
        folded = [textwrap.wrap(inert(text).replace("\n", " "), width) or [""] for text in (left, right)]
        for i in range(max(map(len, folded))):
            left_line, right_line = (f[i] if i < len(f) else "" for f in folded)
            lines.append(f"{left_line:{width}} | {right_line}".rstrip())
        lines.append("-" * width + "-+-" + "-" * width)
    return "\n".join(lines[:-1])


def limits(store: Store, run: Run) -> list[str]:
    """What a reader of a run's findings should bear in mind, one sentence or two each."""
    tables = "FROM run_experiments r JOIN experiments x ON x.id = r.experiment JOIN results s ON s.id = r.result WHERE r.run = ?"
    kinds = store.rows(f"SELECT DISTINCT x.tool, json_extract(x.args, '$.ablation') AS ablation {tables}", run.name)
    failed = store.rows(f"SELECT r.number {tables} AND s.status != 'ok' ORDER BY r.number", run.name)
    tools, ablations = {k["tool"] for k in kinds}, sorted({str(k["ablation"]) for k in kinds if k["ablation"]})
    seed = run.settings.get("seed")
    lines = [f"Examples were drawn with seed {seed}; other examples may give other numbers within the intervals."]
    if ablations:
        lines.append(
            f"Ablation types used: {', '.join(ablations)}. Zero ablation takes the model off its distribution; resample ablation "
            "only removes information about the example."
        )
    if "lens" in tools:
        lines.append("The logit lens shows what the head can read, not all that is there.")
    if "patch" in tools:
        lines.append("Patching shows where information that differs between twins lies, not where it was computed.")
    if run.subject == "demo":
        lines.append(
            "The demo model's number embeddings started as Fourier features: how it represents numbers says little about others."
        )
    branch = run.settings.get("branch")
    if branch and branch["seq"]:
        lines.append(
            f"This run goes on from {branch['run']} after turn {branch['turn']}: what came before is that run's, and whoever chose "
            "to go on may have known what that run found on the unseen examples."
        )
    if failed:
        shown = ", ".join(f"E{f['number']}" for f in failed[:20]) + (
            f" and {len(failed) - 20} more" if len(failed) > 20 else ""
        )
        lines.append(f"Without a usable result: {shown}.")
    return lines
