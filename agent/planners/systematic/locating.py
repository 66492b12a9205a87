"""The investigation of a goal: capability first, then where, then what was found to hold."""

from collections.abc import Sequence

from agent.planners.systematic.candidates import RESAMPLE, ZERO, Candidate, Desk
from agent.planners.systematic.concluding import conclude
from agent.planners.systematic.exploring import Seen, explore, head_home, rest
from agent.planners.systematic.plan import Part, Plan, ask
from agent.planners.systematic.reading import Ability, component
from experiments_db.findings import Question

MOST = 12
HALF = 0.5


def investigate(desk: Desk, tasks: Sequence[str], questions: Sequence[Question], controls: Sequence[str]) -> Plan:
    """What the goal asks, from the first look to the end."""
    yield from ask("What is the model made of?", [("describe_subject", {})])
    abilities = yield from _capability(desk, tasks, controls)
    able = {t: a for t, a in abilities.items() if a.able}
    if any(q.asks != "whether" for q in questions):
        for task in [t for t in tasks if t in able]:
            yield from locate(desk, Seen(task, able[task].gap))
    yield from conclude(desk, questions)


def _capability(desk: Desk, tasks: Sequence[str], controls: Sequence[str]) -> Part[dict[str, Ability]]:
    """Whether the intact model does the tasks at all, beside others."""
    families = {t.partition(":")[0] for t in tasks}
    others = [c for c in controls if c not in families][: max(0, 4 - len(tasks))]
    # One call each, so that a task which this subject's tokenizer cannot take stops no other.
    answers = yield from ask(
        f"Capability first: can the intact model do {' and '.join(tasks)} at all, beside other tasks as controls?",
        [("loss", {"tasks": [t], "examples": desk.test}) for t in (*tasks, *others)],
    )
    found = {t: a for t, answer in zip(tasks, answers, strict=False) if (a := Ability.read(answer)) is not None}
    yield from desk.examine(
        "Examine what that says, as a finding that unseen examples can confirm.",
        [Candidate("capability" if a.able else "cannot", t) for t, a in found.items()],
        must=True,
    )
    return found


def locate(desk: Desk, seen: Seen) -> Part[None]:
    """Explore a task, and examine every candidate that this brings."""
    yield from explore(desk, seen)
    yield from _needed(desk, seen)
    yield from rest(desk, seen)
    yield from _sets(desk, seen)
    yield from desk.examine("Where what decides the answer lies, as findings.", _carries(seen))


def _needed(desk: Desk, seen: Seen) -> Part[None]:
    """Heads and MLPs, the largest effect first; a whole attention only where none of its heads is shown to be needed."""
    heads, layers = seen.heads.both, seen.layers.both
    size = {**{p: seen.layers.size(p) for p in layers}, **{h: seen.heads.size(h) for h in heads}}
    homes = {head_home(h) for h in heads}
    order = sorted([*heads, *(p for p in layers if p not in homes)], key=lambda p: (-size[p], p))[:MOST]

    def needed(places: Sequence[str]) -> list[Candidate]:
        return [Candidate("necessary", seen.task, (p,), (), seen.among) for p in places]

    yield from desk.examine("Each place that both kinds of removal single out, with its controls.", needed(order))
    shown = {head_home(e.candidate.components[0]) for e in desk.promised if ".attn.z[" in "".join(e.candidate.components)}
    yield from desk.examine("No head is enough to say it: the attention as a whole.", needed(sorted(homes - shown)))


def _sets(desk: Desk, seen: Seen) -> Part[None]:
    """Sets under the interventions that found them, where that is one also under both."""
    for members, hows in seen.sets:
        wide = Candidate("jointly_necessary", seen.task, members, (), seen.among)
        (found,) = yield from desk.examine("The set that is missed together, with every member put back in turn.", [wide])
        if not found.promises and len(hows) == 1:
            yield from desk.examine(
                "The same under the removal that found it.",
                [Candidate("jointly_necessary", seen.task, members, hows, seen.among)],
            )


def _carries(seen: Seen) -> list[Candidate]:
    """The residual stream at the answer from the first block at which it decides, and where it last does before."""
    out: list[str] = []
    at_answer = sorted(((c.block or 0, c) for c, flip in seen.map.items() if c.anchor in ("answer", "-1") and flip.beyond >= HALF))
    for anchor in seen.anchors:
        late = [(c.block or 0, c) for c, flip in seen.map.items() if c.anchor == anchor and flip.beyond >= HALF]
        out += [str(max(late)[1])] if late else []
    first = [str(c.at("answer")) for b, c in at_answer if b > 0][:1]
    return [Candidate("carries", seen.task, (p,), (), seen.among) for p in [*first, *out]]


__all__ = ["RESAMPLE", "ZERO", "component", "investigate", "locate"]
