"""From what promises to hold to an answer: hypotheses, predictions, one round on unseen examples, claims, the end."""

from collections.abc import Sequence
from typing import Literal

from agent.planners.systematic.candidates import SECOND, ZERO, Desk, Examined
from agent.planners.systematic.plan import Part, Plan, ask
from experiments_db.findings import Finding, Question
from tools.findings.consequences import answers

Verdict = Literal["found", "not_found", "cannot", "unclear"]
CONSTANT = (
    "What it puts out may be much the same for every example: whatever reads it breaks without it, and it says nothing about "
    "which answer is right."
)
CENTRAL = ("capability", "cannot", "necessary", "jointly_necessary", "differs", "matches")


def settle(desk: Desk) -> Part[list[Finding]]:
    """Predict all that promises to hold and confirm it in one round; what was left open and matters gets a second one."""
    first = yield from _round(desk, desk.promised)
    left = [
        e for e, f in zip(desk.promised, first, strict=True)
        if f is not None and f.fate == "inconclusive" and e.candidate.kind in CENTRAL
    ]  # fmt: skip
    return [f for f in first if f is not None] + (yield from _again(desk, left))


def _round(desk: Desk, promised: Sequence[Examined]) -> Part[list[Finding | None]]:
    if not promised:
        return []
    stated = yield from ask(
        "One hypothesis for each thing seen; unseen examples that show the opposite would refute it.",
        [("hypothesis", {"statement": e.candidate.words, "evidence_for": [e.answer.handle]}) for e in promised],
    )
    predicted = yield from ask(
        "Predict each of them for unseen examples, word for word as it was examined.",
        [
            ("predict", {"experiment": e.answer.handle, "hypothesis": h.handle})
            for e, h in zip(promised, stated, strict=True)
        ],
    )
    handles = [a.handle if a.status == "ok" else None for a in predicted]
    named = [h for h in handles if h]
    if named:
        yield from ask(
            "Put them all to examples that nobody has looked at, in one round.", [("confirm", {"findings": named})]
        )
    settled = {f.handle: f for f in desk.findings}
    return [settled.get(h) if h else None for h in handles]


def _again(desk: Desk, left: Sequence[Examined]) -> Part[list[Finding]]:
    """One second round with more examples, for what was left open."""
    if not left:
        return []
    calls = [e.candidate.call(SECOND * desk.test, desk.judged) for e in left]
    measured = yield from ask(
        "Some of what matters stayed open: look at it again with more examples.", calls, reserve=len(left)
    )
    seen = [Examined(e.candidate, a) for e, a in zip(left, measured, strict=True)]
    found = yield from _round(desk, [e for e in seen if e.promises])
    return [f for f in found if f is not None]


def conclude(desk: Desk, questions: Sequence[Question], otherwise: Verdict = "unclear") -> Plan:
    """Confirm what promises to hold, claim what was confirmed, and finish with the answer that the record carries.

    otherwise: the answer where nothing that was asked for stands, not even that the model can.
    """
    found = yield from settle(desk)
    standing = [f for f in found if f.stands]
    mine = [(f, next((q for q in reversed(questions) if f in answers(q, standing)), None)) for f in standing]
    yield from ask(
        "Adopt what was confirmed.",
        [("claim", {"finding": f.handle, **({"question": q.handle} if q else {}), **_meaning(f)}) for f, q in mine],
    )
    verdict = verdict_of(questions, standing, otherwise)
    yield from ask("Finish.", [("finish", {"answer": verdict})])


def _meaning(found: Finding) -> dict[str, str]:
    """What may be behind it, in words that are kept apart as not tested."""
    only_zeroed = found.statement.kind == "disagree" and found.statement.label == ZERO
    return {"interpretation": CONSTANT} if only_zeroed else {}


def verdict_of(questions: Sequence[Question], standing: Sequence[Finding], otherwise: Verdict = "unclear") -> Verdict:
    """What the confirmed findings say to what was asked: to the comparison, else to where, else to whether."""
    for asks in ("shared", "compare", "where", "open", "whether"):
        asked = [q for q in questions if q.asks == asks]
        if not asked:
            continue
        found = [f for q in asked for f in answers(q, standing)]
        if any(f.statement.kind != "cannot" for f in found):
            return "found"
        if found:
            return "cannot"
        if asks in ("shared", "compare"):
            continue  # what both have in common may still be found
        return "not_found" if any(f.statement.kind == "capability" for f in standing) else otherwise
    return otherwise
