"""How often a run's confirmatory tests "confirm" something where there is nothing: the share over its null twins."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tools.statistics.estimate import TooFewGroups
from tools.statistics.means import proportion

KINDS: dict[str, str] = {
    "random_init": "a model of the same shape with weights drawn anew by its own initialisation (keeps: shape, tokenizer, "
    "examples, examples' order; loses: all that training put there)",
    "shuffled_answers": "the model itself, asked for other problems' answers (keeps: weights, prompts, how often each answer "
    "occurs and which foil and candidates come with it; loses: which answer belongs to which prompt)",
}

SHORT = {"random_init": "random weights", "shuffled_answers": "shuffled answers"}
Reason = tuple[str, str, str]
BEGUN, TRIAL, SKIPPED = EVENTS = ("null_twins", "null_trial", "null_twins_skipped")


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
    """All nulls of one run.

    trials: whose share counts. apart: tests of what may truly hold on a null, which are no errors where they are confirmed;
    aside: (finding, null, why) of those. left_out: the same of what was not tested, because it is no null for that finding or
    could not be measured on it. skipped: why there are none, or not all.
    """

    trials: tuple[NullTrial, ...] = ()
    skipped: str = ""
    apart: tuple[NullTrial, ...] = ()
    aside: tuple[Reason, ...] = ()
    left_out: tuple[Reason, ...] = ()

    @classmethod
    def read(cls, events: Iterable[tuple[str, Mapping[str, Any]]]) -> "NullTwinReport | None":
        """From a run's events about null twins, (kind, payload) in order; None where it has none."""
        begun: Mapping[str, Any] = {}
        made: dict[tuple[str, int], dict[str, Mapping[str, Any]]] = {}
        why, any_found = "", False
        for kind, payload in events:
            any_found = True
            if kind == BEGUN:
                begun, why = payload, ""
            elif kind == TRIAL:
                made.setdefault((payload["null"], payload["seed"]), {}).update(
                    {t["finding"]: t for t in payload["tests"]}
                )
            elif kind == SKIPPED:
                why = str(payload["why"])
        if not any_found:
            return None
        aside = tuple((f, n, reason) for f, n, reason in begun.get("apart", ()))
        beside = {(f, n) for f, n, _ in aside}
        counted, apart = _trials(made, lambda f, n: (f, n) not in beside), _trials(made, lambda f, n: (f, n) in beside)
        left = [(f, n, reason) for f, n, reason in begun.get("left_out", ())]
        left += [(f, n, t["refused"]) for (n, _), tests in made.items() for f, t in tests.items() if t["refused"]]
        done, planned = sum(len(tests) for tests in made.values()), int(begun.get("planned", 0))
        so_far = f"{done} of {planned} tests made"
        stopped = "" if done >= planned else f"{so_far}, then {why}" if why else f"{so_far} so far"
        return cls(counted, stopped, apart, aside, tuple(dict.fromkeys(left)))

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

    def line(self) -> str:
        """One sentence: how many of the tests would have confirmed a finding on nulls."""
        if not self.tried:
            return f"no null twins: {self.skipped or 'no confirmed finding can be tried on one'}"
        inside = self.interval
        count = sum(bool(t.tried) for t in self.trials)
        nulls = f"{count} null twin{'s' if count > 1 else ''}"
        bounds = (
            "too few for an interval"
            if inside is None
            else f"95% interval {_percent(inside[0])} to {_percent(inside[1])}"
        )
        return (
            f"on {nulls}, {self.confirmed} of {self.tried} tests would have confirmed a finding where there is none: "
            f"{_percent(self.confirmed / self.tried)} ({bounds}){f'; {self.skipped}' if self.skipped else ''}"
        )

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """For each kind of null what it is, how many twins, tests, how many would be confirmed, and which findings."""
        out: list[tuple[str, str, str, str, str]] = []
        for trials, beside in ((self.trials, ""), (self.apart, "; what may truly hold there, not counted")):
            for kind, words in KINDS.items():
                mine = [t for t in trials if t.kind == kind and t.tried]
                if mine:
                    which = ", ".join(_ordered({f for t in mine for f in t.confirmed}))
                    tried, confirmed = sum(t.tried for t in mine), sum(len(t.confirmed) for t in mine)
                    out.append((f"{words}{beside}", str(len(mine)), str(tried), str(confirmed), which))
        return out

    def reasons(self) -> list[str]:
        """One line for each reason for which findings were left out, or counted apart."""
        out: list[str] = []
        for what, given in (("left out", self.left_out), ("counted apart", self.aside)):
            by_reason: dict[str, dict[str, list[str]]] = {}
            for f, null, why in given:
                by_reason.setdefault(why, {}).setdefault(f, []).append(null)
            for why, found in by_reason.items():
                nulls = list(dict.fromkeys(n for names in found.values() for n in names))
                where = "" if len(nulls) == len(KINDS) else f" on {' and '.join(SHORT.get(n, n) for n in nulls)}"
                out.append(f"{what}{where}: {', '.join(_ordered(found))} ({why})")
        return out


def _trials(
    made: Mapping[tuple[str, int], Mapping[str, Mapping[str, Any]]], wanted: Callable[[str, str], bool]
) -> tuple[NullTrial, ...]:
    """The trials' tests that are wanted, by finding and null, and that could be made."""
    out: list[NullTrial] = []
    for (null, seed), tests in made.items():
        mine = {f: t for f, t in tests.items() if wanted(f, null) and not t["refused"]}
        if mine:
            out.append(
                NullTrial(null, seed, len(mine), tuple(_ordered({f for f, t in mine.items() if t["confirmed"]})))
            )
    return tuple(out)


def _ordered(handles: Collection[str]) -> list[str]:
    return sorted(handles, key=lambda f: (len(f), f))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
