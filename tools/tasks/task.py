"""What a task is: examples with one right answer each, split so that what is confirmed has never been explored."""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from experiments_db.records import tagged_hash

Split = Literal["explore", "confirm"]
SPLITS: tuple[Split, ...] = ("explore", "confirm")
Metadata = Mapping[str, int | float | str | bool]


@dataclass(frozen=True)
class Example:
    """One prompt with its answer.

    `foil` is a wrong answer of the same kind. `twin` is a corrupted prompt of the same shape whose right answer is
    `foil`; patching between the two moves exactly what differs. `candidates` are the answers that a guesser who
    understands the format, and nothing else, would choose among.
    """

    prompt: str
    answer: str
    foil: str | None = None
    twin: str | None = None
    candidates: tuple[str, ...] = ()
    metadata: Metadata = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Plain data for hashing and for storage."""
        return {
            "prompt": self.prompt,
            "answer": self.answer,
            "foil": self.foil,
            "twin": self.twin,
            "candidates": list(self.candidates),
            "metadata": dict(self.metadata),
        }


@dataclass(frozen=True)
class Task:
    """A behaviour to study. `draw(split, rng)` yields examples without end (or until there are no more).

    `choices` closes the answer set: accuracy is then the share of examples whose answer scores best among the choices;
    without it the answer must win against the whole vocabulary.
    """

    name: str
    description: str
    draw: Callable[[Split, random.Random], Iterator[Example]]
    choices: tuple[str, ...] = ()
    source: str = "generator"

    def examples(self, split: Split, n: int, seed: int = 0) -> list[Example]:
        """The first `n` distinct examples of a split under a seed; fewer where the task has fewer.

        Gives up after 50 draws in a row that bring nothing new.
        """
        rng = random.Random(f"{self.name}/{split}/{seed}")
        found: dict[str, Example] = {}
        misses = 0
        for example in self.draw(split, rng):
            if example.prompt in found:
                misses += 1
                if misses >= 50:
                    break
                continue
            misses = 0
            found[example.prompt] = example
            if len(found) >= n:
                break
        return list(found.values())

    def sha(self, split: Split, n: int, seed: int = 0) -> str:
        """Content address of exactly the examples that an experiment reads."""
        return tagged_hash("examples", [e.as_json() for e in self.examples(split, n, seed)])


def chance_level(examples: Sequence[Example], choices: Sequence[str] = ()) -> float:
    """Accuracy of the best guesser that knows the format but not the content, computed from the data.

    The largest of: always the most frequent answer; uniform among `choices`; uniform among each example's candidates.
    """
    if not examples:
        raise ValueError("chance level of no examples")
    majority = max(Counter(e.answer for e in examples).values()) / len(examples)
    uniform = 1 / len(choices) if choices else 0.0
    guess = sum(1 / len(e.candidates) if e.candidates else 0.0 for e in examples) / len(examples)
    return max(majority, uniform, guess)


def unit_hash(*parts: object) -> float:
    """A stable hash of `parts` in [0, 1), the same on every machine and in every process."""
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:12], 16) / 16**12


def split_of(*parts: object, explore: float = 0.1, confirm: float = 0.1) -> Literal["train", "explore", "confirm"]:
    """Which side an item falls on, decided by its content alone; `train` is what the demo model is taught."""
    u = unit_hash(*parts)
    return "explore" if u < explore else "confirm" if u < explore + confirm else "train"


class TaskError(ValueError):
    """A task that does not exist or cannot be used; the message says what can."""


class Options(BaseModel):
    """Options of a task family; a family without options uses this class itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Draw = Callable[[Split, random.Random], Iterator[Example]]


@dataclass(frozen=True)
class Family:
    """A kind of task with options. `make(options)` gives the function that draws its examples."""

    name: str
    description: str
    options: type[Options]
    make: Callable[[Any], Draw]
    choices: tuple[str, ...] = ()

    def task(self, given: Mapping[str, str]) -> Task:
        """The task with these options; TaskError lists valid ones."""
        try:
            options = self.options.model_validate(dict(given))
        except ValidationError as error:
            e = error.errors()[0]
            valid = "; ".join(f"{n}: {_values(f.annotation)}" for n, f in self.options.model_fields.items())
            raise TaskError(
                f"task {self.name}: option {'.'.join(map(str, e['loc']))!r} is not usable ({e['msg']}). "
                f"Options are {valid or 'none'}"
            ) from None
        set_ = [f"{n}={v}" for n, v in options.model_dump(exclude_defaults=True).items()]
        name = self.name + (":" + ",".join(set_) if set_ else "")
        return Task(name, self.description, self.make(options), self.choices)


def _values(annotation: Any) -> str:
    return ", ".join(map(str, get_args(annotation))) or str(annotation)
