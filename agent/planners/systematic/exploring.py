"""Where a task may be done: on explore examples, from the map of what carries it down to heads and sets."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.planners.base import Answer
from agent.planners.systematic.candidates import BOTH, RESAMPLE, ZERO, Candidate, Desk, Examined
from agent.planners.systematic.plan import Call, Part, ask
from agent.planners.systematic.reading import SEEN, Flip, Pair, carrying, component, flips, named
from experiments_db.places import Component, ComponentSet

MOST_HEADED = 6
ATTENTIONS = ("attn.out", "cross.out")
KEEP = 6  # experiments that exploring leaves for examining and confirming, beside what is promised already


@dataclass(frozen=True)
class Joint:
    """Components that are missed together, and the interventions under which the search found them.

    coarser: the attentions whose heads they are, where those were found to be missed together first.
    """

    members: tuple[str, ...]
    hows: tuple[str, ...]
    coarser: tuple[str, ...] = ()


@dataclass
class Seen:
    """What exploring a task, or a class of its examples, has shown."""

    task: str
    gap: float
    among: str = ""
    map: dict[Component, Flip] = field(default_factory=dict[Component, Flip])
    head_map: dict[Component, Flip] = field(default_factory=dict[Component, Flip])
    anchors: list[str] = field(default_factory=list[str])
    layers: Pair = field(default_factory=lambda: Pair({}, {}))
    heads: Pair = field(default_factory=lambda: Pair({}, {}))
    sets: list[Joint] = field(default_factory=list["Joint"])

    @property
    def where(self) -> dict[str, str]:
        """The arguments that say which examples are meant."""
        return {"task": self.task, **({"among": self.among} if self.among else {})}


def explore(desk: Desk, seen: Seen) -> Part[None]:
    """The map, sublayers at every place that carries, heads, and sets where singles do not explain what is lost."""
    yield from _map(desk, seen)
    yield from _sublayers(desk, seen)
    yield from _heads(desk, seen)


def _spare(desk: Desk) -> int:
    return desk.reserve + KEEP


def _map(desk: Desk, seen: Seen) -> Part[None]:
    """The residual stream at every depth and place; then the heads, at the answer and wherever it is that the stream carries
    something past the first block: what a head writes elsewhere, nothing reads.
    """
    known = desk.known(seen.task)
    roles = known.roles_among.get(seen.among, known.roles)
    wanted = [desk.at("resid_pre", r) for r in (*roles, "answer")] if roles else ["resid_pre@each", "resid_pre@answer"]
    if desk.several:  # what is read as a whole, since what decides may be spread over it
        wanted = [desk.at("resid_pre", r) for r in (*roles, "0", "all", "answer")]
    (patched,) = yield from ask(
        f"Where does what decides the answer to {seen.task} lie? The twin's residual stream, at every depth and place.",
        [("patch", {**seen.where, "components": wanted, "examples": desk.screen})],
        _spare(desk),
    )
    seen.map = flips(patched)
    seen.anchors = carrying(seen.map)
    places = ["answer", *seen.anchors]
    (heads,) = yield from ask(
        f"Which heads bring it there? The twin's heads at {', '.join(places)}, each.",
        [("patch", {**seen.where, "components": _at(desk, "z[*]", places), "examples": desk.screen})],
        _spare(desk),
    )
    seen.head_map = flips(heads)


def _at(desk: Desk, end: str, anchors: Sequence[str]) -> list[str]:
    """Attention's output or heads at anchors; at the answer of a model of several stacks also those of cross-attention."""
    crossing = [desk.at(f"cross.{end}", "answer")] if desk.several and "answer" in anchors else []
    return [*(desk.at(f"attn.{end}", a) for a in anchors), *crossing]


def ablations(seen: Seen, components: Sequence[str], examples: int, mode: str = "each") -> list[Call]:
    """Two calls: resampled and zeroed."""
    base = {**seen.where, "components": list(components), "examples": examples, "mode": mode}
    return [("ablate", {**base, "intervention": how}) for how in (RESAMPLE, ZERO)]


def _sublayers(desk: Desk, seen: Seen) -> Part[None]:
    """Each attention and MLP by itself, at the answer and at the places before it that carry."""
    calls = ablations(seen, [*_at(desk, "out", ["answer"]), desk.at("mlp.out", "answer")], desk.screen)
    if seen.anchors:
        before = [desk.at(p, a) for a in seen.anchors for p in ("attn.out", "mlp.out")]
        calls += ablations(seen, before, desk.screen)
    answers = yield from ask(
        "Which attention and which MLP is missed, under both kinds of removal, at the answer"
        + (f" and at {', '.join(seen.anchors)}, where the map shows that it still decides?" if seen.anchors else "?"),
        calls,
        _spare(desk),
    )
    for resampled, zeroed in zip(answers[::2], answers[1::2], strict=True):
        seen.layers = seen.layers.merged(Pair.read(resampled, zeroed, seen.gap, desk.judged))


def _heads(desk: Desk, seen: Seen) -> Part[None]:
    """The heads of each attention that both interventions single out beyond noise, or of which a head brings the twin's answer."""
    needed = [p for p in seen.layers.specific if component(p).part in ATTENTIONS]
    brings = sorted((-flip.beyond, str(c)) for c, flip in seen.head_map.items() if flip.beyond >= SEEN)
    homes = list(dict.fromkeys([*needed, *(head_home(text) for _, text in brings)]))[:MOST_HEADED]
    calls = ablations(seen, [every_head(p) for p in homes], desk.screen) if homes else []
    answers = yield from ask(
        "Which heads of the attention that is missed, or whose heads bring the twin's answer?", calls, _spare(desk)
    )
    if answers:
        resampled, zeroed = answers
        seen.heads = Pair.read(resampled, zeroed, seen.gap, desk.judged)
    alone = {head_home(h) for h in seen.heads.both}
    for p in needed[:MOST_HEADED]:
        if p not in alone:
            yield from find_sets(
                desk, seen, [every_head(p)], BOTH, f"No head of {p} is missed alone: which of them together?"
            )


def every_head(attention: str) -> str:
    """The selector of all heads of an attention, at its anchor."""
    c = component(attention)
    return f"{c.stack}.{c.block}.{c.part.removesuffix('.out')}.z[*]@{c.anchor}"


def head_home(head: str) -> str:
    """The attention that a head belongs to."""
    c = component(head)
    return str(c.but(part=c.part.removesuffix(".z") + ".out", units=()))


def find_sets(
    desk: Desk, seen: Seen, candidates: Sequence[str], hows: Sequence[str], why: str, coarser: tuple[str, ...] = ()
) -> Part[None]:
    """Smallest sets of two or more whose removal breaks the task, under each intervention; of attentions also their heads."""
    calls: list[Call] = [
        ("minimal_set", {
            **seen.where, "components": list(candidates), "goal": "breaking", "intervention": how, "examples": desk.screen,
        })
        for how in hows
    ]  # fmt: skip
    answers = yield from ask(why, calls, _spare(desk))
    found: dict[tuple[str, ...], list[str]] = {}
    for how, answer in zip(hows, answers, strict=True):
        members = set_of(answer)
        if len(members) > 1:
            found.setdefault(members, []).append(how)
    for members, under in found.items():
        if all(component(m).part in ATTENTIONS for m in members):
            heads = [every_head(m) for m in members]
            yield from find_sets(desk, seen, heads, under, "Which heads of them, together?", members)
        seen.sets.append(Joint(members, tuple(sorted(under)), coarser))


def set_of(answer: Answer) -> tuple[str, ...]:
    """The members of the set that a search found, each by itself; none where it found none."""
    size = named(answer, "size")
    if answer.status != "ok" or size is None or size.value < 1:
        return ()
    place = next(m.place for m in answer.measurements if m.name.endswith(".delta") and m.component)
    assert isinstance(place, Component | ComponentSet)
    return tuple(str(c) for c in place.singles())


@dataclass
class Rest:
    """What is left at an anchor when that which is missed alone is set aside, under each intervention."""

    desk: Desk
    seen: Seen
    anchor: str = "answer"

    def places(self, how: str, part: str = "") -> list[str]:
        """Sublayers at the anchor, those of one part if one is named."""
        return [p for p in self.seen.layers.quiet(how, self.anchor) if part in ("", component(p).part)]

    def spared(self, places: Sequence[str], hows: Sequence[str]) -> Candidate:
        """That none of them is needed."""
        return Candidate(
            "not_needed", self.seen.task, tuple(places), () if len(hows) > 1 else tuple(hows), self.seen.among
        )

    def examine(self, part: str, why: str) -> Part[dict[str, Examined]]:
        """All at once: by intervention what came of it; one experiment where the places are the same under both."""
        places = {how: self.places(how, part) for how in BOTH}
        if places[RESAMPLE] == places[ZERO]:
            asked = dict.fromkeys(BOTH, self.spared(places[ZERO], BOTH)) if places[ZERO] else {}
        else:
            asked = {how: self.spared(places[how], [how]) for how in BOTH if places[how]}
        yield from self.desk.examine(why, list(asked.values()))
        return {how: self.desk.examined[c] for how, c in asked.items() if c in self.desk.examined}


def rest(desk: Desk, seen: Seen) -> Part[None]:
    """What is not missed alone, all at once: at the answer, and at each place before it that carries something which nothing
    there is missed for alone.
    """
    yield from _rest_at_answer(desk, seen)
    found = {component(p).anchor for p in seen.layers.merged(seen.heads).both}
    for anchor in seen.anchors:
        if anchor in found:
            continue
        left = Rest(desk, seen, anchor)
        whole = yield from left.examine("", f"Is all that is written at {anchor} spared, removed at once?")
        for how, e in whole.items():
            if not e.promises and e.breaks(how):
                yield from find_sets(
                    desk, seen, left.places(how), [how], f"Together they are missed at {anchor}: which of them?"
                )


def _rest_at_answer(desk: Desk, seen: Seen) -> Part[None]:
    """All of it at once; where that breaks the task, what of it is spared, and sets that are missed together."""
    left = Rest(desk, seen)
    same = left.places(RESAMPLE) == left.places(ZERO)
    whole: dict[str, Examined] = {}
    if same:
        whole = yield from left.examine("", "Is everything else at the answer spared, all of it removed at once?")
        if not whole or whole[ZERO].promises or whole[ZERO].silent:
            return
    broken = {how: e.breaks(how) for how, e in whole.items()}
    for part, words in (("attn.out", "attention"), ("mlp.out", "MLPs")):
        half = yield from left.examine(
            part, f"Is the {words} at the answer spared that is not missed alone, all at once?"
        )
        for how, e in half.items():
            if e.promises or e.silent:
                continue
            if e.breaks(how):
                broken[how] = False
                yield from find_sets(
                    desk, seen, left.places(how, part), [how], "Together they are missed: which of them?"
                )
            elif len(e.candidate.interventions) != 1:
                yield from desk.examine(
                    "Under the other removal they are spared.", [left.spared(left.places(how, part), [how])]
                )
    for how in [how for how, is_ in broken.items() if is_]:
        yield from find_sets(
            desk, seen, left.places(how), [how], "Only attention and MLPs together are missed: which of them?"
        )
