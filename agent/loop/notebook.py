"""The researcher's notebook as text: what a planner needs to remember when older turns are folded."""

from agent.loop.delegating import children, rounds_used
from agent.loop.record import RunRecord, own_experiments
from agent.loop.strongest import in_a_line
from agent.report.numbers import number_text
from agent.report.references import substitute
from agent.report.summary import finding_line, headline
from agent.report.tested import Tested, came_to, controls, effect_words, tested
from experiments_db.records import Run
from tools.findings.consequences import answers, contradictions, shared_word
from tools.statistics import share

NOTES = 20  # the latest, in the notebook


def notebook_text(record: RunRecord, last_experiments: int = 60) -> str:
    """Questions, hypotheses, findings (open ones first) with their fates, rounds, notes and a line per experiment."""
    hypotheses, noted, made = record.hypotheses(), record.noted(), record.count()
    lines = [*_questions(record)]
    if hypotheses:
        lines.append("Hypotheses:")
        found = record.findings()
        for h in hypotheses:
            evidence = f" for {', '.join(h.evidence_for) or '-'}; against {', '.join(h.evidence_against) or '-'}"
            lines.append(f"  {h.handle} [{came_to(h, found)}] {h.statement} ({evidence.strip()})")
    lines += _findings(record)
    if noted:
        first = max(1, noted - NOTES + 1)
        lines.append("Notes:")
        lines += [f"  N{i} {_short(n.text)}" for i, n in enumerate(record.store.notes(record.run, first), first)]
    if delegated := children_lines(record):
        lines += ["Investigated by child runs:", *delegated]
    if made:
        lines.append("Experiments" + (f" (the last {last_experiments})" if made > last_experiments else "") + ":")
        first = max(1, made - last_experiments + 1)
        if first not in record.told:
            record.told.clear()
        for row in record.store.experiments(record.run, since=max((first, *(n + 1 for n in record.told)))):
            result = record.store.result(row.result_id, arrays=False)
            told = in_a_line(result.measurements, 1) if result.status == "ok" else ""
            record.told[int(row.handle[1:])] = f"  {row.handle} {row.experiment.tool}: {_short(told or result.text)}"
        for n in [n for n in record.told if n < first]:
            del record.told[n]
        lines += [line for _, line in sorted(record.told.items())]
    return "\n".join(lines)


def _questions(record: RunRecord) -> list[str]:
    """What the goal asks, and what answers it so far."""
    questions, findings = record.questions(), record.findings()
    lines = ["Questions of the goal:"] if questions else []
    for q in questions:
        by = ", ".join(f.handle for f in answers(q, findings))
        how = f"{word}, by" if (word := shared_word(q, findings)) else "answered by"
        lines.append(f"  {q.handle} ({q.asks}) {q.text}: {f'{how} {by}' if by else 'no answer yet'}")
    return lines


def _findings(record: RunRecord) -> list[str]:
    """Findings, those that are sealed and not settled first, and what the next round may spend."""
    findings, claimed = record.findings(), {c.finding for c in record.claims()}
    if not findings:
        return []
    ordered = sorted(findings, key=lambda f: f.settled)
    lines = ["Findings:"]
    for t in (tested(record, f) for f in ordered):
        mark = " (claimed)" if t.finding.handle in claimed else ""
        lines.append(f"  {_state(t)}{mark}")
    used = rounds_used(record)
    lines.append(
        f"  rounds settled: {used}; the next may spend {share(used + 1):.2g} of the error rate, half of the one before"
    )
    lines += [f"  {a} and {b} contradict each other: {why}" for a, b, why in contradictions(findings)]
    return lines


def _state(t: Tested) -> str:
    f = t.finding
    if f.settled:
        return _short(finding_line(t), 400)
    sure = f"probability {f.probability:.2f}, power {f.power:.2f}"
    return _short(f"{f.handle} [open: confirm it] {t.words}; from {f.seen}, {sure}", 400)


def _short(text: str, length: int = 160) -> str:
    first = " ".join(text.split())
    return first if len(first) <= length else first[: length - 1] + "…"


def earlier_text(record: RunRecord, length: int = 4000) -> str:
    """What an earlier run found, for a planner that continues from it: its question, findings, hypotheses and notes.

    Handles of that run mean nothing in the new one, so that references are replaced by their values.
    """
    run = record.store.run(record.run)

    lines = [f"Question: {run.goal}", f"Ended: {run.status}, {run.reason}", f"Answer: {headline(record)}"]
    lines += [f"Finding {finding_line(tested(record, f)).partition(' ')[2]}" for f in record.findings()]
    lines += [f"Hypothesis ({h.status}): {with_numbers(h.statement, record)}" for h in record.hypotheses()]
    lines += [f"Note: {with_numbers(n.text, record)}" for n in record.notes()]
    text = "\n".join(lines)
    return text if len(text) <= length else text[: length - 1] + "…"


def child_text(record: RunRecord, run: Run) -> str:
    """What a child run came to, for the one that asked: how it ended, what it cost, its findings with their fates."""
    found = record.findings()
    rounds = sorted({f.round for f in found if f.round is not None})
    settled = f", settled in {'rounds' if len(rounds) > 1 else 'round'} {', '.join(map(str, rounds))}" if rounds else ""
    lines = [
        f"{run.name} ({run.status}: {run.reason or 'no reason'}) made {own_experiments(record, run)} experiments, which this run "
        f"has spent{settled}, on unseen examples of its own. Answer: {headline(record)}"
    ]
    lines += [f"  {finding_line(tested(record, f))}" for f in found]
    lines += [f"  note: {_short(with_numbers(n.text, record))}" for n in record.notes()]
    return "\n".join(
        [*lines, "Its handles do not exist here; to claim something of it, examine and confirm it in this run."]
    )


def children_lines(record: RunRecord) -> list[str]:
    """A line for each child of a run, for its notebook."""
    store = record.store
    return [f"  {c.name}: {store.run(c.name).goal}: {headline(RunRecord(store, c.name))}" for c in children(record)]


def with_numbers(text: str, record: RunRecord) -> str:
    """A text with the numbers in place of its references."""
    return substitute(text, lambda inside: number_text(inside, record))


def fate_line(t: Tested) -> str:
    """'F1 confirmed in E9 (p = 1e-05, had to reach 0.0125): effect 62% [52%, 70%; n=128]; control 3%: a random vector'."""
    f = t.finding
    p = "" if f.p is None or f.threshold is None else f" (p = {f.p:.2g}, had to reach {f.threshold:.2g})"
    again = "; some of its examples had been used before" if f.reused else ""
    where = f" in {f.experiment}" if f.experiment else ""
    effects = ", ".join(f"{how}{text}" for _, how, text in effect_words(t))
    found = f"; effect {effects}, {t.sample}" if effects else ""
    beside = f"; control {said}" if (said := controls(t)) else ""
    return f"{f.handle} {f.fate}{where}{p}{f': {f.reason}' if f.reason else ''}{found}{beside}{again}"
