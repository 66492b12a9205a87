"""One run's part of the store, as tools may read it and as the loop writes it."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from agent.report.references import UnresolvedReference, find, resolve
from experiments_db.findings import Claim, Finding, Question
from experiments_db.records import Experiment, Hypothesis, Measurement, Note, Run, TaskData
from experiments_db.store import ExperimentRow, Store, StoreError
from tools.methods.offline import KeptTasks
from tools.methods.own import address
from tools.tasks import Task

PAGE = 120  # measurements that recall shows at a time


class Handles(Sequence[str]):
    """The handles of what is numbered without gaps, such as E1 to E900; none of them is held."""

    def __init__(self, letter: str, count: int) -> None:
        self._letter, self._numbers = letter, range(1, count + 1)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        found = self._numbers[index]
        return f"{self._letter}{found}" if isinstance(found, int) else [f"{self._letter}{n}" for n in found]

    def __contains__(self, handle: object) -> bool:
        found = re.fullmatch(r"([A-Z])([1-9][0-9]{0,8})", handle) if isinstance(handle, str) else None
        return found is not None and found[1] == self._letter and int(found[2]) in self._numbers


INTACT = """
    SELECT x.number AS number FROM measurements c
    CROSS JOIN run_experiments x ON x.result = c.result AND x.run = ?
    CROSS JOIN measurements m ON m.result = c.result AND m.name = ? AND m.task = c.task
    WHERE c.name = 'chance' AND c.task = ? AND c.split = 'explore' AND c.among IS NULL
        AND m.split = 'explore' AND m.among IS NULL AND m.program = 'intact'
    ORDER BY m.n DESC, x.number LIMIT 1
"""


class RunRecord:
    """Reads the record of one run; implements what `tools.methods.tool.History` asks for."""

    def __init__(self, store: Store, run: str) -> None:
        self.store, self.run = store, run
        self.told: dict[int, str] = {}  # a line for each of the latest experiments, by number: it never changes

    def experiments(self) -> list[ExperimentRow]:
        """The run's experiments in order."""
        return self.store.experiments(self.run)

    def handle_of(self, experiment: str) -> str | None:
        """Under which handle the run has asked an experiment, by its id, before; None where it has not."""
        # By its results, which have an index: in the run's own experiments the id is looked for one by one.
        sql = (
            "SELECT min(r.number) AS number FROM results s CROSS JOIN run_experiments r ON r.result = s.id "
            "WHERE s.experiment = ? AND r.run = ? AND r.experiment = s.experiment"
        )
        number = self.store.rows(sql, experiment, self.run)[0]["number"]
        return None if number is None else f"E{number}"

    def count(self) -> int:
        """How many experiments the run has on record."""
        sql = "SELECT coalesce(max(number), 0) AS n FROM run_experiments WHERE run = ?"
        return int(self.store.rows(sql, self.run)[0]["n"])

    def hypotheses(self) -> list[Hypothesis]:
        """The latest state of each hypothesis."""
        return self.store.hypotheses(self.run)

    def findings(self) -> list[Finding]:
        """The latest state of each finding."""
        return self.store.findings(self.run)

    def questions(self) -> list[Question]:
        """What the goal asks."""
        return self.store.questions(self.run)

    def claims(self) -> list[Claim]:
        """The claims so far."""
        return self.store.claims(self.run)

    def notes(self) -> list[Note]:
        """The notes so far."""
        return self.store.notes(self.run)

    def noted(self) -> int:
        """How many notes there are."""
        return int(self.store.rows("SELECT coalesce(max(number), 0) AS n FROM notes WHERE run = ?", self.run)[0]["n"])

    def measurements_of(self, handle: str) -> list[Measurement]:
        """Measurements of an experiment by its handle; StoreError lists handles."""
        return self.store.measurements(self.store.experiment(self.run, handle).result_id)

    def experiment(self, handle: str) -> Experiment:
        """What was asked under a handle."""
        return self.store.experiment(self.run, handle).experiment

    def intact(self, task: str, name: str) -> str | None:
        """The experiment that measured a quantity of the intact model, beside chance, on most explore examples of a task.

        The first of several; asked before every call that localises, so nothing else of the record is read.
        """
        found = self.store.rows(INTACT, self.run, name, task)
        return f"E{found[0]['number']}" if found else None

    def handles(self, letter: str) -> Sequence[str]:
        """The handles of one kind so far: E, N, H, F, C or Q."""
        match letter:
            case "E":
                return Handles("E", self.count())
            case "H":
                return [h.handle for h in self.hypotheses()]
            case "F":
                return [f.handle for f in self.findings()]
            case "Q":
                return [q.handle for q in self.questions()]
            case "N":
                return Handles("N", self.noted())
            case "C":
                return [f"C{i}" for i in range(1, len(self.claims()) + 1)]
            case _:
                raise ValueError(f"handles begin with E, N, H, F, C or Q, not {letter!r}")

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
        """Measurements filtered, grouped and aggregated; what other runs measured on confirm examples stays sealed."""
        run = self.run if this_run else None
        if run is None:
            where = {**where, "split": {**where.get("split", {}), "!=": "confirm"}}
        return self.store.select(where, group_by, aggregate, order_by, descending=descending, limit=limit, run=run)

    def unresolved(self, text: str) -> list[str]:
        """What is wrong with the references in a text."""
        problems: list[str] = []
        for inside in find(text):
            try:
                resolve(inside, self.measurements_of)
            except (UnresolvedReference, StoreError) as error:
                problems.append(str(error))
        return problems

    def code(self, name: str) -> str | None:
        """The code of an own experiment by its address, from this run or another; None where there is none."""
        found = self.store.rows(
            "SELECT DISTINCT json_extract(args, '$.code') AS code FROM experiments WHERE tool = 'experiment'"
        )
        return next((str(r["code"]) for r in found if r["code"] is not None and address(str(r["code"])) == name), None)

    def recall(self, handle: str, page: int = 1) -> str:
        """Everything on record about one handle, as text; of an experiment a page of its measurements."""
        letter, number = handle[:1], handle[1:]
        known = self.handles(letter)
        if handle not in known:
            raise ValueError(f"there is no {handle!r}; there are {', '.join(known[-20:]) or 'none yet'}")
        if letter == "E":
            return self._recall_experiment(handle, page)
        if letter == "N":
            (record,) = self.store.notes(self.run, int(number), 1)
        elif letter == "C":
            record = self.claims()[int(number) - 1]
        else:
            record = next(r for r in [*self.hypotheses(), *self.findings(), *self.questions()] if r.handle == handle)
        return f"{handle}: {record.model_dump_json()}"

    def _recall_experiment(self, handle: str, page: int) -> str:
        row = self.store.experiment(self.run, handle)
        result = self.store.result(row.result_id, arrays=False)
        found = result.measurements
        pages = max(1, -(-len(found) // PAGE))
        if page > pages:
            raise ValueError(
                f"{handle} has {pages} page{'s' if pages > 1 else ''} of measurements, {len(found)} in all"
            )
        lines = [f"{handle}: {row.experiment.tool} {row.experiment.args}", f"status {result.status}"]
        lines += [result.text] if page == 1 else []
        if found:
            lines.append("measurements (write {{" + handle + ".name[...]}} to refer to one):")
            lines += [f"  {m.key} = {m.value:.4g}" + _interval(m) for m in found[(page - 1) * PAGE : page * PAGE]]
        if pages > 1:
            lines.append(f"  page {page} of {pages}, {len(found)} measurements; recall takes a page, query picks some")
        return "\n".join(lines)


class Reading(RunRecord):
    """The record of a run that is only read, for one page or report: what is asked for again is not read again.

    measurements: how a result's measurements are read, for a reader who keeps them from one page to the next.
    """

    def __init__(self, store: Store, run: str, measurements: Callable[[int], list[Measurement]] | None = None) -> None:
        super().__init__(store, run)
        self._read = measurements or store.measurements
        self._measured: dict[str, list[Measurement]] = {}
        self._asked: dict[str, Experiment] = {}
        self._found: list[Finding] | None = None

    def findings(self) -> list[Finding]:
        """The latest state of each finding."""
        if self._found is None:
            self._found = super().findings()
        return self._found

    def measurements_of(self, handle: str) -> list[Measurement]:
        """Measurements of an experiment in the order of its table."""
        if handle not in self._measured:
            self._measured[handle] = self._read(self.store.experiment(self.run, handle).result_id)
        return self._measured[handle]

    def experiment(self, handle: str) -> Experiment:
        """What was asked under a handle."""
        if handle not in self._asked:
            self._asked[handle] = super().experiment(handle)
        return self._asked[handle]


def _interval(m: Measurement) -> str:
    inside = f" [{m.low:.4g}, {m.high:.4g}]" if m.low is not None and m.high is not None else ""
    control = f", control {m.control.value:.4g}" if m.control else ""
    return f"{inside} (n={m.n}{control})"


def branched_at(run: Run) -> int:
    """The last event that a run took over from the one it branched from; 0 for a run of its own."""
    return int((run.settings.get("branch") or {}).get("seq", 0))


def own_experiments(record: RunRecord, run: Run) -> int:
    """How many experiments a run has made, those that settled findings among them, without what it took over."""
    if not branched_at(run):  # they are numbered without gaps
        sql = "SELECT coalesce(max(number), 0) AS n FROM run_experiments WHERE run = ?"
        return int(record.store.rows(sql, run.name)[0]["n"])
    sql = "SELECT count(*) AS n FROM run_experiments WHERE run = ? AND seq > ?"
    return int(record.store.rows(sql, run.name, branched_at(run))[0]["n"])


class RunTasks:
    """The tasks a run can use: the program's, and those kept with the run, which are read anew when one is added."""

    def __init__(self, store: Store, run: str) -> None:
        self.store, self.run = store, run
        self._read: tuple[list[tuple[str, str]], list[TaskData]] = [], []

    def made(self) -> list[TaskData]:
        """Tasks that are not part of the program."""
        rows = self.store.rows("SELECT name, sha FROM run_tasks WHERE run = ? ORDER BY rowid", self.run)
        there = [(r["name"], r["sha"]) for r in rows]
        if self._read[0] != there:
            self._read = there, self.store.task_data(self.run)
        return [*self._read[1]]

    def get(self, spec: str) -> Task:
        """A task by its spec. ToolInputError names what there is."""
        return KeptTasks(self.made()).get(spec)
