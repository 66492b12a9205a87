"""Build report.md and its figures from the database alone."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from agent.loop.record import Reading, RunRecord
from agent.report.conclusion import conclude
from agent.report.evidence import draw_all, evidence_section, tried_section
from agent.report.findings_table import findings_section
from agent.report.limits import limits
from agent.report.marked import folded, linked, links, table
from agent.report.opening import opening
from agent.report.text import markdown
from experiments_db.records import Run
from experiments_db.store import Store
from tools.findings.integrity_report import IntegrityReport


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
    concluded = conclude(record)
    sections = [
        opening(run, record, concluded),
        findings_section(record, concluded),
        _hypotheses(record),
        _notes(record),
        _integrity(record),
        evidence_section(rows, results, draw_all(rows, results, figures), concluded),
        tried_section(rows, results, _refused(record)),
        _limits(record, run),
        _replay(run, store),
    ]
    return "\n\n".join("\n".join(s) for s in sections if s) + "\n"
