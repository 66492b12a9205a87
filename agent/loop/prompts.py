"""Prompt templates: data in the `prompts` package, rendered strictly, with one hash for all of them."""

import hashlib
import re
from importlib.resources import files

from agent.report.text import inert

PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class PromptError(ValueError):
    """A template that is missing, or names and values that do not fit it."""


def render(name: str, **values: str) -> str:
    """A template with its names filled in; a name without a value, or a value without a place, is a PromptError."""
    source = files("prompts") / f"{name}.md"
    if not source.is_file():
        raise PromptError(f"there is no prompt {name!r}")
    text = source.read_text(encoding="utf-8")
    wanted = set(PLACE.findall(text))
    if wanted != set(values):
        raise PromptError(f"prompt {name!r} has places {sorted(wanted)}, but was given {sorted(values)}")
    return PLACE.sub(lambda m: values[m[1]], text)


def marked(kind: str, text: str) -> str:
    """A text as data between marks that hold its hash, so that no text can hold the mark that ends it; '' for none.

    Control characters are shown as escapes.
    """
    if not text.strip():
        return ""
    mark = f"{kind} {hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return f"<{mark}>\n{inert(text)}\n</{mark}>"


def version() -> str:
    """Hash of all prompt files, kept with each run."""
    digest = hashlib.sha256()
    for file in sorted(files("prompts").iterdir(), key=lambda f: f.name):
        if file.name.endswith((".md", ".json")):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
