"""Which way it goes: between the places that are missed, and from them to the answer, with everything between held as it was."""

from collections.abc import Sequence

from agent.planners.systematic.candidates import BOTH, Candidate, Desk
from agent.planners.systematic.exploring import Seen
from agent.planners.systematic.plan import Call, Part, ask
from agent.planners.systematic.reading import SEEN, component
from experiments_db.places import Component, Path

MOST = 6
DIRECT = 3  # so few can all be examined; of more, one look at what each receiver gets says which


def routes(desk: Desk, seen: Seen) -> Part[None]:
    """Paths between what is needed by itself: two places may both write to the answer, or one may read the other."""
    if "sends" not in desk.kinds:
        return
    every = paths([c for c in _needed(desk, seen) if not desk.several or c.stack == desk.stacks[-1]])
    found = every if len(every) <= DIRECT else (yield from _carrying(desk, seen, every))
    examined = yield from desk.examine(
        "Which way does it go from there: to the answer, or into another of them?",
        [_sends(seen, p) for p in found[:MOST]],
    )
    open_ = {e.candidate.path for e in examined if e.promises}
    told = {p.nodes[0] for p in every if str(p) in open_}
    yield from desk.examine(
        "The twin may be alike in what these send: is it missed on the way to another of them, when it is removed?",
        [_sends(seen, p, BOTH) for p in every if p.nodes[0] not in told and p.nodes[-1].part != "logits"][:MOST],
    )


def _sends(seen: Seen, path: Path, hows: tuple[str, ...] = ()) -> Candidate:
    return Candidate("sends", seen.task, (), hows, seen.among, path=str(path))


def _needed(desk: Desk, seen: Seen) -> list[Component]:
    mine = [e.candidate for e in desk.promised if (e.candidate.task, e.candidate.among) == (seen.task, seen.among)]
    return [component(t) for c in mine if c.kind == "necessary" for t in c.components]


def paths(places: Sequence[Component]) -> list[Path]:
    """From each place straight to the answer, and to each that comes later and can read it there: an MLP at its own position,
    a head's query at its own, its keys and values at the sender's.
    """
    found: list[Path] = []
    for a in places:
        if a.anchor == "answer":
            found.append(Path(nodes=(a, Component(stack=a.stack, part="logits", anchor=a.anchor))))
        for b in places:
            if b.stack == a.stack and _before(a, b):
                found += [Path(nodes=(a, r)) for r in _receivers(a, b)]
    return found


def _before(a: Component, b: Component) -> bool:
    if a.block is None or b.block is None:
        return False
    return a.block < b.block or (a.block == b.block and a.part.startswith("attn") and b.part == "mlp.out")


def _receivers(a: Component, b: Component) -> list[Component]:
    if b.part == "mlp.out":
        return [b] if a.anchor == b.anchor else []
    if b.part != "attn.z":
        return []
    parts = ("attn.q",) if a.anchor == b.anchor else ("attn.k", "attn.v")
    return [b.but(part=p, anchor=a.anchor) for p in parts]


def _carrying(desk: Desk, seen: Seen, found: Sequence[Path]) -> Part[list[Path]]:
    """Those along which the twin's value moves the answer beyond its control, the largest effect first."""
    senders: dict[Component, list[str]] = {}
    for p in found:
        senders.setdefault(p.nodes[-1], []).append(str(p.nodes[0]))
    calls: list[Call] = [
        ("path_patch", {**seen.where, "components": s, "receiver": str(r), "examples": desk.screen})
        for r, s in senders.items()
    ]
    answers = yield from ask("What does each of them get straight from the others?", calls, desk.reserve + DIRECT)
    moved = {
        m.place.nodes: m.control.difference
        for answer in answers for m in answer.measurements
        if m.name == "recovered" and isinstance(m.place, Path) and m.control and m.control.difference is not None
    }  # fmt: skip
    kept = [p for p in found if moved.get(p.nodes, 0.0) >= SEEN]
    return sorted(kept, key=lambda p: (-moved[p.nodes], str(p)))
