"""The researcher's notebook as text: what a planner needs to remember when older turns are folded."""

from agent.loop.record import RunRecord
from agent.report.numbers import number_text
from agent.report.references import substitute
from experiments_db.findings import Finding


def notebook_text(record: RunRecord, last_experiments: int = 60) -> str:
    """Questions, hypotheses with evidence, findings with their fates, notes and a line per experiment."""
    lines: list[str] = []
    questions, hypotheses, findings = record.questions(), record.hypotheses(), record.findings()
    if questions:
        lines += ["Questions:", *(f"  {q.handle} [{q.asks}] {q.text}" for q in questions)]
    if hypotheses:
        lines.append("Hypotheses:")
        for h in hypotheses:
            evidence = f" for {', '.join(h.evidence_for) or '-'}; against {', '.join(h.evidence_against) or '-'}"
            lines.append(f"  {h.handle} [{h.status}] {h.statement} ({evidence.strip()})")
    if findings:
        lines += ["Findings:", *(f"  {_finding(f)}" for f in findings)]
    notes = record.notes()
    if notes:
        lines.append("Notes:")
        lines += [f"  N{i} {_short(n.text)}" for i, n in enumerate(notes, 1)][-20:]
    rows = record.experiments()
    if rows:
        lines.append("Experiments" + (f" (the last {last_experiments})" if len(rows) > last_experiments else "") + ":")
        for row in rows[-last_experiments:]:
            result = record.store.result(row.result_id, arrays=False)
            lines.append(f"  {row.handle} {row.experiment.tool}: {_short(result.text)}")
    return "\n".join(lines)


def _finding(f: Finding) -> str:
    s = f.statement
    what = s.components or s.path or s.program or s.label
    fate = "open" if not f.settled else f"{f.fate}{f' ({f.reason})' if f.reason else ''}"
    back = ", taken back" if f.retracted else ""
    return f"{f.handle} [{fate}{back}] {s.kind}{f' of {what}' if what else ''} for {s.task}{f' among {s.among}' if s.among else ''}"


def _short(text: str, length: int = 160) -> str:
    first = " ".join(text.split())
    return first if len(first) <= length else first[: length - 1] + "…"


def earlier_text(record: RunRecord, length: int = 4000) -> str:
    """What an earlier run found, for a planner that continues from it: its question, claims, hypotheses and notes.

    Handles of that run mean nothing in the new one, so that references are replaced by their values.
    """
    run = record.store.run(record.run)

    def plain(text: str) -> str:
        return substitute(text, lambda inside: number_text(inside, record))

    lines = [f"Question: {run.goal}", f"Ended: {run.status}, {run.reason}"]
    lines += [
        f"Finding ({f.fate}): {plain(f.sentence) if f.sentence else _finding(f)}"
        for f in record.findings()
        if f.settled
    ]
    lines += [f"Hypothesis ({h.status}): {plain(h.statement)}" for h in record.hypotheses()]
    lines += [f"Note: {plain(n.text)}" for n in record.notes()]
    text = "\n".join(lines)
    return text if len(text) <= length else text[: length - 1] + "…"
