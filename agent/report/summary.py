"""What a run came to, in a few plain words and numbers from its record, so that two runs can be laid side by side."""

import textwrap
from dataclasses import dataclass

from agent.loop.record import Reading, RunRecord
from agent.report.conclusion import Concluded, conclude
from agent.report.null_twins import nulls_words
from agent.report.numbers import number_text
from agent.report.opening import UNTESTED, stays_open, sure, without_headline
from agent.report.references import substitute
from agent.report.tested import Tested, effect_words
from agent.report.text import inert


@dataclass(frozen=True)
class Summary:
    """One run: its question, who asked, and what came of it. `questions` are the ids of its experiments."""

    run: str
    goal: str
    subject: str
    planner: str
    verdict: str
    conclusion: str
    findings: tuple[str, ...]
    open: str
    sure: str
    questions: frozenset[str]


def plain(text: str, record: RunRecord) -> str:
    """A text with its references filled in, for a terminal: control characters shown as escapes."""
    return substitute(inert(text), lambda inside: number_text(inside, record))


def headline(record: RunRecord, c: Concluded | None = None, *, brief: bool = False) -> str:
    """The headline as plain text, or what to say where no finding stands. brief: what answers the question, and how many more."""
    c = c or conclude(record)
    shown = [s for s in c.headline if s.leads] if brief else c.headline
    said = " ".join(plain(s.text, record) for s in shown)
    if said and (more := len(c.headline) - len(shown)):
        said += f" {more} more {'sentence stands' if more == 1 else 'sentences stand'} in the report."
    clashes = "".join(f" {a} and {b} contradict each other: {why}." for a, b, why in c.contradictions)
    return inert((said or without_headline(record.store.run(record.run), record, c)) + clashes)


def finding_line(t: Tested) -> str:
    """One finding in one line: handle, fate, what it says, effect, reason."""
    f = t.finding
    effects = "; ".join(f"{how}{text}" for _, how, text in effect_words(t))
    why = f"; {f.reason}" if f.reason else ""
    back = f"; taken back: {f.retracted}" if f.retracted else ""
    return f"{f.handle} [{f.fate or 'open'}] {t.words}{f': {effects}' if effects else ''}{why}{back}"


def summary(record: Reading) -> Summary:
    """What a run came to."""
    run, c = record.store.run(record.run), conclude(record)
    whole = next((i.words for i in c.interpretations if not i.finding), "")
    beyond = f" ({UNTESTED}: {plain(whole, record)})" if whole else ""
    found = record.store.rows("SELECT experiment AS id FROM run_experiments WHERE run = ?", run.name)
    return Summary(
        run=run.name,
        goal=run.goal,
        subject=run.subject,
        planner=run.planner,
        verdict=c.verdict,
        conclusion=headline(record, c) + beyond,
        findings=tuple(finding_line(t) for t in c.findings),
        open=stays_open(c),
        sure=inert(f"{sure(c.sureness)} {nulls_words(c.nulls)}".rstrip()),
        questions=frozenset(r["id"] for r in found),
    )


def side_by_side(a: Summary, b: Summary, width: int = 58) -> str:
    """Two summaries as text in two columns."""
    shared = len(a.questions & b.questions)
    rows = [(s.run, s.goal, s.subject, f"planner {s.planner}", f"{s.verdict}. {s.conclusion}") for s in (a, b)]
    lines: list[str] = []
    cells = [*zip(*rows, strict=True)]
    found = max(len(a.findings), len(b.findings))
    cells += [tuple(s.findings[i] if i < len(s.findings) else "" for s in (a, b)) for i in range(found)]
    cells.append(tuple(s.sure for s in (a, b)))
    cells.append(tuple(f"open: {s.open}" for s in (a, b)))
    cells.append(tuple(f"{len(s.questions)} experiments, {shared} of them in both" for s in (a, b)))
    for left, right in cells:
        folded = [textwrap.wrap(inert(text).replace("\n", " "), width) or [""] for text in (left, right)]
        for i in range(max(map(len, folded))):
            left_line, right_line = (f[i] if i < len(f) else "" for f in folded)
            lines.append(f"{left_line:{width}} | {right_line}".rstrip())
        lines.append("-" * width + "-+-" + "-" * width)
    return "\n".join(lines[:-1])
