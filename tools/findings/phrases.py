"""Pieces of the sentences that findings are said in."""

from collections.abc import Sequence

from experiments_db.findings import Statement
from experiments_db.places import Intervention

WORDS = {"zero": "zeroed", "mean": "replaced by its mean", "resample": "resampled", "scale": "scaled", "add": "shifted"}


def on_task(s: Statement) -> str:
    """'for addition', with the class of examples where it is about one."""
    return f"for {s.task}{f' among {s.among}' if s.among else ''}"


def how_words(how: Intervention) -> str:
    """'resampled', 'with the twin's', 'zeroed'."""
    if how.op == "resample" and how.source == "twin":
        return "with the twin's activation"
    return WORDS.get(how.op, str(how))


def under(s: Statement) -> str:
    """'resampled from other examples, and also zeroed': every intervention that it was tested under."""
    return listed([how_words(h) for h in s.done], "and also")


def listed(words: Sequence[str], last: str = "and") -> str:
    """'a, b and c'."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""
