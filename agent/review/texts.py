"""A planner's text for a page: plain text, numbers that are read from the record, and handles, each a link to its source."""

import json
import re
from dataclasses import dataclass
from typing import Any

from agent.loop.record import Reading
from agent.report.numbers import reference_text
from agent.report.references import PATTERN, UnresolvedReference, resolve
from experiments_db.reading import read_json
from experiments_db.records import Measurement
from experiments_db.store import StoreError

PAGE = 200  # measurements on one page of an experiment
LETTERS = "EFHCNQ"
HANDLE = re.compile(rf"\b[{LETTERS}][1-9][0-9]{{0,8}}\b")


@dataclass(frozen=True)
class Part:
    """A piece of text. kind: text | number | handle | unresolved; the last three say what they point to."""

    kind: str
    text: str
    href: str = ""
    title: str = ""


class Links:
    """Addresses of pages: of the server, or of places in one exported file. workbench: whether there is one to go to."""

    def __init__(self, single_file: bool = False, workbench: bool = False) -> None:
        self.single_file, self.workbench = single_file, workbench

    def run(self, name: str, tab: str = "report") -> str:
        """A run's tab: report, hypotheses, timeline or experiments."""
        return f"#{tab}" if self.single_file else f"/runs/{name}/{tab}"

    def experiment(self, name: str, handle: str, number: int | None = None) -> str:
        """An experiment, or one measurement of it by its number from 1, on the page that has its row."""
        if self.single_file:
            return f"#{handle}" if number is None else f"#{handle}-m{number}"
        page = f"?page={(number - 1) // PAGE + 1}" if number is not None and number > PAGE else ""
        return f"/runs/{name}/experiments/{handle}{page}" + ("" if number is None else f"#{handle}-m{number}")

    def repeats(self, group: str) -> str:
        """What the runs of one repeated question share."""
        return f"/repeats/{group}"

    def examples(self, name: str, handle: str, under: int) -> str:
        """An experiment's examples under a condition."""
        anchor = f"#{handle}-examples"
        return anchor if self.single_file else f"/runs/{name}/experiments/{handle}?under={under}{anchor}"

    def handle(self, name: str, handle: str) -> str:
        """Whatever a handle names."""
        if handle.startswith("E"):
            return self.experiment(name, handle)
        tab = "hypotheses" if handle.startswith("H") else "report"
        return f"#{handle}" if self.single_file else f"{self.run(name, tab)}#{handle}"


class Texts:
    """Turns texts of one run into parts."""

    def __init__(self, record: Reading, links: Links) -> None:
        self.record, self.links = record, links
        self._known: dict[str, set[str]] = {}

    def parts(self, text: str) -> list[Part]:
        """The text in pieces, in order."""
        pieces = PATTERN.split(text)  # texts and insides of references in turn
        out: list[Part] = []
        for i, piece in enumerate(pieces):
            out += [self._reference(piece.strip())] if i % 2 else self._plain(piece)
        return out

    def number(self, handle: str, m: Measurement, text: str) -> Part:
        """A number that is shown outside of a text, with the way to where it comes from."""
        place = next(i for i, x in enumerate(self.record.measurements_of(handle), 1) if x is m)
        return Part("number", text, self.links.experiment(self.record.run, handle, place), f"{handle} {m.key}")

    def _reference(self, inside: str) -> Part:
        try:
            found = resolve(inside, self.record.measurements_of)
        except (UnresolvedReference, StoreError):
            return Part("unresolved", "{{" + inside + "}}")
        return self.number(found.handle, found.measurement, reference_text(found))

    def _plain(self, text: str) -> list[Part]:
        out: list[Part] = []
        last = 0
        for match in HANDLE.finditer(text):
            handle = match.group()
            if self.exists(handle):
                out += [
                    Part("text", text[last : match.start()]),
                    Part("handle", handle, self.links.handle(self.record.run, handle)),
                ]
                last = match.end()
        return [*out, Part("text", text[last:])]

    def exists(self, handle: str) -> bool:
        """Whether the run has something of this handle."""
        if HANDLE.fullmatch(handle) is None:
            return False
        if handle[0] == "E":
            try:
                self.record.experiment(handle)
            except StoreError:
                return False
            return True
        letter = handle[0]
        if letter not in self._known:
            self._known[letter] = set(self.record.handles(letter))
        return handle in self._known[letter]


def first_line(text: str) -> str:
    """The first line of a text, not too long."""
    return text.split("\n", 1)[0][:300]


def answer_line(payload: dict[str, Any]) -> str:
    """An answer in one line: its first two, without the handle that stands before them."""
    lines = str(payload["text"]).removeprefix(f"{payload['handle']}: ").splitlines()[:2]
    return " · ".join(line.strip() for line in lines)[:300]


def pretty(arguments: str) -> str:
    """A call's raw arguments, laid out if they are JSON and as they were written if not."""
    try:
        return json.dumps(read_json(arguments), indent=2, ensure_ascii=False)
    except ValueError:
        return arguments


def arguments_text(args: dict[str, Any]) -> str:
    """An experiment's arguments in one line, less those that were left out."""
    return ", ".join(f"{k}={v}" for k, v in args.items() if v not in (None, [], ""))[:300]


def offset(page: int, total: int, size: int) -> int:
    """How many rows stand before a page; a page that there is not is the last or the first one."""
    return (min(max(1, page), max(1, -(-total // size))) - 1) * size


def page_numbers(page: int, total: int, size: int) -> dict[str, int]:
    """Which page it is, and of how many."""
    last = max(1, -(-total // size))
    return {"page": min(max(1, page), last), "last": last, "total": total}
