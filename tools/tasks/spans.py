"""Roles of a text: which stretches of characters are the first operand, the subject, the giver."""

import string
from collections.abc import Iterable, Mapping
from functools import lru_cache

from experiments_db.places import PlaceError, parse_anchor

Spans = Mapping[str, tuple[int, ...]]
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
ROLES = frozenset(  # of the built-in tasks: what a user calls a span need not be English
    (
        "ambiguous attractor bar before_item controller decoy equals first_name giver innermost_bracket item key "
        "last_copied masked object operand operator outermost_bracket place preposition receiver second_name shots "
        "subject tense value verb word"
    ).split()
)
WORDS = {"equals": "the equals sign", "shots": "the worked lines"}
RESERVED = ("all", "answer", "each")  # anchors that stand for something else


def compose(parts: Iterable[str | tuple[str, str]]) -> tuple[str, dict[str, tuple[int, int]]]:
    """A text from pieces, and where those are that have a role: `compose([("operand1", "3"), " + "])`."""
    text = ""
    spans: dict[str, tuple[int, int]] = {}
    for part in parts:
        role, piece = ("", part) if isinstance(part, str) else part
        if role:
            spans[role] = (len(text), len(text) + len(piece))
        text += piece
    return text, spans


def fill(template: str, values: Mapping[str, str]) -> tuple[str, dict[str, tuple[int, int]]]:
    """A format string with its fields filled in; every field is a role, named after the field."""
    parts: list[str | tuple[str, str]] = []
    for before, field, _, _ in string.Formatter().parse(template):
        parts.append(before)
        if field is not None:
            parts.append((field, values[field]))
    return compose(parts)


def shifted(spans: Spans, by: int) -> dict[str, tuple[int, ...]]:
    """The same stretches in a text that has `by` characters in front."""
    return {role: tuple(x + by for x in span) for role, span in spans.items()}


@lru_cache(maxsize=4096)
def role_problem(role: str) -> str | None:
    """Why a word cannot name a role, or None if it can: roles are written in places as `@operand1.last`."""
    try:
        is_name = str(parse_anchor(role)) == role and not role.lstrip("-").isdigit() and "." not in role
    except PlaceError:
        is_name = False
    if not is_name or role in RESERVED:
        return f"{role!r} cannot name a span: use letters, digits and underscores, and none of {', '.join(RESERVED)}"
    return None


def span_problem(text: str, spans: Spans) -> str | None:
    """What is wrong with spans of a text, or None: each must be a stretch of at least one character inside it."""
    for role, span in spans.items():
        if problem := role_problem(role):
            return problem
        start, end = (span[0], span[-1]) if len(span) == 2 else (1, 0)
        if not 0 <= start < end <= len(text):
            return f"span {role!r} is [{start}, {end}], but the text has characters 0 to {len(text)}"
    return None


def signal_span_problem(spans: Spans) -> str | None:
    """What is wrong with spans of a signal, or None: [start, end] in milliseconds, or [left, top, right, bottom] in pixels."""
    for role, span in spans.items():
        if problem := role_problem(role):
            return problem
        half = len(span) // 2
        if len(span) not in (2, 4) or any(not 0 <= a < b for a, b in zip(span[:half], span[half:], strict=True)):
            return f"span {role!r} is {list(span)}: write [start, end] in milliseconds, or [left, top, right, bottom] in pixels"
    return None


def anchor_words(role: str) -> str:
    """A role of a built-in task in words, any other as it is named: `the first operand`, `the span “src2”`."""
    return role_words(role) if has_words(role) else f"the span “{role}”"


def has_words(role: str) -> bool:
    """Whether it is a role of a built-in task, which is English."""
    return role.removesuffix("_again").rstrip("0123456789") in ROLES


def role_words(role: str) -> str:
    """A role in words: `operand1` is `the first operand`, `giver_again` `the second mention of the giver`."""
    if role in WORDS:
        return WORDS[role]
    if role.endswith("_again"):
        return f"the second mention of {role_words(role.removesuffix('_again'))}"
    base = role.rstrip("0123456789")
    number = role[len(base) :]
    words = base.replace("_", " ").strip()
    if number and words and 1 <= int(number) <= len(ORDINALS):
        return f"the {ORDINALS[int(number) - 1]} {words}"
    return f"the {role.replace('_', ' ').strip()}"
