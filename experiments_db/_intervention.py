"""What is done at a place: the operations, what each is given, and their one text."""

import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, model_validator

from experiments_db._place_text import PlaceError, natural, quoted, split_list, unquoted
from experiments_db._place_types import Feature, Text

LARGEST = 1e6
Operation = Literal["zero", "mean", "resample", "set", "add", "scale", "project_out", "program"]
# What each operation is given: exactly one of these sets of arguments.
OPERATIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "zero": ((),),
    "mean": ((), ("source",)),
    "resample": ((), ("source",), ("source", "dose")),
    "set": (("source",), ("dose",), ("direction", "dose")),
    "add": (("direction", "dose"), ("source", "dose")),
    "scale": (("dose",), ("direction", "dose")),
    "project_out": (("direction",), ("source",)),
    "program": (("program",),),
}


def _dose(value: float) -> float:
    if not abs(value) <= LARGEST:
        raise PlaceError(f"a dose of {value} is out of range: use -{LARGEST:.0f} to {LARGEST:.0f}")
    return value + 0.0  # one zero, not two


class Intervention(Text, frozen=True):
    """What is done at a place: `zero`, `resample(donor)`, `add(dir:NAME~sha, 4)`, `program(skip 2)`.

    source: what the new activation is taken from (twin, donor, random, a task or corpus). dose: a finite number, at
    most a million either way, in units of the activation (a factor, for scale; for resample the weight of the new activation
    beside the old one). direction: `dir:NAME~sha` or
    `sae:NAME/17`. program: a layer program; it changes the model, so it has no place.
    """

    op: Operation
    source: Annotated[str, AfterValidator(str.strip)] = ""
    dose: Annotated[float, AfterValidator(_dose)] | None = None
    direction: Feature = ""
    program: Annotated[str, AfterValidator(lambda text: " ".join(text.split()))] = ""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        given = {k for k in ("source", "dose", "direction", "program") if getattr(self, k) not in ("", None)}
        if given not in map(set, OPERATIONS[self.op]):
            forms = " or ".join(_call(self.op, names) for names in OPERATIONS[self.op])
            raise PlaceError(f"{self.op} is written {forms}, not {_call(self.op, sorted(given))}")
        if self.op == "resample" and self.dose is not None and not 0 <= self.dose <= 1:
            raise PlaceError(f"the weight of what is resampled is from 0 to 1, not {self.dose}")
        return self

    @classmethod
    def _fields(cls, text: str) -> dict[str, Any]:
        found = re.fullmatch(r"([a-z_]+)\s*(?:\((.*)\))?", text.strip(), re.DOTALL)
        if not found or found[1] not in OPERATIONS:
            raise PlaceError(
                f"{text!r} is no intervention: write one of {', '.join(OPERATIONS)}, as in resample(donor)"
            )
        fields: dict[str, Any] = {"op": found[1]}
        if not (found[2] or "").strip():
            return fields
        if found[1] == "program":
            return {**fields, "program": found[2]}
        # A direction has no comma in it, a source may: so add(dir:x~ab12,4) is read without the blank as well.
        for item in split_list(re.sub(r"^(\s*(?:dir|sae):[^,]*),", r"\1, ", found[2])):
            kind = "dose" if _is_number(item) else "direction" if item.startswith(("dir:", "sae:")) else "source"
            if kind in fields or not item:
                raise PlaceError(
                    f"{text!r}: {found[1]} takes one {kind}, in {_call(found[1], OPERATIONS[found[1]][-1])}"
                )
            fields[kind] = float(item) if kind == "dose" else unquoted(item)
        return fields

    def __str__(self) -> str:
        # What would be read as a dose or a direction is quoted as well.
        is_plain = not _is_number(self.source) and not self.source.startswith(("dir:", "sae:"))
        source = quoted(self.source) if is_plain else json.dumps(self.source, ensure_ascii=False)
        dose = "" if self.dose is None else repr(self.dose).removesuffix(".0")
        inside = ", ".join(filter(None, (source if self.source else "", self.direction, dose, self.program)))
        return f"{self.op}({inside})" if inside else self.op

    def rank(self) -> tuple[Any, ...]:
        """By operation, then by what it is given."""
        dose = (self.dose is not None, self.dose or 0.0)
        names = tuple(natural(text) for text in (self.source, self.direction, self.program))
        return get_args(Operation).index(self.op), *names, dose


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _call(op: str, names: Iterable[str]) -> str:
    return f"{op}({', '.join(names)})" if names else op
