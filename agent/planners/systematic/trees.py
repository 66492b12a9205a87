"""In which block the trees of a task's sentences are: probed at every depth, and examined where the probe beats its controls."""

from agent.planners.base import Answer
from agent.planners.systematic.candidates import Candidate, Desk
from agent.planners.systematic.plan import Part, ask
from agent.planners.systematic.reading import reference

MOST = 3
MEASURE = "distance_spearman"


def trees(desk: Desk, task: str) -> Part[None]:
    """A structural probe after every block; those that beat all controls, the best first, as findings; the others in a note."""
    (probed,) = yield from ask(
        f"Can the trees of the sentences of {task} be read from the states of their words, and after which block?",
        [("structural_probe", {"task": task})],
    )
    own = {m.component: m for m in probed.measurements if m.name == MEASURE and m.component}
    clear = beyond_all(probed)
    order = sorted(clear, key=lambda place: (-own[place].value, place))
    yield from desk.examine(
        "Where the probe beats every control, as findings.",
        [Candidate("encodes_tree", task, (place.removesuffix("@all"),)) for place in order[:MOST]],
        must=True,
    )
    if own and probed.handle:
        said = "; ".join(f"{place}: {reference(probed, m)}" for place, m in own.items() if place not in clear)
        text = f"Distances go with distances in the tree, but not beyond every control, at {said}." if said else ""
        text = text or "The probe beats every control at every depth."
        yield from ask("Write down where it does not.", [("note", {"text": text, "experiments": [probed.handle]})])


def beyond_all(probed: Answer) -> list[str]:
    """The places at which what sets the probe apart from each of its controls has an interval above 0."""
    lows: dict[str, list[float]] = {}
    for m in probed.measurements:
        if m.name == f"{MEASURE}.beyond" and m.component:
            lows.setdefault(m.component, []).append(-1.0 if m.low is None else m.low)
    return [place for place, found in lows.items() if min(found) > 0]
