"""A finding on a null: which nulls it can be tried on, what of it is tested there, and with which subject and examples."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from experiments_db.findings import Finding, Statement
from experiments_db.records import TaskData
from tools.findings.kind import NULLS, kinds, tenth_of_examples, tenth_of_task
from tools.findings.null_twins import null_twin, shuffled_answers
from tools.methods.tool import TaskBook
from tools.subjects import Subject
from tools.tasks import Sample, Split, Task, TaskError

FIRST_SEED = 7919  # apart from the seeds of random models that findings themselves are compared with


@dataclass(frozen=True)
class NullTest:
    """One finding to be tested on one null: the kind of null, which of that kind, and the finding's handle."""

    null: str
    seed: int
    finding: str


def plan(findings: Sequence[Finding], twins: int) -> list[NullTest]:
    """Every test of the findings that were confirmed, null by null."""
    return [
        NullTest(null, seed, f.handle)
        for null in NULLS
        for seed in range(twins)
        for f in _confirmed(findings)
        if null not in kinds()[f.statement.kind].nulls.without
    ]


def left_out(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    """(finding, null, why) of each confirmed finding that is not tested on a null."""
    return [
        (f.handle, null, f"{f.statement.kind}: {why}")
        for f in _confirmed(findings)
        for null, why in kinds()[f.statement.kind].nulls.without.items()
    ]


def apart(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    """(finding, null, why) of each that may truly hold on models of random weights: tested, and counted apart."""
    return [
        (f.handle, "random_init", f"{f.statement.kind}: {why}")
        for f in _confirmed(findings)
        if (why := kinds()[f.statement.kind].nulls.apart)
    ]


def _confirmed(findings: Sequence[Finding]) -> list[Finding]:
    """Those that a round confirmed, whether or not they were taken back, of kinds that there are."""
    return [f for f in findings if f.fate == "confirmed" and f.experiment and f.statement.kind in kinds()]


def null_statement(s: Statement) -> Statement:
    """The statement as it is tested on a null: with a smallest effect that is a share of examples as it was sealed; one that is
    a part of what the model has to lose is taken anew, from what the null has.

    A planner's stricter one is lost with that, which can only make more tests confirm.
    """
    fixed = kinds()[s.kind].least in (tenth_of_examples, tenth_of_task)
    return s if fixed else s.model_copy(update={"smallest": None})


def null_subject(subject: Subject, null: str, seed: int) -> Subject:
    """The model of a null: one of random weights, or the subject itself."""
    return null_twin(subject, null, FIRST_SEED + seed) if null == "random_init" else subject


def null_tasks(tasks: TaskBook, null: str, seed: int) -> TaskBook:
    """The tasks of a null: with other problems' answers, or as they are."""
    return ShuffledTasks(tasks, seed) if null == "shuffled_answers" else tasks


@dataclass(frozen=True)
class ShuffledTask(Task):
    """A task whose samples have other problems' answers, each sample within itself."""

    shuffle: int = 0

    def sample(self, split: Split, n: int, seed: int = 0, draw: int = 0) -> Sample:
        """The same examples in the same order, their answers moved. TaskError where they are of one problem."""
        found = super().sample(split, n, seed, draw)
        try:
            return replace(found, examples=tuple(shuffled_answers(found.examples, self.shuffle)))
        except ValueError as error:
            raise TaskError(f"{self.name}: {error}") from None


@dataclass(frozen=True)
class ShuffledTasks:
    """The tasks of a run with other problems' answers."""

    tasks: TaskBook
    seed: int

    def get(self, spec: str) -> Task:
        """A task by its spec."""
        task = self.tasks.get(spec)
        return ShuffledTask(**{f.name: getattr(task, f.name) for f in fields(Task) if f.init}, shuffle=self.seed)

    def made(self) -> list[TaskData]:
        """Tasks that are not part of the program."""
        return self.tasks.made()
