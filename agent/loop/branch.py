"""Where in a run another one may begin: the turns of its record, and what is on record by the end of each."""

import re
from dataclasses import dataclass

from experiments_db.records import Run
from experiments_db.store import Store


class BranchError(ValueError):
    """A step that a run cannot be continued from; the message says which ones there are."""


@dataclass(frozen=True)
class Branch:
    """A point in an earlier run: after `turn` turns, with the events up to `seq` on record. Turn 0 is the bare question."""

    run: Run
    turn: int
    seq: int

    @classmethod
    def of(cls, store: Store, run: str, step: str) -> "Branch":
        """The point that a user means by a turn's number, or by E17 for the end of the turn that ran it.

        BranchError for a step that does not exist, and for the turn that finished the run: nothing comes after it.
        """
        ends = turn_ends(store, run)
        text = step.strip()
        if re.fullmatch(r"[Ee]\d+", text):
            seq = store.experiment(run, text.upper()).seq
            turn = next((i for i, end in enumerate(ends) if end >= seq), None)
            if turn is None:
                raise BranchError(
                    f"--from {step}: the turn of {text.upper()} is not complete; go on from {len(ends) - 1}"
                )
        elif text.isdecimal() and int(text) < len(ends):
            turn = int(text)
        else:
            raise BranchError(
                f"--from {step!r}: use the number of a turn of {run}, 0 to {len(ends) - 1}, or an experiment such as E1"
            )
        finished = [e.seq for e in store.events(run) if e.kind == "end" and e.payload["status"] == "finished"]
        if finished and turn == len(ends) - 1 and turn > 0:
            raise BranchError(f"--from {step}: with turn {turn} {run} was finished; go on from an earlier one")
        return cls(store.run(run), turn, ends[turn])


def turn_ends(store: Store, run: str) -> list[int]:
    """Number of the last event of each turn whose calls were all answered; entry 0 is for the time before the first turn."""
    ends, waiting = [0], 0
    for event in store.events(run):
        if event.kind == "turn":
            waiting = len(event.payload["calls"])
        elif event.kind == "answer":
            waiting -= 1
        if event.kind in ("turn", "answer") and waiting == 0:
            ends.append(event.seq)
    return ends
