"""What a run's null twins came to, read from its events."""

import json
from typing import Any

from agent.loop.record import RunRecord
from tools.findings.null_report import EVENTS, NullTwinReport

Payload = dict[str, Any]


def events(record: RunRecord) -> list[tuple[str, Payload]]:
    """What is on record about a run's null twins: (kind, payload) in order."""
    marks = ", ".join("?" * len(EVENTS))
    rows = record.store.rows(
        f"SELECT kind, payload FROM events WHERE run = ? AND kind IN ({marks}) ORDER BY seq", record.run, *EVENTS
    )
    return [(r["kind"], json.loads(r["payload"])) for r in rows]


def null_report(record: RunRecord) -> NullTwinReport | None:
    """How often the run's tests confirm something where there is nothing; None where that was not asked for."""
    try:
        return NullTwinReport.read(events(record))
    except (KeyError, TypeError, ValueError, AttributeError):  # a record from elsewhere may hold anything
        return None


def nulls_words(found: NullTwinReport | None) -> str:
    """What is said of it beside how sure the findings are: a sentence, or nothing."""
    if found is None or not (found.tried or found.skipped):
        return ""
    line = found.line()
    return f"{line[:1].upper()}{line[1:]}."
