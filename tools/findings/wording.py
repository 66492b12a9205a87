"""Checks that tools make on texts and handles before anything is written."""

import re

from experiments_db.records import COORDINATES, parse_metric
from tools.methods.tool import Context, History, ToolInputError

REFERENCE = re.compile(r"\{\{(?:(?!\{\{|\}\}).)*\}\}", re.DOTALL)
# A decimal fraction or a percentage outside a reference and outside quotes is a measurement that was typed by hand.
TYPED = re.compile(r"(?<![\w.{])\d+\.\d+\b|\b\d+(?:\.\d+)?\s?%")
QUOTED = re.compile(r"`[^`]*`|'[^'\n]*'|\"[^\"\n]*\"")


def check_handles(ctx: Context, handles: list[str], letter: str) -> None:
    """Raise ToolInputError for a handle that does not exist."""
    known = ctx.history.handles(letter)
    bad = [h for h in handles if h not in known]
    if bad:
        raise ToolInputError(f"there is no {bad[0]!r}; there are {', '.join(known[-20:]) or 'none yet'}")


def check_references(ctx: Context, text: str, *, digits: bool = False) -> None:
    """Raise ToolInputError for a reference that names no measurement and, if asked, for a measurement typed as digits."""
    problems = ctx.history.unresolved(text)
    if problems:
        raise ToolInputError("; ".join(problems))
    if digits:
        typed = TYPED.search(QUOTED.sub("", REFERENCE.sub("", text)))
        if typed:
            meant = could_mean(ctx.history, typed.group())
            instead = (
                f"it could be {', '.join(meant)}"
                if meant
                else "nothing measured in this run rounds to it; a reference looks like {{E1.accuracy[task=addition]}}"
            )
            raise ToolInputError(
                f"{typed.group()!r} is typed by hand: write the measurement's reference instead, so that its value comes from "
                f"the record: {instead} (recall E1 lists the names of E1)"
            )


def could_mean(history: History, typed: str, most: int = 6) -> list[str]:
    """References to this run's measurements that round to a number as it was typed (0.97, 97%, 97.4 %), newest first."""
    digits = typed.rstrip("% ")
    scale = 0.01 if typed.endswith("%") else 1.0
    half = 0.5 * scale * 10.0 ** -len(digits.partition(".")[2])
    number = scale * float(digits)
    found: list[str] = []
    for low, high in ((number - half, number + half), (-number - half, -number + half)):
        rows = history.select({"value": {">=": low, "<=": high}}, [], "mean", None, False, 1000, True)
        for row in reversed(rows):
            where = ", ".join(f"{c}={row[c]}" for c in COORDINATES if row[c] is not None)
            found.append("{{" + f"{row['experiment']}.{row['name']}" + (f"[{where}]" if where else "") + "}}")
    return found[:most]


def measured_already(ctx: Context, metric: str) -> str | None:
    """The experiment of this run that has measured something the metric describes, if any."""
    name, wanted = parse_metric(metric)
    where: dict[str, dict[str, str]] = {"name": {"=": name}, **{k: {"=": v} for k, v in wanted.items()}}
    rows = ctx.history.select(where, [], "mean", None, False, 1, True)
    return str(rows[0]["experiment"]) if rows else None
