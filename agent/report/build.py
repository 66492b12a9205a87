"""Build report.md and its figures from the database alone."""

import base64
import re
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from agent.loop.delegating import children
from agent.loop.literature import sha
from agent.loop.record import Reading, RunRecord
from agent.report.bearing import beside
from agent.report.circuit import caption_of, circuits
from agent.report.circuit_figure import CIRCUIT, draw_circuit
from agent.report.conclusion import Concluded, conclude
from agent.report.evidence import draw_all, evidence_section, tried_section
from agent.report.findings_table import findings_section
from agent.report.limits import limits
from agent.report.marked import folded, linked, links, table
from agent.report.opening import opening
from agent.report.own_code import own_code_section
from agent.report.summary import headline
from agent.report.tested import came_to
from agent.report.text import code, inert, markdown
from agent.report.worked import Worked, told, worked, worked_of
from experiments_db.records import Run
from experiments_db.store import Store
from tools.findings.integrity_report import IntegrityReport

WIDE = 14  # stretches of an input that one table shows


def run_folder(run: Run, out: Path | None = None) -> Path:
    """Where a run's files belong: below `out` if given, else where it wrote them, else below transcripts/.

    A run that was imported names a folder of another machine, which is not there and is not made.
    """
    there = Path(run.settings.get("out", "transcripts")) / run.name
    return out / run.name if out is not None else there if there.is_dir() else Path("transcripts") / run.name


def write_report(store: Store, run: str, folder: Path, *, figures: bool = True) -> Path:
    """Write report.md and figures/ below the folder, both or neither; returns the report's path. figures: draw them, not the
    text alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part, drawn = folder / "report.md.part", folder / "figures.part"
    shutil.rmtree(drawn, ignore_errors=True)  # of a process that was killed
    try:
        part.write_text(render(store, run, drawn if figures else None), encoding="utf-8")
        if figures:
            shutil.rmtree(folder / "figures", ignore_errors=True)
        if drawn.is_dir():
            drawn.replace(folder / "figures")
        part.replace(folder / "report.md")
    finally:
        part.unlink(missing_ok=True)
        shutil.rmtree(drawn, ignore_errors=True)
    return folder / "report.md"


def render(store: Store, name: str, figures: Path | None) -> str:
    """The report as markdown; figures are drawn into a folder, or not at all where it is None."""
    run, record = store.run(name), Reading(store, name)
    rows = record.experiments()
    results = {r.handle: store.result(r.result_id) for r in rows}
    concluded = conclude(record)
    sections = [
        opening(run, record, concluded, [*_example(concluded, record, figures), *_circuit(concluded, record, figures)]),
        findings_section(record, concluded),
        _hypotheses(record),
        _notes(record),
        _children(record),
        _literature(run),
        _integrity(record),
        _null_twins(concluded),
        evidence_section(rows, results, draw_all(record, rows, results, figures), concluded, run.status),
        own_code_section(rows),
        tried_section(rows, results, _refused(record)),
        _limits(record, run),
        _replay(run, store),
    ]
    return "\n\n".join("\n".join(s) for s in sections if s) + "\n"


def _media(e: Worked, figures: Path | None) -> list[str]:
    """The picture of an example beside its twin's, and where there are some the recordings, as files beside the report."""
    named = [("example", e.shown), ("twin", e.twin_shown)]
    kinds = (("picture", "png"), ("sound", "wav"))
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        for name, shown in named:
            for kind, end in kinds:
                if kind in shown:
                    (figures / f"{name}.{end}").write_bytes(base64.b64decode(shown[kind]))
    pictures = [f"![{name}](figures/{name}.png)" for name, shown in named if "picture" in shown]
    sounds = [f"[listen to the {name}](figures/{name}.wav)" for name, shown in named if "sound" in shown]
    return [" ".join(pictures), *(["", " ".join(sounds)] if sounds else [])]


def _example(concluded: Concluded, record: RunRecord, figures: Path | None) -> list[str]:
    """One example of the task in the model's tokens, with what stands where; or as a picture or recording."""
    found = worked_of(concluded, record)
    if found is None:
        return []
    stretches = found.stretches()
    said, twin = told(found)
    lines = [
        f"**One example** ({found.chosen}): {markdown(said)}{f'; its twin: {markdown(twin)}' if twin else ''}.",
        "",
    ]
    if found.shown:
        lines += _media(found, figures)
    elif len(stretches) <= WIDE:
        lines += table([code(text) for text, _ in stretches], [[markdown(role) for _, role in stretches]])
    else:
        lines.append(code(" ".join(text for text, _ in stretches)))
    return [*lines, ""]


def _circuit(concluded: Concluded, record: RunRecord, figures: Path | None) -> list[str]:
    """The picture that sums the findings up, where they are about places."""
    found = circuits(concluded.findings, partial(worked, record))
    if not found:
        return []
    if figures is not None:
        draw_circuit(found, figures)
    return [f"![circuit](figures/{CIRCUIT})", "", markdown(caption_of(found))]


def _hypotheses(record: RunRecord) -> list[str]:
    hypotheses, findings = record.hypotheses(), record.findings()
    if not hypotheses:
        return []
    rows = [
        (
            f'<a id="{h.handle.lower()}"></a>{markdown(h.handle)}',
            linked(h.statement, record),
            "; ".join(filter(None, (came_to(h, findings), markdown(beside(h, findings))))),
            links([f.handle for f in findings if f.hypothesis == h.handle]),
            links(h.evidence_for),
            links(h.evidence_against),
        )
        for h in hypotheses
    ]
    words = [came_to(h, findings) for h in hypotheses]
    counts = ", ".join(f"{words.count(w)} {w}" for w in dict.fromkeys(words))
    head = ("", "hypothesis, in the planner's words", "came to", "its findings", "for", "against")
    return ["## Hypotheses", "", *folded(f"Stated: {len(hypotheses)} ({counts})", table(head, rows))]


def _notes(record: RunRecord) -> list[str]:
    notes = record.notes()
    if not notes:
        return []
    shown = [f'- <a id="n{i}"></a>N{i} {linked(n.text, record)}' for i, n in enumerate(notes, 1)]
    return ["## Notes", "", *folded(f"Notes of the planner: {len(notes)}", shown)]


def _literature(run: Run) -> list[str]:
    """What the user gave the planner to read, as it was given."""
    kept = run.settings.get("notes")
    if not kept:
        return []
    text = str(kept["text"])
    whole = "" if sha(text) == kept["sha"] else " The text is not the one that was given: its hash is another."
    fence = "`" * (3 + max((len(m) for m in re.findall("`+", text)), default=0))
    lines = [fence, *(inert(line) for line in text.splitlines()), fence]
    said = f"{kept['name']}, SHA-256 {str(kept['sha'])[:16]}: given to the planner as data; nothing in it was tested.{whole}"
    return ["## Literature notes", "", markdown(said), "", *folded("The notes as given", lines)]


def _children(record: RunRecord) -> list[str]:
    """What runs found that this one had investigate a narrower question; their findings are theirs, and cited."""
    made = children(record)
    if not made:
        return []
    rows: list[Sequence[str]] = []
    for child in made:
        run, its = record.store.run(child.name), Reading(record.store, child.name)
        stand = [f for f in its.findings() if f.stands]
        rows.append((
            f"[{markdown(run.name.removeprefix(f'{record.run}-'))}](../{run.name}/report.md)", markdown(run.goal),
            markdown(headline(its)), str(len(stand)), ", ".join(sorted({str(f.round) for f in its.findings() if f.round})),
            str(len(its.experiments())),
        ))  # fmt: skip
    head = ("child", "question", "what it found", "confirmed", "rounds", "experiments")
    said = "Each is a run of its own, paid for by this one. Their rounds and this run's share one error rate."
    return ["## Investigated by child runs", "", said, "", *table(head, rows)]


def integrity(record: RunRecord) -> IntegrityReport | None:
    """What the gate found when the run began, where it was kept."""
    kept = record.store.run(record.run).settings.get("integrity")
    try:
        return IntegrityReport.from_json(kept) if kept else None
    except (KeyError, TypeError, ValueError, AttributeError):  # a record from elsewhere may hold anything
        return None


def _integrity(record: RunRecord) -> list[str]:
    report = integrity(record)
    if report is None:
        return []
    rows = [(markdown(what), str(n), f"{worst:.1e}", markdown(came)) for what, n, worst, came in report.table()]
    shown = table(("what was checked", "comparisons", "largest deviation", "came to"), rows)
    refused = [f"- refused: {markdown(reason)}" for reason in report.reasons()]
    return ["## Integrity", "", *folded(f"The model as it is run here: {report.line()}", [*shown, *refused])]


def _null_twins(c: Concluded) -> list[str]:
    """What the run's tests confirm where there is nothing."""
    found = c.nulls
    if found is None:
        return []
    head = ("null", "twins", "tests", "would be confirmed", "which")
    rows = [(markdown(a), b, n, k, links(which.split(", ")) if which else "") for a, b, n, k, which in found.rows()]
    lines = ["## Null twins", "", markdown(f"{found.line()[:1].upper()}{found.line()[1:]}.")]
    if reasons := [f"- {markdown(r)}" for r in found.reasons()]:
        reasons = ["", *reasons]
    if rows or reasons:
        lines += [
            "",
            *folded("What was tested where, and what was left out", [*(table(head, rows) if rows else []), *reasons]),
        ]
    return lines


def _refused(record: RunRecord) -> list[tuple[str, str]]:
    """Status and text of the calls that brought no result."""
    answers = [e.payload for e in record.store.events(record.run) if e.kind == "answer"]
    return [(str(p["status"]), str(p["text"])) for p in answers if p["status"] != "ok"]


def _limits(record: RunRecord, run: Run) -> list[str]:
    lines = limits(record, run)
    return ["## Limits of this run", "", *(f"- {markdown(line)}" for line in lines)] if lines else []


def _replay(run: Run, store: Store) -> list[str]:
    where = f" --db {store.path.name}" if store.path.name != "experiments.db" else ""
    s = run.settings
    provenance = s.get("provenance", {})
    versions = ", ".join(f"{k} {v}" for k, v in provenance.get("versions", {}).items())
    return [
        "## Replay",
        "",
        "```sh",
        f"python -m agent.replay {run.name}{where}    # runs every experiment again and compares",
        f"python -m agent.report {run.name}{where} --check    # derives this file again from the database",
        "```",
        "",
        f"Seed {s.get('seed')}, fingerprint of the subject {code(str(s.get('fingerprint', ''))[:16])}; computed on "
        f"{markdown(str(provenance.get('device', '?')))}, {markdown(str(s.get('dtype')))}, {provenance.get('threads', '?')} threads"
        f"{', ' + markdown(versions) if versions else ''}. Every number here was read from the experiments database "
        "when this file was built.",
    ]
