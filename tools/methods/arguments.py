"""Argument groups that several tools share, each declared once."""

from typing import Any, Literal

from pydantic import Field

from tools.engine.programs import OPERATIONS, LayerProgram, ProgramError, identity, repeat
from tools.methods.tool import Context, ToolArgs, ToolInputError

Operation = Literal["skip", "keep", "repeat", "swap", "reverse", "permute", "custom"]
SplitName = Literal["explore", "confirm"]

EXAMPLES: Any = Field(default=64, ge=8, le=2048, description="how many examples of each task to use")
EXAMPLES_TO_TEST: Any = Field(
    default=128, ge=16, le=2048, description="how many examples, here and again unseen ones to confirm"
)
SPLIT: Any = Field(
    default="explore",
    description="explore to look around; confirm, the unseen half, only for a prediction that is on record",
)


class ProgramArgs(ToolArgs):
    """A layer program, written down as an operation on blocks."""

    operation: Operation | None = Field(
        default=None,
        description="skip, keep, repeat, swap (two blocks), reverse (a range), permute (every block once) or custom "
        "(any list of blocks, run in that order); null is the intact model",
    )
    blocks: list[int] = Field(default=[], description="block indices the operation is about, counted from 0")
    times: int = Field(default=2, ge=2, le=8, description="for repeat: how often each of the blocks runs")

    def program(self, ctx: Context) -> LayerProgram:
        """The program for this subject's readout stack."""
        n = len(ctx.subject.spec().blocks)
        try:
            if self.operation is None:
                if self.blocks:
                    raise ToolInputError(f"blocks are given without an operation: use one of {', '.join(OPERATIONS)}")
                return identity(n)
            if self.operation == "repeat":
                return repeat(self.blocks, n, self.times)
            return OPERATIONS[self.operation](self.blocks, n)
        except ProgramError as error:
            raise ToolInputError(str(error)) from None


def check_blocks(ctx: Context, blocks: list[int], what: str = "layers") -> list[int]:
    """The blocks given, or all of them where none are; ToolInputError for one that does not exist."""
    n = len(ctx.subject.spec().blocks)
    bad = [b for b in blocks if not 0 <= b < n]
    if bad:
        raise ToolInputError(f"{what}: {bad[0]} is out of range: this model has blocks 0 to {n - 1}")
    return sorted(set(blocks)) or list(range(n))
