"""What the researcher remembers: frozen records, one class each, free of torch and of the database.

Every number that reaches a report is a `Measurement`. Every assertion is a `Finding` that was settled by one. Identity is content: the id of an experiment is a tagged hash of the canonical JSON of what was asked.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from experiments_db.findings import Claim, Conclusion, Finding, Question


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


class Control(Record):
    """The same quantity where no effect is expected (a random block, a random direction, shuffled labels ...)."""

    kind: str
    value: Finite
    low: Finite | None = None
    high: Finite | None = None
    n: int


class Measurement(Record):
    """One number with its unit, the number of independent examples behind it, a 95% interval and its control.

    `name` is the quantity (`accuracy`, `nll`, `nll.delta`); the coordinates say where it was taken. Name and
    coordinates together are unique within one result.
    """

    name: str
    value: Finite
    unit: str
    n: int = Field(ge=0)
    low: Finite | None = None
    high: Finite | None = None
    control: Control | None = None
    task: str | None = None
    split: str | None = None
    program: str | None = None
    site: str | None = None
    layer: int | None = None
    head: int | None = None
    position: str | None = None
    token: str | None = None
    variant: str | None = None

    @property
    def coordinates(self) -> dict[str, str | int]:
        """The coordinates that are set, in a fixed order."""
        return {k: v for k in COORDINATES if (v := getattr(self, k)) is not None}

    @property
    def key(self) -> str:
        """`name[coordinate=value, ...]`: how a report refers to this number inside its experiment."""
        inside = ", ".join(f"{k}={v}" for k, v in self.coordinates.items())
        return f"{self.name}[{inside}]" if inside else self.name

    def fits(self, metric: str) -> bool:
        """Whether this is a measurement that `name[coordinate=value, ...]` describes; left-out coordinates are free.

        ValueError says what is wrong with a metric that describes nothing.
        """
        name, wanted = parse_metric(metric)
        return self.name == name and all(str(self.coordinates.get(k)) == v for k, v in wanted.items())


def parse_metric(text: str) -> tuple[str, dict[str, str]]:
    """Name and coordinates of `name[coordinate=value, ...]`; ValueError says what would be valid."""
    name, bracket, rest = text.strip().partition("[")
    if not name or (bracket and not rest.endswith("]")):
        raise ValueError(f"{text!r} is no metric: write name[coordinate=value, ...], as recall prints them")
    wanted: dict[str, str] = {}
    for part in filter(None, rest.removesuffix("]").split(", ")):
        key, equals, value = part.partition("=")
        if key not in COORDINATES or not equals:
            raise ValueError(f"{part!r} in {text!r}: coordinates are {', '.join(COORDINATES)}, written name=value")
        wanted[key] = value
    return name, wanted


COORDINATES = ("task", "split", "program", "site", "layer", "head", "position", "token", "variant")


class Axis(Record):
    """One axis of an array: its name and a label for each index."""

    name: str
    labels: tuple[str, ...]


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

    `cpu` names the processor and the vector instructions that torch uses on it: they decide the last bits of a sum. Empty
    in records made before it was kept.
    """

    device: str
    threads: int
    versions: dict[str, str]
    platform: str
    cpu: str = ""


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
