"""Repeated runs: the same question several times. Each repeat is a run of its own, whose settings say which group it is of and
what the whole plan was, so that the group can be continued after a kill and read from the database alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments_db.records import Run
from experiments_db.store import Store

UNFINISHED = "interrupted"  # how the reason of a run begins that a person stopped


@dataclass(frozen=True)
class Repeat:
    """What one repeat is asked: the goal in some words, the planner, and the seed that decides which examples it explores."""

    goal: str
    planner: str | None
    seed: int


@dataclass(frozen=True)
class Group:
    """The repeats of one question: the plan, and the runs so far by their number, from 1."""

    name: str
    plan: tuple[Repeat, ...]
    runs: Mapping[int, Run]

    @property
    def ended(self) -> dict[int, Run]:
        """Those that came to an end, or to the end of their budget."""
        return {i: r for i, r in self.runs.items() if is_over(r)}

    @property
    def open(self) -> Run | None:
        """The one that was cut off and has to be continued, if there is one."""
        return next((r for r in self.runs.values() if not is_over(r)), None)

    @property
    def waiting(self) -> list[int]:
        """The numbers of those that have not begun."""
        return [i for i in range(1, len(self.plan) + 1) if i not in self.runs]


def is_over(run: Run) -> bool:
    """Whether nobody has to continue a run."""
    return run.status == "finished" or (run.status == "stopped" and not run.reason.startswith(UNFINISHED))


def planned(goals: Sequence[str], planners: Sequence[str | None], seed: int, times: int) -> tuple[Repeat, ...]:
    """Planners change from repeat to repeat, goals once all planners had their turn, and the seed each time."""
    return tuple(
        Repeat(goals[i // len(planners) % len(goals)], planners[i % len(planners)], seed + i) for i in range(times)
    )


def setting(group: str, number: int, plan: Sequence[Repeat], files: Sequence[str]) -> dict[str, Any]:
    """As a run's settings keep it. files: the task files, which later repeats read again."""
    return {"group": group, "number": number, "plan": [asdict(r) for r in plan], "files": list(files)}


def groups(store: Store) -> list[str]:
    """Names of all groups, oldest first."""
    sql = "SELECT json_extract(settings, '$.repeat.group') AS g FROM runs WHERE g IS NOT NULL GROUP BY g ORDER BY min(created)"
    return [r["g"] for r in store.rows(sql)]


def group_named(store: Store, word: str) -> str | None:
    """The group that a word means: its name, or a prefix that is one group's and no other run's; None if it means none."""
    names = groups(store)
    if word in names:
        return word
    if not word or word in store.runs():
        return None
    found = [g for g in names if g.startswith(word)]
    mine = {r.name for g in found for r in group(store, g).runs.values()}
    return found[0] if len(found) == 1 and all(n in mine for n in store.runs() if n.startswith(word)) else None


def group(store: Store, name: str) -> Group:
    """A group by its name."""
    rows = store.rows("SELECT name FROM runs WHERE json_extract(settings, '$.repeat.group') = ? ORDER BY rowid", name)
    runs = [store.run(r["name"]) for r in rows]
    said = [r.settings["repeat"] for r in runs]
    plan = tuple(Repeat(**r) for r in said[0]["plan"]) if said else ()
    return Group(name, plan, {int(s["number"]): r for s, r in sorted(zip(said, runs, strict=True), key=_number)})


def _number(pair: tuple[Mapping[str, Any], Run]) -> int:
    return int(pair[0]["number"])


def varied(plan: Sequence[Repeat]) -> dict[str, list[str]]:
    """The words of a plan's goals, planners and seeds, each once."""
    said = {name: [str(getattr(r, name)) for r in plan] for name in ("goal", "planner", "seed")}
    return {name: list(dict.fromkeys(words)) for name, words in json.loads(json.dumps(said)).items()}
