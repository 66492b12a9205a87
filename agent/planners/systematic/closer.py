"""A closer look at what is missed: where its heads look, from where on the answer can be read, for which classes it matters,
and where the two kinds of removal say different things.
"""

from collections.abc import Sequence

from agent.planners.systematic.candidates import BOTH, RESAMPLE, ZERO, Candidate, Desk
from agent.planners.systematic.exploring import Seen, ablations, explore
from agent.planners.systematic.plan import Call, Part, ask
from agent.planners.systematic.reading import SEEN, SMALLEST, Ability, Pair, component, named
from experiments_db.places import Component

MOST_LOOKS = 4
MOST_CLASSES = 4  # over all labels, those with few classes first
MOST_PARTIAL = 6
HALF = 0.5


def looks(desk: Desk, seen: Seen) -> Part[None]:
    """Where each head that is needed, alone or in a set, looks from where it is needed."""
    if "attends" not in desk.kinds:
        return
    heads = _promised_heads(desk, seen)
    anchors = list(dict.fromkeys(h.anchor for h in heads))
    known = desk.known(seen.task)
    keys = list(known.roles_among.get(seen.among, known.roles))
    calls: list[Call] = [
        ("attention", {
            **seen.where, "components": [_pattern(h) for h in heads if h.anchor == a], "at": a, "examples": desk.screen,
            **({"keys": keys} if keys else {}),
        })
        for a in anchors
    ]  # fmt: skip
    answers = yield from ask("Where do the heads look that are missed?", calls, desk.reserve + 2)
    best: dict[tuple[int, int, str], tuple[float, str]] = {}
    for answer in answers:
        for m in answer.measurements:
            if m.name == "attention" and m.component and m.control and m.control.difference is not None:
                c = component(m.component)
                head = (c.block or 0, c.units[0], c.anchor)
                best[head] = max(best.get(head, (0.0, "")), (m.control.difference, m.component))
    found = sorted((-beyond, text) for beyond, text in best.values() if beyond >= SEEN)[:MOST_LOOKS]
    yield from desk.examine(
        "Where they look, as findings.", [Candidate("attends", seen.task, (text,), (), seen.among) for _, text in found]
    )


def _promised_heads(desk: Desk, seen: Seen) -> list[Component]:
    mine = [e.candidate for e in desk.promised if (e.candidate.task, e.candidate.among) == (seen.task, seen.among)]
    texts = [t for c in mine if c.kind in ("necessary", "jointly_necessary") for t in c.components]
    return [c for c in map(component, dict.fromkeys(texts)) if c.part == "attn.z"]


def _pattern(head: Component) -> str:
    return str(head.but(part="attn.pattern", anchor=""))


def readable(desk: Desk, seen: Seen) -> Part[None]:
    """From which block on the answer can be read."""
    if "readable" not in desk.kinds:
        return
    (read,) = yield from ask(
        "From which block on can the answer be read?",
        [("lens", {**seen.where, "examples": desk.screen})],
        desk.reserve + 1,
    )
    depths = [m for m in read.measurements if m.name == "accuracy" and m.component]
    if not depths:
        return
    chance = depths[-1].value - seen.gap
    first = next(
        (
            c
            for m in depths
            if m.value - chance >= HALF * seen.gap and (c := component(m.component or "")).block is not None
        ),
        None,
    )
    if first is not None and first.part == "resid_post":
        yield from desk.examine(
            "From there on, as a finding.", [Candidate("readable", seen.task, (str(first),), (), seen.among)]
        )


def classes(desk: Desk, seen: Seen) -> Part[None]:
    """Where a component is missed by part of the examples: by which, if a label divides them."""
    known = desk.known(seen.task)
    left = MOST_CLASSES
    for conditions in sorted(known.classes.values(), key=len):
        left -= len(conditions)
        if left < 0:
            break
        yield from _own_roles(desk, seen, conditions)
        partial = _partial(seen)
        if not partial:
            continue
        found = yield from _by_class(desk, seen, conditions, partial)
        yield from desk.examine("What is missed in one class of examples only.", _differing(desk, seen, found, partial))


def _partial(seen: Seen) -> list[str]:
    every = seen.layers.merged(seen.heads)
    heads_of = {(component(h).block, component(h).anchor) for h in seen.heads.both}
    found = [p for p in every.places if every.resample[p].partial and every.zero[p].partial]
    found = [
        p for p in found if component(p).part != "attn.out" or (component(p).block, component(p).anchor) not in heads_of
    ]
    return sorted(found, key=lambda p: (-every.size(p), p))[:MOST_PARTIAL]


def _by_class(desk: Desk, seen: Seen, conditions: Sequence[str], partial: Sequence[str]) -> Part[dict[str, Pair]]:
    """What removing each of them does in each class."""
    calls = [
        call for c in conditions for call in ablations(Seen(seen.task, seen.gap, c), partial, desk.screen)
    ]  # fmt: skip
    answers = yield from ask(
        f"Some are missed by part of the examples: by which, of {', '.join(conditions)}?", calls, desk.reserve + 4
    )
    out: dict[str, Pair] = {}
    for c, resampled, zeroed in zip(conditions, answers[::2], answers[1::2], strict=True):
        out[c] = Pair.read(resampled, zeroed, seen.gap)
    return out


def _differing(desk: Desk, seen: Seen, found: dict[str, Pair], partial: Sequence[str]) -> list[Candidate]:
    """Missed in one class under both removals, and not in another."""
    out: list[tuple[float, Candidate]] = []
    for place in partial:
        there = {c: pair for c, pair in found.items() if place in pair.places}
        needed = [c for c, pair in there.items() if place in pair.both]
        spared = [
            c
            for c, pair in there.items()
            if pair.resample[place].value < SMALLEST and pair.zero[place].value < SMALLEST
        ]
        if not needed or not spared:
            continue
        most = max(needed, key=lambda c: there[c].size(place))
        kind = Candidate("differs", seen.task, (place,), (), most, other_among=spared[0])
        plain = Candidate("necessary", seen.task, (place,), (), most)
        out.append(
            (
                -there[most].size(place),
                kind if "differs" in desk.kinds and place in seen.layers.merged(seen.heads).both else plain,
            )
        )
    return [c for _, c in sorted(out, key=lambda pair: (pair[0], pair[1].components))[:4]]


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
        ability = Ability.read(gate)
        if ability is None or ability.accuracy.value < HALF:
            continue
        yield from explore(desk, own)
        singles = [p for p in own.layers.merged(own.heads).both if p not in seen.layers.merged(seen.heads).both]
        heads = {(component(p).block, component(p).anchor) for p in own.heads.both}
        singles = [
            p
            for p in singles
            if component(p).part != "attn.out" or (component(p).block, component(p).anchor) not in heads
        ]
        yield from desk.examine(
            "Each place that is missed there.",
            [Candidate("necessary", seen.task, (p,), (), condition) for p in singles[:4]],
        )


def disagreements(desk: Desk, seen: Seen) -> Part[None]:
    """Sublayers that one removal singles out clearly and the other does not."""
    if "disagree" not in desk.kinds:
        return
    out: list[tuple[float, Candidate]] = []
    for place in seen.layers.places:
        values = {how: seen.layers.under(how)[place] for how in BOTH}
        for more, less in ((RESAMPLE, ZERO), (ZERO, RESAMPLE)):
            apart = values[more].low - values[less].high
            if values[more].clear and not values[less].clear and apart > SMALLEST:
                out.append((-apart, Candidate("disagree", seen.task, (place,), (), seen.among, label=more)))
    yield from desk.examine(
        "Where the two kinds of removal disagree.",
        [c for _, c in sorted(out, key=lambda x: (x[0], x[1].components))[:1]],
    )


__all__ = ["classes", "disagreements", "looks", "named", "readable"]
