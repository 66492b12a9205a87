"""A finding with the numbers that decided it, and what it says in a few words: what tables, pages and the notebook show."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from agent.loop.record import RunRecord
from agent.report.numbers import compact_text, value_text
from experiments_db.findings import Finding, Statement
from experiments_db.places import ComponentSet, Path, PlaceError, display
from experiments_db.records import Hypothesis, Measurement
from experiments_db.store import StoreError
from tools.findings.kind import kinds
from tools.findings.phrases import role_names

WORDS = {
    "capability": "does the task", "cannot": "cannot do the task", "necessary": "necessary", "sufficient": "enough by itself",
    "jointly_necessary": "necessary together", "not_needed": "not needed", "carries": "carries the answer",
    "suppresses": "holds the answer down", "readable": "the answer is readable from", "differs": "matters more",
    "attends": "attends", "matches": "attends by identity", "tolerates": "tolerates", "disagree": "ablation types disagree",
}  # fmt: skip


@dataclass(frozen=True)
class Tested:
    """words: the statement, made by code. effects: of each intervention the effect nearest to what would overturn it."""

    finding: Finding
    words: str
    effects: tuple[Measurement, ...]
    rows: tuple[Measurement, ...]

    @property
    def sample(self) -> str:
        """How many examples and independent groups decided it: 'n=128, 81 groups'."""
        if not self.effects:
            return ""
        n, groups = min(m.n for m in self.effects), min(m.groups for m in self.effects)
        return f"n={n}" if n == groups else f"n={n}, {groups} groups"


def tested(record: RunRecord, finding: Finding) -> Tested:
    """Read a finding's numbers from its confirm experiment; none where it was not measured."""
    rows: Sequence[Measurement] = ()
    if finding.experiment is not None:
        try:
            rows = record.measurements_of(finding.experiment)
        except StoreError:  # a record from elsewhere may name what it has not
            rows = ()
    by_how: dict[str | None, list[Measurement]] = {}
    for m in rows:
        if m.name == "effect":
            by_how.setdefault(m.intervention, []).append(m)
    kind = kinds().get(finding.statement.kind)
    pick = (
        max if kind is not None and kind.stays else min
    )  # what comes nearest to the bound of a small effect is the largest
    effects = tuple(pick(group, key=lambda m: abs(m.value)) for group in by_how.values())
    bound = next((m for m in rows if m.name == "smallest"), None)
    words = statement_words(finding.statement) + _stricter(finding, bound.unit if bound else "")
    return Tested(finding, words, effects, tuple(rows))


def _stricter(f: Finding, unit: str) -> str:
    """The smallest effect that was asked for, where it is stricter than its kind's own."""
    kind = kinds().get(f.statement.kind)
    below = kind is not None and kind.stays
    return f"; {'less' if below else 'more'} than {value_text(f.smallest, unit)}" if f.stricter else ""


def effect_words(t: Tested) -> list[tuple[Measurement, str, str]]:
    """(effect, its intervention in front where there are several, its value with interval), for tables."""
    return [
        (m, f"{m.intervention} " if len(t.effects) > 1 and m.intervention else "", compact_text(m)) for m in t.effects
    ]


def controls(t: Tested) -> str:
    """The controls beside the effects, in their order: '39%, 15%: a random vector of the same norm'."""
    by_kind: dict[str, list[str]] = {}
    for m in t.effects:
        if m.control is not None:
            by_kind.setdefault(m.control.kind, []).append(value_text(m.control.value, m.unit))
    return "; ".join(f"{', '.join(dict.fromkeys(values))}: {kind}" for kind, values in by_kind.items())


def came_to(h: Hypothesis, findings: Sequence[Finding]) -> str:
    """What became of a hypothesis. Its words are the planner's: what was tested are its findings, and that is what is said."""
    tested_ = any(f.hypothesis == h.handle and f.settled for f in findings)
    match h.status:
        case "supported":
            return "its findings held" if tested_ else "supported, says the planner"
        case "refuted":
            against = any(f.hypothesis == h.handle and f.fate in ("contradicted", "absent") for f in findings)
            return "refuted by its findings" if against else "refuted, says the planner"
        case _:
            return h.status


def statement_words(s: Statement) -> str:
    """'necessary: head 0 of block 1 at the answer; addition; zero, resample(donor)': nothing but what the statement says."""
    what = WORDS.get(s.kind, s.kind.replace("_", " "))
    about = [
        place_words(s) + _each(s),
        f"label {s.label}" if s.label else "",
        f"program {s.program}" if s.program else "",
    ]
    task = s.task + (f" ({s.among})" if s.among else "")
    other = " ".join(filter(None, (s.other_task, f"({s.other_among})" if s.other_among else "")))
    if other:
        task += f" against {other}"
    parts = [task, ", ".join(s.interventions), f"by {s.objective}" if s.objective != "accuracy" else ""]
    head = ", ".join(filter(None, about))
    return "; ".join([f"{what}: {head}" if head else what, *filter(None, parts)])


def _each(s: Statement) -> str:
    """Whether several components were changed one by one, or all at once."""
    try:
        several, kind = len(s.members) > 1, kinds().get(s.kind)
    except PlaceError:  # a record from elsewhere
        return ""
    return "" if not several or kind is None else ", each by itself" if kind.each else ", all at once"


def place_words(s: Statement) -> str:
    """The components or the path in plain words; nothing where the statement is about no place."""
    return _in_words(s.components, s.path)


@lru_cache(maxsize=4096)
def _in_words(components: str, path: str) -> str:
    try:
        if path:
            route = Path.parse(path)
            return display(route, role_names(route.nodes))
        found = ComponentSet.parse(components) if components else None
        return display(found, role_names(found.members)) if found else ""
    except PlaceError:  # a record from elsewhere
        return path or components
