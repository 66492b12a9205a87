"""What ports of encoder-decoder models share: a decoder that is given what has been said, and says the next token.

The answer ends with the end-of-text token, which is predicted like the rest of it.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tools.ports.port import Encoded, Port, PortError, first_difference
from tools.ports.text import ordinary_tokens
from tools.subjects import Inputs, Subject
from tools.tasks import Example


class SequenceToSequence(Port):
    """An encoder reads the source, and a decoder writes the answer."""

    writes = True
    answered = "where the decoder predicts its tokens"

    @abstractmethod
    def source(self, subject: Subject, example: Example) -> tuple[tuple[Any, ...], int, Any]:
        """(what stands at each position or for the whole, positions in the encoder, what `sources` makes a batch of)."""

    @abstractmethod
    def sources(self, subject: Subject, read: Sequence[Any]) -> dict[str, Tensor]:
        """The encoder's fields for several sources."""

    @abstractmethod
    def noise_source(
        self, subject: Subject, length: int, generator: torch.Generator
    ) -> tuple[tuple[Any, ...], int, Any]:
        """A random source, as `source` gives it."""

    def prefix(self, subject: Subject, example: Example) -> tuple[int, ...]:
        """What the decoder is given before the answer begins."""
        return (start_token(subject),)

    def encode(self, subject: Subject, example: Example) -> Encoded:
        """Source, prefix and answer; the answer's last token is predicted and not read."""
        targets = self.targets(subject, example.target)
        other = () if example.foil is None else self.targets(subject, example.foil)
        found = self.source(subject, example)
        return self._encoded(subject, found, self.prefix(subject, example), targets, first_difference(targets, other))

    def targets(self, subject: Subject, text: str) -> tuple[int, ...]:
        """An answer as tokens with the end of text."""
        end = end_token(subject)
        return (*subject.tokens(text, special=False), end)

    def _encoded(
        self, subject: Subject, found: tuple[tuple[Any, ...], int, Any], prefix: tuple[int, ...],
        targets: tuple[int, ...], foil: tuple[int, int] | None = None,
    ) -> Encoded:  # fmt: skip
        tokens, length, read = found
        at = len(prefix) - 1
        first = self.reading(subject)
        lengths = {first: length, subject.readout: len(prefix) + len(targets) - 1}
        scored = tuple(range(at, at + len(targets)))
        return Encoded(tokens, lengths, len(prefix), scored, targets, foil, first, {"prefix": prefix, "read": read})

    def inputs(self, subject: Subject, encoded: Sequence[Encoded]) -> Inputs:
        """Sources, and for the decoder prefix and answer but for its last token, right-padded."""
        rows = [[*e.fields["prefix"], *map(int, e.targets[:-1])] for e in encoded]
        return self._inputs(subject, [e.fields["read"] for e in encoded], rows, [e.lengths for e in encoded])

    def _inputs(
        self, subject: Subject, read: Sequence[Any], rows: Sequence[Sequence[int]], lengths: Sequence[Mapping[str, int]]
    ) -> Inputs:
        longest, first = max(map(len, rows)), self.reading(subject)
        ids = torch.full(
            (len(rows), longest), end_token(subject), dtype=torch.long
        )  # in a causal stack nothing reads it
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        fields = {**self.sources(subject, read), "decoder_input_ids": ids.to(subject.device)}
        return Inputs(fields, tuple(map(len, rows)), {first: tuple(n[first] for n in lengths)})

    def noise(self, subject: Subject, n: int, length: int, generator: torch.Generator) -> list[Encoded]:
        """Random sources, and random tokens as what has been said."""
        rows = ordinary_tokens(subject, n, length, generator)
        found = [self.noise_source(subject, length, generator) for _ in rows]
        return [self._encoded(subject, f, tuple(row), (row[-1],)) for f, row in zip(found, rows, strict=True)]

    def row(self, encoded: Encoded) -> list[int] | None:
        """What the decoder is given before the answer."""
        return list(encoded.fields["prefix"])

    def with_row(self, subject: Subject, encoded: Encoded, row: Sequence[int]) -> Encoded:
        """The same source with something else said so far."""
        found = encoded.tokens, encoded.lengths[encoded.reads], encoded.fields["read"]
        return self._encoded(subject, found, tuple(row), (row[-1],))

    def labels(self, subject: Subject, example: Example, *, stack: str | None = None, twin: bool = False) -> list[str]:
        """In the decoder what it has been given so far; in the encoder what the port reads."""
        e = self.encode(subject, example.as_twin(example.target) if twin else example)
        if (stack or self.reading(subject)) == subject.readout:
            return [subject.token_label(t) for t in (*e.fields["prefix"], *map(int, e.targets[:-1]))]
        return self.source_labels(subject, e)

    def answers_at(self, encoded: Encoded) -> tuple[int, ...]:
        """Nowhere in the source."""
        return ()

    def source_labels(self, subject: Subject, encoded: Encoded) -> list[str]:
        """The encoder's positions as labels."""
        return [subject.token_label(t) for t in encoded.tokens]

    def write(self, subject: Subject, examples: Sequence[Example], max_tokens: int = 2048, **how: Any) -> list[str]:
        """Greedy answers, each at most half as long again as its right one and five tokens, whatever it is written beside.

        how: `program`, by stack, and `edits`, which change every run of their stack.
        """
        encoded = [self.encode(subject, e) for e in examples]
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].fields["prefix"]))
        out: dict[int, str] = {}
        step = max(1, max_tokens // max(e.size for e in encoded))
        while order:
            size = len(encoded[order[0]].fields["prefix"])
            part = [i for i in order[:step] if len(encoded[i].fields["prefix"]) == size]
            order = order[len(part) :]
            texts = self._greedy(subject, [encoded[i] for i in part], how.get("program") or {}, how.get("edits", ()))
            out.update(zip(part, texts, strict=True))
        return [out[i] for i in range(len(examples))]

    def _greedy(
        self, subject: Subject, encoded: Sequence[Encoded], program: Mapping[str, Any], edits: Any
    ) -> list[str]:
        limits = [5 + len(e.targets) * 3 // 2 for e in encoded]
        limit = max(limits)
        read, lengths = [e.fields["read"] for e in encoded], [e.lengths for e in encoded]
        rows = [list(e.fields["prefix"]) for e in encoded]
        start, end, banned = len(rows[0]), end_token(subject), never_written(subject)
        most = getattr(subject.model.config, "max_target_positions", None) or subject.max_positions or limit + start
        once = subject.keeping(None)  # nobody asks again about a text that is half written
        with subject.evaluating():
            inputs = self._inputs(subject, read, rows, lengths)
            before = subject.upstream(inputs, program, edits)
            for _ in range(min(limit, most - start)):
                inputs = Inputs(
                    {**inputs.fields, "decoder_input_ids": torch.tensor(rows, device=subject.device)},
                    tuple(map(len, rows)), inputs.elsewhere,
                )  # fmt: skip
                logits = once.read(inputs, before, program.get(subject.readout), edits)[:, -1]
                logits[:, banned] = -torch.inf
                chosen = logits.argmax(-1).tolist()
                for row, token in zip(rows, chosen, strict=True):
                    row.append(end if end in row[start:] else token)
                if all(end in row[start:] for row in rows):
                    break
        said = [row[start : start + n] for row, n in zip(rows, limits, strict=True)]
        return [subject.text(r[: r.index(end)] if end in r else r).strip() for r in said]

    def judge(self, example: Example, said: str) -> dict[str, tuple[float, float]]:
        """Errors in words and characters over those of the target, exactness, and words said again."""
        return judged(example.target, said)


def judged(target: str, said: str) -> dict[str, tuple[float, float]]:
    """What was said against the target, (count, of how many) each; what cannot be scored is left out.

    exact: said word for word. wer, cer: edits (insertions, deletions, substitutions) over the target's words, characters.
    repeated: words that were said before. not_there: words that the target does not have.
    """
    right, words = target.split(), said.split()
    found: dict[str, tuple[float, float]] = {"exact": (float(right == words), 1.0)}
    if right:
        found["wer"] = (edits(right, words), float(len(right)))
        found["cer"] = (edits(" ".join(right), " ".join(words)), float(len(" ".join(right))))
    if words:
        again = sum(w in words[:i] for i, w in enumerate(words)) - sum(w in right[:i] for i, w in enumerate(right))
        found["repeated"] = (float(max(0, again)), float(len(words)))
        found["not_there"] = (float(sum(w not in right for w in words)), float(len(words)))
    return found


def edits(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Least number of insertions, deletions and substitutions that turn one sequence into the other (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return float(row[-1])


def start_token(subject: Subject) -> int:
    """The token that the decoder begins with."""
    found = getattr(subject.model.config, "decoder_start_token_id", None)
    if found is None:
        raise PortError(f"{subject.name}: its configuration has no decoder_start_token_id")
    return int(found)


def never_written(subject: Subject) -> list[int]:
    """Tokens that the model's own generation leaves out (Marian's padding); of `bad_words_ids` those of one token."""
    found: list[list[int]] = getattr(subject.model.generation_config, "bad_words_ids", None) or []
    return [word[0] for word in found if len(word) == 1]


def end_token(subject: Subject) -> int:
    """The token that ends an answer."""
    found = subject.model.config.eos_token_id
    return int(found[0] if isinstance(found, list) else found)
