"""One example of a behaviour: named inputs with one right answer, and what is known about it."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments_db.records import tagged_hash
from tools.tasks.spans import Spans, signal_span_problem, span_problem

Value = int | float | str | bool
Metadata = Mapping[str, Value]


class TaskError(ValueError):
    """A task that does not exist or cannot be used; the message says what can."""


@dataclass(frozen=True, eq=False)
class Signal:
    """A real-valued input: a waveform, an image. name: what it is or where it comes from, in place of a text. rate: a
    recording's samples a second, None where it is made for the model that hears it.

    Two signals are equal if their numbers are.
    """

    data: NDArray[Any]
    name: str
    rate: int | None = None

    @cached_property
    def sha(self) -> str:
        """Content address: of the numbers, their type and shape."""
        digest = hashlib.sha256(f"{self.data.dtype.str}{self.data.shape}".encode())
        digest.update(np.ascontiguousarray(self.data).tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signal) and self.sha == other.sha

    def __hash__(self) -> int:
        return hash(self.sha)


Given = Mapping[str, str | Signal]


@dataclass(frozen=True)
class Counterfactual:
    """What would be right if some labels had other values and all else were the same.

    labels: those values, by label. answers: every answer that would then be right.
    """

    labels: Metadata
    answers: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.labels or not self.answers:
            raise TaskError("a counterfactual needs labels with their other values, and the answers that follow")


def label_families(names: Iterable[str]) -> dict[str, list[str]]:
    """Labels by what they are called together: those of one family, with a dot in their names, as `side.*`; others as they are."""
    found: dict[str, list[str]] = {}
    for name in names:
        family, dot, _ = name.partition(".")
        found.setdefault(f"{family}.*" if dot else name, []).append(name)
    return found


def shown(given: Given) -> str:
    """Inputs as one line: the texts themselves, and what signals are called."""
    return " ".join(v if isinstance(v, str) else v.name for v in given.values())


@dataclass(frozen=True)
class Example:
    """Named inputs with one right answer: what a port of `tools.ports` can give to a model.

    inputs: by name what the model is given, `text`, `source`, `audio`, `image` ...; the first one is what spans lie in.
    `foil` is a wrong target of the same kind. `twin_inputs` are corrupted inputs of the same shape whose right target is
    `foil`; patching between the two moves exactly what differs. `candidates` are the answers that a guesser who understands
    the format, and nothing else, would choose among; `choices`, where given, close the answer set of this example: accuracy
    is then that the answer scores best among them. `accepted` are all answers that are right, where more than the target is;
    each is right then, and as probable as they are together.

    `group` names the independent problem that this is a wording of; by default each input with its target is its own.
    `labels` are the variables behind it (digits, the number of a noun), to probe for and to divide by. `spans` are the
    roles of stretches of the first input, end excluded: characters of a text, milliseconds of a recording, pixels of an image
    (left, top, right, bottom); `twin_spans` those of the twin, where a role is not at the same positions there.
    `span_labels` are what is known of each of them, by role: a word's sense, its `relation` to the word on which it depends,
    and as `head` that word's role, none for the root, which makes the spans a tree (`tools.methods.trees`).
    `counterfactuals` say which answers would be right if labels were other than they are. Labels of one family have names
    with a dot: `side.a1`, `side.b1`; `side.*` stands for all of them.
    """

    inputs: Given
    target: str
    foil: str | None = None
    twin_inputs: Given | None = None
    candidates: tuple[str, ...] = ()
    metadata: Metadata = field(default_factory=dict)
    group: str = ""
    labels: Metadata = field(default_factory=dict)
    spans: Spans = field(default_factory=dict)
    twin_spans: Spans = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    span_labels: Mapping[str, Metadata] = field(default_factory=dict)
    accepted: tuple[str, ...] = ()
    counterfactuals: tuple[Counterfactual, ...] = ()

    def __post_init__(self) -> None:
        if not self.inputs:
            raise TaskError("an example needs at least one input")
        if not self.group:
            object.__setattr__(self, "group", tagged_hash("group", [self._key(self.inputs), self.target])[:16])
        for given, spans in ((self.inputs, self.spans), (self.twin_inputs or {}, self.twin_spans)):
            first = next(iter(given.values()), "")
            problem = span_problem(first, spans) if isinstance(first, str) else signal_span_problem(spans)
            if problem:
                raise TaskError(f"{problem} (in {self.shown!r})")
        nowhere = next((role for role in self.span_labels if role not in self.spans), None)
        if nowhere is not None:
            raise TaskError(f"span_labels: there is no span {nowhere!r} (in {self.shown!r})")
        if self.accepted and self.target not in self.accepted:
            raise TaskError(f"accepted: the answer {self.target!r} is not among {', '.join(map(repr, self.accepted))}")
        unknown = next((n for c in self.counterfactuals for n in c.labels if n not in self.labels), None)
        if unknown is not None:
            raise TaskError(f"counterfactuals: there is no label {unknown!r} (in {self.shown!r})")

    @classmethod
    def of_text(
        cls, prompt: str, answer: str, foil: str | None = None, twin: str | None = None, candidates: tuple[str, ...] = (),
        metadata: Metadata | None = None, **others: Any,
    ) -> "Example":  # fmt: skip
        """A prompt with the answer that continues it; `twin` is the twin's prompt. others: as the fields are."""
        twin_inputs = None if twin is None else {"text": twin}
        return cls({"text": prompt}, answer, foil, twin_inputs, candidates, metadata or {}, **others)

    @property
    def shown(self) -> str:
        """The inputs as one line: texts themselves, and what signals are called."""
        return shown(self.inputs)

    @property
    def prompt(self) -> str:
        """The same, where it is a text that the model continues."""
        return self.shown

    @property
    def answer(self) -> str:
        """The right answer as text."""
        return self.target

    @property
    def twin(self) -> str | None:
        """The twin's inputs as one line, None where there is no twin."""
        return None if self.twin_inputs is None else shown(self.twin_inputs)

    @property
    def values(self) -> dict[str, Value]:
        """Everything that is known about the example by name: its metadata and its labels."""
        return {**self.metadata, **self.labels}

    @property
    def rights(self) -> tuple[str, ...]:
        """Every right answer as text, the target first."""
        return tuple(dict.fromkeys((self.target, *self.accepted)))

    def is_right(self, said: str) -> bool:
        """Whether a text is a right answer, spaces at its ends aside."""
        return said.strip() in {a.strip() for a in self.rights}

    def supposing(self, counterfactual: Counterfactual) -> "Example":
        """The same inputs, asked as if labels had the counterfactual's values: its answers are right; twin and foil are gone."""
        answers = counterfactual.answers
        new = next((a for a in answers if a not in self.rights), answers[0])
        labels = {**self.labels, **counterfactual.labels}
        return replace(
            self, target=new, accepted=answers, labels=labels, counterfactuals=(), foil=None, twin_inputs=None, twin_spans={},
        )  # fmt: skip

    def with_twin(self, other: "Example | None") -> "Example":
        """The same with another example for a twin, whose target is the foil; without any for None."""
        if other is None:
            return replace(self, twin_inputs=None, foil=None, twin_spans={})
        return replace(self, twin_inputs=other.inputs, foil=other.target, twin_spans=other.spans)

    def as_twin(self, target: str) -> "Example":
        """The twin's inputs with a target, and this one's for a twin; the group is the pair's."""
        if self.twin_inputs is None:
            raise TaskError(f"{self.shown!r} has no twin")
        return replace(
            self, inputs=self.twin_inputs, target=target, twin_inputs=self.inputs, spans=self.twin_spans,
            twin_spans=self.spans, span_labels={}, accepted=(), counterfactuals=(),
        )  # fmt: skip

    @staticmethod
    def _key(given: Given | None) -> object:
        """Inputs as plain data: a text by itself, else each by its name, signals by their content address."""
        if given is None or set(given) == {"text"}:
            return None if given is None else given["text"]
        return {n: v if isinstance(v, str) else {"sha": v.sha, "name": v.name} for n, v in given.items()}

    def as_json(self) -> dict[str, object]:
        """Plain data for hashing and for storage."""
        return {
            "prompt": self._key(self.inputs),
            "answer": self.target,
            "foil": self.foil,
            "twin": self._key(self.twin_inputs),
            "candidates": list(self.candidates),
            "metadata": dict(self.metadata),
            "group": self.group,
            "labels": dict(self.labels),
            "spans": {role: list(span) for role, span in self.spans.items()},
            "twin_spans": {role: list(span) for role, span in self.twin_spans.items()},
            **({"choices": list(self.choices)} if self.choices else {}),
            **({"span_labels": {r: dict(v) for r, v in self.span_labels.items()}} if self.span_labels else {}),
            **({"accepted": list(self.accepted)} if self.accepted else {}),
            **({"counterfactuals": [_plain(c) for c in self.counterfactuals]} if self.counterfactuals else {}),
        }


def _plain(c: Counterfactual) -> dict[str, object]:
    return {"labels": dict(c.labels), "answers": list(c.answers)}
