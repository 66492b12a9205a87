"""What follows from settled findings: which contradict one another, which hypotheses they support, what they answer."""

from collections.abc import Sequence

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
    """Those that say that tasks rest on the same parts, or that they do not.

    A difference between two of the tasks; a place that findings about two of them give the same role; one that is needed for one
    task and not for the other.
    """

    def says(f: Finding) -> bool:
        if f.statement.kind == "differs":
            return f.statement.other_task in {*tasks} - {f.statement.task}
        return any(_one_place(f.statement, o.statement) for o in about if o.statement.task != f.statement.task)

    return [f for f in about if says(f)]


def _one_place(s: Statement, t: Statement) -> bool:
    """Whether two statements say of a place what it is for: the same, or that it is needed and that it is not."""
    if s.path or t.path:
        return (s.kind, s.path) == (t.kind, t.path)
    needs = {("needed" if k in NEEDED else k) for k in (s.kind, t.kind)}
    alike = len(needs) == 1 and not needs & NOTHING and kinds()[s.kind].locates
    return (alike or needs == {"needed", "not_needed"}) and bool(set(s.members) & set(t.members))
