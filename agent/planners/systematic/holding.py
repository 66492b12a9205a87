"""What a model holds of the state that its inputs imply: families of labels probed at every depth, and changed: are they used?"""

from agent.planners.base import Answer
from agent.planners.systematic.candidates import Candidate, Desk
from agent.planners.systematic.plan import Part, ask
from agent.planners.systematic.reading import reference
from experiments_db.records import Measurement

PROBED, TRIED = 1024, 256  # examples that a family is read from, and that its findings are tried on
WHERE = "resid_post@-1"
MOST = 2
BETTER = 0.1  # of the labels that are read right: a difference that counts
NEAR = 0.02  # of the best place's accuracy: the first block that comes so near


def holding(desk: Desk, task: str) -> Part[None]:
    """Each family by linear probes after every block, and by two layers; what is read and what is used as findings; a note."""
    known = desk.known(task)
    linear: dict[str, Answer] = {}
    deep: dict[str, Answer] = {}
    for family in known.families:
        given = {"task": task, "label": family, "examples": PROBED}
        (linear[family],) = yield from ask(
            f"Can {family} be read linearly, after which block, and from a model of random weights?",
            [("probe", {**given, "components": [WHERE], "model": "ridge"})],
        )
        best = _best(linear[family])
        if best is not None and best.component:
            (deep[family],) = yield from ask(
                "And by two layers, where it is read best?",
                [("probe", {**given, "components": [best.component], "model": "mlp"})],
                desk.reserve + 2,
            )
    places = {family: clear(answer) for family, answer in linear.items()}
    yield from desk.examine(
        "Where linear probes beat their controls, as findings.",
        [
            Candidate("decodable", task, (place,), label=family, examples=TRIED)
            for family, found in places.items()
            for place in found[:MOST]
        ],
        must=True,
    )
    best = {family: m for family, answer in linear.items() if (m := _best(answer)) is not None}
    order = sorted(best, key=lambda family: -best[family].value)
    if len(order) > 1 and best[order[0]].value - best[order[1]].value > BETTER:
        place = best[order[0]].component or ""
        yield from desk.examine(
            "One family is read better than another: as a finding.",
            [
                Candidate("reads_better", task, (place,), label=f"{order[0]}, {other}", examples=TRIED)
                for other in order[1:2]
            ],
        )
    changed: dict[str, Answer] = {}
    for family in known.supposed:
        if not places[family]:
            continue
        (changed[family],) = yield from ask(
            f"Is it used? Change what is read of {family} from each block on: do the answers follow?",
            [("rewrite", {"task": task, "label": family, "components": [WHERE], "examples": PROBED})],
            desk.reserve + 2,
        )
        starts = following(changed[family])
        yield from desk.examine(
            "From where on the answers follow, as findings.",
            [Candidate("used", task, (place,), label=family, examples=TRIED) for place in starts[:MOST]],
        )
    yield from _noted(task, linear, deep)


def clear(probed: Answer) -> list[str]:
    """Of the places whose probe beats the control task and, by a tenth, the random model: the best, and the first near it."""
    own = {m.component: m for m in probed.measurements if m.name == "accuracy" and m.component}
    beyond = {m.component: m for m in probed.measurements if m.name == "accuracy.beyond_random_init"}
    often = next((m.value for m in probed.measurements if m.name == "majority"), 0.0)
    fit = [
        place for place, m in own.items()
        if _low(beyond.get(place)) > 0.1 and m.value - often > 0.1 and m.control is not None
        and (m.control.difference_low or 0.0) > 0
    ]  # fmt: skip
    if not fit:
        return []
    best = max(fit, key=lambda place: own[place].value)
    first = next(place for place in fit if own[place].value >= own[best].value - NEAR)
    return list(dict.fromkeys((best, first)))


def following(changed: Answer) -> list[str]:
    """Places from which on the change leaves fewer errors than no change and than random ones, the fewest first."""
    found = [
        m for m in changed.measurements
        if m.name == "set_errors.delta" and m.component and m.high is not None and m.high < 0
        and m.control is not None and (m.control.difference_high or 0.0) < 0
    ]  # fmt: skip
    return [m.component or "" for m in sorted(found, key=lambda m: m.value)]


def _low(m: Measurement | None) -> float:
    return -1.0 if m is None or m.low is None else m.low


def _best(answer: Answer) -> Measurement | None:
    found = [m for m in answer.measurements if m.name == "accuracy" and m.component]
    return max(found, key=lambda m: m.value, default=None)


def _noted(task: str, linear: dict[str, Answer], deep: dict[str, Answer]) -> Part[None]:
    """How well each family is read at best, linearly and by two layers."""
    said: list[str] = []
    handles: list[str] = []
    for family in linear:
        for words, answer in (("a linear probe", linear[family]), ("two layers", deep.get(family))):
            best = None if answer is None else _best(answer)
            if best is not None and answer is not None and answer.handle:
                said.append(f"{family} by {words} at {best.component}: {reference(answer, best)}")
                handles.append(answer.handle)
    if said:
        text = f"Of {task}, read at best: {'; '.join(said)}."
        yield from ask("Write down how the families compare.", [("note", {"text": text, "experiments": handles})])
