"""Stand-ins for a run's record where a tool is used without one."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from experiments_db.findings import Claim, Finding, Question
from experiments_db.records import Experiment, Hypothesis, Measurement, Note, TaskData
from tools.methods.tool import ToolInputError
from tools.tasks import Task, TaskError, from_records, get_task, read_jsonl


class Nothing:
    """A history in which nothing has happened; tools that need one say that they belong to a run."""

    def _refuse(self) -> NoReturn:
        raise ToolInputError("this tool reads or writes the record of a run: it is for planners, through agent.run")

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
        """Refuses."""
        del where, group_by, aggregate, order_by, descending, limit, this_run
        self._refuse()

    def code(self, name: str) -> str | None:
        """None: nothing has been run."""
        del name

    def recall(self, handle: str, page: int = 1) -> str:
        """Refuses."""
        del handle, page
        self._refuse()

    def handles(self, letter: str) -> Sequence[str]:
        """Refuses."""
        del letter
        self._refuse()

    def intact(self, task: str, name: str) -> str | None:
        """Refuses."""
        del task, name
        self._refuse()

    def hypotheses(self) -> list[Hypothesis]:
        """Refuses."""
        self._refuse()

    def findings(self) -> list[Finding]:
        """Refuses."""
        self._refuse()

    def claims(self) -> list[Claim]:
        """Refuses."""
        self._refuse()

    def questions(self) -> list[Question]:
        """Refuses."""
        self._refuse()

    def notes(self) -> list[Note]:
        """Refuses."""
        self._refuse()

    def experiment(self, handle: str) -> Experiment:
        """Refuses."""
        del handle
        self._refuse()

    def measurements_of(self, handle: str) -> list[Measurement]:
        """Refuses."""
        del handle
        self._refuse()

    def unresolved(self, text: str) -> list[str]:
        """Refuses."""
        del text
        self._refuse()


class OfflineTasks:
    """The program's tasks and those of some files, named after the files."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._own = {f.stem: from_records(f.stem, f"from {f.name}", read_jsonl(f)) for f in files}

    def made(self) -> list[TaskData]:
        """None: nothing is kept."""
        return []

    def get(self, spec: str) -> Task:
        """A task by its spec; TaskError names what there is."""
        return get_task(spec, {name: lambda t=task: t for name, task in self._own.items()})


class KeptTasks:
    """The program's tasks and those that a run keeps as records."""

    def __init__(self, kept: Sequence[TaskData]) -> None:
        self._kept = tuple(kept)

    def made(self) -> list[TaskData]:
        """Tasks that are not part of the program."""
        return list(self._kept)

    def get(self, spec: str) -> Task:
        """A task by its spec. ToolInputError names what there is."""
        own = {d.name: partial(from_records, d.name, d.description, d.examples) for d in self._kept}
        try:
            return get_task(spec, own)
        except TaskError as error:
            raise ToolInputError(str(error)) from None
