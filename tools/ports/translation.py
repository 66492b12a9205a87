"""Text to text: a source that an encoder reads, and a translation, or any other answer, that a decoder writes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tools.ports.port import PortError
from tools.ports.seq2seq import SequenceToSequence, start_token
from tools.ports.text import check_words, ordinary_tokens, text_span
from tools.subjects import Inputs, Subject
from tools.tasks import Example, Task


class TextToText(SequenceToSequence):
    """Inputs: `source`, and where the decoder is told what to write `into`, the token that says so (a language's name)."""

    name = "translation"
    reads = ("source",)

    def source(self, subject: Subject, example: Example) -> tuple[tuple[Any, ...], int, Any]:
        """The source's tokens, as the tokenizer begins and ends them."""
        text = self.given(subject, example)
        ids = tuple(_ids(subject, text))
        return ids, len(ids), ids

    def given(self, subject: Subject, example: Example) -> str:
        """What the encoder reads: the source, and in front of it the token of `into` where the model looks for it there."""
        text = example.inputs.get("source")
        if not isinstance(text, str):
            raise PortError(f"{example.shown!r} has no source: {subject.name} reads one and writes an answer")
        return f"{example.inputs['into']} {text}" if _in_front(subject) and "into" in example.inputs else text

    def sources(self, subject: Subject, read: Sequence[Any]) -> dict[str, Tensor]:
        """Right-padded rows with their attention mask."""
        rows = Inputs({}, ()) if not read else _padded(subject, read)
        return dict(rows.fields)

    def noise_source(
        self, subject: Subject, length: int, generator: torch.Generator
    ) -> tuple[tuple[Any, ...], int, Any]:
        """Random ordinary tokens, another number of them for each."""
        n = int(torch.randint(max(2, length // 2), length + 1, (1,), generator=generator))
        (row,) = ordinary_tokens(subject, 1, n, generator)
        return tuple(row), n, tuple(row)

    def prefix(self, subject: Subject, example: Example) -> tuple[int, ...]:
        """The decoder's first token, then the token that `into` names; only that where it is the first itself."""
        into = example.inputs.get("into")
        if into is None:
            return (start_token(subject),)
        token = subject.tokenizer.convert_tokens_to_ids(into)
        if token is None or token == subject.tokenizer.unk_token_id:
            raise PortError(f"into: {into!r} is no token of {subject.name}")
        if _in_front(subject):
            return (start_token(subject),)
        return (int(token),) if _told(subject) == "start" else (start_token(subject), int(token))

    def span(self, subject: Subject, example: Example, role: str, stack: str, *, twin: bool = False) -> list[int]:
        """The tokens of the source that hold a character of the span."""
        if stack != self.reading(subject):
            raise PortError(f"anchor {role!r} lies in the source, which {self.reading(subject)} reads, not {stack}")
        found = text_span(subject, example, role, twin=twin)
        return [i + 1 for i in found] if _in_front(subject) and "into" in example.inputs else found

    def check(self, subject: Subject, task: Task, examples: Sequence[Example]) -> None:
        """Refuse words that the tokenizer does not know."""
        super().check(subject, task, examples)
        names = {str(e.inputs["into"]) for e in examples if "into" in e.inputs}
        check_words(subject, task, examples, {subject.tokenizer.convert_tokens_to_ids(n) for n in names})


def _told(subject: Subject) -> str:
    """Where the token stands that says what to write, by the model's configuration or else its family.

    source: before the source. start: it is the decoder's first token. decoder: it is the second, after a token that begins all.
    """
    return str(getattr(subject.model.config, "language_token", subject.family.told))


def _in_front(subject: Subject) -> bool:
    return _told(subject) == "source"


def _ids(subject: Subject, text: str) -> list[int]:
    return list(subject.tokenizer(text, add_special_tokens=True, verbose=False)["input_ids"])


def _padded(subject: Subject, rows: Sequence[Sequence[int]]) -> Inputs:
    longest, pad = max(map(len, rows)), subject.tokenizer.pad_token_id if subject.tokenizer is not None else None
    ids = torch.full((len(rows), longest), pad or 0, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return Inputs(
        {"input_ids": ids.to(subject.device), "attention_mask": mask.to(subject.device)}, tuple(map(len, rows))
    )


PORT = TextToText()
