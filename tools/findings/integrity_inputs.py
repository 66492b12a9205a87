"""What the integrity gate runs a model on: random inputs that mean something to it, and rows made of them."""

from collections.abc import Callable, Sequence

import torch

from tools.ports import Encoded, port_of
from tools.ports.text import ordinary_tokens
from tools.subjects import Inputs, Subject

ROWS, LENGTH = 2, 5


class Given:
    """Random inputs of a subject, and others made of them by their rows of tokens."""

    def __init__(self, subject: Subject, batch: Callable[[Sequence[Sequence[int]]], Inputs] | None) -> None:
        self.subject, self.batch, self.port = subject, batch, port_of(subject)

    def noise(self, seed: int) -> tuple[list[Encoded], list[Encoded]]:
        """(inputs of one length, inputs of several): the second none where all inputs have one size."""
        length = min(LENGTH, self.subject.max_positions or LENGTH)
        generator = torch.Generator().manual_seed(seed)
        if self.batch is None:
            found = self.port.noise(self.subject, ROWS + 1, length, generator)
        else:
            found = [self._plain(row) for row in ordinary_tokens(self.subject, ROWS + 1, length, generator)]
        if self.row(found[0]) is None:
            return found[:ROWS], []
        return found[:ROWS], [found[0], self.first(found[1], max(1, length // 2)), self.first(found[2], 1), found[2]]

    def inputs(self, encoded: Sequence[Encoded]) -> Inputs:
        """A batch."""
        if self.batch is not None:
            return self.batch([list(e.tokens) for e in encoded])
        return self.port.inputs(self.subject, encoded)

    def row(self, e: Encoded) -> list[int] | None:
        """The token ids that enter the readout stack; None where it reads no tokens, or all inputs have one size."""
        return self.port.row(e) if self.batch is None else list(e.tokens)

    def first(self, e: Encoded, n: int) -> Encoded:
        """The first positions alone."""
        return self.with_row(e, (self.row(e) or [])[:n])

    def with_row(self, e: Encoded, row: Sequence[int]) -> Encoded:
        """The same with other token ids there."""
        return self.port.with_row(self.subject, e, row) if self.batch is None else self._plain(row)

    def _plain(self, row: Sequence[int]) -> Encoded:
        name, at = self.subject.readout, len(row) - 1
        return Encoded(tuple(row), {name: len(row)}, len(row), (at,), (row[-1],), None, name)
