"""What a tool is, what it is given, and how tools are found.

A tool is one module of this folder with `Args` (a flat pydantic model, every field described), `run(args, ctx)`, an
`EXAMPLE` and a `KIND`; `LOCALISES = True` marks one that looks for where a task is done, `NEEDS` names a capability that
it cannot do without, `work(args, ctx)` says what a call will have to run. Its docstring is its
description, the first paragraph in short. The function schema, the validation, the command line, the docs table, the
record and the replay all come from that one declaration.
"""

import copy
import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, runtime_checkable

from pydantic import BaseModel, ConfigDict, ValidationError

from experiments_db.findings import Claim, Finding, Question
from experiments_db.places import plain_message
from experiments_db.records import Experiment, Hypothesis, Measurement, Note, Outcome, TaskData

if TYPE_CHECKING:
    from tools.methods.answers import Answers
    from tools.methods.forecasting import Work
    from tools.sandbox import Sandbox
    from tools.subjects import Subject
    from tools.tasks import Split, Task

ToolKind = Literal["experiment", "notebook", "settling", "delegating"]


class ToolInputError(ValueError):
    """Arguments that cannot be used; the message says what would be valid and goes back to the planner."""


class DeadlineReached(RuntimeError):  # it says what has happened; nothing went wrong
    """The time that a call may take is over; raised between two steps of its computation, whose result is dropped."""


class Cancelled(DeadlineReached):
    """Whoever asked for a call has taken it back while it ran; the message says so."""


class ToolArgs(BaseModel):
    """Base of every tool's arguments: unknown names are an error, every field is described, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@runtime_checkable
class History(Protocol):
    """What tools may read of the record: never the store itself."""

    def select(
        self,
        where: Mapping[str, Any],
        group_by: Sequence[str],
        aggregate: str,
        order_by: str | None,
        descending: bool,
        limit: int,
        this_run: bool,
    ) -> list[dict[str, Any]]:
        """Rows of measurements, filtered, grouped and aggregated. ValueError lists valid columns."""
        ...

    def code(self, name: str) -> str | None:
        """The code of an own experiment by its address (code:1f0c...), from this run or another; None where there is none."""
        ...

    def recall(self, handle: str, page: int = 1) -> str:
        """Everything on record about one handle (E3, N1, H2, F1, C1, Q1), as text; of an experiment a page of measurements.

        ValueError lists valid handles, or says how many pages there are.
        """
        ...

    def handles(self, letter: str) -> Sequence[str]:
        """The handles of one kind so far: E, N, H, F, C or Q."""
        ...

    def intact(self, task: str, name: str) -> str | None:
        """The experiment that measured a quantity of the intact model, beside chance, on most explore examples of a task."""
        ...

    def hypotheses(self) -> list[Hypothesis]:
        """The latest state of each hypothesis."""
        ...

    def findings(self) -> list[Finding]:
        """The latest state of each finding."""
        ...

    def claims(self) -> list[Claim]:
        """The claims so far."""
        ...

    def questions(self) -> list[Question]:
        """What the goal asks."""
        ...

    def notes(self) -> list[Note]:
        """The notes so far."""
        ...

    def experiment(self, handle: str) -> Experiment:
        """What was asked under a handle such as E3."""
        ...

    def measurements_of(self, handle: str) -> list[Measurement]:
        """What was measured under a handle such as E3."""
        ...

    def unresolved(self, text: str) -> list[str]:
        """What is wrong with the {{E3.name[...]}} references in a text: one line each, naming what would be valid."""
        ...


@runtime_checkable
class TaskBook(Protocol):
    """The tasks a run can use: the program's families and those made for the run."""

    def get(self, spec: str) -> "Task":
        """A task by its spec. ToolInputError names what there is."""
        ...

    def made(self) -> list[TaskData]:
        """Tasks that are not part of the program."""
        ...


@dataclass(frozen=True)
class Context:
    """What a tool may use: the subject, the tasks, the record to read, and the run's settings.

    split, draw: `explore`, but when the loop settles findings: then `confirm`, and how many of its groups are passed over.
    check: to be called now and then by long work that does not run the subject (which calls it itself); raises
    DeadlineReached. fresh: compute everything anew, nothing that an earlier process kept on disk. lifted: what a finding says is
    tested although the model cannot do the task, on quantities that exist without capability: on nulls alone, which no planner
    and no command line can ask for. answers: where what the model said to each example is kept for a reader. sandbox: where a
    planner's own code runs, None unless a person has allowed it.
    """

    subject: "Subject"
    tasks: TaskBook
    history: History
    seed: int = 0
    max_tokens: int = 2048
    split: "Split" = "explore"
    draw: int = 0
    progress: Callable[[str], None] = field(default=lambda _: None)
    check: Callable[[], None] = field(default=lambda: None)
    fresh: bool = False
    lifted: bool = False
    answers: "Answers | None" = None
    sandbox: "Sandbox | None" = None


@dataclass(frozen=True)
class Tool:
    """One ability, read from its module.

    kind: `experiment` tools compute on the subject and are cached and replayed; `notebook` tools write or read the
    researcher's own records; the `settling` one names the findings that the loop then puts to unseen examples, the
    `delegating` one the question that the loop then has another run investigate.
    needs: the capability of a subject, an input that it reads (`image`), `trees` in the
    run's tasks, `code` where that is allowed, or the `person` who works by
    hand; without it the tool is not offered.
    localises: it looks for where a task is done, so that within a run the task's capability has to be on record first.
    work: what a call will have to run, for a forecast, where that is known beforehand.
    """

    name: str
    description: str
    args: type[ToolArgs]
    run: Callable[[Any, Context], Outcome]
    example: dict[str, Any]
    kind: ToolKind
    localises: bool = False
    needs: str = ""
    work: "Callable[[Any, Context], Sequence[Work]] | None" = None

    def fits(self, capabilities: Collection[str]) -> bool:
        """Whether a subject with these capabilities can be given to it at all."""
        return not self.needs or self.needs in capabilities

    def parse(self, arguments: Mapping[str, Any]) -> ToolArgs:
        """Validated arguments; ToolInputError with one line per problem and a valid example otherwise."""
        try:
            # In the strict schema a field with a default is nullable, and null stands for the default.
            given = {
                k: v
                for k, v in arguments.items()
                if not (v is None and k in self.args.model_fields and not self.args.model_fields[k].is_required())
            }
            return self.args.model_validate(given)
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {_plain(e)}" for e in error.errors()]
            fields = ", ".join(self.args.model_fields) or "none"
            raise ToolInputError(
                f"{self.name}: {'; '.join(lines)}. Arguments are: {fields}. Example: {self.example}"
            ) from None

    def schema(self) -> dict[str, Any]:
        """JSON schema of the arguments in the strict form of function calling: flat, all required, nothing extra."""
        return strict_schema(self.args)

    def task_specs(self, args: ToolArgs) -> list[tuple[str, int]]:
        """(task, number of examples) that an experiment reads, for its content address."""
        named = [t for t in (getattr(args, "task", None), getattr(args, "other_task", None)) if t]
        names = getattr(args, "tasks", None) or named
        return [(n, int(getattr(args, "examples", 1))) for n in dict.fromkeys(names)]


def strict_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Strict function-calling schema: every property required, no defaults, no additional properties, no $ref.

    A field with a default is offered as nullable; null means the default.
    """
    return copy.deepcopy(
        _strict_schema(model)
    )  # making it takes a tenth of a second for all tools, and runs ask for it often


@cache
def _strict_schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def clean(node: Any) -> Any:
        if isinstance(node, list):
            return [clean(n) for n in cast("list[Any]", node)]
        if not isinstance(node, dict):
            return node
        node = cast("dict[str, Any]", node)
        if "$ref" in node:
            return clean(
                {**definitions[node["$ref"].rsplit("/", 1)[-1]], **{k: v for k, v in node.items() if k != "$ref"}}
            )
        return {k: clean(v) for k, v in node.items() if k not in {"title", "default"}}

    properties: dict[str, Any] = {}
    for name, raw in schema.get("properties", {}).items():
        prop = clean(raw)
        optional = not model.model_fields[name].is_required()
        if optional and not any(o.get("type") == "null" for o in prop.get("anyOf", [])):
            described = prop.pop("description", "")
            prop = {"anyOf": [prop, {"type": "null"}], "description": described}
        if optional and (default := model.model_fields[name].default) is not None:
            prop["description"] += f" (null: {json.dumps(default)})"
        properties[name] = prop
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def discover() -> dict[str, Tool]:
    """Every tool of this folder by name: one for each public module."""
    return dict(_discover())


@cache
def _discover() -> tuple[tuple[str, Tool], ...]:
    names = sorted(
        m.name
        for m in pkgutil.iter_modules([str(Path(__file__).parents[1])])
        if not m.ispkg and not m.name.startswith("_")
    )
    return tuple((name, _read(name, importlib.import_module(f"tools.{name}"))) for name in names)


def _read(name: str, module: ModuleType) -> Tool:
    doc = inspect.getdoc(module) or ""
    description = "\n".join(" ".join(paragraph.split()) for paragraph in doc.split("\n\n"))
    localises = bool(getattr(module, "LOCALISES", False))
    needs = str(getattr(module, "NEEDS", ""))
    work = getattr(module, "work", None)
    return Tool(name, description, module.Args, module.run, module.EXAMPLE, module.KIND, localises, needs, work)


def _plain(error: Any) -> str:
    """One pydantic error in words, with what was given."""
    given = error.get("input")
    if error["type"] == "missing":
        return "missing"
    if error["type"] == "extra_forbidden":
        return "unknown argument"
    said = plain_message(str(error["msg"]))
    return said if isinstance(given, dict) else f"{said}, got {given!r}"
