"""Tasks that are not part of the program: a user's JSONL file, or examples that a planner wrote down."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tools.tasks.example import Example, TaskError
from tools.tasks.spans import span_problem
from tools.tasks.task import SPLITS, Split, Task, unit_hash

Span = tuple[int, int] | str


class UserExample(BaseModel):
    """One line of a task file."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(min_length=1, description="the text the model is given")
    answer: str = Field(min_length=1, description="how it should go on; with its leading space where there is one")
    foil: str | None = Field(default=None, min_length=1, description="a wrong answer of the same kind")
    twin: str | None = Field(
        default=None, min_length=1, description="a corrupted prompt whose right answer is the foil"
    )
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
    class_: str | int | None = Field(default=None, alias="class", description="a label of that name: FILE:class=a")


FIELDS = ", ".join(f.alias or name for name, f in UserExample.model_fields.items())


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The examples of a task file, checked; TaskError names file, line and what would be valid."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"task file {path} cannot be read as UTF-8 text: {error}") from None
    records: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            records.append(_checked(json.loads(line)))
        except json.JSONDecodeError as error:
            raise TaskError(f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})") from None
        except ValidationError as error:
            e = error.errors()[0]
            where = ".".join(map(str, e["loc"])) or "the line"
            raise TaskError(
                f"{path}, line {number}: {where}: {e['msg']}. Fields are {FIELDS}; prompt and answer must be given"
            ) from None
        except TaskError as error:
            raise TaskError(f"{path}, line {number}: {error}") from None
    check_splits(records, str(path))
    return records


def to_records(examples: Sequence[Any], origin: str) -> list[dict[str, Any]]:
    """Examples given as plain data, checked like a file's."""
    records: list[dict[str, Any]] = []
    for number, example in enumerate(examples, start=1):
        try:
            records.append(_checked(example))
        except ValidationError as error:
            e = error.errors()[0]
            raise TaskError(f"{origin}, example {number}: {'.'.join(map(str, e['loc']))}: {e['msg']}") from None
        except TaskError as error:
            raise TaskError(f"{origin}, example {number}: {error}") from None
    check_splits(records, origin)
    return records


def check_splits(records: Sequence[dict[str, Any]], origin: str) -> None:
    """Both splits need two examples, no prompt may stand twice, no group on both sides: what is confirmed is unseen."""
    prompts = [r["prompt"] for r in records]
    twice = next((p for p in prompts if prompts.count(p) > 1), None)
    if twice is not None:
        raise TaskError(f"{origin}: the prompt {twice!r} stands there twice")
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
    """A task from checked examples; fields that an older record does not have are empty."""

    def draw(split: Split, rng: random.Random) -> Iterator[Example]:
        mine = [r for r in records if r["split"] == split]
        rng.shuffle(mine)
        for r in mine:
            yield Example.of_text(
                r["prompt"],
                r["answer"],
                r["foil"],
                r["twin"],
                tuple(r["candidates"]),
                dict(r["metadata"]),
                group=r.get("group") or "",
                labels=dict(r.get("labels", {})),
                spans={role: (s[0], s[1]) for role, s in r.get("spans", {}).items()},
                twin_spans={role: (s[0], s[1]) for role, s in r.get("twin_spans", {}).items()},
                span_labels={role: dict(known) for role, known in r.get("span_labels", {}).items()},
            )

    return Task(name, description, draw, source="user")


def _checked(data: Any) -> dict[str, Any]:
    """A record as it is kept: its split decided, spans in characters, the class among the labels."""
    example = UserExample.model_validate(data)
    problem = example.group or example.prompt
    kept = example.model_dump(exclude={"class_"} if example.span_labels else {"class_", "span_labels"})
    if example.class_ is not None:
        if example.labels.get("class", example.class_) != example.class_:
            raise TaskError("class is given twice, and not the same: once as a field, once among the labels")
        kept["labels"]["class"] = example.class_
    if example.twin_spans and example.twin is None:
        raise TaskError("twin_spans: there is no twin")
    nowhere = next((role for role in example.span_labels if role not in example.spans), None)
    if nowhere is not None:
        raise TaskError(f"span_labels: there is no span {nowhere!r}; there are {', '.join(example.spans) or 'none'}")
    return {
        **kept,
        "split": example.split or ("explore" if unit_hash("user", problem) < 0.5 else "confirm"),
        "spans": _located(example.prompt, example.spans),
        "twin_spans": _located(example.twin or "", example.twin_spans),
    }


def _located(text: str, spans: Mapping[str, Span]) -> dict[str, list[int]]:
    """Spans in characters; words must stand in the text exactly once."""
    found: dict[str, tuple[int, int]] = {}
    for role, span in spans.items():
        if isinstance(span, str):
            times = text.count(span) if span else 0
            if times != 1:
                raise TaskError(
                    f"span {role!r}: {span!r} stands {times} times in {text!r}; give [start, end] in characters"
                )
            span = (text.index(span), text.index(span) + len(span))
        found[role] = span
    if problem := span_problem(text, found):
        raise TaskError(problem)
    return {role: list(span) for role, span in found.items()}
