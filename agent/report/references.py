"""References to measurements in texts: `{{E3.accuracy[task=addition, skip 2]}}` -> the one measurement that is meant."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from experiments_db.places import PlaceError, split_coordinates, split_list
from experiments_db.records import COORDINATES, DERIVED, Measurement, canonical_coordinates

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
    where = found["where"] or ""
    exact = f"{found['name']}[{where}]"
    fitting = [m for m in candidates if _begins(m, where) and m.key == exact]
    if not fitting:
        wanted, bare = _wanted(text, where)
        fitting = [m for m in candidates if m.agrees(wanted) and bare <= set(m.coordinates.values())]
    if len(fitting) != 1:
        could = ", ".join(m.key for m in (fitting or candidates)[:6])
        what = "could be" if fitting else "fits nothing; there are"
        raise UnresolvedReference(f"{{{{{text}}}}} {what} {could}")
    return Reference(found["handle"], fitting[0], found["part"])


def _begins(m: Measurement, where: str) -> bool:
    """Whether a key may be this one, from its first coordinate: much cheaper than making the key."""
    name, _, rest = where.partition("=")
    return name in COORDINATES and getattr(m, name) is not None and rest.startswith(m.coordinates[name])


def _wanted(text: str, where: str) -> tuple[dict[str, str], set[str]]:
    """The coordinates of a reference by name, and the values that stand there without one."""
    try:
        named, bare = dict[str, str](), set[str]()
        for item in split_list(where) if where.strip() else ():
            if item.partition("=")[0].strip() in (*COORDINATES, *DERIVED):
                named |= split_coordinates(item)
            else:
                bare.add(item)
        return canonical_coordinates(named), bare
    except PlaceError as error:
        raise UnresolvedReference(f"{{{{{text}}}}} is no reference: {error}") from None


def find(text: str) -> list[str]:
    """The insides of all references in a text."""
    return [inside.strip() for inside in PATTERN.findall(text)]


def substitute(text: str, replace: Callable[[str], str]) -> str:
    """The text with every reference replaced."""
    return PATTERN.sub(lambda m: replace(m[1].strip()), text)
