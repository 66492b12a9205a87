"""What a planner is: it sees a view of the investigation and proposes the next calls. It never runs anything."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from experiments_db.findings import Finding
from experiments_db.records import Measurement


class PlannerError(RuntimeError):
    """The planner cannot go on (no key, refused, too many useless turns): the run ends with a report."""


@dataclass(frozen=True)
class ToolCall:
    """One call as the planner wrote it: `arguments` is the raw JSON text, which may be wrong."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Usage:
    """What one turn cost: tokens, and dollars where the price is known."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True)
class Turn:
    """What a planner proposes: its thought in words and any number of calls (none is a useless turn)."""

    calls: tuple[ToolCall, ...]
    text: str = ""
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Answer:
    """What one call came to. `handle` is E7 for an experiment, N1/H1/C1 for a record, None where nothing was written.

    status: ok | refused | failed | rejected (arguments that could not be used) | budget (not run: a budget was spent).
    """

    call_id: str
    text: str
    status: str = "ok"
    handle: str | None = None
    measurements: tuple[Measurement, ...] = ()


@dataclass(frozen=True)
class Exchange:
    """One turn and its answers, one for each call, in the same order."""

    turn: Turn
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class ToolInfo:
    """A tool as a planner sees it."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Known:
    """What a task's explore examples show by themselves, without a model.

    roles: spans that every example has, at most half of its input each. classes: labels by which the examples fall into two
    to four classes, with their values as conditions (`carry=1`). roles_among: by condition the roles that its examples have.
    easier: specs of the same family that ask for less. trees: whether its examples are sentences whose trees are known.
    families: labels that belong together, such as `side.*`; supposed: those of them that every example supposes to be other.
    """

    roles: tuple[str, ...] = ()
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    roles_among: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    easier: tuple[str, ...] = ()
    trees: bool = False
    families: tuple[str, ...] = ()
    supposed: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """What a planner sees.

    goal: the user's words. subject: name of the model. tools: schemas. exchanges: the whole history, oldest first.
    inherited: how many of the exchanges were another run's, which this one branched from. tasks: specs of the user's own
    tasks. notebook: hypotheses, notes and a line per experiment. earlier: what another run on the same subject noted and
    claimed, if the user asked for it.
    literature: notes that the user gave, marked as data. budget: what is left. left: how many experiments that is,
    None without a limit.
    findings: as they stand now. known: what the examples of a task spec show by themselves. reads: the names of the inputs
    that the model reads. objective: the quantity by which its answers are judged; better: 1 where more of it is better, else -1.
    stacks: how many blocks each stack of the model has, in the order in which they run; readout: the one that answers.
    """

    goal: str
    subject: str
    tools: Sequence[ToolInfo]
    exchanges: Sequence[Exchange]
    inherited: int = 0
    tasks: Sequence[str] = ()
    shown: str = ""
    questions: str = ""
    notebook: str = ""
    earlier: str = ""
    literature: str = ""
    budget: str = ""
    left: int | None = None
    findings: Sequence[Finding] = ()
    known: Callable[[str], Known] = lambda _: Known()
    reads: tuple[str, ...] = ("text",)
    objective: str = "accuracy"
    better: int = 1
    stacks: Mapping[str, int] = field(default_factory=lambda: {"decoder": 1})
    readout: str = "decoder"


@runtime_checkable
class Planner(Protocol):
    """Chooses what to do next from what is on record; must not keep state that a resumed run would miss."""

    @property
    def name(self) -> str:
        """How the run names it, for example openai:gpt-5."""
        ...

    async def propose(self, view: View) -> Turn:
        """The next turn. Raises PlannerError when it cannot go on."""
        ...
