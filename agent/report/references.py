"""References to measurements in texts: `{{E3.accuracy[task=addition, skip 2]}}` -> the one measurement that is meant."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from experiments_db.records import COORDINATES, Measurement

PATTERN = re.compile(r"\{\{((?:(?!\{\{|\}\}).)*)\}\}", re.DOTALL)  # linear: hostile text is searched with it
INSIDE = re.compile(
    r"(?P<handle>E\d+)\.(?P<name>[\w.]+?)(?:\.(?P<part>control|n|low|high))?\s*(?:\[(?P<where>.*)\])?", re.DOTALL
)


class UnresolvedReference(ValueError):
    """A reference that names no measurement or several; the message lists what it could mean."""


@dataclass(frozen=True)
class Reference:
    """A resolved reference: the experiment, the measurement, and which part of it is meant (None: the value)."""

    handle: str
    measurement: Measurement
    part: str | None


def resolve(text: str, measurements_of: Callable[[str], Sequence[Measurement]]) -> Reference:
    """The measurement that the inside of `{{...}}` means.

    Coordinates in brackets may be `name=value` or a bare value, in any order; together they must leave exactly one
    measurement of that name. `measurements_of` raises ValueError for an unknown handle.
    """
    found = INSIDE.fullmatch(text)
    if not found:
        raise UnresolvedReference(
            f"{{{{{text}}}}} is no reference: write {{{{E3.accuracy[task=addition, program=skip 2]}}}}"
        )
    candidates = [m for m in measurements_of(found["handle"]) if m.name == found["name"]]
    if not candidates:
        names = sorted({m.name for m in measurements_of(found["handle"])})
        raise UnresolvedReference(
            f"{found['handle']} has no {found['name']!r}; it has {', '.join(names) or 'no measurements'}"
        )
    wanted = [w.strip() for w in (found["where"] or "").split(",") if w.strip()]
    exact = f"{found['name']}[{found['where']}]"
    fitting = [m for m in candidates if _begins(m, found["where"] or "") and m.key == exact]
    fitting = fitting or [m for m in candidates if all(_fits(m, w) for w in wanted)]
    if len(fitting) != 1:
        could = ", ".join(m.key for m in (fitting or candidates)[:6])
        what = "could be" if fitting else "fits nothing; there are"
        raise UnresolvedReference(f"{{{{{text}}}}} {what} {could}")
    return Reference(found["handle"], fitting[0], found["part"])


def _begins(m: Measurement, where: str) -> bool:
    """Whether a key may be this one, from its first coordinate: much cheaper than making the key."""
    name, _, rest = where.partition("=")
    return name in COORDINATES and rest.startswith(str(getattr(m, name)))


def _fits(m: Measurement, wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    name = name.strip()
    if equals and name in COORDINATES and getattr(m, name) is not None:
        return str(getattr(m, name)) == value.strip()
    return wanted in {str(v) for v in m.coordinates.values()}


def find(text: str) -> list[str]:
    """The insides of all references in a text."""
    return [inside.strip() for inside in PATTERN.findall(text)]


def substitute(text: str, replace: Callable[[str], str]) -> str:
    """The text with every reference replaced."""
    return PATTERN.sub(lambda m: replace(m[1].strip()), text)
