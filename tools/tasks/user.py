"""Tasks that are not part of the program: a user's JSONL file, or examples that a planner wrote down."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tools.tasks.task import SPLITS, Example, Split, Task, TaskError, unit_hash


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
    metadata: dict[str, int | float | str | bool] = Field(default={}, description="labels, for probes and tables")


FIELDS = ", ".join(UserExample.model_fields)


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
    check_splits(records, origin)
    return records


def check_splits(records: Sequence[dict[str, Any]], origin: str) -> None:
    """Both splits need two examples, and no prompt may stand twice: what is confirmed must be unseen."""
    prompts = [r["prompt"] for r in records]
    twice = next((p for p in prompts if prompts.count(p) > 1), None)
    if twice is not None:
        raise TaskError(f"{origin}: the prompt {twice!r} stands there twice")
    for split in SPLITS:
        n = sum(r["split"] == split for r in records)
        if n < 2:
            raise TaskError(
                f"{origin}: {n} of {len(records)} examples fall into the {split} split, at least 2 must: "
                'add examples, or set "split" to explore or confirm on each line'
            )


def from_records(name: str, description: str, records: Sequence[dict[str, Any]]) -> Task:
    """A task from checked examples."""

    def draw(split: Split, rng: random.Random) -> Iterator[Example]:
        mine = [r for r in records if r["split"] == split]
        rng.shuffle(mine)
        for r in mine:
            yield Example(r["prompt"], r["answer"], r["foil"], r["twin"], tuple(r["candidates"]), dict(r["metadata"]))

    return Task(name, description, draw, source="user")


def _checked(data: Any) -> dict[str, Any]:
    example = UserExample.model_validate(data)
    split = example.split or ("explore" if unit_hash("user", example.prompt) < 0.5 else "confirm")
    return {**example.model_dump(), "split": split}
