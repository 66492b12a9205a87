"""Capability first: where a task is done can be asked only once the intact model is known to do it."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments_db.records import Measurement
from tools.methods.tool import History


@dataclass(frozen=True)
class Capability:
    """How the intact model does a task on explore examples, and where that was measured."""

    experiment: str
    accuracy: Measurement
    chance: float

    @property
    def above_chance(self) -> bool:
        """Whether the accuracy's interval lies above chance."""
        return (self.accuracy.low if self.accuracy.low is not None else self.accuracy.value) > self.chance


def capability(history: History, task: str) -> Capability | None:
    """The intact model's accuracy on a task's explore examples, where `loss` or `examine` measured it: with most examples."""
    found = [c for h in history.handles("E") if (c := _measured(h, history.measurements_of(h), task)) is not None]
    return max(found, key=lambda c: c.accuracy.n) if found else None


def _measured(handle: str, rows: Sequence[Measurement], task: str) -> Capability | None:
    mine = [m for m in rows if m.task == task and m.split == "explore" and m.among is None]
    accuracy = next((m for m in mine if m.name == "accuracy" and m.program == "intact"), None)
    chance = next((m for m in mine if m.name == "chance"), None)
    return None if accuracy is None or chance is None else Capability(handle, accuracy, chance.value)
