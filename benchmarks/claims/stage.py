"""Where hostile claims are played: the real loop with a planner that follows a script, on models whose mechanism is known.

Nothing of the discipline is imitated here: every call goes through `agent.loop.investigate`, and what came of it is read from
the store and from the conclusion that a report would print.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from agent.loop import goal as goals
from agent.loop.branch import Branch
from agent.loop.budget import Limits
from agent.loop.ending import Ending
from agent.loop.executor import ToolRunner, Work
from agent.loop.investigate import investigate
from agent.loop.record import RunRecord, RunTasks
from agent.planners.base import Answer, PlannerError, ToolCall, Turn, View
from agent.report.conclusion import Concluded, conclude
from experiments_db.branch import copy_record
from experiments_db.records import Result, Run, TaskData
from experiments_db.store import Store
from tools.methods.tool import discover
from tools.subjects import Subject

Call = tuple[str, dict[str, Any]]
Calls = Sequence[Call]
Script = tuple[Calls, ...]
RUN, EARLIER = "claims", "earlier"
LIMITS = Limits(experiments=60)


@dataclass(frozen=True)
class World:
    """A subject with what is asked of it. data: tasks that come with it; task: the spec the goal is about."""

    name: str
    subject: Subject
    goal: str
    task: str
    data: tuple[TaskData, ...] = ()
    facts: Any = None


@dataclass(frozen=True)
class Played:
    """What a script came to. answers: to every call, in order; ending: of the run."""

    store: Store
    run: str
    answers: tuple[tuple[ToolCall, Answer], ...]
    ending: Ending

    @cached_property
    def record(self) -> RunRecord:
        """The run's record."""
        return RunRecord(self.store, self.run)

    @cached_property
    def concluded(self) -> Concluded:
        """What a report would say at its head."""
        return conclude(self.record)

    @property
    def headline(self) -> frozenset[str]:
        """Findings in the headline."""
        return frozenset(h for sentence in self.concluded.headline for h in sentence.findings)

    def answer(self, tool: str) -> Answer | None:
        """The last answer to a tool's call; None where it was never called."""
        return next((a for c, a in reversed(self.answers) if c.name == tool), None)


class Scripted:
    """A planner that follows a script; `$E`, `$F` in arguments stand for the last experiment and finding that it was told of.

    It gives up where the script rests on something that was refused.
    """

    name = "scripted"

    def __init__(self, script: Script, done: int = 0) -> None:
        self.script, self.done = script, done

    async def propose(self, view: View) -> Turn:
        """The next turn of the script."""
        at = len(view.exchanges) - self.done
        if at >= len(self.script):
            raise PlannerError("the script is over")
        handles = {}
        for exchange in view.exchanges:
            for call, answer in zip(exchange.turn.calls, exchange.answers, strict=True):
                letter = {"examine": "E", "loss": "E", "predict": "F"}.get(call.name)
                if letter:
                    handles[letter] = answer.handle
        calls = [
            ToolCall(f"{len(view.exchanges)}.{i}", tool, _filled(json.dumps(args), handles))
            for i, (tool, args) in enumerate(self.script[at])
        ]
        return Turn(tuple(calls), "as the script says")


def _filled(arguments: str, handles: dict[str, str | None]) -> str:
    for letter in "EF":
        if f'"${letter}"' in arguments:
            if not handles.get(letter):
                raise PlannerError("what the script goes on from was refused")
            arguments = arguments.replace(f'"${letter}"', json.dumps(handles[letter]))
    return arguments


class Silent:
    """Nobody watches."""

    def turn(self, turn: Turn) -> None:
        """Nothing."""

    def working(self, call: ToolCall, message: str) -> None:
        """Nothing."""

    def answered(self, call: ToolCall, answer: Answer, seconds: float) -> None:
        """Nothing."""


Computed = dict[str, tuple[Result, str]]


class Remembering(ToolRunner):
    """Runs tools; what an experiment comes to follows from its identity alone, so that many scripts may share it."""

    shared: Computed

    def computed(self, work: Work) -> tuple[Result, str]:
        """As it came to before, where it did."""
        key = self.experiment(work.tool, work.args, work.split, work.draw).id
        if key not in self.shared:
            self.shared[key] = super().computed(work)
        return self.shared[key]


@dataclass
class Stage:
    """Plays scripts in a folder; what several scripts begin with is played once, and copied; what they compute, too."""

    folder: Path
    known: dict[str, Path] = field(default_factory=dict)
    count: int = 0
    computed: Computed = field(default_factory=dict)

    def play(
        self,
        world: World,
        script: Script,
        before: Script = (),
        earlier: Script = (),
        limits: Limits = LIMITS,
        branch: int | None = None,
    ) -> Played:
        """A run of `before` and then `script`, in a database of its own, which holds the run `earlier` if that is given.

        branch: the run goes on from that turn of the earlier one.
        """
        path = self._copy(self._begun(world, before, earlier, branch))
        return go_on(Store(path), world, script, limits, computed=self.computed)

    def _begun(self, world: World, before: Script, earlier: Script, branch: int | None) -> Path:
        """A database in which `before` has been played."""
        key = json.dumps([world.name, before, earlier, branch])
        if key not in self.known:
            if before:
                path = self.play(world, before[-1:], before[:-1], earlier, branch=branch).store.path
            else:
                path = self._new()
                store = Store(path)
                if earlier:
                    begin(store, world, run=EARLIER)
                    go_on(store, world, earlier, run=EARLIER, computed=self.computed)
                if branch is None:
                    begin(store, world, after=EARLIER if earlier else "")
                else:
                    branch_off(store, branch)
            self.known[key] = path
        return self.known[key]

    def _new(self) -> Path:
        self.count += 1
        return self.folder / f"{self.count}.db"

    def _copy(self, path: Path) -> Path:
        fresh = self._new()
        source, target = Store(path), Store(fresh)
        source.db.conn.backup(target.db.conn)
        source.db.conn.close()
        target.db.conn.close()
        return fresh


def begin(store: Store, world: World, seed: int = 0, run: str = RUN, after: str = "") -> None:
    """A run with its goal's questions on record, as the command line begins one; after: the run that it continues from."""
    settings = {"fingerprint": world.subject.fingerprint, "seed": seed, "continue_from": after or None}
    store.put_run(Run(name=run, goal=world.goal, subject=world.subject.name, planner="scripted", settings=settings))
    for data in world.data:
        store.put_entry(run, 0, data)
    own = [d.name for d in world.data]
    for question in goals.questions(world.goal, own):
        store.put_entry(run, 0, question)


def branch_off(store: Store, turn: int) -> None:
    """The run as a branch of the earlier one, as the command line begins one with --resume and --from."""
    point = Branch.of(store, EARLIER, str(turn))
    settings = {**point.run.settings, "branch": {"run": EARLIER, "turn": point.turn, "seq": point.seq}}
    store.put_run(point.run.model_copy(update={"name": RUN, "settings": settings}))
    copy_record(store, EARLIER, RUN, point.seq)


def go_on(
    store: Store,
    world: World,
    script: Script,
    limits: Limits = LIMITS,
    run: str = RUN,
    computed: Computed | None = None,
) -> Played:
    """Drive a run on by a script, as far as the loop lets it. computed: what other runs have computed, and this one adds."""
    record, tasks = RunRecord(store, run), RunTasks(store, run)
    turns = sum(e.kind == "turn" for e in store.events(run))
    planner = Scripted(script, turns)
    seed = store.run(run).settings["seed"]
    runner = Remembering(world.subject, record, tasks, seed)
    runner.shared = {} if computed is None else computed
    store.update_run(run, "running")
    ending = asyncio.run(investigate(planner, store.run(run), record, runner, discover(), limits, Silent()))
    return Played(store, run, tuple(_answered(store, run, after=turns)), ending)


def _answered(store: Store, run: str, after: int) -> list[tuple[ToolCall, Answer]]:
    """Calls with their answers, of the turns after the first `after`."""
    calls: dict[str, ToolCall] = {}
    out: list[tuple[ToolCall, Answer]] = []
    seen = 0
    for event in store.events(run):
        p: Any = event.payload
        if event.kind == "turn":
            seen += 1
            calls |= {c["id"]: ToolCall(**c) for c in p["calls"]}
        elif event.kind == "answer" and seen > after:
            out.append((calls[p["call_id"]], Answer(p["call_id"], p["text"], p["status"], p["handle"])))
    return out
