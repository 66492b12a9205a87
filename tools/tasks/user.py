"""Tasks that are not part of the program: a user's JSONL file, or examples that a planner wrote down."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from experiments_db.places import plain_message
from experiments_db.reading import read_json
from experiments_db.records import canonical_json
from tools.tasks.example import Counterfactual, Example, Given, Signal, TaskError
from tools.tasks.signals import KINDS, signal, taken_up
from tools.tasks.spans import signal_span_problem, span_problem
from tools.tasks.task import SPLITS, Split, Task, unit_hash

Span = tuple[int, int] | tuple[int, int, int, int] | str
INPUTS = ("prompt", "audio", "image", "source", "masked")


class UserCounterfactual(BaseModel):
    """What would be right if labels had other values."""

    model_config = ConfigDict(extra="forbid")

    labels: dict[str, int | float | str | bool] = Field(
        min_length=1, description="those labels with their other values"
    )
    answers: list[str] = Field(min_length=1, description="every answer that would be right then")


class UserExample(BaseModel):
    """One line of a task file."""

    model_config = ConfigDict(extra="forbid")

    prompt: str | None = Field(default=None, min_length=1, description="the text the model is given")
    audio: str | None = Field(default=None, min_length=1, description="or a recording: a WAV file's path")
    image: str | None = Field(default=None, min_length=1, description="or an image: a PNG or JPEG file's path")
    source: str | None = Field(default=None, min_length=1, description="or a text to be translated")
    masked: str | None = Field(default=None, min_length=1, description="or a text with mask tokens")
    into: str | None = Field(
        default=None,
        min_length=1,
        description="the token of the language that a source is translated into, or that is spoken",
    )
    answer: str = Field(
        validation_alias=AliasChoices("answer", "target"),
        description="how it should go on; with its leading space where there is one",
    )
    foil: str | None = Field(default=None, min_length=1, description="a wrong answer of the same kind")
    twin: str | None = Field(
        default=None, min_length=1, description="a corrupted input of the same kind, whose right answer is the foil"
    )
    twin_into: str | None = Field(default=None, min_length=1, description="the twin's token, where it is another one")
    candidates: list[str] = Field(
        default=[], description="answers somebody who knows only the format would guess among"
    )
    split: Literal["explore", "confirm"] | None = Field(
        default=None, description="else decided by the prompt's content"
    )
    metadata: dict[str, int | float | str | bool] = Field(default={}, description="what else is known, for tables")
    group: str | None = Field(
        default=None, min_length=1, description="the independent problem: wordings of one problem share it, and a split"
    )
    labels: dict[str, int | float | str | bool] = Field(
        default={}, description="variables behind the text, to probe for and to divide the examples by"
    )
    spans: dict[str, Span] = Field(
        default={}, description="roles of stretches of the prompt: [start, end] in characters, or the words themselves"
    )
    twin_spans: dict[str, Span] = Field(
        default={}, description="the same for the twin, where a role is not at the same tokens there"
    )
    span_labels: dict[str, dict[str, int | float | str | bool]] = Field(
        default={}, description="what is known of each span: its relation, its sense, its head (the role it depends on)"
    )
    accepted: list[str] = Field(default=[], description="all right answers, where there are more than one")
    counterfactuals: list[UserCounterfactual] = Field(
        default=[], description="labels with other values, and the answers that would be right then"
    )
    class_: str | int | None = Field(default=None, alias="class", description="a label of that name: FILE:class=a")


FIELDS = ", ".join(f.alias or name for name, f in UserExample.model_fields.items())
NEEDED = f"an input ({', '.join(INPUTS)}) and answer"
LATER = ("span_labels", "accepted", "counterfactuals")  # in a record only where they are given
NEW = {*INPUTS[1:], "into", "twin_into"}  # not in a record of text, which is kept as it always was


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The examples of a task file, checked; TaskError names file, line and what would be valid."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"task file {path} cannot be read as UTF-8 text: {error}") from None
    records: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):  # other signs that end lines may stand in a text
        if not line.strip():
            continue
        try:
            records.append(_checked(read_json(line), path.absolute().parent))
        except json.JSONDecodeError as error:
            raise TaskError(f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})") from None
        except ValidationError as error:
            e = error.errors()[0]
            where = ".".join(map(str, e["loc"])) or "the line"
            raise TaskError(
                f"{path}, line {number}: {where}: {plain_message(e['msg'])}. Fields are {FIELDS}; {NEEDED} must be given"
            ) from None
        except (TaskError, ValueError) as error:
            raise TaskError(f"{path}, line {number}: {error}") from None
    check_splits(records, str(path))
    return records


def to_records(examples: Sequence[Any], origin: str) -> list[dict[str, Any]]:
    """Examples given as plain data, checked like a file's."""
    records: list[dict[str, Any]] = []
    for number, example in enumerate(examples, start=1):
        try:
            records.append(_checked(example, Path()))
        except ValidationError as error:
            e = error.errors()[0]
            raise TaskError(
                f"{origin}, example {number}: {'.'.join(map(str, e['loc']))}: {plain_message(e['msg'])}"
            ) from None
        except TaskError as error:
            raise TaskError(f"{origin}, example {number}: {error}") from None
    check_splits(records, origin)
    return records


def record_of(e: Example, split: Split) -> dict[str, Any]:
    """An example as `from_records` reads it. TaskError for recordings and images, which records name by their files."""
    first = next(iter(e.inputs))
    kind = {"text": "prompt"}.get(first, first)
    if kind not in ("prompt", "source", "masked"):
        raise TaskError(f"examples with {first} are kept as files: name a class of them in place of a new task (among)")
    record = {**e.as_json(), "split": split}
    if kind != "prompt":
        twin = None if e.twin_inputs is None else dict(e.twin_inputs)
        record |= {"prompt": e.inputs[first], "kind": kind, "inputs": dict(e.inputs), "twin_inputs": twin}
        record["twin"] = None if twin is None else twin[first]
    return record


def check_splits(records: Sequence[dict[str, Any]], origin: str) -> None:
    """Both splits need two examples, no prompt may stand twice, no group on both sides: what is confirmed is unseen."""
    seen = set[str]()
    for r in records:
        content = json.dumps(
            [v["sha"] if isinstance(v, dict) else v for v in r.get("inputs", {"": r["prompt"]}).values()]
        )
        if content in seen:
            raise TaskError(f"{origin}: the {r.get('kind', 'prompt')} {r['prompt']!r} stands there twice")
        seen.add(content)
    sides: dict[str, set[str]] = {}
    for r in records:
        if r.get("group"):
            sides.setdefault(r["group"], set()).add(r["split"])
    both = next((g for g, s in sides.items() if len(s) > 1), None)
    if both is not None:
        raise TaskError(f"{origin}: group {both!r} stands in both splits; all examples of a group belong to one")
    for split in SPLITS:
        n = sum(r["split"] == split for r in records)
        if n < 2:
            raise TaskError(
                f"{origin}: {n} of {len(records)} examples fall into the {split} split, at least 2 must: "
                'add examples, or set "split" to explore or confirm on each line'
            )


def from_records(name: str, description: str, records: Sequence[dict[str, Any]]) -> Task:
    """A task from checked examples; fields that an older record does not have are empty.

    Files that examples name are read here; TaskError where one is gone or has changed.
    """
    given = {id(r): (_given(r, "inputs", r["prompt"]), _given(r, "twin_inputs", r["twin"])) for r in records}

    def draw(split: Split, rng: random.Random) -> Iterator[Example]:
        mine = [r for r in records if r["split"] == split]
        rng.shuffle(mine)
        for r in mine:
            inputs, twin_inputs = given[id(r)]
            assert inputs is not None
            yield Example(
                inputs,
                r["answer"],
                r["foil"],
                twin_inputs,
                tuple(r["candidates"]),
                dict(r["metadata"]),
                group=r.get("group") or "",
                labels=dict(r.get("labels", {})),
                spans={role: tuple(s) for role, s in r.get("spans", {}).items()},
                twin_spans={role: tuple(s) for role, s in r.get("twin_spans", {}).items()},
                choices=tuple(r.get("choices", ())),
                span_labels={role: dict(known) for role, known in r.get("span_labels", {}).items()},
                accepted=tuple(r.get("accepted", ())),
                counterfactuals=tuple(
                    Counterfactual(dict(c["labels"]), tuple(c["answers"])) for c in r.get("counterfactuals", ())
                ),
            )

    return Task(name, description, draw, source="user")


def _given(record: Mapping[str, Any], name: str, text: str | None) -> Given | None:
    """A record's inputs; those of a record without any are its text."""
    if name not in record:
        return None if text is None else {"text": text}
    stored: Mapping[str, Any] | None = record[name]
    return None if stored is None else {k: signal(k, v) if k in KINDS else v for k, v in stored.items()}


def _checked(data: Any, folder: Path) -> dict[str, Any]:
    """A record as it is kept: its split decided, spans in characters, the class among the labels, files by their content."""
    example = UserExample.model_validate(data)
    kind = _kind(example)
    absent = {name for name in LATER if not getattr(example, name)}
    kept = example.model_dump(exclude={"class_", *NEW, *absent})
    if example.class_ is not None:
        if example.labels.get("class", example.class_) != example.class_:
            raise TaskError("class is given twice, and not the same: once as a field, once among the labels")
        kept["labels"]["class"] = example.class_
    if example.twin_spans and example.twin is None:
        raise TaskError("twin_spans: there is no twin")
    if example.accepted and example.answer not in example.accepted:
        raise TaskError(
            f"accepted: the answer {example.answer!r} is not among {', '.join(map(repr, example.accepted))}"
        )
    unknown = next((n for c in example.counterfactuals for n in c.labels if n not in kept["labels"]), None)
    if unknown is not None:
        raise TaskError(
            f"counterfactuals: there is no label {unknown!r}; there are {', '.join(kept['labels']) or 'none'}"
        )
    nowhere = next((role for role in example.span_labels if role not in example.spans), None)
    if nowhere is not None:
        raise TaskError(f"span_labels: there is no span {nowhere!r}; there are {', '.join(example.spans) or 'none'}")
    text: str = getattr(example, kind)
    first, second = text, example.twin
    if kind != "prompt":
        into, other = example.into, example.twin_into or example.into
        inputs = _stored(kind, text, into, folder)
        twin_inputs = None if second is None else _stored(kind, second, other, folder)
        kept |= {"prompt": text, "kind": kind, "inputs": inputs, "twin_inputs": twin_inputs}
    signals = [None, None]
    if kind in KINDS:
        signals = [None if x is None else signal(kind, x[kind]) for x in (kept["inputs"], kept["twin_inputs"])]
    content = kept["inputs"][kind]["sha"] if kind in KINDS else text
    try:
        canonical_json(kept).encode()
    except UnicodeEncodeError:
        raise TaskError("half of a character (a lone surrogate) stands in it: write the character as it is") from None
    except ValueError:
        raise TaskError("a number in it is none (NaN or infinite)") from None
    return {
        **kept,
        "split": example.split or ("explore" if unit_hash("user", example.group or content) < 0.5 else "confirm"),
        "spans": _located(first, example.spans, signals[0]),
        "twin_spans": _located(second or "", example.twin_spans, signals[1]),
    }


def _kind(example: UserExample) -> Any:
    """Which input it has; TaskError unless it is one, with what belongs to it."""
    found = [name for name in INPUTS if getattr(example, name) is not None]
    if len(found) != 1:
        raise TaskError(f"give one of {', '.join(INPUTS)}, not {' and '.join(found) or 'none'}")
    if not example.answer and found != ["audio"]:
        raise TaskError("answer: it is empty, as only a recording in which nobody speaks can have it")
    if found[0] not in ("source", "audio") and (example.into or example.twin_into):
        raise TaskError(f"into: only a source or a recording is written in some language, not {found[0]}")
    if example.twin_into and example.twin is None:
        raise TaskError(
            "twin_into: there is no twin; where only the language differs, give the source again as its twin"
        )
    return found[0]


def _stored(kind: Any, text: str, into: str | None, folder: Path) -> dict[str, Any]:
    """Inputs as plain data: texts themselves, of files where they lie and what is in them."""
    language = {} if into is None else {"into": into}
    return {kind: taken_up(kind, text, folder) if kind in KINDS else text, **language}


def _located(text: str, spans: Mapping[str, Span], inside: Signal | None = None) -> dict[str, list[int]]:
    """Spans in characters, or in the signal's own units; words must stand in the text exactly once."""
    found: dict[str, tuple[int, ...]] = {}
    for role, span in spans.items():
        if isinstance(span, str):
            if inside is not None:
                raise TaskError(f"span {role!r}: {span!r} are words; write {_unit(inside)}")
            times = text.count(span) if span else 0
            if times != 1:
                raise TaskError(
                    f"span {role!r}: {span!r} stands {times} times in {text!r}; give [start, end] in characters"
                )
            span = (text.index(span), text.index(span) + len(span))
        found[role] = span
    problem = span_problem(text, found) if inside is None else signal_span_problem(found) or _outside(inside, found)
    if problem:
        raise TaskError(problem)
    return {role: list(span) for role, span in found.items()}


def _unit(inside: Signal) -> str:
    return "[start, end] in milliseconds" if inside.data.ndim == 1 else "[left, top, right, bottom] in pixels"


def _outside(inside: Signal, spans: Mapping[str, tuple[int, ...]]) -> str | None:
    """What is wrong with spans of a recording or an image of this size, or None."""
    recording = inside.data.ndim == 1
    ends = [1000 * len(inside.data) / (inside.rate or 1)] if recording else [inside.data.shape[1], inside.data.shape[0]]
    for role, span in spans.items():
        if len(span) != 2 * len(ends):
            return f"span {role!r} is {list(span)}: write {_unit(inside)}"
        if any(a > b for a, b in zip(span[len(ends) :], ends, strict=True)):
            size = (
                f"the recording has {ends[0]:.0f} milliseconds"
                if recording
                else f"the image has {ends[0]} x {ends[1]} pixels"
            )
            return f"span {role!r} is {list(span)}, but {size}"
    return None
