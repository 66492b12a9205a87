"""How many of its blocks a model needs, stack by stack, and what it writes where they are missing."""

from collections.abc import Sequence

from agent.planners.base import Answer
from agent.planners.systematic.candidates import Candidate, Desk
from agent.planners.systematic.plan import Part, ask
from agent.planners.systematic.reading import SMALLEST, Judged, reference

SAID = {
    "cer": "characters wrong", "wer": "words wrong", "repeated": "words repeated",
    "not_there": "words that are not there",
}  # fmt: skip


MOST_TRIED = 4


def depth(desk: Desk, task: str, gap: float) -> Part[None]:
    """Drop the last blocks of each stack, one more at a time: how many it bears, and what it writes then."""
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


def lost(answer: Answer, gap: float, judged: Judged) -> list[float]:
    """What is lost with one, two ... of the last blocks dropped, as a share of what separates the model from chance."""
    return [-judged.better * m.value / gap for m in answer.measurements if m.name == f"{judged.objective}.delta"]


def _candidate(desk: Desk, kind: str, stack: str, task: str, n: int, falls: Sequence[float]) -> Candidate:
    """A finding about the program that leaves the last n blocks out. Probability says it with fewer examples than accuracy."""
    finer = "probability" if desk.judged.objective == "accuracy" else ""
    count = len(falls)
    blocks = f"{count - n}-{count - 1}" if n > 1 else f"{count - 1}"
    named = f"{stack}: skip {blocks}" if desk.several else f"skip {blocks}"
    return Candidate(kind, task, program=named, objective=finer)


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
