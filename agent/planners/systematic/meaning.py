"""Whether a unit means one thing: what it goes with on each of several corpora, and whether that is the same, as findings."""

from collections.abc import Sequence

from agent.planners.base import Answer
from agent.planners.systematic.candidates import Candidate, Desk
from agent.planners.systematic.plan import Part, ask
from agent.planners.systematic.reading import reference
from experiments_db.records import Measurement

LEAST, QUIET = 0.1, 0.1
MOST = 3  # pairs of corpora of each kind
PAIR = "and "


def meaning(desk: Desk, place: str, corpora: Sequence[str]) -> Part[None]:
    """Look at the unit on all corpora; then examine the pairs between which its concept changes, stays, or cannot be seen."""
    (seen,) = yield from ask(
        "What does the unit go with on each corpus, and is that the same from one to another?",
        [("cross_dataset", {"tasks": list(corpora), "components": [place], "examples": desk.test})],
    )
    yield from desk.examine("What the pairs of corpora say, as findings.", candidates(seen.measurements), must=True)
    yield from _noted(seen)


def candidates(found: Sequence[Measurement]) -> list[Candidate]:
    """Of each pair of corpora the finding that explore examples suggest, the clearest pairs of each kind."""
    pairs: dict[tuple[str, str, str], dict[str, Measurement]] = {}
    for m in found:
        if m.component and m.task and (m.variant or "").startswith(PAIR):
            pairs.setdefault((m.component, m.task, (m.variant or "").removeprefix(PAIR)), {})[m.name] = m
    alive = {
        (m.component, m.task) for m in found if m.name == "variance" and m.control and m.value > LEAST * m.control.value
    }
    most = {
        unit: max((m for m in found if m.name == "variance" and m.component == unit), key=lambda m: m.value).task
        for unit, _ in alive
    }
    kinds: dict[str, list[tuple[float, Candidate]]] = {"mixed": [], "one_concept": [], "quiet": []}
    for (unit, a, b), of in pairs.items():
        ratio, own, carried, lost = (of[n] for n in ("ratio", "own", "carried", "lost"))
        loud, quiet = (a, b) if ratio.label == b else (b, a)
        if (unit, loud) not in alive:
            continue
        if ratio.high is not None and ratio.high < QUIET:
            if loud != most[unit]:
                continue  # it is the corpus on which it is most active that the others are held against
            kinds["quiet"].append((-ratio.value, Candidate("quiet", loud, (unit,), other_task=quiet)))
        elif lost.value > max(LEAST, own.value / 2):
            kinds["mixed"].append((lost.value, Candidate("mixed", a, (unit,), other_task=b)))
        elif carried.value > max(LEAST, own.value / 2):
            kinds["one_concept"].append((carried.value, Candidate("one_concept", a, (unit,), other_task=b)))
    return [c for rows in kinds.values() for _, c in sorted(rows, key=lambda row: -row[0])[:MOST]]


def _noted(seen: Answer) -> Part[None]:
    """How much the unit varies on each corpus, and how much of that what stands there says, in a note."""
    if not seen.handle:
        return
    of = {(m.component, m.name, m.task): m for m in seen.measurements if not (m.variant or "").startswith(PAIR)}
    told: dict[str, list[str]] = {}
    for (unit, name, task), m in of.items():
        if name == "variance" and unit:
            explained = reference(seen, of[unit, "explained", task])
            told.setdefault(unit, []).append(
                f"{task}: variance {reference(seen, m)}, of which what stands there explains {explained}"
            )
    for unit, lines in told.items():
        text = f"{unit} on each corpus: {'; '.join(lines)}."
        yield from ask("Write down where it is active.", [("note", {"text": text, "experiments": [seen.handle]})])
