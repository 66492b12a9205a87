"""Masked text: a text with one or several mask tokens, and the words that belong there. BERT and its kind."""

from collections.abc import Sequence
from typing import Any

import torch

from tools.ports.port import Encoded, Port, PortError, first_difference
from tools.ports.text import check_words, ordinary_tokens, text_span
from tools.subjects import Inputs, Subject
from tools.tasks import Example, Given, Task


class MaskedText(Port):
    """Texts with gaps. The answer is what the mask tokens stand for, one token each; it is predicted where they stand."""

    name = "masked"
    reads = ("masked",)
    writes = True
    answered = "where the mask stands"

    def encode(self, subject: Subject, example: Example) -> Encoded:
        """The text with its special tokens; PortError unless it has as many masks as the answer has tokens."""
        text = example.inputs.get("masked")
        if not isinstance(text, str):
            raise PortError(f"{example.shown!r} has no masked text: {subject.name} fills masks")
        ids = _ids(subject, text)
        mask = subject.tokenizer.mask_token_id
        at = tuple(i for i, t in enumerate(ids) if t == mask)
        targets = tuple(subject.tokens(example.target, special=False))
        if not at or len(at) != len(targets):
            raise PortError(
                f"{text!r} has {len(at)} of {subject.tokenizer.mask_token}, and the answer {example.target!r} {len(targets)} "
                "tokens: write one for each"
            )
        other = () if example.foil is None else tuple(subject.tokens(example.foil, special=False))
        return self._encoded(subject, tuple(ids), at, targets, first_difference(targets, other))

    def _encoded(
        self, subject: Subject, ids: tuple[int, ...], at: tuple[int, ...], targets: tuple[int, ...],
        foil: tuple[int, int] | None = None,
    ) -> Encoded:  # fmt: skip
        return Encoded(ids, {subject.readout: len(ids)}, len(ids), at, targets, foil, subject.readout)

    def inputs(self, subject: Subject, encoded: Sequence[Encoded]) -> Inputs:
        """Right-padded rows with their attention mask."""
        return subject.inputs([list(e.tokens) for e in encoded])

    def span(self, subject: Subject, example: Example, role: str, stack: str, *, twin: bool = False) -> list[int]:
        """The tokens that hold a character of the span."""
        return text_span(subject, example, role, twin=twin)

    def noise(self, subject: Subject, n: int, length: int, generator: torch.Generator) -> list[Encoded]:
        """Rows of random ordinary tokens, the last one to be predicted where it stands."""
        rows = ordinary_tokens(subject, n, length, generator)
        return [self._encoded(subject, tuple(row), (len(row) - 1,), (row[-1],)) for row in rows]

    def row(self, encoded: Encoded) -> list[int] | None:
        """The text."""
        return list(encoded.tokens)

    def with_row(self, subject: Subject, encoded: Encoded, row: Sequence[int]) -> Encoded:
        """Another text."""
        return self._encoded(subject, tuple(row), (len(row) - 1,), (row[-1],))

    def labels(self, subject: Subject, example: Example, *, stack: str | None = None, twin: bool = False) -> list[str]:
        """The tokens."""
        given = (example.twin_inputs or {}) if twin else example.inputs
        return [subject.token_label(t) for t in _ids(subject, str(given.get("masked", "")))]

    def check(self, subject: Subject, task: Task, examples: Sequence[Example]) -> None:
        """Refuse words that the tokenizer does not know, and texts without masks."""
        super().check(subject, task, examples)
        check_words(subject, task, examples, {subject.tokenizer.mask_token_id})

    def write(self, subject: Subject, examples: Sequence[Example], max_tokens: int = 2048, **how: Any) -> list[str]:
        """The most likely token of each mask, all at once."""
        encoded = [self.encode(subject, e) for e in examples]
        step, out = max(1, max_tokens // max(e.size for e in encoded)), list[str]()
        with subject.evaluating():
            for start in range(0, len(encoded), step):
                part = encoded[start : start + step]
                logits = subject.run(self.inputs(subject, part), how.get("program"), how.get("edits", ())).logits
                out += [subject.text(logits[i, list(e.scored)].argmax(-1).tolist()).strip() for i, e in enumerate(part)]
        return out

    def own_answer(self, subject: Subject, inputs: Given) -> str:
        """The most likely token of each mask."""
        masks = str(inputs.get("masked", "")).count(subject.tokenizer.mask_token)
        if not masks:
            raise PortError(f"write {subject.tokenizer.mask_token} where a word is missing")
        words = (subject.text([t]).strip() for t in range(len(subject.tokenizer)))
        word = next(w for w in words if w.isalpha() and len(subject.tokens(w, special=False)) == 1)
        return self.write(subject, [Example(inputs, " ".join([word] * masks))])[0]


def _ids(subject: Subject, text: str) -> list[int]:
    return list(subject.tokenizer(text, add_special_tokens=True, verbose=False)["input_ids"])


PORT = MaskedText()
