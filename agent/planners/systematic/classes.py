"""For which examples a place matters: classes that a label divides them into, contrasted; where no label says it, clusters by
what each example needs, told by what can be seen in it.
"""

from collections.abc import Sequence

from agent.planners.base import Answer
from agent.planners.systematic.candidates import Candidate, Desk
from agent.planners.systematic.exploring import ATTENTIONS, Seen, ablations, every_head, explore, head_home
from agent.planners.systematic.plan import Part, ask
from agent.planners.systematic.reading import SMALLEST, Ability, Pair, component

MOST_CLASSES = 4  # over all labels, those with few classes first
MOST_PLACES = 8
MOST_NAMED = 4
ONLY = "What is missed in one class of examples only."


def classes(desk: Desk, seen: Seen) -> Part[None]:
    """Where a component is missed by part of the examples: by which, if a label divides them."""
    known = desk.known(seen.task)
    left, explained = MOST_CLASSES, False
    for conditions in sorted(known.classes.values(), key=len):
        left -= len(conditions)
        if left < 0:
            break
        yield from _own_roles(desk, seen, conditions)
        places = _places(seen)
        if not any(_partial(seen, p) for p in places):
            continue
        found = yield from _by_class(desk, seen, conditions, places)
        apart = _differing(desk, seen, found)
        explained = explained or bool(apart)
        yield from desk.examine(ONLY, apart)
    if not explained and not seen.among:
        yield from _clusters(desk, seen)


def _clusters(desk: Desk, seen: Seen) -> Part[None]:
    """Where something is missed by part of the examples and no label says by which: clusters, and rules that tell them."""
    places = _places(seen)
    if not any(_partial(seen, p) for p in places):
        return
    (found,) = yield from ask(
        "Some are missed by part of the examples, and no label says by which: do examples fall into clusters by what they need?",
        [("cluster", {"task": seen.task, "components": places, "examples": desk.test})],
        desk.reserve + 8,
    )
    rules = told(found)
    if len(rules) > 1:
        by_rule = yield from _by_class(desk, seen, rules, places)
        yield from desk.examine(ONLY, _differing(desk, seen, by_rule))


def told(answer: Answer) -> list[str]:
    """The rules by which held-out examples are told into clusters: at least half of what there is beyond a guess, for sure."""
    sure = [
        m.variant for m in answer.measurements
        if m.name == "told" and m.variant and m.control and (m.control.difference_low or 0.0) >= 0.5 * (1 - m.control.value)
    ]  # fmt: skip
    return list(dict.fromkeys(sure))


def _partial(seen: Seen, place: str) -> bool:
    every = seen.layers.merged(seen.heads)
    return every.resample[place].partial and every.zero[place].partial


def _places(seen: Seen) -> list[str]:
    """What is missed by all or by part of the examples; heads in the place of their attention."""
    every = seen.layers.merged(seen.heads)
    found = [p for p in every.places if p in every.both or _partial(seen, p)]
    homes = {head_home(p) for p in found if component(p).part in ("attn.z", "cross.z")}
    return sorted((p for p in found if p not in homes), key=lambda p: (-every.size(p), p))[:MOST_PLACES]


def _by_class(desk: Desk, seen: Seen, conditions: Sequence[str], places: Sequence[str]) -> Part[dict[str, Pair]]:
    """What removing each of them does in each class; of an attention that a class misses, also what its heads do."""
    out: dict[str, Pair] = {}
    wanted = {c: list(places) for c in conditions}
    for why in (
        f"Some are missed by part of the examples: by which, of {', '.join(conditions)}?",
        "Which heads of the attention that is missed there?",
    ):
        asked = {c: some for c, some in wanted.items() if some}
        calls = [call for c, some in asked.items() for call in ablations(_in(seen, c), some, desk.screen)]
        answers = yield from ask(why, calls, desk.reserve + 4)
        for c, resampled, zeroed in zip(asked, answers[::2], answers[1::2], strict=True):
            pair = Pair.read(resampled, zeroed, seen.gap, desk.judged)
            out[c] = out[c].merged(pair) if c in out else pair
        missed = {p for pair in out.values() for p in pair.both if component(p).part in ATTENTIONS}
        wanted = {c: [every_head(p) for p in sorted(missed)] for c in conditions}
    return out


def _in(seen: Seen, condition: str) -> Seen:
    return Seen(seen.task, seen.gap, condition)


def _differing(desk: Desk, seen: Seen, found: dict[str, Pair]) -> list[Candidate]:
    """Missed in one class under both removals, and not in another: that it is needed there, and more than in the other."""
    out: list[tuple[float, str, Candidate, Candidate]] = []
    split: set[str] = set()  # attentions of which a head says it
    for place in dict.fromkeys(p for pair in found.values() for p in pair.places):
        there = {c: pair for c, pair in found.items() if place in pair.places}
        needed = [c for c, pair in there.items() if place in pair.both]
        spared = [c for c, p in there.items() if p.resample[place].value < SMALLEST and p.zero[place].value < SMALLEST]
        if not needed or not spared:
            continue
        most = max(needed, key=lambda c: there[c].size(place))
        if component(place).part == "attn.z":
            split.add(head_home(place))
        out.append((
            -there[most].size(place), place, Candidate("necessary", seen.task, (place,), (), most),
            Candidate("differs", seen.task, (place,), (), most, other_among=spared[0]),
        ))  # fmt: skip
    chosen = [x for x in sorted(out, key=lambda x: x[:2]) if x[1] not in split][:MOST_NAMED]
    return [c for x in chosen for c in x[2:] if c.kind in desk.kinds]


def _own_roles(desk: Desk, seen: Seen, conditions: Sequence[str]) -> Part[None]:
    """A class whose examples have places that the others lack is explored there by itself."""
    known = desk.known(seen.task)
    for condition in conditions:
        if not set(known.roles_among.get(condition, ())) - set(known.roles):
            continue
        own = Seen(seen.task, seen.gap, condition)
        (gate,) = yield from ask(
            f"Examples with {condition} have places of their own: how well does the model do those?",
            [("loss", {"tasks": [seen.task], "among": condition, "examples": desk.test})],
            desk.reserve + 8,
        )
        ability = Ability.read(gate, judged=desk.judged)
        if ability is None or not ability.half:
            continue
        yield from explore(desk, own)
        singles = [p for p in own.layers.merged(own.heads).both if p not in seen.layers.merged(seen.heads).both]
        homes = {head_home(p) for p in own.heads.both}
        singles = [p for p in singles if p not in homes]
        yield from desk.examine(
            "Each place that is missed there.",
            [Candidate("necessary", seen.task, (p,), (), condition) for p in singles[:4]],
        )
