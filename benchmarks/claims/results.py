"""What cases came to, kept as JSON lines, so that a suite that was stopped goes on where it was."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CODE = ("agent", "experiments_db", "tools", "benchmarks/claims", "benchmarks/planted")


def code_of(root: Path = ROOT) -> str:
    """Hash of the sources that decide what a case comes to."""
    digest = hashlib.sha256()
    for folder in CODE:
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


class Results:
    """Values by their key and the code that they were computed with; without a path nothing is kept."""

    def __init__(self, path: Path | None, code: str = "") -> None:
        self.path, self.code = path, code or code_of()
        self.known: dict[str, Any] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.endswith("}"):  # the last line of a process that was killed may be half a line
                    row = json.loads(line)
                    self.known[row["key"]] = row["value"]

    def get(self, key: str, compute: Callable[[], Any]) -> tuple[Any, bool]:
        """(the value, whether it was known before)."""
        full = f"{key} | code {self.code}"
        if full in self.known:
            return self.known[full], True
        value = self.known[full] = compute()
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps({"key": full, "value": value}) + "\n")
        return value, False
