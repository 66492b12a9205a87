"""What a run came to, as data: a verdict and a headline that follow from its confirmed findings, and what stays open.

Nothing that a planner wrote decides a word here: its own words are interpretation, and stand apart.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from agent.loop.known import easier
from agent.loop.record import RunRecord
from agent.report.bearing import bearing
from agent.report.headline import Sentence, compose
from agent.report.null_twins import null_report
from agent.report.tested import Tested, statement_words, tested
from experiments_db.findings import FATES, Finding, Question
from experiments_db.records import Run
from tools.findings.consequences import answers, contradictions, shared_word
from tools.findings.kind import kinds
from tools.findings.null_report import NullTwinReport
from tools.findings.phrases import listed
from tools.findings.settling import reference
from tools.statistics import share

NAMED = 4  # findings named where a question has no answer


@dataclass(frozen=True)
class Answered:
    """A question with the findings that answer it, or why none does. says: yes, no or in part, where that is an answer."""

    question: Question
    by: tuple[str, ...]
    why: str = ""
    says: str = ""

    @property
    def how(self) -> str:
        """What stands before the findings: 'in part, by', 'answered by'."""
        return f"{self.says}, by" if self.says else "answered by"


@dataclass(frozen=True)
class Interpretation:
    """What a planner makes of a finding, or of all (finding is empty): not tested.

    beside: what the findings say of the places that the words name; '' where they name none.
    """

    finding: str
    words: str
    beside: str = ""


@dataclass(frozen=True)
class Sureness:
    """How findings fared. fates: how many of each. brier: of the probabilities said before, over `scored` findings.

    A void finding was not put to the test and is left out of the score; one that was taken back counts. spent: the share of
    the error rate that the rounds so far may have used.
    """

    fates: dict[str, int]
    standing: int
    retracted: int
    open: int
    scored: int
    brier: float | None
    rounds: int
    spent: float

    @property
    def settled(self) -> int:
        """How many unseen examples have decided."""
        return sum(self.fates.values())


@dataclass(frozen=True)
class Concluded:
    """What a run came to."""

    verdict: str
    headline: tuple[Sentence, ...]
    questions: tuple[Answered, ...]
    contradictions: tuple[tuple[str, str, str], ...]
    interpretations: tuple[Interpretation, ...]
    sureness: Sureness
    findings: tuple[Tested, ...]
    nulls: NullTwinReport | None = None

    @property
    def unanswered(self) -> tuple[Answered, ...]:
        """The questions without an answer."""
        return tuple(a for a in self.questions if not a.by)


def conclude(record: RunRecord) -> Concluded:
    """Read a run's questions, findings, claims and conclusion, and say what follows."""
    findings = record.findings()
    every = tuple(tested(record, f) for f in findings)
    asked = tuple(_answered(q, every) for q in record.questions())
    return Concluded(
        verdict=verdict(record),
        headline=compose([t for t in every if t.finding.stands]),
        questions=asked,
        contradictions=tuple(contradictions(findings)),
        interpretations=_interpretations(record),
        sureness=sureness(findings),
        findings=every,
        nulls=null_report(record),
    )


def verdict(record: RunRecord) -> str:
    """How a run ended, in words; what its planner said of it counts only as far as findings carry it."""
    run: Run = record.store.run(record.run)
    if run.status != "finished":
        return "Under way" if run.status == "running" else "No conclusion"
    findings, conclusion = record.findings(), record.store.conclusion(record.run)
    standing = [f for f in findings if f.stands]
    said = conclusion.answer if conclusion else None
    if not record.store.rows("SELECT 1 FROM run_experiments WHERE run = ? LIMIT 1", record.run):
        return "Nothing was tried"
    if said == "cannot" and any(f.statement.kind == "cannot" for f in standing):
        return "The model cannot do it"
    if said == "unclear":
        return "Unclear"
    answered = [bool(answers(q, findings)) for q in record.questions()]
    if said == "not_found" and not any(answered):
        half = any(halfway(q, findings) for q in record.questions())
        return "Not found as asked, met halfway" if half else "Not found"
    if not standing:
        return "Nothing confirmed"
    word = "Found" if answered and all(answered) else "Found in part" if any(answered) else "No question answered"
    return f"{word}, with contradictions" if contradictions(findings) else word


def sureness(findings: Sequence[Finding]) -> Sureness:
    """How many findings came to what, and how good the probabilities were that stood before."""
    settled = [f for f in findings if f.fate is not None]
    scored = [f for f in settled if f.fate != "void"]
    brier = sum((f.probability - (f.fate == "confirmed")) ** 2 for f in scored) / len(scored) if scored else None
    rounds = {f.round for f in settled if f.round is not None}
    counts = Counter(f.fate for f in settled)
    return Sureness(
        fates={fate: counts[fate] for fate in FATES if counts[fate]},
        standing=sum(f.stands for f in findings),
        retracted=sum(bool(f.retracted) for f in findings),
        open=len(findings) - len(settled),
        scored=len(scored),
        brier=brier,
        rounds=len(rounds),
        spent=sum(share(r) for r in rounds),
    )


def _answered(question: Question, every: Sequence[Tested]) -> Answered:
    findings = [t.finding for t in every]
    by = tuple(f.handle for f in answers(question, findings))
    why = "" if by else _halfway_words(question, findings) + _why_not(question, findings) + _seen(question, every)
    return Answered(question, by, why, shared_word(question, findings))


def halfway(question: Question, findings: Sequence[Finding]) -> list[Finding]:
    """The standing findings that answer a question of an easier version of its task."""
    versions = tuple(dict.fromkeys(v for t in question.tasks for v in easier(t)))
    return answers(question.model_copy(update={"tasks": versions}), findings) if versions else []


def _halfway_words(question: Question, findings: Sequence[Finding]) -> str:
    half = halfway(question, findings)
    if not half:
        return ""
    versions = listed(list(dict.fromkeys(f.statement.task for f in half)))
    more = f" and {len(half) - NAMED} more" if len(half) > NAMED else ""
    named = ", ".join(f.handle for f in half[:NAMED])
    return f"met halfway, of what asks for less ({versions}), by {named}{more}; as asked "


def _why_not(question: Question, findings: Sequence[Finding]) -> str:
    """What was tried for a question, and what came of it."""
    about = would_answer(question, findings)
    if not about:
        tasks = f" about {', '.join(question.tasks)}" if question.tasks else ""
        return f"nothing that could answer it{tasks} was put to the test"
    shown = [f"{f.handle} ({statement_words(f.statement)}): {_came_to(f)}" for f in about[:NAMED]]
    more = f"; and {len(about) - NAMED} more" if len(about) > NAMED else ""
    return f"tried: {'; '.join(shown)}{more}"


def _seen(question: Question, every: Sequence[Tested]) -> str:
    """Of whether a task is done: how the intact model answered the unseen examples of another finding, as references."""
    for f, rows in ((t.finding, {m.name: m for m in t.rows}) for t in every if question.asks == "whether"):
        s = f.statement
        mine = f.stands and s.task in question.tasks and not s.among and kinds()[s.kind].capable
        if mine and "accuracy" in rows and "chance" in rows:
            right, chance = (reference(str(f.experiment), rows[n]) for n in ("accuracy", "chance"))
            return f"; on the unseen examples of {f.handle} {right} were right as the model is, chance {chance}"
    return ""


def would_answer(question: Question, findings: Sequence[Finding]) -> list[Finding]:
    """The findings that answer a question or would, had they been confirmed."""
    confirmed = [f.model_copy(update={"fate": "confirmed", "retracted": ""}) for f in findings]
    known = {f.handle: f for f in findings}
    return [known[f.handle] for f in answers(question, confirmed)]


def _came_to(f: Finding) -> str:
    if f.fate is None:
        return "sealed, not settled"
    return f"{f.fate}, taken back" if f.retracted else f"{f.fate}{f', {f.reason}' if f.reason else ''}"


def _interpretations(record: RunRecord) -> tuple[Interpretation, ...]:
    conclusion, findings = record.store.conclusion(record.run), record.findings()
    words = conclusion.words if conclusion else ""
    whole = [Interpretation("", words, bearing(words, findings))] if words else []
    standing = {f.handle for f in findings if f.stands}
    claimed = (c for c in record.claims() if c.interpretation and c.finding in standing)
    return (
        *whole,
        *(Interpretation(c.finding, c.interpretation, bearing(c.interpretation, findings)) for c in claimed),
    )
