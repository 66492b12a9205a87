"""How many of its blocks a model needs, stack by stack, and what it writes where they are missing."""

from collections.abc import Sequence

from agent.planners.base import Answer
from agent.planners.systematic.candidates import Candidate, Desk
from agent.planners.systematic.plan import Part, ask
from agent.planners.systematic.reading import SMALLEST, Judged, reference
from experiments_db.records import Measurement

SAID = {
    "cer": "characters wrong", "wer": "words wrong", "repeated": "words repeated",
    "not_there": "words that are not there",
}  # fmt: skip


MOST_TRIED = 4
MIXED = 0.3  # of the words said again: some answers repeat words and some do not
REPEATS = ("answers that repeat words", "answers that repeat none")


def depth(desk: Desk, task: str, gap: float) -> Part[None]:
    """Drop the last blocks of each stack, one more at a time: how many it bears, and what it writes then."""
    written: list[Answer] = []
    for stack in desk.stacks:
        (swept,) = yield from ask(
            f"How many of the last blocks of {stack} can be missing, and what does the model write then?",
            [
                (
                    "layer_program",
                    {"tasks": [task], "sweep": "drop_last", "stack": stack, "written": True, "examples": desk.test},
                )
            ],
            desk.reserve + 2,
        )
        yield from _told(stack, swept)
        written.append(swept)
        falls = lost(swept, gap, desk.judged)
        borne = next((i for i, fall in enumerate(falls) if fall >= SMALLEST), len(falls))
        # How many, and as a finding: from what accuracy shows on, a few to either side.
        for n in range(borne, max(0, borne - MOST_TRIED), -1):
            found = yield from desk.examine(
                f"The most of the last blocks of {stack} that can be missing, as a finding.",
                [_candidate(desk, "tolerates", stack, task, n, falls)],
            )
            if any(e.promises for e in found):
                break
        for n in range(borne + 1, min(borne + MOST_TRIED, len(falls)) + 1):
            found = yield from desk.examine(
                f"The fewest of the last blocks of {stack} that must not be missing, as a finding.",
                [_candidate(desk, "breaks", stack, task, n, falls)],
            )
            if any(e.promises for e in found):
                break

    yield from _repeating(desk, task, written)


def _repeating(desk: Desk, task: str, swept: Sequence[Answer]) -> Part[None]:
    """How the answer forms with depth, and what attention does while the model repeats itself, against while it does not."""
    found = list(zip(desk.stacks, (_repeated(a) for a in swept), strict=True))
    # Some blocks have to be left to look at: not all of them are dropped.
    mixed = [(abs(r.value - MIXED), s, n, len(rates)) for s, rates in found for n, r in enumerate(rates[:-1], 1)]
    if not mixed:
        return
    yield from ask(
        "From which block on can what it says be read?",
        [("lens", {"task": task, "examples": desk.screen})],
        desk.reserve + 1,
    )
    (_, stack, n, count), read, roles = min(mixed), desk.stacks[-1], desk.known(task).roles
    program = _left_out(desk, stack, n, count)
    blocks = "*" if stack != read else "0" if count - n == 1 else f"0-{count - n - 1}"
    parts = [("attn", ["0"]), *([("cross", list(roles[:1]))] if desk.several and roles else [])]
    looked = yield from ask(
        f"What does attention do while it repeats itself ({program}), and what while it does not?",
        [
            (
                "attention",
                {"task": task, "components": [f"{read}.{blocks}.{part}.pattern[*]"], "at": "answer", "keys": keys,
                 "program": program, "written": True, "examples": desk.test},
            )
            for part, keys in parts
        ],
        desk.reserve + 1,
    )  # fmt: skip
    told = [text for answer in looked if (text := _spread(answer))]
    handles = [a.handle for a in looked if a.handle]
    if told:
        where = (
            f"Without the last blocks of {stack}, entropy of attention where words are repeated against where none is"
        )
        text = f"{where}, at its largest: {'; '.join(told)}."
        yield from ask("Write down where it differs.", [("note", {"text": text, "experiments": handles})])


def _repeated(swept: Answer) -> list[Measurement]:
    """The share of words said again with one, two ... of the last blocks dropped."""
    return [m for m in swept.measurements if m.name == "repeated" and m.program != "intact"]


def _spread(looked: Answer) -> str:
    """The head whose attention's entropy differs most between answers that repeat words and those that do not."""
    found: dict[str, dict[str, Measurement]] = {}
    for m in looked.measurements:
        if m.name == "entropy" and m.component and m.variant in REPEATS:
            found.setdefault(m.component, {})[m.variant] = m
    both = {c: [v[r] for r in REPEATS] for c, v in found.items() if len(v) == len(REPEATS)}
    if not both:
        return ""
    place, (there, not_there) = max(both.items(), key=lambda kv: (abs(kv[1][0].value - kv[1][1].value), kv[0]))
    return f"{place} {reference(looked, there)} against {reference(looked, not_there)}"


def lost(answer: Answer, gap: float, judged: Judged) -> list[float]:
    """What is lost with one, two ... of the last blocks dropped, as a share of what separates the model from chance."""
    return [-judged.better * m.value / gap for m in answer.measurements if m.name == f"{judged.objective}.delta"]


def _candidate(desk: Desk, kind: str, stack: str, task: str, n: int, falls: Sequence[float]) -> Candidate:
    """A finding about the program that leaves the last n blocks out. Probability says it with fewer examples than accuracy."""
    finer = "probability" if desk.judged.objective == "accuracy" else ""
    return Candidate(kind, task, program=_left_out(desk, stack, n, len(falls)), objective=finer)


def _left_out(desk: Desk, stack: str, n: int, count: int) -> str:
    """The program that leaves out the last n of a stack's blocks."""
    blocks = f"{count - n}-{count - 1}" if n > 1 else f"{count - 1}"
    return f"{stack}: skip {blocks}" if desk.several else f"skip {blocks}"


def _told(stack: str, swept: Answer) -> Part[None]:
    """What is written under each program, in a note: rates as references, from the first block left out on."""
    rates: dict[str, list[str]] = {}
    for m in swept.measurements:
        if m.name in SAID and m.program and m.program != "intact":
            rates.setdefault(m.name, []).append(reference(swept, m))
    if rates and swept.handle:
        rows = "; ".join(f"{SAID[name]}: {', then '.join(found)}" for name, found in rates.items())
        text = f"What the model writes where the last blocks of {stack} are missing, from the last alone to all of them. {rows}."
        yield from ask("Write down what it does then.", [("note", {"text": text, "experiments": [swept.handle]})])
