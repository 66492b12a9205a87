"""The last block of a variant, run over the positions that are read and no others.

Of the last block's output only what an answer is predicted from is read. Its keys and values are needed at every position, its
queries, its attention's output and its MLP only where it is read: of a sequence's S positions that is often one. So the block is
run twice: up to its keys and values over all positions, and as a whole over those from the first that is read on.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from tools.engine.adapter import Call, run_block
from tools.engine.decoding import Clock, with_cache
from tools.engine.sites import Edit

FEWEST = 4  # variants for which two more captured calls are worth it
Resume = Callable[[int, Clock], Call]


class _KeysKnownError(Exception):
    """Ends a block whose keys and values are known."""


class _Keys(Clock):
    """A cache that takes a block's keys and values, (rows, heads, seq, head width) each, and ends it."""

    def __init__(self, passed: int) -> None:
        super().__init__(passed)
        self.made: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Take them; what would follow is not computed."""
        self.made = (key_states, value_states)
        raise _KeysKnownError


class Before(Clock):
    """A cache that holds the keys and values of the positions before the first one that is computed.

    before: for the captured batch once, which every copy of it is given, or for each row that runs.
    """

    def __init__(self, passed: int, before: tuple[Tensor, Tensor]) -> None:
        super().__init__(passed)
        self.before = before

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """All keys and values: those before, then these."""
        keys, values = (self._after(*pair) for pair in zip(self.before, (key_states, value_states), strict=True))
        return keys, values

    def _after(self, before: Tensor, new: Tensor) -> Tensor:
        rows, heads, passed, width = before.shape
        out = new.new_empty(new.shape[0], heads, passed + new.shape[2], width)
        out[:, :, :passed].unflatten(0, (-1, rows)).copy_(before)
        out[:, :, passed:] = new
        return out


def worthwhile(read_from: int, length: int) -> bool:
    """Whether so few of a sequence's positions are read that a second, narrow run costs less than it saves."""
    return 0 < length <= 2 * read_from


@dataclass
class Narrow:
    """The narrow run of last blocks, from the position `read_from` on.

    resume: the stack's call from a position on, given the cache that stands for what comes before it.
    """

    resume: Resume
    read_from: int
    _calls: dict[int, tuple[Call, Clock]] = field(default_factory=dict)

    def _call(self, position: int) -> tuple[Call, Clock]:
        if position not in self._calls:
            clock = Clock(position)
            self._calls[position] = self.resume(position, clock), clock
        return self._calls[position]

    def ready(self) -> None:
        """Capture now what runs over all positions need: beside the stack's own call, whose code is in the processor's caches."""
        self._call(0)
        self._call(self.read_from)

    def run(
        self, block: int, h: Float[Tensor, "rows seq width"], copies: int, before: tuple[Tensor, Tensor] | None = None
    ) -> Float[Tensor, "rows read width"]:
        """The block's output from `read_from` on, for copies of the captured batch.

        h: the states before it, of all positions, or of those that follow `before`, the keys and values in front of them.
        """
        passed = before[0].shape[2] if before else 0
        call, clock = self._call(passed)
        taken = _Keys(passed)
        arguments = with_cache(call.arguments_for(block, copies), clock, taken)
        with suppress(_KeysKnownError):
            run_block(call, block, h, ((),) * copies, arguments=arguments)
        assert taken.made is not None, "a block of a family with cached generation adds to its cache"
        fresh = self.read_from - passed
        keys, values = (made[:, :, :fresh] for made in taken.made)
        if before:
            keys, values = (_joined(old, new) for old, new in zip(before, (keys, values), strict=True))
        call, clock = self._call(self.read_from)
        arguments = with_cache(call.arguments_for(block, copies), clock, Before(self.read_from, (keys, values)))
        return run_block(call, block, h[:, fresh:], ((),) * copies, arguments=arguments)


def _joined(before: Tensor, new: Tensor) -> Tensor:
    """Keys or values of the captured batch in front of those of its copies."""
    return torch.cat([before.repeat(new.shape[0] // before.shape[0], 1, 1, 1), new], 2)


def is_narrow(children: object, leaves: Sequence[int], edits: Sequence[Edit]) -> bool:
    """Whether a block's run is somebody's last one, leads on to none, and changes nothing itself."""
    return bool(leaves) and not children and not edits
