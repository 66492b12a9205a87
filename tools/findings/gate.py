"""Capability first: where a task is done can be asked only once the intact model is known to do it."""

from dataclasses import dataclass

from experiments_db.records import Measurement
from tools.methods.tool import History
from tools.ports import Objective


@dataclass(frozen=True)
class Capability:
    """How the intact model does a task on explore examples, and where that was measured."""

    experiment: str
    measured: Measurement
    chance: float
    better: int = 1

    @property
    def above_chance(self) -> bool:
        """Whether the interval lies on the better side of chance."""
        worst = self.measured.low if self.better > 0 else self.measured.high
        return self.better * ((self.measured.value if worst is None else worst) - self.chance) > 0


def capability(history: History, task: str, judged: Objective) -> Capability | None:
    """How well the intact model does on a task's explore examples, in the objective that its answers are judged by, where `loss`
    or `examine` measured it: with most examples.
    """
    handle = history.intact(task, judged.name)
    if handle is None:
        return None
    rows = history.measurements_of(handle)
    mine = [m for m in rows if m.task == task and m.split == "explore" and m.among is None]
    own = next(m for m in mine if m.name == judged.name and m.program == "intact")
    chance = next(m for m in mine if m.name == "chance")
    return Capability(handle, own, chance.value, judged.sign)
