"""Layer programs: which blocks of a stack run, and in which order. Pure Python, no tensors.

A program is a sequence of block indices. Skipping, repeating, reversing and swapping are sugar for writing one down;
a sweep is a list of labelled programs.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass


class ProgramError(ValueError):
    """A program that the stack cannot run; the message says what would be valid."""


@dataclass(frozen=True)
class LayerProgram:
    """A sequence of block indices for a stack of `n_blocks` blocks, with a label for tables and figures."""

    blocks: tuple[int, ...]
    n_blocks: int
    label: str

    def __post_init__(self) -> None:
        bad = [b for b in self.blocks if not 0 <= b < self.n_blocks]
        if bad:
            raise ProgramError(
                f"block index {bad[0]} is out of range: this stack has {self.n_blocks} blocks, 0 to {self.n_blocks - 1}"
            )

    @property
    def is_identity(self) -> bool:
        """Whether this is the model as it is."""
        return self.blocks == tuple(range(self.n_blocks))


def identity(n: int) -> LayerProgram:
    """Every block once, in order."""
    return LayerProgram(tuple(range(n)), n, "intact")


def custom(blocks: Iterable[int], n: int) -> LayerProgram:
    """Exactly these blocks, in this order."""
    blocks = tuple(blocks)
    return LayerProgram(blocks, n, "[" + " ".join(map(str, blocks)) + "]")


def skip(blocks: Iterable[int], n: int) -> LayerProgram:
    """All blocks but these."""
    out = _checked(blocks, n, "skip")
    return LayerProgram(tuple(b for b in range(n) if b not in out), n, f"skip {_ranges(out)}")


def keep(blocks: Iterable[int], n: int) -> LayerProgram:
    """Only these blocks, in the model's order."""
    kept = _checked(blocks, n, "keep")
    return LayerProgram(tuple(b for b in range(n) if b in kept), n, f"keep {_ranges(kept)}")


def repeat(blocks: Iterable[int], n: int, times: int = 2) -> LayerProgram:
    """Each of these blocks runs `times` times in a row."""
    again = _checked(blocks, n, "repeat")
    if times < 2:
        raise ProgramError(f"repeat needs times >= 2, not {times}")
    return LayerProgram(
        tuple(b for i in range(n) for b in [i] * (times if i in again else 1)), n, f"repeat {_ranges(again)} x{times}"
    )


def swap(blocks: Iterable[int], n: int) -> LayerProgram:
    """Two blocks change places."""
    pair = list(blocks)
    _checked(pair, n, "swap")
    if len(pair) != 2 or pair[0] == pair[1]:
        raise ProgramError("swap needs exactly two different blocks, for example [2, 3]")
    order = list(range(n))
    a, b = pair
    order[a], order[b] = order[b], order[a]
    return LayerProgram(tuple(order), n, f"swap {a} {b}")


def reverse(blocks: Iterable[int], n: int) -> LayerProgram:
    """The blocks from the least to the greatest given run in reverse order; no blocks given means all."""
    chosen = sorted(_checked(blocks, n, "reverse", empty_ok=True)) or [0, n - 1]
    low, high = chosen[0], chosen[-1]
    order = [*range(low), *range(high, low - 1, -1), *range(high + 1, n)]
    return LayerProgram(tuple(order), n, f"reverse {low}-{high}")


def permute(blocks: Iterable[int], n: int) -> LayerProgram:
    """Every block exactly once, in this order."""
    blocks = tuple(blocks)
    if sorted(blocks) != list(range(n)):
        raise ProgramError(f"permute needs each of the blocks 0 to {n - 1} exactly once; use custom for other lists")
    return LayerProgram(blocks, n, f"permute [{' '.join(map(str, blocks))}]")


OPERATIONS: dict[str, Callable[[Iterable[int], int], LayerProgram]] = {
    "skip": skip,
    "keep": keep,
    "repeat": repeat,
    "swap": swap,
    "reverse": reverse,
    "permute": permute,
    "custom": custom,
}


def parse(text: str, n: int) -> tuple[str, LayerProgram]:
    """The operation and the program that a text names: `skip 3`, `keep 0-2,5`, `repeat 4 x3`, `swap 1 2`, `reverse 1-3`.

    ProgramError says what would be valid.
    """
    name, _, rest = text.strip().partition(" ")
    if name not in OPERATIONS:
        raise ProgramError(
            f"{text!r} is no layer program: write one of {', '.join(OPERATIONS)} and blocks, as in skip 3"
        )
    times = re.search(r"\bx(\d{1,3})$", rest.strip()) if name == "repeat" else None
    listed = rest.strip().removesuffix(times[0]) if times else rest
    blocks: list[int] = []
    for item in re.split(r"[\s,\[\]]+", listed):
        found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", item)
        if item and not found:
            raise ProgramError(f"{item!r} in {text!r} is no block: write indices such as 3 or ranges such as 1-3")
        if found:
            blocks += range(int(found[1]), int(found[2] or found[1]) + 1)
    return name, repeat(blocks, n, int(times[1])) if times else OPERATIONS[name](blocks, n)


def _drop_last(n: int) -> list[LayerProgram]:
    return [LayerProgram(tuple(range(n - k)), n, f"drop last {k}") for k in range(1, n + 1)]


def _drop_first(n: int) -> list[LayerProgram]:
    return [LayerProgram(tuple(range(k, n)), n, f"drop first {k}") for k in range(1, n + 1)]


def _skip_each(n: int) -> list[LayerProgram]:
    return [skip([b], n) for b in range(n)]


def _skip_ranges(n: int) -> list[LayerProgram]:
    return [skip(range(a, b), n) for a in range(n) for b in range(a + 1, n + 1)]


def _repeat_each(n: int) -> list[LayerProgram]:
    return [repeat([b], n) for b in range(n)]


def _adjacent_swaps(n: int) -> list[LayerProgram]:
    return [swap([b, b + 1], n) for b in range(n - 1)]


SWEEPS: dict[str, Callable[[int], list[LayerProgram]]] = {
    "drop_last": _drop_last,
    "drop_first": _drop_first,
    "skip_each": _skip_each,
    "skip_ranges": _skip_ranges,
    "repeat_each": _repeat_each,
    "swap_adjacent": _adjacent_swaps,
}


def _checked(blocks: Iterable[int], n: int, operation: str, *, empty_ok: bool = False) -> set[int]:
    chosen = set(blocks)
    if not chosen and not empty_ok:
        raise ProgramError(f"{operation} needs at least one block index from 0 to {n - 1}")
    LayerProgram(tuple(sorted(chosen)), n, operation)
    return chosen


def _ranges(blocks: set[int]) -> str:
    """`{1, 2, 3, 5}` as '1-3,5'."""
    parts: list[str] = []
    run: list[int] = []
    for b in [*sorted(blocks), None]:
        if run and b != run[-1] + 1:
            parts.append(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]))
            run = []
        if b is not None:
            run.append(b)
    return ",".join(parts)
