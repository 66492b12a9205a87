"""What the record says a run has done so far: its exchanges, what they cost, and a line for each event."""

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

from agent.loop.budget import Spent
from agent.loop.delegating import children, of_children
from agent.loop.record import RunRecord, branched_at, own_experiments
from agent.planners.base import Answer, Exchange, ToolCall, Turn, Usage
from experiments_db.records import Event, Run

HELD = 512  # exchanges at least that are not read again


class Exchanges(Sequence[Exchange]):
    """A run's exchanges, oldest first: the latest are held, and earlier ones are read from the record when they are asked for."""

    def __init__(self, record: RunRecord) -> None:
        self._record, self._ends, self._latest = record, array("q"), list[Exchange]()

    def append(self, exchange: Exchange, end: int | None = None) -> None:
        """Add one that is on record. end: the last event of it; by default the last there is."""
        self._ends.append(self._record.store.last_seq(self._record.run) if end is None else end)
        self._latest.append(exchange)
        if len(self._latest) >= 2 * HELD:
            del self._latest[:HELD]

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Exchange: ...
    @overload
    def __getitem__(self, index: slice) -> list[Exchange]: ...
    def __getitem__(self, index: int | slice) -> Exchange | list[Exchange]:
        if isinstance(index, int):
            at = range(len(self))[index]
            return self._between(at, at + 1)[0]
        wanted = range(len(self))[index]
        if not wanted:
            return []
        first = min(wanted[0], wanted[-1])
        found = self._between(first, max(wanted[0], wanted[-1]) + 1)
        return [found[i - first] for i in wanted]

    def __iter__(self) -> Iterator[Exchange]:
        for at in range(0, len(self), HELD):
            yield from self._between(at, min(at + HELD, len(self)))

    def _between(self, first: int, after: int) -> list[Exchange]:
        held = len(self) - len(self._latest)
        found: list[Exchange] = []
        if first < held:
            last = min(after, held)
            events = self._record.store.events(
                self._record.run, self._ends[first - 1] if first else 0, self._ends[last - 1]
            )
            found = [e for e, _ in _exchanges(self._record, events) if isinstance(e, Exchange)]
        return found + self._latest[max(first, held) - held : max(after, held) - held]


def history(record: RunRecord, last: int | None = None) -> tuple[Exchanges, tuple[Turn, list[Answer]] | None]:
    """(complete exchanges, the turn whose calls are not all answered yet) from the record, up to event `last`."""
    made = Exchanges(record)
    for found, end in _exchanges(record, record.store.events(record.run, until=last)):
        if not isinstance(found, Exchange):
            return made, found
        made.append(found, end)
    return made, None


def _exchanges(
    record: RunRecord, events: Iterable[Event]
) -> Iterator[tuple[Exchange | tuple[Turn, list[Answer]], int]]:
    """Each exchange and its last event; and at the end the turn whose calls are not all answered, if there is one."""
    open_turn: tuple[Turn, list[Answer]] | None = None
    seq = 0
    for event in events:
        seq = event.seq
        if event.kind == "turn":
            p: Any = event.payload
            calls = tuple(ToolCall(**c) for c in p["calls"])
            open_turn = (Turn(calls, p["text"], Usage(**p["usage"])), [])
        elif event.kind == "answer" and open_turn is not None:
            handle = event.payload["handle"]
            known = record.measurements_of(handle) if handle and handle.startswith("E") else ()
            p = event.payload
            open_turn[1].append(Answer(p["call_id"], p["text"], p["status"], handle, tuple(known)))
        if open_turn is not None and len(open_turn[1]) == len(open_turn[0].calls):
            yield Exchange(open_turn[0], tuple(open_turn[1])), seq
            open_turn = None
    if open_turn is not None:
        yield open_turn, seq


def inherited_turns(record: RunRecord, run: Run) -> int:
    """How many turns a run took over from the one it branched from."""
    seq = branched_at(run)
    return sum(e.kind == "turn" and e.seq <= seq for e in record.store.events(record.run)) if seq else 0


def reserved(record: RunRecord) -> int:
    """Experiments that are still to settle what is sealed: one for each open finding."""
    return sum(not f.settled for f in record.findings())


def experiments_made(record: RunRecord, run: Run) -> int:
    """How many experiments a run has made, those of its children among them."""
    return own_experiments(record, run) + sum(s.experiments for s in of_children(record, run, _own))


def spending(record: RunRecord, run: Run) -> Spent:
    """What the record says the run has spent so far, its children with it; what it took over from another run cost it nothing."""
    own = _own(record, run)
    sql = "SELECT coalesce(max(seq), 0) AS seq FROM events WHERE run = ? AND kind = 'turn'"
    last = record.store.rows(sql, run.name)[0]["seq"]
    theirs = of_children(record, run, _own)
    recent = [
        c.seq > last for c in children(record) if c.seq > branched_at(run)
    ]  # not in the minutes of any turn of the parent
    return Spent(
        own.experiments + sum(s.experiments for s in theirs),
        own.reserved,
        own.tokens + sum(s.tokens for s in theirs),
        own.cost + sum(s.cost for s in theirs),
        seconds_before=own.seconds_before + sum(s.seconds_before for s, new in zip(theirs, recent, strict=True) if new),
    )


def _own(record: RunRecord, run: Run) -> Spent:
    """What a run has spent by itself."""
    tokens = "json_extract(payload, '$.usage.prompt_tokens') + json_extract(payload, '$.usage.completion_tokens')"
    found = record.store.rows(
        f"SELECT coalesce(sum({tokens}), 0) AS tokens, coalesce(sum(json_extract(payload, '$.usage.cost')), 0.0) AS cost, "
        "coalesce(max(json_extract(payload, '$.minutes')), 0.0) AS minutes FROM events WHERE run = ? AND kind = 'turn' AND seq > ?",
        run.name,
        branched_at(run),
    )[0]
    return Spent(
        own_experiments(record, run),
        reserved(record),
        int(found["tokens"]),
        float(found["cost"]),
        seconds_before=60 * float(found["minutes"]),
    )


def event_line(event: Any) -> str:
    """One event as a line of events.jsonl."""
    return json.dumps(
        {"seq": event.seq, "time": event.time, "kind": event.kind, **dict(event.payload)}, ensure_ascii=False
    )
