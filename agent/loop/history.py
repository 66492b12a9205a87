"""What the record says a run has done so far: its exchanges, what they cost, and a line for each event."""

import json
from typing import Any

from agent.loop.budget import Spent
from agent.loop.delegating import children, of_children
from agent.loop.record import RunRecord, branched_at, own_experiments
from agent.planners.base import Answer, Exchange, ToolCall, Turn, Usage
from experiments_db.records import Run


def history(record: RunRecord, last: int | None = None) -> tuple[list[Exchange], tuple[Turn, list[Answer]] | None]:
    """(complete exchanges, the turn whose calls are not all answered yet) from the record, up to event `last`."""
    exchanges: list[Exchange] = []
    open_turn: tuple[Turn, list[Answer]] | None = None
    for event in record.store.events(record.run):
        if last is not None and event.seq > last:
            break
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
            exchanges.append(Exchange(open_turn[0], tuple(open_turn[1])))
            open_turn = None
    return exchanges, open_turn


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
