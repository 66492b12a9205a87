"""Where a task is done: explore it, then examine every candidate that this brings."""

from collections.abc import Sequence

from agent.planners.systematic.candidates import Candidate, Desk
from agent.planners.systematic.classes import classes
from agent.planners.systematic.closer import disagreements, looks, readable
from agent.planners.systematic.exploring import Seen, explore, head_home, rest
from agent.planners.systematic.plan import Part
from agent.planners.systematic.reading import SMALLEST
from agent.planners.systematic.routes import routes
from experiments_db.places import Component

MOST = 10
HALF = 0.5


def locate(desk: Desk, seen: Seen) -> Part[None]:
    """All of it, what matters most first: what comes last is left out where the budget is small."""
    yield from explore(desk, seen)
    yield from _needed(desk, seen)
    yield from rest(desk, seen)
    yield from _sets(desk, seen)
    yield from desk.examine(
        "Where what decides the answer lies, as findings.", [*_carries(seen), *_carries_nothing(desk, seen)]
    )
    yield from classes(desk, seen)
    yield from routes(desk, seen)
    yield from looks(desk, seen)
    yield from readable(desk, seen)
    yield from disagreements(desk, seen)


def _needed(desk: Desk, seen: Seen) -> Part[None]:
    """Heads and MLPs, the largest effect first; a whole attention only where none of its heads is shown to be needed.

    Only what does more than noise of the same size: the rest could not be confirmed.
    """
    heads, layers = seen.heads.specific, seen.layers.specific
    size = {**{p: seen.layers.size(p) for p in layers}, **{h: seen.heads.size(h) for h in heads}}
    homes = {head_home(h) for h in heads}
    order = sorted([*heads, *(p for p in layers if p not in homes)], key=lambda p: (-size[p], p))[:MOST]

    def needed(places: Sequence[str]) -> list[Candidate]:
        return [Candidate("necessary", seen.task, (p,), (), seen.among) for p in places]

    found = yield from desk.examine(
        "Each place that both kinds of removal single out beyond noise of the same size, with its controls.",
        needed(order),
    )
    found = [*found, *(yield from desk.insist(found))]
    shown = {head_home(e.candidate.components[0]) for e in found if e.promises and e.candidate.components[0] in heads}
    left = sorted(p for p in homes if p not in shown)
    yield from desk.examine("No head is enough to say it: the attention as a whole.", needed(left))


def _sets(desk: Desk, seen: Seen) -> Part[None]:
    """Sets under the interventions that found them; where that holds under one of them, under both in its place."""
    said: set[tuple[str, ...]] = set()  # attentions whose heads say it
    for joint in seen.sets:
        if joint.members in said:
            continue
        hows = joint.hows if len(joint.hows) == 1 else ()
        narrow = Candidate("jointly_necessary", seen.task, joint.members, hows, seen.among)
        found = yield from desk.examine(
            "The set that is missed together, with every member put back in turn.", [narrow]
        )
        if not any(e.promises for e in found):
            continue
        said.add(joint.coarser)
        if hows:
            wide = Candidate("jointly_necessary", seen.task, joint.members, (), seen.among)
            both = yield from desk.examine("And under the other removal too?", [wide])
            if any(e.promises for e in both):
                desk.drop(found)  # the wider finding says it


def _carries(seen: Seen) -> list[Candidate]:
    """The residual stream at the answer from the first block at which it decides, and where it last does before."""
    strong: dict[str, list[tuple[int, Component]]] = {}
    for c, flip in seen.map.items():
        if flip.beyond >= HALF:
            strong.setdefault(c.anchor, []).append((c.block or 0, c))
    first = [str(c) for b, c in sorted(strong.get("answer", [])) if b > 0][:1]
    last = [str(max(strong[a])[1]) for a in seen.anchors if a in strong and a != "all"]
    return [Candidate("carries", seen.task, (p,), (), seen.among) for p in [*first, *last]]


def _carries_nothing(desk: Desk, seen: Seen) -> list[Candidate]:
    """Of a model of several stacks, the one that reads, where nothing of it moves the answer."""
    if not desk.several:
        return []
    whole = {c: flip for c, flip in seen.map.items() if c.stack == desk.stacks[0] and c.anchor in ("", "all")}
    if not whole or max(flip.share for flip in whole.values()) >= SMALLEST:
        return []
    last = max(whole, key=lambda c: c.block or 0)
    return [Candidate("carries_nothing", seen.task, (str(last.but(part="resid_post")),), (), seen.among)]
