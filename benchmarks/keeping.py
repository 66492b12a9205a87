"""What a benchmark keeps: results as JSON lines, so that a stopped one goes on where it was, and tables in README.md."""

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

README = Path(__file__).parent / "README.md"


class Kept:
    """Results by their key, one a line of a file; code: what they were computed with, part of every key."""

    def __init__(self, path: Path, code: str) -> None:
        self.path, self.code = path, code
        self.known: dict[str, Any] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines:
            try:
                kept = json.loads(line)
            except json.JSONDecodeError:  # the last one of a process that was killed while it wrote
                continue
            self.known[kept["key"]] = kept["value"]

    def get(self, name: str, compute: Callable[[], Any]) -> Any:
        """The result of a name, computed unless this code has computed it before."""
        key = f"{name} | code {self.code}"
        if key not in self.known:
            value = compute()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            cut = self.path.exists() and not self.path.read_bytes().endswith(b"\n")
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" * cut + json.dumps({"key": key, "value": value}) + "\n")
            self.known[key] = value
        return self.known[key]


def code_of(folders: Iterable[Path]) -> str:
    """A hash of all Python sources in folders and below."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def made_with(seed: int | None = None) -> str:
    """'Commit 1234567, seed 0, 2026-11-21.', without the seed where nothing is drawn."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(asked, capture_output=True, text=True, cwd=README.parent, check=False)  # noqa: S603 (git itself)
    drawn = "" if seed is None else f", seed {seed}"
    return f"Commit {found.stdout.strip() or 'unknown'}{drawn}, {datetime.now(UTC):%Y-%m-%d}."


def write_table(name: str, text: str, readme: Path = README) -> None:
    """Replace what stands between the markers `<!-- name -->` and `<!-- end name -->`; ValueError where there are none."""
    begin, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    before, found, rest = readme.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{readme} has no markers {begin} and {end}")
    readme.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
