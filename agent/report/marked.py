"""Markdown from what is on record: texts made inert, references filled in and linked, tables, and parts that fold."""

import re
from collections.abc import Sequence

from agent.loop.record import RunRecord
from agent.report.numbers import reference_text
from agent.report.references import UnresolvedReference, resolve, substitute
from agent.report.text import code, inert, markdown
from experiments_db.store import StoreError


def linked(text: str, record: RunRecord) -> str:
    """A text with markup made inert, each reference filled in from the record and linked to its experiment."""
    parts: list[str] = []

    def keep(inside: str) -> str:
        try:
            found = resolve(inside, record.measurements_of)
            parts.append(f"[{markdown(reference_text(found))}](#{found.handle.lower()})")
        except (UnresolvedReference, StoreError):
            parts.append(code("{{" + inside + "}}") + " (names no measurement)")
        return f"\0{len(parts) - 1}\0"

    kept = substitute(text.replace("\0", ""), keep).split("\0")
    return "".join(parts[int(p)] if i % 2 else markdown(p) for i, p in enumerate(kept))


def links(handles: Sequence[str], most: int | None = None) -> str:
    """Handles as links to their places in the report; of more than `most` the rest is counted."""
    more = f" and {len(handles) - most} more" if most is not None and len(handles) > most else ""
    return ", ".join(f"[{markdown(h)}](#{anchor(h)})" for h in handles[:most]) + more


def anchor(handle: str) -> str:
    """The anchor of a handle: letters and digits alone."""
    return re.sub(r"[^a-z0-9]", "", handle.lower())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table; cells are markdown already."""
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]


def folded(summary: str, lines: Sequence[str]) -> list[str]:
    """Lines that are shown when their summary, plain text, is opened."""
    return ["<details>", f"<summary>{entities(summary)}</summary>", "", *lines, "", "</details>"]


def entities(text: str) -> str:
    """Inert text for a place where neither markup nor markdown may be read: all but words and blanks as entities."""
    return "".join(c if c.isalnum() or c in " .,:;?-" else f"&#{ord(c)};" for c in inert(text).replace("\n", " "))
