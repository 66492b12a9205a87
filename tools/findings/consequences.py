"""What follows from settled findings: which contradict one another, which hypotheses they support, what they answer."""

from collections.abc import Sequence
from typing import Literal

from experiments_db.findings import Finding, Question, Statement
from experiments_db.places import Component
from experiments_db.records import Hypothesis
from tools.findings.kind import kinds

NEEDED = frozenset({"necessary", "jointly_necessary"})
NOTHING = frozenset({"not_needed", "tolerates", "quiet"})  # that something takes no part is no answer by itself


def contradictions(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    """Pairs of confirmed findings that cannot both be so, with why."""
    standing = [f for f in findings if f.stands]
    return [
        (a.handle, b.handle, why)
        for i, a in enumerate(standing)
        for b in standing[i + 1 :]
        if (why := _clash(a, b) or _clash(b, a))
    ]


def _clash(a: Finding, b: Finding) -> str | None:
    s, t = a.statement, b.statement
    if (s.task, s.among) != (t.task, t.among):
        return None
    if s.kind == "capability" and t.kind == "cannot":
        return "the model does the task, and does not"
    if t.kind == "cannot" and kinds()[s.kind].capable and kinds()[s.kind].locates:
        return "something is needed for what the model does not do"
    shared = set(s.interventions) & set(t.interventions)
    if s.kind == "necessary" and t.kind == "not_needed" and shared and s.objective == t.objective:
        both = set(s.members) & set(t.members)
        if both:
            return f"{min(both)} is necessary by itself, and not needed ({', '.join(sorted(shared))})"
    if s.kind == "jointly_necessary" and t.kind == "not_needed" and shared and s.components == t.components:
        return f"{s.components} is necessary together, and not needed ({', '.join(sorted(shared))})"
    if s.kind == "necessary" and t.kind == "sufficient" and shared and s.objective == t.objective:
        outside = _outside(t.members, t.among_what) & set(s.members)
        if outside:
            return f"{min(outside)} is necessary, and a set without it is sufficient"
    return None


def _outside(kept: Sequence[Component], universe: Sequence[Component]) -> set[Component]:
    return set(universe) - set(kept)


def settle_hypotheses(hypotheses: Sequence[Hypothesis], findings: Sequence[Finding]) -> list[Hypothesis]:
    """Hypotheses whose status changes by what their findings came to: all confirmed, or one contradicted or absent."""
    out: list[Hypothesis] = []
    for h in hypotheses:
        mine = [f for f in findings if f.hypothesis == h.handle and f.settled]
        if not mine or h.status == "abandoned":
            continue
        against = [f for f in mine if f.fate in ("contradicted", "absent")]
        pro = [f for f in mine if f.fate == "confirmed"]
        status = "refuted" if against else "supported" if len(pro) == len(mine) else "open"
        if h.status == "refuted" and h.evidence_against:
            status = "refuted"  # words may say more than their findings do: who stated them may give them up
        changed = h.model_copy(
            update={
                "status": status,
                "evidence_for": tuple(dict.fromkeys([*h.evidence_for, *(str(f.experiment) for f in pro)])),
                "evidence_against": tuple(dict.fromkeys([*h.evidence_against, *(str(f.experiment) for f in against)])),
            }
        )
        if changed != h:
            out.append(changed)
    return out


def answers(question: Question, findings: Sequence[Finding]) -> list[Finding]:
    """The standing findings that answer a question, those about the places it asks for first."""
    about = [f for f in findings if f.stands and (not question.tasks or f.statement.task in question.tasks)]
    match question.asks:
        case "whether":
            return [f for f in about if f.statement.kind in ("capability", "cannot")]
        case "compare":
            return [f for f in about if f.statement.kind == "differs"]
        case "shared":
            return _shared(about, question.tasks)
        case "where":
            return [f for f in about if kinds()[f.statement.kind].locates or f.statement.kind == "cannot"]
        case "how":
            return [f for f in about if f.statement.kind in ("tolerates", "breaks")]
        case _:
            return [f for f in about if f.statement.kind not in NOTHING]


def _shared(about: Sequence[Finding], tasks: Sequence[str]) -> list[Finding]:
    """Those that say that tasks, or classes of examples of one task, rest on the same parts, or that they do not.

    A difference between two of them; a place that findings about two of them give the same role, or at which their states are
    alike; one that is needed for one of them and not for the other.
    """
    return [f for f in about if _apart(f, about, tasks) or _alike(f, about, tasks)]


def shared_word(question: Question, findings: Sequence[Finding]) -> Literal["yes", "no", "in part", ""]:
    """What the standing findings answer to whether parts are shared; nothing where none of them answers it.

    Yes: some place is shared, none sets them apart, and what is needed for one is all that is needed for the others.
    """
    if question.asks != "shared" or not (about := answers(question, findings)):
        return ""
    alike = any(_alike(f, about, question.tasks) for f in about)
    apart = any(_apart(f, about, question.tasks) for f in about)
    needed: dict[tuple[str, str], set[Component]] = {}
    for f in findings:
        s = f.statement
        if f.stands and s.task in question.tasks and s.kind in NEEDED and (s.among or len(question.tasks) > 1):
            needed.setdefault((s.task, s.among if len(question.tasks) == 1 else ""), set()).update(s.members)
    same = all(members == next(iter(needed.values())) for members in needed.values())
    return "no" if not alike else "in part" if apart or not same else "yes"


def _two(f: Finding, o: Finding, tasks: Sequence[str]) -> bool:
    """Whether two findings are about two of the tasks; where the question is about one task, about two classes of it."""
    s, t = f.statement, o.statement
    return s.task != t.task if len(tasks) != 1 else bool(s.among and t.among and s.among != t.among)


def _apart(f: Finding, about: Sequence[Finding], tasks: Sequence[str]) -> bool:
    s = f.statement
    if s.kind == "differs":
        return (s.other_task or s.task) in ({*tasks} - {s.task} or {s.task})
    return any(_two(f, o, tasks) and _one_place(s, o.statement) == "apart" for o in about)


def _alike(f: Finding, about: Sequence[Finding], tasks: Sequence[str]) -> bool:
    s = f.statement
    if s.kind == "similar":
        return s.other_task in {*tasks} - {s.task}
    return any(_two(f, o, tasks) and _one_place(s, o.statement) == "alike" for o in about)


def _one_place(s: Statement, t: Statement) -> Literal["alike", "apart", ""]:
    """What two statements say of a place: that it has the same role, or that it is needed and that it is not."""
    if s.path or t.path:
        return "alike" if (s.kind, s.path) == (t.kind, t.path) else ""
    if not set(s.members) & set(t.members):
        return ""
    needs = {("needed" if k in NEEDED else k) for k in (s.kind, t.kind)}
    if needs == {"needed", "not_needed"}:
        return "apart"
    return "alike" if len(needs) == 1 and not needs & (NOTHING | {"differs"}) and kinds()[s.kind].locates else ""
