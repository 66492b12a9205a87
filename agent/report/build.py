"""Build report.md and its figures from the database alone."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.findings.discipline import LEVEL, caveats, confirmatory, family

from agent.loop.record import Reading, RunRecord
from agent.report.numbers import control_text, measurement_text, reference_text
from agent.report.references import UnresolvedReference, resolve, substitute
from agent.report.summary import calibration, limits, verdict
from agent.report.text import code, inert, markdown
from experiments_db.records import Prediction, Result, Run
from experiments_db.store import ExperimentRow, Store, StoreError


def run_folder(run: Run, out: Path | None = None) -> Path:
    """Where a run's files belong: below `out` if given, else where it wrote them, else below transcripts/.

    A run that was imported names a folder of another machine, which is not there and is not made.
    """
    there = Path(run.settings.get("out", "transcripts")) / run.name
    return out / run.name if out is not None else there if there.is_dir() else Path("transcripts") / run.name


def write_report(store: Store, run: str, folder: Path) -> Path:
    """Write report.md and figures/ below the folder; returns the report's path."""
    folder.mkdir(parents=True, exist_ok=True)
    text = render(store, run, folder / "figures")
    part = folder / "report.md.part"
    part.write_text(text, encoding="utf-8")
    part.replace(folder / "report.md")
    return folder / "report.md"


def render(store: Store, name: str, figures: Path | None) -> str:
    """The report as markdown; figures are drawn into a folder, or not at all where it is None."""
    run, record = store.run(name), Reading(store, name)
    rows = record.experiments()
    results = {r.handle: store.result(r.result_id) for r in rows}
    drawn = {r.handle: d for r in rows if (d := _draw(r, results[r.handle], figures))}
    sections = [
        _head(run, record),
        _claims(record),
        _evidence(rows, drawn, results),
        _hypotheses(record),
        _notes(run, record),
        _tried(record, rows, results),
        _limits(run, store),
        _replay(run, store),
    ]
    return "\n\n".join(s for s in sections if s) + "\n"


def _draw(row: ExperimentRow, result: Result, figures: Path | None) -> tuple[str, str] | None:
    from agent.report.figures import draw

    if figures is not None:
        return draw(row, result, figures)
    with tempfile.TemporaryDirectory() as scratch:
        return draw(row, result, Path(scratch))


def _text(text: str, record: RunRecord) -> str:
    """A planner's text: markup made inert, each reference filled in from the record and linked to its experiment."""
    parts: list[str] = []

    def keep(inside: str) -> str:
        try:
            found = resolve(inside, record.measurements_of)
            parts.append(f"[{reference_text(found)}](#{found.handle.lower()})")
        except (UnresolvedReference, StoreError):
            parts.append(code("{{" + inside + "}}") + " (names no measurement)")
        return f"\0{len(parts) - 1}\0"

    kept = substitute(text.replace("\0", ""), keep).split("\0")
    return "".join(parts[int(p)] if i % 2 else markdown(p) for i, p in enumerate(kept))


def _head(run: Run, record: RunRecord) -> str:
    notes = record.notes()
    finished = run.status == "finished"
    conclusion = (
        _text(notes[-1].text, record) if finished and notes else f"The run ended before its end: {markdown(run.reason)}"
    )
    settings = run.settings
    provenance = settings.get("provenance", {})
    versions = ", ".join(f"{k} {v}" for k, v in provenance.get("versions", {}).items())
    return "\n".join(
        [
            f"# {markdown(run.goal)}",
            "",
            f"**{verdict(run.status, run.reason)}.** {conclusion}",
            "",
            "| | |",
            "|---|---|",
            f"| subject | {code(run.subject)}, fingerprint {code(str(settings.get('fingerprint', ''))[:16])} |",
            f"| planner | {code(run.planner)} |",
            f"| run | {code(run.name)}, begun {run.created} |",
            f"| experiments | {len(record.experiments())} |",
            f"| computed on | {provenance.get('device', '?')}, {settings.get('dtype')}, {provenance.get('threads', '?')} threads, "
            f"{versions} |",
        ]
    )


def _claims(record: RunRecord) -> str:
    claims = record.claims()
    if not claims:
        return "## Claims\n\nNone."
    lines = ["## Claims", "", "| | kind | claim | sites | rests on | confidence |", "|---|---|---|---|---|---|"]
    for i, c in enumerate(claims, 1):
        rests = _links(c.experiments)
        sites = ", ".join(code(s) for s in c.sites)
        kind = c.kind if c.role is None else f"{c.kind}: {c.role.replace('_', ' ')}"
        rest = caveats(record, c.experiments) if c.kind in ("localisation", "effect") else []
        text = _text(c.text, record) + (f" *Rests on {markdown(', '.join(rest))}.*" if rest else "")
        lines.append(f"| C{i} | {kind} | {text} | {sites} | {rests} | {c.confidence:.2f} |")
    return "\n".join(lines)


def _evidence(rows: Sequence[ExperimentRow], drawn: dict[str, tuple[str, str]], results: dict[str, Result]) -> str:
    lines = ["## Evidence"]
    for row in rows:
        result = results[row.handle]
        known = " (known from an earlier run)" if row.cached else ""
        lines += ["", f'<a id="{row.handle.lower()}"></a>', f"### {row.handle} · {row.experiment.tool}{known}", ""]
        if row.why:
            lines += [f"*{markdown(row.why)}*", ""]
        if row.handle in drawn:
            stem, caption = drawn[row.handle]
            lines += [
                f"![{markdown(caption)}](figures/{stem}.png)",
                "",
                f"{markdown(caption)} [vector](figures/{stem}.svg)",
                "",
            ]
        fence = "`" * max(3, 1 + max((len(r) for r in re.findall(r"`+", result.text)), default=0))
        lines += [fence + "text", inert(result.text), fence]
    return "\n".join(lines)


def _hypotheses(record: RunRecord) -> str:
    hypotheses, predictions = record.hypotheses(), record.predictions()
    lines = ["## Hypotheses and predictions", ""]
    if not hypotheses:
        return lines[0] + "\n\nNone were stated."
    lines += ["| | hypothesis | fate | for | against |", "|---|---|---|---|---|"]
    for h in hypotheses:
        lines.append(
            f"| {h.handle} | {_text(h.statement, record)} | {h.status} | {_links(h.evidence_for)} | "
            f"{_links(h.evidence_against)} |"
        )
    if predictions:
        lines += ["", "| | about | prediction | probability | observed | outcome |", "|---|---|---|---|---|---|"]
        for p in predictions:
            observed = (
                "" if p.observed is None else f"[{p.observed:.3g} in {p.experiment}](#{str(p.experiment).lower()})"
            )
            outcome = "not tested" if p.outcome is None else "came true" if p.outcome else "**did not come true**"
            lines.append(
                f"| {p.handle} | {p.hypothesis} | {code(p.metric)} {markdown(p.comparison)} {p.threshold:g} | {p.probability:g} "
                f"| {observed} | {outcome} |"
            )
        lines += ["", _calibration(predictions), *_confirmatory(record)]
    return "\n".join(lines)


def _links(handles: Sequence[str]) -> str:
    return ", ".join(f"[{h}](#{h.lower()})" for h in handles)


def _calibration(predictions: Sequence[Prediction]) -> str:
    scores = calibration(predictions)
    if scores is None:
        return "No prediction was tested."
    hits, tested, brier = scores
    return (
        f"{hits} of {tested} tested predictions came true; Brier score {brier:.3f} (0 is best, 0.25 is a coin). Each was "
        "written down before its experiment and scored by code."
    )


def _confirmatory(record: RunRecord) -> list[str]:
    """Every confirmatory test beside its control, corrected for their number."""
    tests = [(p, m, q) for p, m, q in confirmatory(record) if m.control is not None]
    if not tests:
        return []
    lines = ["", "| | measured on unseen examples | control | adjusted p |", "|---|---|---|---|"]
    for p, m, q in tests:
        assert m.control is not None
        measured = f"[{measurement_text(m)}](#{str(p.experiment).lower()})"
        beside = f"{control_text(m)}: {markdown(m.control.kind)}"
        lines.append(f"| {p.handle} | {measured} | {beside} | {'below 0.001' if q < 0.001 else f'{q:.3f}'} |")
    return [
        *lines, "",
        f"p values are two-sided, of the difference from the control, adjusted by Holm's method over the "
        f"run's {len(confirmatory(record))} "
        "confirmatory tests.",
    ]  # fmt: skip


def _notes(run: Run, record: RunRecord) -> str:
    notes = record.notes()
    shown = notes[:-1] if run.status == "finished" else notes
    if not shown:
        return ""
    return "\n".join(["## Notes", "", *(f"- N{i} {_text(n.text, record)}" for i, n in enumerate(shown, 1))])


def _tried(record: RunRecord, rows: Sequence[ExperimentRow], results: dict[str, Result]) -> str:
    lines = ["## What was tried", "", "| | tool | arguments | status | seconds |", "|---|---|---|---|---|"]
    for row in rows:
        result = results[row.handle]
        given = {k: v for k, v in row.experiment.args.items() if v not in (None, [], "")}
        args = ", ".join(f"{k}={v}" for k, v in given.items())
        lines.append(
            f"| [{row.handle}](#{row.handle.lower()}) | {row.experiment.tool} | {code(args[:160])} | {result.status} "
            f"| {result.wall_seconds:.2f} |"
        )
    count = sum(len(r.measurements) for r in results.values())
    families = [f for r in results.values() if (f := family(r.measurements))]
    tests, differ = sum(map(len, families)), sum(q < LEVEL for f in families for _, q in f)
    lines += [
        "",
        f"{len(rows)} experiments gave {count} measurements. {tests} of them stand beside a control, in "
        f"{len(families)} families (one an "
        f"experiment); {differ} differ from it at the {LEVEL:g} level after Holm's correction within their "
        f"family. Intervals are for "
        "single comparisons; what is claimed as a localisation was confirmed on unseen examples.",
    ]
    rejected = [
        e.payload for e in record.store.events(record.run) if e.kind == "answer" and e.payload["status"] not in ("ok",)
    ]
    if rejected:
        lines += ["", "Calls that were not answered with a result:", ""]
        lines += [f"- {p['status']}: {markdown(str(p['text'])[:300])}" for p in rejected]
    return "\n".join(lines)


def _limits(run: Run, store: Store) -> str:
    return "\n".join(["## Limits", "", *(f"- {markdown(line)}" for line in limits(store, run))])


def _replay(run: Run, store: Store) -> str:
    where = f" --db {store.path.name}" if store.path.name != "experiments.db" else ""
    return "\n".join(
        [
            "## Replay",
            "",
            "```sh",
            f"python -m agent.replay {run.name}{where}    # runs every experiment again and compares",
            f"python -m agent.report {run.name}{where}    # builds this file again from the database",
            "```",
            "",
            "Every number in the conclusion, the claims and the tables was read from the experiments database when this file was "
            "built.",
        ]
    )
