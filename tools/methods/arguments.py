"""Argument groups that several tools share, each declared once."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from experiments_db.places import Intervention
from tools.engine.programs import OPERATIONS, LayerProgram, ProgramError, identity, repeat
from tools.methods.tool import Context, ToolArgs, ToolInputError

Operation = Literal["skip", "keep", "repeat", "swap", "reverse", "permute", "custom"]
InterventionName = Annotated[
    Literal["zero", "mean", "resample(donor)"], BeforeValidator(lambda v: "resample(donor)" if v == "resample" else v)
]
Mode = Literal["each", "together", "cumulative"]
AblationMode = Literal[Mode, "decide"]
Direction = Literal["noise", "denoise"]

EXAMPLES: Any = Field(default=64, ge=8, le=2048, description="how many examples of each task to use")
EXAMPLES_TO_TEST: Any = Field(
    default=128, ge=16, le=2048, description="how many examples, here and again unseen ones to confirm"
)
AMONG: Any = Field(default="", description="a class of the examples, such as carry=1; empty is all of them")
INTERVENTION: Any = Field(
    description="what takes its place: zero, the mean over examples, or resample(donor), another example's; name it in findings"
)
DIRECTION: Any = Field(
    default="noise", description="noise: run the input and put in the twin's activation; denoise: the other way round"
)
DEPTH: Any = Field(
    default=8, ge=1, le=64, description="for components at @each: how many positions, counted back from the last as -1"
)
WHERE = (
    "Written as *.3.attn.z[*]@answer (stack.block.part[unit]@anchor): * is all, 1-3 and 0,2 are several; anchors are answer "
    "(every position that predicts it), -1 (the last position before it), -2 ..., a span of the example, and all"
)


def components(default: list[str], what: str) -> Any:
    """A field that names components by selectors."""
    return Field(default=default, min_length=1, max_length=64, description=f"{what}. {WHERE}")


def check_size(n: int, what: str, most: int = 512) -> None:
    """ToolInputError for more conditions than one call should run."""
    if n > most:
        raise ToolInputError(f"components: {n} {what} are too many for one call: name at most {most}")


def intervention_of(name: InterventionName) -> Intervention:
    """The intervention of that name."""
    return Intervention.parse(name)


class ProgramArgs(ToolArgs):
    """A layer program, written down as an operation on blocks."""

    operation: Operation | None = Field(
        default=None,
        description="skip, keep, repeat, swap (two blocks), reverse (a range), permute (every block once) or custom "
        "(any list of blocks, run in that order); null is the intact model",
    )
    blocks: list[int] = Field(default=[], description="block indices the operation is about, counted from 0")
    times: int = Field(default=2, ge=2, le=8, description="for repeat: how often each of the blocks runs")
    stack: str = Field(default="", description="whose blocks, encoder or decoder; empty is the stack that is read out")

    def stack_of(self, ctx: Context) -> str:
        """The stack by its name. ToolInputError lists those there are."""
        if self.stack and self.stack not in ctx.subject.stacks:
            raise ToolInputError(f"stack: there is no {self.stack!r}; this model has {', '.join(ctx.subject.stacks)}")
        return self.stack or ctx.subject.readout

    def label(self, ctx: Context, program: LayerProgram) -> str:
        """What the program is called: with its stack where that is not the one that is read out."""
        stack = self.stack_of(ctx)
        return program.label if stack == ctx.subject.readout else f"{stack}: {program.label}"

    def program(self, ctx: Context) -> LayerProgram:
        """The program for the stack."""
        n = len(ctx.subject.spec(self.stack_of(ctx)).blocks)
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
