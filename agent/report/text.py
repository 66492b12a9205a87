"""Text from models and inputs is hostile: it may hold control codes, markup, or nothing but a newline."""

import unicodedata


def inert(text: str) -> str:
    """The text with every control and format character shown as an escape, line breaks kept; safe for a terminal."""
    if text.isprintable():
        return text
    return "".join(
        c
        if c == "\n" or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co"}
        else c.encode("unicode_escape").decode()
        for c in text
    )


def markdown(text: str) -> str:
    """Inert text that markdown shows as it is: markup characters escaped, line breaks as visible marks."""
    entities = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
    escaped = "".join(entities.get(c) or ("\\" + c if c in r"\`*_[]#|~$" else c) for c in inert(text))
    return escaped.replace("\n", "↵")


def code(text: str) -> str:
    """Inert text as inline code, whatever backticks it holds."""
    shown = inert(text).replace("\n", "↵").replace("|", "¦")
    longest = max((len(run) for run in _runs(shown, "`")), default=0)
    fence = "`" * (longest + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") or not shown.strip() else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def _runs(text: str, char: str) -> list[str]:
    out: list[str] = []
    for c in text:
        if c == char and out and out[-1]:
            out[-1] += c
        elif c == char:
            out.append(c)
        elif out and out[-1]:
            out.append("")
    return out
