"""How the first line of an experiment's text says which examples it is about and what its effects stand beside."""

from collections.abc import Sequence

from experiments_db.records import Measurement
from tools.tasks import Task


def examples_of(task: Task, among: str) -> str:
    """'addition', or 'addition among carry=1'."""
    return f"{task.name} among {among}" if among else task.name


def beside(measurements: Sequence[Measurement]) -> str:
    """', against a random vector of the same norm': the controls on record, in their order."""
    kinds = dict.fromkeys(m.control.kind for m in measurements if m.control is not None)
    return f", against {' and '.join(kinds)}" if kinds else ""
