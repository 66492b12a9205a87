"""A run's timeline: each turn with its thought, calls and answers, and what else happened between turns."""

import json
from typing import Any

from agent.review.texts import Links, Texts, answer_line, pretty
from experiments_db.store import Store


def timeline(store: Store, texts: Texts, links: Links, before: int, size: int) -> list[dict[str, Any]]:
    """The turns after the first `before`, at most `size` of them, and other events around them."""
    run = texts.record.run
    found = store.rows(
        "SELECT seq FROM events WHERE run = ? AND kind = 'turn' ORDER BY seq LIMIT ? OFFSET ?", run, size + 1, before
    )
    starts = [r["seq"] for r in found]
    first = 0 if before == 0 or not starts else starts[0] - 1
    until = starts[size] if len(starts) > size else store.last_seq(run) + 1
    sql = "SELECT seq, kind, payload, time FROM events WHERE run = ? AND seq > ? AND seq < ? ORDER BY seq"
    items: list[dict[str, Any]] = []
    turn: dict[str, Any] | None = None
    number = before
    for r in store.rows(sql, run, first, until):
        payload = json.loads(r["payload"])
        if r["kind"] == "turn":
            number += 1
            calls = [{"name": c["name"], "arguments": pretty(c["arguments"]), "answer": None} for c in payload["calls"]]
            thought = texts.parts(payload["text"])
            turn = {
                "kind": "turn",
                "number": number,
                "time": r["time"],
                "thought": thought,
                "calls": calls,
                "seq": r["seq"],
            }
            items.append(turn)
        elif r["kind"] == "answer" and turn is not None:
            waiting = next((c for c in turn["calls"] if c["answer"] is None), None)
            if waiting is not None:
                waiting["answer"] = {**payload, "parts": texts.parts(payload["text"]), "first": answer_line(payload)}
                handle = payload["handle"]
                waiting["href"] = links.handle(run, handle) if handle and texts.exists(handle) else None
        else:
            items.append({"kind": r["kind"], "said": _said(payload), "time": r["time"], "seq": r["seq"]})
    return items


def _said(payload: dict[str, Any]) -> str:
    """An event's payload in words."""
    flat = {
        k: " ".join(f"{x} {y}" for x, y in v.items()) if isinstance(v, dict) else len(v) if isinstance(v, list) else v
        for k, v in payload.items()
        if v
    }
    return ", ".join(f"{k} {v}" for k, v in flat.items())
