"""What is handed to another process to compute, and who takes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from experiments_db.records import Result, TaskData
from tools.methods.tool import ToolInputError
from tools.tasks import Split


class WorkersError(ValueError):
    """Workers cannot be had; one line says why, and what would help."""


@dataclass(frozen=True)
class Job:
    """What determines an answer, beside the subject. null: the kind of null twin it is computed on, and which of that kind."""

    tool: str
    args: str
    split: Split
    draw: int
    seed: int
    max_tokens: int
    fresh: bool
    lifted: bool
    tasks: tuple[TaskData, ...]
    null: tuple[str, int] | None

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for equal jobs."""
        same = (
            self.tool,
            self.args,
            self.split,
            self.draw,
            self.seed,
            self.max_tokens,
            self.fresh,
            self.lifted,
            self.null,
        )
        return (*same, *((t.name, t.sha) for t in self.tasks))


@dataclass(frozen=True)
class Done:
    """What came of a job: a result and where an unexpected error came from, or why the call cannot be made."""

    result: Result | None
    traceback: str = ""
    refused: str = ""

    def told(self) -> tuple[Result, str]:
        """The result and the traceback; ToolInputError where the call cannot be made."""
        if self.result is None:
            raise ToolInputError(self.refused)
        return self.result, self.traceback


class Elsewhere(Protocol):
    """Computes jobs in other processes."""

    def takes(self, tool: str) -> bool:
        """Whether a tool's calls are computed there."""
        ...

    def begin(self, job: Job) -> None:
        """Hand out a job that will be asked for soon."""
        ...

    def finish(self, job: Job, check: Callable[[], None]) -> tuple[Result, str]:
        """A job's result, and where an unexpected error came from; ToolInputError where it cannot be made."""
        ...
