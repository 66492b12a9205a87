"""The researcher's notebook as text: what a planner needs to remember when older turns are folded."""

from agent.record import RunRecord


def notebook_text(record: RunRecord, last_experiments: int = 60) -> str:
    """Hypotheses with evidence, predictions, notes, claims and a line per experiment."""
    lines: list[str] = []
    hypotheses, predictions = record.hypotheses(), record.predictions()
    if hypotheses:
        lines.append("Hypotheses:")
        for h in hypotheses:
            evidence = f" for {', '.join(h.evidence_for) or '-'}; against {', '.join(h.evidence_against) or '-'}"
            lines.append(f"  {h.handle} [{h.status}] {h.statement} ({evidence.strip()})")
    if predictions:
        lines.append("Predictions:")
        for p in predictions:
            state = "open" if p.outcome is None else "came true" if p.outcome else "did not come true"
            lines.append(f"  {p.handle} ({p.hypothesis}) {p.metric} {p.comparison} {p.threshold:g}: {state}")
    notes, claims = record.notes(), record.claims()
    if notes:
        lines.append("Notes:")
        lines += [f"  N{i} {_short(n.text)}" for i, n in enumerate(notes, 1)][-20:]
    if claims:
        lines.append("Claims:")
        lines += [f"  C{i} [{c.kind}] {_short(c.text)}" for i, c in enumerate(claims, 1)]
    rows = record.experiments()
    if rows:
        lines.append("Experiments" + (f" (the last {last_experiments})" if len(rows) > last_experiments else "") + ":")
        for row in rows[-last_experiments:]:
            result = record.store.result(row.result_id, arrays=False)
            lines.append(f"  {row.handle} {row.experiment.tool}: {_short(result.text)}")
    return "\n".join(lines)


def _short(text: str, length: int = 160) -> str:
    first = " ".join(text.split())
    return first if len(first) <= length else first[: length - 1] + "…"
