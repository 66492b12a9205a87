"""What ports share whose models choose one of the classes that their configuration names, at one position."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tools.ports.port import Encoded, Port, PortError
from tools.ports.text import check_words, ordinary_tokens, text_span
from tools.subjects import Inputs, Subject
from tools.tasks import Example, Given, Task


class Classes(Port):
    """The answer is a class by its name; it is read at one position of the stack that is read out."""

    writes = True
    answered = "at the position from which the class is read"

    @abstractmethod
    def given(self, subject: Subject, example: Example) -> tuple[tuple[Any, ...], int, Any]:
        """(what stands at each position or for the whole, positions, what `batch` makes a batch of)."""

    @abstractmethod
    def batch(self, subject: Subject, read: Sequence[Any]) -> dict[str, Tensor]:
        """The model's fields for several inputs."""

    def read_at(self, subject: Subject, positions: int) -> int:
        """Where the class is read: at the first position or at the last one, as the family says."""
        return positions - 1 if subject.family.read == "last" else 0

    def encode(self, subject: Subject, example: Example) -> Encoded:
        """The input, and the class by its number."""
        tokens, positions, read = self.given(subject, example)
        target, foil = (None if c is None else class_of(subject, c) for c in (example.target, example.foil))
        assert target is not None
        return self.encoded(subject, tokens, positions, read, target, foil)

    def encoded(
        self, subject: Subject, tokens: tuple[Any, ...], positions: int, read: Any, target: int, foil: int | None
    ) -> Encoded:
        """An input with its class."""
        at, other = (self.read_at(subject, positions),), None if foil is None or foil == target else (0, foil)
        name = subject.readout
        return Encoded(tokens, {name: positions}, positions, at, (target,), other, name, {"read": read})

    def inputs(self, subject: Subject, encoded: Sequence[Encoded]) -> Inputs:
        """A batch of them."""
        fields = self.batch(subject, [e.fields["read"] for e in encoded])
        return Inputs(fields, tuple(e.lengths[subject.readout] for e in encoded))

    def answer_label(self, subject: Subject, index: int) -> str:
        """The class by its name."""
        return str(subject.model.config.id2label[index])

    def write(self, subject: Subject, examples: Sequence[Example], max_tokens: int = 2048, **how: Any) -> list[str]:
        """The most likely class of each."""
        encoded = [self.encode(subject, e) for e in examples]
        step, out = max(1, max_tokens // max(e.size for e in encoded)), list[str]()
        with subject.evaluating():
            for start in range(0, len(encoded), step):
                part = encoded[start : start + step]
                logits = subject.run(self.inputs(subject, part), how.get("program"), how.get("edits", ())).logits
                found = [int(logits[i, e.scored[0]].argmax()) for i, e in enumerate(part)]
                out += [self.answer_label(subject, c) for c in found]
        return out

    def own_answer(self, subject: Subject, inputs: Given) -> str:
        """The most likely class."""
        return self.write(subject, [Example(inputs, self.answer_label(subject, 0))])[0]


def class_of(subject: Subject, name: str) -> int:
    """A class by its name; PortError lists those there are."""
    known = {str(v): int(k) for k, v in subject.model.config.id2label.items()}
    if name.strip() not in known:
        raise PortError(f"{name.strip()!r} is no class of {subject.name}: it tells apart {', '.join(known)}")
    return known[name.strip()]


class TextClasses(Classes):
    """Input: `text`, whose class is asked for."""

    name = "text-class"
    reads = ("text",)

    def given(self, subject: Subject, example: Example) -> tuple[tuple[Any, ...], int, Any]:
        """The text's tokens with the tokenizer's special ones."""
        text = example.inputs.get("text")
        if not isinstance(text, str):
            raise PortError(f"{example.shown!r} has no text: {subject.name} says which class a text is of")
        ids = tuple(subject.tokenizer(text, add_special_tokens=True, verbose=False)["input_ids"])
        return ids, len(ids), ids

    def batch(self, subject: Subject, read: Sequence[Any]) -> dict[str, Tensor]:
        """Right-padded rows with their attention mask."""
        return dict(subject.inputs([list(row) for row in read]).fields)

    def noise(self, subject: Subject, n: int, length: int, generator: torch.Generator) -> list[Encoded]:
        """Rows of random ordinary tokens."""
        rows = ordinary_tokens(subject, n, length, generator)
        return [self.encoded(subject, tuple(r), len(r), tuple(r), 0, None) for r in rows]

    def row(self, encoded: Encoded) -> list[int] | None:
        """The text."""
        return list(encoded.tokens)

    def with_row(self, subject: Subject, encoded: Encoded, row: Sequence[int]) -> Encoded:
        """Another text."""
        return self.encoded(subject, tuple(row), len(row), tuple(row), 0, None)

    def span(self, subject: Subject, example: Example, role: str, stack: str, *, twin: bool = False) -> list[int]:
        """The tokens that hold a character of the span."""
        return text_span(subject, example, role, twin=twin)

    def labels(self, subject: Subject, example: Example, *, stack: str | None = None, twin: bool = False) -> list[str]:
        """The tokens."""
        given = (example.twin_inputs or {}) if twin else example.inputs
        ids = subject.tokenizer(str(given.get("text", "")), add_special_tokens=True, verbose=False)["input_ids"]
        return [subject.token_label(t) for t in ids]

    def check(self, subject: Subject, task: Task, examples: Sequence[Example]) -> None:
        """Refuse words that the tokenizer does not know, and classes that there are none of."""
        super().check(subject, task, examples)
        check_words(subject, task, [Example(e.inputs, "", twin_inputs=e.twin_inputs, group=e.group) for e in examples])


PORT = TextClasses()
