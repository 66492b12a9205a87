"""Budgets: hard stops that still end in a report."""

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Limits:
    """What a run may spend; None is no limit. Minutes of wall time, dollars, planner tokens, experiments."""

    experiments: int | None = None
    minutes: float | None = None
    tokens: int | None = None
    cost: float | None = None


@dataclass
class Spent:
    """What a run has spent, continued from the record when it is resumed.

    reserved: experiments that are still to settle findings that are sealed: nothing else may use them.
    """

    experiments: int = 0
    reserved: int = 0
    tokens: int = 0
    cost: float = 0.0
    seconds_before: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def minutes(self) -> float:
        """Minutes so far, over all sittings."""
        return (self.seconds_before + time.monotonic() - self.started) / 60

    def over(self, limits: Limits) -> str | None:
        """Which budget is spent, in words; None while all hold. With experiments left out see `stopped`."""
        return self.used_up(limits) or self.stopped(limits)

    def used_up(self, limits: Limits) -> str | None:
        """Whether no experiment is left beyond those that are reserved: what is sealed can still be settled, and claimed."""
        if limits.experiments is None or self.experiments + self.reserved < limits.experiments:
            return None
        kept = f"; {self.reserved} of it settle what is sealed: confirm" if self.reserved else ""
        return f"the budget of {limits.experiments:g} experiments is spent{kept}"

    def stopped(self, limits: Limits) -> str | None:
        """Which budget that ends a run at once is spent: minutes, tokens or dollars."""
        checks: tuple[tuple[str, float, float | None], ...] = (
            ("minutes", self.minutes, limits.minutes),
            ("tokens", self.tokens, limits.tokens),
            ("dollars", self.cost, limits.cost),
        )
        for name, used, limit in checks:
            if limit is not None and used >= limit:
                return f"the budget of {limit:g} {name} is spent"
        return None

    def left(self, limits: Limits) -> int | None:
        """How many experiments are left that are not reserved; None without a limit."""
        return None if limits.experiments is None else max(0, limits.experiments - self.experiments - self.reserved)

    def text(self, limits: Limits) -> str:
        """'4 of 30 experiments, 1.2 of 10 minutes', for the planner."""
        reserved = f" (and {self.reserved} reserved to settle what is sealed)" if self.reserved else ""
        parts = [
            _part("experiments", self.experiments, limits.experiments) + reserved,
            _part("minutes", self.minutes, limits.minutes),
        ]
        if self.tokens or limits.tokens:
            parts.append(_part("tokens", self.tokens, limits.tokens))
        if self.cost or limits.cost:
            parts.append(_part("dollars", self.cost, limits.cost))
        return ", ".join(parts)


def _part(name: str, used: float, limit: float | None) -> str:
    shown = f"{used:.2f}" if isinstance(used, float) else str(used)
    return f"{shown} {name}" if limit is None else f"{shown} of {limit:g} {name}"
