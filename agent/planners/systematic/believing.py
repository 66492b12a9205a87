"""What a model holds about its user and itself: every attribute read beside the words alone, pinned, and examined."""

from collections.abc import Sequence

from agent.planners.base import Answer
from agent.planners.systematic.candidates import Candidate, Desk
from agent.planners.systematic.plan import Part, ask
from agent.planners.systematic.reading import Ability, component, reference
from experiments_db.records import Measurement

DOSE = 1.5


def believing(desk: Desk, task: str) -> Part[None]:
    """Whether it answers at all; then what can be read of who speaks, what pinning it does, and what only the words tell."""
    (said,) = yield from ask(
        f"Does the model answer in {task} as who speaks asks for?", [("loss", {"tasks": [task], "examples": desk.test})]
    )
    able = Ability.read(said, judged=desk.judged)
    if able is not None and able.able:
        yield from desk.examine("That it does, as a finding.", [Candidate("capability", task)], must=True)
    (held,) = yield from ask(
        "What can be read of the user and of the model itself where the answer begins, and what does pinning it do?",
        [("user_model", {"task": task, "examples": 2 * desk.test})],
    )
    found = read(held.measurements)
    clear = {label: ms for label, ms in found.items() if ms}
    yield from desk.examine(
        "What is read beyond the words alone, as findings.",
        [Candidate("decodable", task, (best(ms).component or "",), label=label) for label, ms in clear.items()],
        must=True,
    )
    if able is not None and able.able:
        yield from desk.examine(
            "That pushing it changes the answer, as findings.",
            [
                Candidate(
                    "steers", task, (m.component or "",), (f"add(label, {DOSE:g})",), among_of(label), label=label
                )
                for label, m in pinned(held.measurements).items()
            ],
            must=True,
        )
    yield from _noted(held, [label for label, ms in found.items() if not ms])


def among_of(label: str) -> str:
    """The class of examples whose foil is the answer with an attribute the other way round."""
    return f"turns={label.split()[-1]}"


def read(found: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """For each attribute the readings that are clearly ahead of the words, of the last word and of a random model."""
    ahead: dict[tuple[str | None, str | None], list[float]] = {}
    for m in found:
        if m.name in ("read.beyond_last_word", "read.beyond_random_init"):
            ahead.setdefault((m.label, m.component), []).append(-1.0 if m.low is None else m.low)
    out: dict[str, list[Measurement]] = {}
    for m in found:
        if m.name == "read" and m.label and m.control:
            lows = [m.control.difference_low or -1.0, *ahead[m.label, m.component]]
            out.setdefault(m.label, []).extend([m] if min(lows) > 0 else [])
    return out


def best(found: Sequence[Measurement]) -> Measurement:
    """The best reading, the earliest of equals."""
    return max(found, key=lambda m: (m.value, -(component(m.component or "").block or 0)))


def pinned(found: Sequence[Measurement]) -> dict[str, Measurement]:
    """For each attribute the place where pinning moves most answers, of those where it clearly does more than random."""
    out: dict[str, Measurement] = {}
    for m in found:
        if m.name == "pinned" and m.label and m.control and (m.control.difference_low or -1.0) > 0:
            out[m.label] = max(out.get(m.label, m), m, key=lambda x: x.value)
    return out


def _noted(held: Answer, quiet: Sequence[str]) -> Part[None]:
    """What is not read beyond the words, and what pinning does beside what the user's own words do."""
    if not held.handle or held.status != "ok":
        return
    told: list[str] = []
    for label in quiet:
        m = best([m for m in held.measurements if m.name == "read" and m.label == label])
        told.append(
            f"{label}: {reference(held, m)}, which the words, the last word or a model of random weights tell as well"
        )
    parts = [f"Not read beyond its controls are: {'; '.join(told)}."] if told else []
    expected = {m.label: m for m in held.measurements if m.name == "expected"}
    moved = [
        f"{label}, {reference(held, m)} of answers go over when it is pinned, {reference(held, expected[label])} when the user "
        "says otherwise"
        for label, m in pinned(held.measurements).items() if label in expected
    ]  # fmt: skip
    parts += [f"Pinned: {'; '.join(moved)}."] if moved else []
    if parts:
        yield from ask(
            "Write down what it does not read, and what a pin does.",
            [("note", {"text": " ".join(parts), "experiments": [held.handle]})],
        )
