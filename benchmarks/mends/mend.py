"""A fix and what turns red without it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class SnippetError(ValueError):
    """The source of a fix is not where its mend says, once; or what reverts it is no Python."""


@dataclass(frozen=True)
class Edit:
    """One replacement. file: in the tree; fix: the exact source, which stands there once; reverted: what takes its place."""

    file: str
    fix: str
    reverted: str


@dataclass(frozen=True)
class Mend:
    """One line of what was wrong. line: in our words; edits: together they take the fix back; test: what must then be red."""

    line: str
    edits: tuple[Edit, ...]
    test: str


def mend(line: str, test: str, *edits: tuple[str, str, str]) -> Mend:
    """A mend from plain tuples (file, fix, reverted)."""
    return Mend(line, tuple(Edit(*e) for e in edits), f"tests/{test}")


def without(text: str, edit: Edit) -> str:
    """The source without the fix. SnippetError where the fix is not found exactly once."""
    found = text.count(edit.fix)
    if found != 1:
        raise SnippetError(f"{edit.file}: the fix is found {found} times, not once: {edit.fix!r}")
    if edit.fix == edit.reverted:
        raise SnippetError(f"{edit.file}: nothing is reverted: {edit.fix!r}")
    out = text.replace(edit.fix, edit.reverted)
    try:
        compile(out, edit.file, "exec")
    except SyntaxError as error:
        raise SnippetError(f"{edit.file}: without the fix it is no Python: {error}") from None
    return out


def check(tree: Path, one: Mend) -> None:
    """SnippetError unless every fix of a mend stands in the tree."""
    texts: dict[str, str] = {}
    for edit in one.edits:
        text = texts.get(edit.file) or (tree / edit.file).read_text(encoding="utf-8")
        texts[edit.file] = without(text, edit)


@dataclass
class Tree:
    """A copy of the project in which fixes are taken back one by one.

    stamp: a time for files that is later than any before it: Python keeps compiled files by their source's time and size,
    and a test that ran on an earlier version would show nothing.
    """

    root: Path
    stamp: int = 0

    @contextmanager
    def reverted(self, one: Mend) -> Iterator[None]:
        """The tree without the fix, and with it again afterwards."""
        kept = {e.file: (self.root / e.file).read_text(encoding="utf-8") for e in one.edits}
        now = dict(kept)
        for edit in one.edits:
            now[edit.file] = without(now[edit.file], edit)
        try:
            self._write(now)
            yield
        finally:
            self._write(kept)

    def _write(self, texts: dict[str, str]) -> None:
        self.stamp += 2
        for file, text in texts.items():
            path = self.root / file
            path.write_text(text, encoding="utf-8")
            at = path.stat().st_mtime_ns + self.stamp * 10**9
            os.utime(path, ns=(at, at))
