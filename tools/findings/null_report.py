"""How often a run's confirmatory tests "confirm" something where there is nothing: the share over its null twins."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tools.statistics.estimate import TooFewGroups
from tools.statistics.means import proportion

KINDS: dict[str, str] = {
    "random_init": "a model of the same shape with weights drawn anew by its own initialisation (keeps: shape, tokenizer, "
    "examples, examples' order; loses: all that training put there)",
    "shuffled_answers": "the model itself, asked for other problems' answers (keeps: weights, prompts, how often each answer "
    "occurs and which foil and candidates come with it; loses: which answer belongs to which prompt)",
}


@dataclass(frozen=True)
class NullTrial:
    """The run's findings tested again on one null. kind: one of KINDS; seed: which null of that kind.

    tried: findings tested. confirmed: their ids (such as F3) that would have been confirmed.
    """

    kind: str
    seed: int
    tried: int
    confirmed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is no kind of null; there are {', '.join(KINDS)}")
        if len(self.confirmed) > self.tried:
            raise ValueError(f"{len(self.confirmed)} findings cannot be confirmed of {self.tried} tried")


@dataclass(frozen=True)
class NullTwinReport:
    """All nulls of one run. skipped: why none were made, where none were."""

    trials: tuple[NullTrial, ...] = ()
    skipped: str = ""

    @property
    def tried(self) -> int:
        """Tests made on nulls."""
        return sum(t.tried for t in self.trials)

    @property
    def confirmed(self) -> int:
        """Tests that would have confirmed a finding where there is none."""
        return sum(len(t.confirmed) for t in self.trials)

    @property
    def share(self) -> float | None:
        """Share of tests that would have confirmed; None where none was made."""
        return self.confirmed / self.tried if self.tried else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95% interval; the nulls are the independent units, since a null's tests share its weights or its answers.

        None with fewer nulls than the exact interval needs.
        """
        hits = [i < len(t.confirmed) for t in self.trials for i in range(t.tried)]
        units = [n for n, t in enumerate(self.trials) for _ in range(t.tried)]
        if not hits:
            return None
        try:
            found = proportion(hits, units)
        except TooFewGroups:
            return None
        return found.low, found.high

    def as_json(self) -> dict[str, Any]:
        """Plain data, as it is kept with a run."""
        return {"trials": [{**asdict(t), "confirmed": list(t.confirmed)} for t in self.trials], "skipped": self.skipped}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "NullTwinReport":
        """The report that `as_json` wrote."""
        trials = (NullTrial(t["kind"], t["seed"], t["tried"], tuple(t["confirmed"])) for t in value["trials"])
        return cls(tuple(trials), value["skipped"])

    def line(self) -> str:
        """One sentence: how many of the tests would have confirmed a finding on nulls."""
        if not self.tried:
            return f"no null twins: {self.skipped or 'no finding was confirmed or tried'}"
        inside = self.interval
        nulls = f"{len(self.trials)} null twin{'s' if len(self.trials) > 1 else ''}"
        bounds = (
            "too few for an interval"
            if inside is None
            else f"95% interval {_percent(inside[0])} to {_percent(inside[1])}"
        )
        return (
            f"on {nulls}, {self.confirmed} of {self.tried} tests would have confirmed a finding where there is none: "
            f"{_percent(self.confirmed / self.tried)} ({bounds})"
        )

    def section(self) -> str:
        """The report's section in markdown; empty where nothing is to be said. Holds no text of planners or models."""
        if not self.trials and not self.skipped:
            return ""
        lines = ["## Null twins", "", self.line()[:1].upper() + self.line()[1:] + "."]
        if self.trials:
            lines += ["", "| null | twins | tests | would be confirmed | which |", "|---|---|---|---|---|"]
        for kind, words in KINDS.items():
            mine = [t for t in self.trials if t.kind == kind]
            if mine:
                which = ", ".join(sorted({f for t in mine for f in t.confirmed}, key=lambda f: (len(f), f)))
                tried, confirmed = sum(t.tried for t in mine), sum(len(t.confirmed) for t in mine)
                lines.append(f"| {words} | {len(mine)} | {tried} | {confirmed} | {which} |")
        return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
