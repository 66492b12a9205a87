"""A closer look at what is missed: where its heads look, from where on the answer can be read, and where the two kinds of
removal say different things.
"""

from agent.planners.systematic.candidates import BOTH, RESAMPLE, ZERO, Candidate, Desk
from agent.planners.systematic.exploring import Seen
from agent.planners.systematic.plan import Call, Part, ask
from agent.planners.systematic.reading import SEEN, SMALLEST, component
from experiments_db.places import Component

MOST_LOOKS = 4
HALF = 0.5


def looks(desk: Desk, seen: Seen) -> Part[None]:
    """Where each head that is needed, alone or in a set, looks from where it is needed."""
    if "attends" not in desk.kinds:
        return
    heads = _promised_heads(desk, seen)
    where = list(dict.fromkeys((h.anchor, h.stack, h.part) for h in heads if h.anchor != "all"))
    known = desk.known(seen.task)
    roles = list(known.roles_among.get(seen.among, known.roles))

    def keys(stack: str, part: str) -> dict[str, list[str]]:
        reading = not desk.several or stack == desk.stacks[0] or part == "cross.z"
        return {"keys": roles} if roles and reading else {}

    calls: list[Call] = [
        ("attention", {
            **seen.where, "components": [_pattern(h) for h in heads if (h.anchor, h.stack, h.part) == (a, stack, part)],
            "at": a, "examples": desk.screen, **keys(stack, part),
        })
        for a, stack, part in where
    ]  # fmt: skip
    answers = yield from ask("Where do the heads look that are missed?", calls, desk.reserve + 2)
    best: dict[tuple[str, str, int, int, str], tuple[float, str]] = {}
    for answer in answers:
        for m in answer.measurements:
            if m.name == "attention" and m.component and m.control and m.control.difference is not None:
                c = component(m.component)
                head = (c.stack, c.part, c.block or 0, c.units[0], c.anchor)
                best[head] = max(best.get(head, (0.0, "")), (m.control.difference, m.component))
    found = sorted((-beyond, text) for beyond, text in best.values() if beyond >= SEEN)[:MOST_LOOKS]
    yield from desk.examine(
        "Where they look, as findings.", [Candidate("attends", seen.task, (text,), (), seen.among) for _, text in found]
    )


def _promised_heads(desk: Desk, seen: Seen) -> list[Component]:
    mine = [e.candidate for e in desk.promised if (e.candidate.task, e.candidate.among) == (seen.task, seen.among)]
    texts = [t for c in mine if c.kind in ("necessary", "jointly_necessary") for t in c.components]
    return [c for c in map(component, dict.fromkeys(texts)) if c.part in ("attn.z", "cross.z")]


def _pattern(head: Component) -> str:
    return str(head.but(part=head.part.removesuffix("z") + "pattern", anchor=""))


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


def disagreements(desk: Desk, seen: Seen) -> Part[None]:
    """Sublayers that one removal singles out clearly and the other does not.

    What is missed only when it is zeroed may put out the same for every example: then it is not needed when it is resampled.
    """
    if "disagree" not in desk.kinds:
        return
    out: list[tuple[float, Candidate]] = []
    for place in seen.layers.places:
        values = {how: seen.layers.under(how)[place] for how in BOTH}
        for more, less in ((RESAMPLE, ZERO), (ZERO, RESAMPLE)):
            apart = values[more].low - values[less].high
            if values[more].clear and not values[less].clear and apart > SMALLEST:
                out.append((-apart, Candidate("disagree", seen.task, (place,), (), seen.among, label=more)))
    chosen = [c for _, c in sorted(out, key=lambda x: (x[0], x[1].components))[:1]]
    alike = [
        Candidate("not_needed", seen.task, c.components, (RESAMPLE,), seen.among) for c in chosen
        if c.label == ZERO and not _said(desk, c.components[0])
    ]  # fmt: skip
    yield from desk.examine("Where the two kinds of removal disagree.", [*chosen, *alike])


def _said(desk: Desk, place: str) -> bool:
    """Whether something that promises to hold says already that resampling it changes nothing."""
    return any(
        e.candidate.kind == "not_needed" and place in e.candidate.components and e.candidate.interventions != (ZERO,)
        for e in desk.promised
    )
