"""The worked example of a task as a run kept it: the tokens, what stands where, the right answer and what the model said."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.loop.record import RunRecord
from agent.report.conclusion import Concluded
from experiments_db.places import PlaceError, parse_anchor
from tools.tasks.spans import role_words

NEWLINE = "↵"


@dataclass(frozen=True)
class Worked:
    """tokens: of the input; anchors: role -> places among them. said: None where the model cannot write. answers_at: the
    places of the tokens at which it is answered, by default the last. shown, twin_shown: of what tokens do not show, `words`,
    and `picture` (PNG) and `sound` (WAV) in base 64.
    """

    task: str
    chosen: str
    tokens: tuple[str, ...]
    answer: str
    said: str | None = None
    twin: tuple[str, ...] = ()
    twin_answer: str = ""
    twin_said: str | None = None
    anchors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    answers_at: tuple[int, ...] | None = None
    shown: Mapping[str, str] = field(default_factory=dict)
    twin_shown: Mapping[str, str] = field(default_factory=dict)

    def places(self, anchor: str) -> tuple[int, ...]:
        """Which tokens an anchor means here; none where it means none of this example."""
        try:
            parsed = parse_anchor(anchor)
        except PlaceError:
            return ()
        last = len(self.tokens) - 1
        if parsed.position is not None:
            at = parsed.position if parsed.position >= 0 else last + 1 + parsed.position
            return (at,) if 0 <= at <= last else ()
        found = self.answering if parsed.name == "answer" else self.anchors.get(parsed.name, ())
        return {"first": found[:1], "last": found[-1:], "all": found}[parsed.policy]

    @property
    def answering(self) -> tuple[int, ...]:
        """The places at which the answer begins."""
        return (len(self.tokens) - 1,) if self.answers_at is None else self.answers_at

    def stretches(self) -> list[tuple[str, str]]:
        """The input in stretches of one role each: `("0", "the first operand")`, `("3 + 7 = 10 ↵", "the worked lines")`.

        What has no role has '', and the stretch whose token predicts the answer says so. Nothing where tokens show nothing.
        """
        if self.shown:
            return []
        out: list[tuple[list[str], str]] = []
        for token, role in self.roles():
            if out and out[-1][1] == role:
                out[-1][0].append(token)
            else:
                out.append(([token], role))
        return [(" ".join(tokens), role) for tokens, role in out]

    def roles(self) -> list[tuple[str, str]]:
        """Each token with what it is called: `("3", "the first operand")`; the last one predicts the answer."""
        named: list[tuple[str, str]] = []
        for i, token in enumerate(self.tokens):
            of = [role for role, at in self.anchors.items() if i in at]
            smallest = min(of, key=lambda role: len(self.anchors[role]), default="")
            words = [role_words(smallest)] if smallest else []
            if i in self.answering:
                words.append("answers here")
            named.append((shown(token), ", ".join(words)))
        return named


def told(e: Worked) -> tuple[str, str]:
    """(what the model says to the example, what to its twin; '' without a twin), in words."""
    said = "" if e.said is None else f"the model says {quoted(e.said)}, "
    first = f"{said}right is {quoted(e.answer)}"
    if not e.twin:
        return first, ""
    if e.shown:
        again = "" if e.twin_said is None else f"the model says {quoted(e.twin_said)}, "
        first = f"{e.shown.get('words', '')}: {first}"
        return first, f"{e.twin_shown.get('words', '')}, {again}right is {quoted(e.twin_answer)}"
    again = "" if e.twin_said is None else f"the model says {quoted(e.twin_said)}, "
    differ = [i for i, (a, b) in enumerate(zip(e.tokens, e.twin, strict=False)) if a != b]
    if len(e.tokens) == len(e.twin) and 0 < len(differ) <= 3:
        how = ", ".join(f"{quoted(e.twin[i])} for {quoted(e.tokens[i])}" for i in differ)
    else:
        how = quoted(" ".join(map(shown, e.twin)))
    return first, f"with {how} {again}right is {quoted(e.twin_answer)}"


def quoted(text: str) -> str:
    """A text in quotes, blanks around it left out."""
    return f"“{shown(text)}”"


def shown(token: str) -> str:
    """A token's text with blanks around it left out and line ends to be seen."""
    return token.replace("\n", NEWLINE).strip() or "␣"


def worked(record: RunRecord, task: str) -> Worked | None:
    """What the run kept about a task; None where it kept nothing, or what cannot be read."""
    rows = record.store.rows(
        "SELECT payload FROM events WHERE run = ? AND kind = 'example' AND json_extract(payload, '$.task') = ? ORDER BY seq",
        record.run,
        task,
    )
    return _read(rows[0]["payload"]) if rows else None


def worked_of(concluded: Concluded, record: RunRecord) -> Worked | None:
    """The example of the task that most findings are about, else of the first task that the run has one of."""
    tasks = [t.finding.statement.task for t in concluded.findings]
    order = sorted(dict.fromkeys(tasks), key=lambda t: -tasks.count(t))
    sql = "SELECT json_extract(payload, '$.task') AS task FROM events WHERE run = ? AND kind = 'example' ORDER BY seq"
    order += [str(row["task"]) for row in record.store.rows(sql, record.run)]
    return next((e for t in order if (e := worked(record, t)) is not None), None)


def _read(payload: str) -> Worked | None:
    p: Any = json.loads(payload)
    try:
        return Worked(
            task=str(p["task"]), chosen=str(p["chosen"]), tokens=tuple(map(str, p["tokens"])), answer=str(p["answer"]),
            said=None if p["said"] is None else str(p["said"]), twin=tuple(map(str, p["twin"] or ())),
            twin_answer=str(p["twin_answer"] or ""), twin_said=None if p["twin_said"] is None else str(p["twin_said"]),
            anchors={str(k): tuple(map(int, v)) for k, v in p["anchors"].items()},
            answers_at=None if p.get("answers_at") is None else tuple(map(int, p["answers_at"])),
            shown=_media(p.get("shown")), twin_shown=_media(p.get("twin_shown")),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError):  # a record from elsewhere may hold anything
        return None


def _media(found: Any) -> dict[str, str]:
    """Words, picture and sound; media that are no base 64 are left out."""
    given = {str(k): str(v) for k, v in dict(found or {}).items()}
    return {
        k: v
        for k, v in given.items()
        if k == "words" or (k in ("picture", "sound") and re.fullmatch(r"[A-Za-z0-9+/=]*", v))
    }
