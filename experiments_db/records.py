"""What the researcher remembers: frozen records, one class each, free of torch and of the database.

Every number that reaches a report is a `Measurement`. Every assertion is a `Finding` that was settled by one.
Identity is content: the id of an experiment is a tagged hash of the canonical JSON of what was asked.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from experiments_db.findings import Claim, Conclusion, Finding, Question
from experiments_db.places import (
    Component,
    ComponentSet,
    Intervention,
    Path,
    PlaceError,
    join_coordinates,
    split_coordinates,
)


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: keys sorted, no spaces, NaN and infinities refused (ValueError)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def tagged_hash(tag: str, value: Any) -> str:
    """SHA-256 of `tag` and the canonical JSON of `value`, as 64 hex digits; the tag keeps kinds of record apart."""
    return hashlib.sha256(f"locus/{tag}\0{canonical_json(value)}".encode()).hexdigest()


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"a measurement must be finite, not {value}")
    return value + 0.0  # SQLite knows no negative zero, and what is hashed must come back as it was


Finite = Annotated[float, AfterValidator(_finite)]
Status = Literal["ok", "refused", "failed"]


class Record(BaseModel):
    """Base of all records: immutable, and unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Place = Component | ComponentSet | Path


@lru_cache(maxsize=65536)
def parse_place(text: str) -> Place:
    """The component, set or path that a text describes; a set of one is its component. PlaceError says what is valid."""
    if "->" in text:
        return Path.parse(text)
    found = ComponentSet.parse(text)
    return found.one if len(found) == 1 else found


@lru_cache(maxsize=65536)
def _canonical_place(text: str) -> str:
    return str(parse_place(text))


@lru_cache(maxsize=4096)
def parse_intervention(text: str) -> Intervention:
    """What a text says is done at a place. PlaceError says what is valid."""
    return Intervention.parse(text)


@lru_cache(maxsize=4096)
def _canonical_intervention(text: str) -> str:
    return str(parse_intervention(text))


class Control(Record):
    """The same quantity where no effect is expected (a random vector, other components, shuffled labels ...).

    difference: own minus control on the same examples, with its own 95% interval; None where the two are not paired.
    """

    kind: str
    value: Finite
    low: Finite | None = None
    high: Finite | None = None
    n: int
    difference: Finite | None = None
    difference_low: Finite | None = None
    difference_high: Finite | None = None


def _as_many_as_examples(data: dict[str, Any]) -> int:
    return data.get("n", 0)


class Measurement(Record):
    """One number with its unit, the number of examples and of independent groups behind it, a 95% interval and its control.

    `name` is the quantity (`accuracy`, `nll`, `nll.delta`); the coordinates say where it was taken. Name and coordinates are
    unique within a result. groups: independent problems among the examples; as many as examples where nothing else is said.

    task, split: the examples; among: the class of them that it is about, `key=value`. program: the layers that ran.
    component: a component, a set or a path, and intervention: what was done there, both as `places` writes them. label:
    the variable that is read or pushed. dose: how strongly, in steps of the direction. token: the token that it is about.
    variant: what else tells two numbers of one result apart.
    """

    name: str
    value: Finite
    unit: str
    n: int = Field(ge=0)
    groups: int = Field(default_factory=_as_many_as_examples, ge=0)
    low: Finite | None = None
    high: Finite | None = None
    control: Control | None = None
    task: str | None = None
    split: str | None = None
    among: str | None = None
    program: str | None = None
    component: Annotated[str, AfterValidator(_canonical_place)] | None = None
    intervention: Annotated[str, AfterValidator(_canonical_intervention)] | None = None
    label: str | None = None
    dose: Finite | None = None
    token: str | None = None
    variant: str | None = None

    @model_validator(mode="after")
    def _no_more_groups_than_examples(self) -> Self:
        if self.groups > self.n:
            raise ValueError(f"{self.n} examples cannot have {self.groups} groups")
        return self

    @property
    def place(self) -> Place | None:
        """The component, set or path that it is about."""
        return None if self.component is None else parse_place(self.component)

    @property
    def done(self) -> Intervention | None:
        """What was done there."""
        return None if self.intervention is None else parse_intervention(self.intervention)

    @property
    def coordinates(self) -> dict[str, str]:
        """The coordinates that are set, as text, in a fixed order."""
        return {k: dose_text(v) if k == "dose" else v for k in COORDINATES if (v := getattr(self, k)) is not None}

    @property
    def derived(self) -> Mapping[str, str | int | None]:
        """What a query can name of a single component: stack, block, part, its unit where it is one, anchor."""
        return _derived(self.component)

    @property
    def key(self) -> str:
        """`name[coordinate=value, ...]`: how a report refers to this number inside its experiment."""
        inside = join_coordinates(self.coordinates)
        return f"{self.name}[{inside}]" if inside else self.name

    def fits(self, metric: str) -> bool:
        """Whether this is a measurement that `name[coordinate=value, ...]` describes; left-out coordinates are free.

        ValueError says what is wrong with a metric that describes nothing.
        """
        name, wanted = parse_metric(metric)
        return self.name == name and self.agrees(wanted)

    def agrees(self, wanted: Mapping[str, str]) -> bool:
        """Whether all the coordinates, derived ones among them, have these values; those that are not named are free."""
        own = {**self.coordinates, **{k: str(v) for k, v in self.derived.items() if v is not None}}
        return all(own.get(k) == v for k, v in wanted.items())


def dose_text(dose: float) -> str:
    """A dose as keys write it."""
    return repr(dose).removesuffix(".0")


@lru_cache(maxsize=65536)
def _derived(component: str | None) -> Mapping[str, str | int | None]:
    place = None if component is None else parse_place(component)
    if not isinstance(place, Component):
        return dict.fromkeys(DERIVED)
    unit = place.units[0] if len(place.units) == 1 else None
    return {"stack": place.stack, "block": place.block, "part": place.part, "unit_index": unit,
            "anchor": place.anchor or None}  # fmt: skip


def parse_metric(text: str) -> tuple[str, dict[str, str]]:
    """Name and coordinates of `name[coordinate=value, ...]`; ValueError says what would be valid."""
    name, bracket, rest = text.strip().partition("[")
    if not name or (bracket and not rest.endswith("]")):
        raise ValueError(f"{text!r} is no metric: write name[coordinate=value, ...], as recall prints them")
    try:
        return name, canonical_coordinates(split_coordinates(rest.removesuffix("]")))
    except PlaceError as error:
        raise ValueError(f"{text!r} is no metric: {error}; coordinates are {', '.join(COORDINATES)}") from None


def canonical_coordinates(given: Mapping[str, str]) -> dict[str, str]:
    """Coordinates in the form in which keys have them; PlaceError for an unknown name, or a place that cannot be."""
    wanted: dict[str, str] = {}
    for key, value in given.items():
        match key:
            case "component":
                wanted[key] = _canonical_place(value)
            case "intervention":
                wanted[key] = _canonical_intervention(value)
            case _ if key in COORDINATES or key in DERIVED:
                wanted[key] = value
            case _:
                raise PlaceError(f"{key!r}: coordinates are {', '.join((*COORDINATES, *DERIVED))}")
    return wanted


COORDINATES = (
    "task", "split", "among", "program", "component", "intervention", "label", "dose", "token", "variant",
)  # fmt: skip
DERIVED = ("stack", "block", "part", "unit_index", "anchor")  # of a component that is a single one


class Axis(Record):
    """One axis of an array: its name and a label for each index."""

    name: str
    labels: tuple[str, ...]


ANSWERS, SAID = "answers:", "said:"  # names of the arrays that keep what was said to each example begin so
ANSWERS_KEPT = 8192  # of one sample: with more conditions those that break the most examples


class Array(Record):
    """A named array: raw little-endian C-order bytes, so that nothing has to be unpickled."""

    name: str
    dtype: Literal["float32", "float64", "int64", "int32", "bool"]
    shape: tuple[int, ...]
    data: bytes = Field(repr=False)
    axes: tuple[Axis, ...] = ()
    unit: str = ""

    @property
    def sha(self) -> str:
        """Content address: hash of dtype, shape and bytes."""
        header = canonical_json({"dtype": self.dtype, "shape": list(self.shape)})
        return hashlib.sha256(header.encode() + b"\0" + self.data).hexdigest()


class Experiment(Record):
    """What was asked: everything that determines the answer, and nothing else."""

    tool: str
    args: dict[str, Any]
    subject: str = Field(description="fingerprint: hash of configuration, weights and tokenizer")
    tasks: dict[str, str] = Field(default_factory=dict, description="data hash of each task the experiment reads")
    seed: int
    dtype: str
    code: str = Field(description="version of the code that computes")

    @property
    def id(self) -> str:
        """Content address of the question."""
        return tagged_hash("experiment", self.model_dump())


class Provenance(Record):
    """Where and with what a result was computed; compared at replay, not part of an experiment's identity.

    `cpu` names the processor and the vector instructions that torch uses on it: they decide the last bits of a sum; `engine` is
    the version of the engine, with which replay computes again. Empty and 1 in records made before they were kept.
    """

    device: str
    threads: int
    versions: dict[str, str]
    platform: str
    cpu: str = ""
    engine: int = Field(default=1, ge=1)


class Result(Record):
    """What came out of one execution of an experiment."""

    status: Status
    text: str
    measurements: tuple[Measurement, ...] = ()
    arrays: tuple[Array, ...] = ()
    wall_seconds: float = 0.0
    peak_memory_bytes: int = 0
    provenance: Provenance | None = None

    @model_validator(mode="after")
    def _keys_are_unique(self) -> Self:
        keys = [m.key for m in self.measurements]
        if len(keys) != len(set(keys)):
            twice = sorted({k for k in keys if keys.count(k) > 1})
            raise ValueError(f"measurements must have distinct keys; twice: {', '.join(twice[:5])}")
        return self


def kept_answers(result: Result) -> list[Array]:
    """The arrays of a result that keep what was said to each example; none in records made before they were kept."""
    return [a for a in result.arrays if a.name.startswith((ANSWERS, SAID))]


# In a text on record, and what says the same today.
REWORDED = {"\nall of it holds: p = ": "\nwhole statement, by its largest p value (intersection-union test): p = "}


def as_compared(old: Result, new: Result, *, exact: bool) -> tuple[Result, Result]:
    """Both without the answers to each example, unless each has to be the same to the last bit and the old one has them.

    What a text on record said in other words is put into those of today.
    """
    for before, now in REWORDED.items():
        if now in new.text:
            old = old.model_copy(update={"text": old.text.replace(before, now)})
    if exact and kept_answers(old):
        return old, new
    one, other = (
        r.model_copy(update={"arrays": tuple(a for a in r.arrays if not a.name.startswith((ANSWERS, SAID)))})
        for r in (old, new)
    )
    return one, other


class Note(Record):
    """A remark of the researcher, with the experiments it is about (handles such as E3)."""

    text: str
    experiments: tuple[str, ...] = ()


class Hypothesis(Record):
    """A statement under test; a later record with the same handle replaces an earlier one, which is kept.

    Its author opens and abandons it; what its findings came to makes it supported or refuted.
    """

    handle: str = Field(description="H1, H2, ...")
    statement: str
    status: Literal["open", "supported", "refuted", "abandoned"] = "open"
    evidence_for: tuple[str, ...] = ()
    evidence_against: tuple[str, ...] = ()


class TaskData(Record):
    """A task that is not part of the program: the user's own file or one that a planner made, kept with its examples."""

    name: str
    description: str
    examples: tuple[dict[str, Any], ...]
    origin: str = Field(description="'file' or 'planner'")

    @property
    def sha(self) -> str:
        """Content address of the examples."""
        return tagged_hash("task", [dict(e) for e in self.examples])


Entry = Note | Hypothesis | Finding | Claim | Question | Conclusion | TaskData


class Outcome(Record):
    """What a tool returns: a `Result` before anybody measured time and memory, and the records it asks to be written."""

    status: Status = "ok"
    text: str
    measurements: tuple[Measurement, ...] = ()
    arrays: tuple[Array, ...] = ()
    entries: tuple[Entry, ...] = ()
    finished: bool = False


class Run(Record):
    """One investigation: its question and everything that was set when it began."""

    name: str
    goal: str
    subject: str
    planner: str
    settings: dict[str, Any] = Field(default_factory=dict)
    status: Literal["running", "finished", "stopped"] = "running"
    reason: str = ""
    created: str = ""


class Event(Record):
    """One line of a run's timeline. `kind`: start, turn, answer, entry, budget, error, end ..."""

    seq: int
    kind: str
    payload: Mapping[str, Any]
    time: str = ""
