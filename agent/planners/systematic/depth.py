"""How many of its blocks a model needs, stack by stack, and what it writes where they are missing."""

import re

from agent.planners.base import Answer
from agent.planners.systematic.candidates import Candidate, Desk
from agent.planners.systematic.plan import Part, ask
from agent.planners.systematic.reading import SMALLEST, reference

SAID = {
    "cer": "characters wrong", "wer": "words wrong", "repeated": "words repeated",
    "not_there": "words that are not there",
}  # fmt: skip


def how_many(goal: str) -> bool:
    """Whether a goal asks for a number of blocks."""
    return re.search(r"\bhow many\b[^?]*\b(blocks?|layers?)\b", goal.lower()) is not None


def depth(desk: Desk, task: str, gap: float) -> Part[None]:
    """Drop the last blocks of each stack, one more at a time: how many it bears, and what it writes then."""
    for stack in desk.stacks:
        (swept,) = yield from ask(
            f"How many of the last blocks of {stack} can be missing, and what does the model write then?",
            [
                (
                    "layer_program",
                    {"tasks": [task], "sweep": "drop_last", "stack": stack, "written": True, "examples": desk.screen},
                )
            ],
            desk.reserve + 2,
        )
        yield from _told(stack, swept)
        borne, count = bears(swept, gap)
        if borne and count:
            yield from desk.examine(
                f"The most that {stack} bears, as a finding.",
                [Candidate("tolerates", task, program=_last(stack, borne, count))],
            )
        if borne < count - 1:
            block = count - 1 - borne
            yield from desk.examine(
                "And the block after which it no longer does.",
                [
                    Candidate(
                        "necessary", task, (f"{stack}.{block}.block{'' if stack != desk.stacks[-1] else '@answer'}",)
                    )
                ],
            )


def bears(answer: Answer, gap: float) -> tuple[int, int]:
    """(how many of the last blocks can be dropped one after the other before accuracy falls by what counts, how many there are)."""
    falls = [-m.value for m in answer.measurements if m.name == "accuracy.delta"]
    borne = next((i for i, lost in enumerate(falls) if lost >= SMALLEST * gap), len(falls))
    return borne, len(falls)


def _last(stack: str, borne: int, count: int) -> str:
    """The program that leaves the last blocks out."""
    first = count - borne
    return f"{stack}: skip {first}-{count - 1}" if borne > 1 else f"{stack}: skip {first}"


def _told(stack: str, swept: Answer) -> Part[None]:
    """What is written under each program, in a note: rates as references."""
    programs: dict[str, list[str]] = {}
    for m in swept.measurements:
        if m.name in SAID and m.program and m.program != "intact":
            programs.setdefault(m.program, []).append(f"{reference(swept, m)} {SAID[m.name]}")
    if programs and swept.handle:
        rows = "; ".join(f"{name}: {', '.join(found)}" for name, found in programs.items())
        text = f"What the model writes where the last blocks of {stack} are missing. {rows}."
        yield from ask("Write down what it does then.", [("note", {"text": text, "experiments": [swept.handle]})])
