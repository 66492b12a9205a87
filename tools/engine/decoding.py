"""Greedy generation under a layer program, with a key/value cache that is right for it, and without one.

transformers keys its cache by a module's layer index. Under a program that repeats a block, both occurrences would share
one entry and read each other's keys; a program without block 0 would leave the sequence length at zero. Here every
POSITION IN THE PROGRAM has a cache of its own, and a clock that holds no keys tells the model's mask code how many
tokens have passed.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from tools.engine.adapter import StackSpec, record, run_block
from tools.engine.sites import Edit


@runtime_checkable
class Decodable(Protocol):
    """What generation needs of a subject."""

    readout: str

    def spec(self, stack: str | None = None) -> StackSpec:
        """A stack's description."""
        ...

    def body(self, stack: str, **arguments: Any) -> object:
        """Run the model code around the blocks."""
        ...

    def inputs(self, rows: Sequence[Sequence[int]]) -> Any:
        """A batch of token rows."""
        ...

    def run(self, inputs: Any, program: Any = None, edits: Any = ()) -> Any:
        """One run with a program and edits."""
        ...

    def unembed(self, h: Tensor) -> Tensor:
        """Logits of final states."""
        ...


class Clock(DynamicCache):
    """A cache that only says how many tokens have passed."""

    def __init__(self, passed: int) -> None:
        super().__init__()
        self.passed = passed

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002  # the name is part of the interface
        """Tokens seen so far."""
        return self.passed

    def get_query_offset(self, layer_idx: int = 0) -> int:  # noqa: ARG002  # likewise
        """Position of the first token of the present call."""
        return self.passed

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:  # noqa: ARG002  # likewise
        """(number of keys, offset of the first key)."""
        return self.passed + query_length, 0


def decode_cached(
    subject: Decodable,
    rows: list[list[int]],
    max_new_tokens: int,
    blocks: tuple[int, ...],
    edits: tuple[Edit, ...],
    eos: int | None,
) -> list[list[int]]:
    """Greedy tokens for rows of equal length; a row ends with (and includes) `eos`."""
    spec = subject.spec()
    slots = [DynamicCache() for _ in blocks]
    device = next(spec.blocks.parameters()).device
    new = torch.tensor(rows, device=device)
    made: list[list[int]] = [[] for _ in rows]
    passed = 0
    with torch.inference_mode():
        for step in range(max_new_tokens):
            clock = Clock(passed)
            mask = torch.ones(len(rows), passed + new.shape[1], dtype=torch.long, device=device)
            call = record(
                spec,
                lambda ids=new, mask=mask, clock=clock: subject.body(
                    subject.readout, input_ids=ids, attention_mask=mask, past_key_values=clock, use_cache=True
                ),
            )
            active = [e if step == 0 else replace(e, positions=None) for e in edits if step == 0 or _goes_on(e)]
            h = call.start
            for slot, block in zip(slots, blocks, strict=True):
                here = [e for e in active if e.site.block == block]
                h = run_block(call, block, h, [here], arguments=with_cache(call.arguments[block], clock, slot))
            passed += new.shape[1]
            chosen = subject.unembed(h[:, -1]).argmax(-1)
            if _append(made, chosen, eos):
                break
            new = chosen[:, None]
    return made


def decode_uncached(
    subject: Decodable,
    rows: list[list[int]],
    max_new_tokens: int,
    blocks: tuple[int, ...],
    edits: tuple[Edit, ...],
    eos: int | None,
) -> list[list[int]]:
    """The same by running the whole sequence again for each token: slow, and what the cached text is checked against."""
    made: list[list[int]] = [[] for _ in rows]
    with torch.inference_mode():
        for _ in range(max_new_tokens):
            longest = max(map(len, made))  # rows that have ended are filled up; nobody reads what follows their end
            inputs = subject.inputs(
                [row + new + [0] * (longest - len(new)) for row, new in zip(rows, made, strict=True)]
            )
            logits = subject.run(inputs, blocks, [_extended(e, len(rows[0]), longest) for e in edits]).logits
            if _append(made, logits[:, -1].argmax(-1), eos):
                break
    return made


def _goes_on(edit: Edit) -> bool:
    """Whether tokens that are made are edited."""
    return edit.positions is None or edit.onward


def _extended(edit: Edit, prompt: int, made: int) -> Edit:
    """The edit at its positions and, where it goes on, at those of the tokens made."""
    if edit.positions is None or not edit.onward:
        return edit
    new = torch.arange(prompt, prompt + made, device=edit.positions.device).expand(len(edit.positions), -1)
    return replace(edit, positions=torch.cat([edit.positions, new], 1))


def _append(made: list[list[int]], chosen: Tensor, eos: int | None) -> bool:
    """Add each row's token unless the row has ended; True once all have."""
    for row, token in zip(made, chosen.tolist(), strict=True):
        if not (row and row[-1] == eos):
            row.append(token)
    return all(row[-1] == eos for row in made)


def with_cache(
    arguments: tuple[tuple[Any, ...], dict[str, Any]], clock: Clock, slot: Cache
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A block's captured arguments with the clock replaced by the cache of this position in the program."""
    args, kwargs = arguments
    return (
        tuple(slot if a is clock else a for a in args),
        {k: slot if v is clock else v for k, v in kwargs.items()},
    )


def edit_of_rows(edit: Edit, rows: list[int]) -> Edit:
    """Restrict an edit to some rows of the batch that it was written for."""
    value, positions = edit.value, edit.positions
    return replace(
        edit,
        value=value[rows] if value.dim() == 3 and value.shape[0] > 1 else value,
        positions=positions[rows] if positions is not None and positions.shape[0] > 1 else positions,
    )
