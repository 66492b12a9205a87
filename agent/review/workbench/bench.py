"""What the workbench does: looks at one example at once, and hands everything that is kept to a run like any other."""

import argparse
import threading
import time
from collections import OrderedDict
from collections.abc import Generator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from agent.lab import EXPERIMENTS
from agent.loop.by_hand import ByHand
from agent.loop.history import spending
from agent.loop.offering import usable
from agent.loop.record import RunTasks
from agent.loop.session import InputError
from agent.loop.task_check import check
from agent.planners.base import Answer
from agent.planners.probes import Finding
from agent.review.workbench.conversing import Conversing, has_attributes
from agent.review.workbench.views import example_line, opened_data
from experiments_db.records import Run
from experiments_db.store import Store
from tools.findings import integrity
from tools.methods.measuring import load_examples
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.one_example import CONVERSATION, ILLUSTRATION, SAMPLE, Chosen, OneExampleArgs, choose
from tools.methods.opened import open_example
from tools.methods.tool import Context, TaskBook, Tool, ToolInputError, discover
from tools.ports import port_of
from tools.subjects import SubjectError, load_subject
from tools.tasks import TaskError, fitting

PATIENCE = 20.0  # seconds that a look waits for another look
KEPT = 64  # examples that were looked at
LACKS = {
    "trees": "needs a task whose sentences have trees", "foils": "needs a task of yours whose examples have foils",
    "counterfactuals": "needs a task whose examples say what would be right if a label were other than it is",
    "attributes": "needs a task whose labels say something of who speaks, such as user age",
    "units": "needs a model that reads tokens", "image": "needs a model that reads images",
    "code": "needs --allow-code when the workbench is started, and a run",
}  # fmt: skip
Data = dict[str, Any]


class BusyError(RuntimeError):
    """Something else is being computed; the message says what."""


class Bench:
    """A loaded subject, the run that keeps what is done on it, and one computation at a time."""

    def __init__(self, args: argparse.Namespace) -> None:
        """args: the options of agent.run. InputError for what cannot be loaded, read or resumed."""
        self.args, self.hand = args, None
        self._lock, self._last, self._running = threading.Lock(), dict[str, Any](), ""
        self._calls = 0
        self._chosen: OrderedDict[tuple[Any, ...], Chosen] = OrderedDict()
        self._conversing = Conversing()
        if args.resume:
            self.hand = ByHand.open(args)
            self.whole = self.subject = self.hand.session.subject
            run = self.hand.session.run
            kept = {k: run.settings[k] for k in ("device", "dtype", "seed")}
            self.args = argparse.Namespace(**{**vars(args), **kept, "subject": run.subject, "resume": None})
        else:
            try:
                self.whole = load_subject(args.subject, device=args.device, dtype=args.dtype or "float32")
                port_of(self.whole)
                report = integrity.check(self.whole)
                OfflineTasks(args.task)
            except (SubjectError, TaskError, OSError) as error:
                raise InputError(str(error)) from None
            if report.broken:
                raise InputError(f"{args.subject} cannot be studied: {report.broken}")
            self.subject = self.whole.without(report.refused)
        self.store = Store(args.db)
        if args.goal:
            self.begin(args.goal)

    # -- the run ------------------------------------------------------------------------------------------------------

    @property
    def run_name(self) -> str | None:
        """The run under way, or the last one that ended here."""
        return self.hand.name if self.hand else None

    @property
    def run(self) -> Run | None:
        """Its record."""
        return self.store.run(self.hand.name) if self.hand else None

    @property
    def seed(self) -> int:
        """Decides which examples are drawn."""
        return int(self.hand.session.run.settings["seed"] if self.hand else self.args.seed or 0)

    def begin(self, question: str) -> str:
        """Begin a run under a question; its name. InputError where one is under way, or the question is empty."""
        if not question.strip():
            raise InputError(
                "write what you want to find out, for example: which block carries the operands of addition?"
            )
        with self._engine("beginning a run"):
            if self.hand is not None and not self.hand.ended:
                raise InputError(f"{self.hand.name} is under way: finish it first")
            args = argparse.Namespace(**{**vars(self.args), "goal": question})
            self.hand = ByHand.open(args, self.whole)
            self._chosen.clear()
        return self.hand.name

    def call(self, name: str, args: Mapping[str, Any]) -> None:
        """Hand a tool call to the run; `state` says what comes of it. ToolInputError for arguments that cannot be."""
        tool = self.tool(name)
        tool.parse(args)
        if self.hand is None or self.hand.ended:
            raise ToolInputError("no run is under way: write what you want to find out, and begin one")
        self._take(name)
        try:
            future = self.hand.submit(name, args)
        except BaseException:
            self._give()
            raise
        started = time.monotonic()
        future.add_done_callback(lambda f: self._answered(name, f, time.monotonic() - started))

    def _answered(self, name: str, future: "Future[Answer]", seconds: float) -> None:
        answer = future.result()
        self._calls += 1
        self._last = {
            "tool": name, "status": answer.status, "text": answer.text, "handle": answer.handle, "seconds": round(seconds, 2),
            "number": self._calls,
        }  # fmt: skip
        self._give()

    def cancel(self) -> None:
        """Stop what the run computes."""
        if self.hand is not None:
            self.hand.cancel()

    def end(self) -> None:
        """Stop what is running, and let the run write its report."""
        if self.hand is not None and not self.hand.ended:
            self.hand.cancel()
            self.hand.end()

    def state(self) -> Data:
        """What is under way, what came last, what the run has spent."""
        running, hand = self._running, self.hand
        at_work = None
        if running:
            at_work = {"tool": running, "message": hand.message if hand else "", "seconds": 0.0}
            at_work["seconds"] = round(time.monotonic() - hand.began, 1) if hand else 0.0
        out: Data = {"busy": at_work, "last": self._last or None, "run": None}
        if hand is not None:
            run = self.store.run(hand.name)
            limits = hand.session.limits
            if limits.experiments == EXPERIMENTS:
                limits = replace(limits, experiments=None)
            spent = spending(hand.session.record, hand.session.run).text(limits)
            out["run"] = {
                "name": run.name, "goal": run.goal, "status": run.status, "reason": run.reason, "ended": hand.ended, "spent": spent,
                "seq": self.store.last_seq(run.name),
            }  # fmt: skip
        return out

    def tool(self, name: str) -> Tool:
        """A tool that is offered here. ToolInputError names them, or says what this subject cannot do."""
        able = self.usable()
        if name not in able:
            known = discover()
            if name not in known:
                raise ToolInputError(f"there is no tool {name!r}; tools are {', '.join(known)}")
            raise ToolInputError(f"{name}: {self._lacks(known[name])}")
        return able[name]

    def usable(self) -> dict[str, Tool]:
        """The tools that can be run on this subject, with examples that fit it."""
        code = bool(self.hand and self.hand.session.sandbox)
        return usable(discover(), self.subject, self.tasks, by_hand=True, code=code)

    def reasons(self) -> dict[str, str]:
        """Why each tool is not offered for this subject; '' where it is."""
        able = self.usable()
        return {name: "" if name in able else self._lacks(t) for name, t in discover().items()}

    def _lacks(self, tool: Tool) -> str:
        if tool.needs in LACKS:
            return LACKS[tool.needs]
        try:
            self.subject.require(tool.needs)
        except SubjectError as error:
            return str(error)
        return f"needs {tool.needs}"

    # -- examples -----------------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> TaskBook:
        """The tasks that can be named."""
        return RunTasks(self.store, self.hand.name) if self.hand else OfflineTasks(self.args.task)

    def task_names(self) -> list[str]:
        """The user's tasks and those made in the run first, then those of the program that the subject can be given."""
        own = [t.name for t in self.tasks.made()] if self.hand else [f.stem for f in self.args.task]
        return [*own, *fitting(port_of(self.subject).reads, self.subject.name)]

    def context(self) -> Context:
        """For a look that is not kept."""
        return Context(self.subject, self.tasks, Nothing(), seed=self.seed)

    def examples(self, spec: str) -> list[Data]:
        """The explore examples of a task that can be picked. ToolInputError where there are none."""
        return [example_line(e) for e in load_examples(self.context(), spec, SAMPLE)[1]]

    def checked(self, spec: str) -> dict[str, list[Finding]]:
        """What to know of a task before a run, as the doctor says it, by what each line is about."""
        with self._engine("a look"):
            found: dict[str, list[Finding]] = {}
            for line in check(self.context(), spec):
                found.setdefault(line.about, []).append(line)
            return found

    def labels(self, spec: str) -> dict[str, list[str]]:
        """Labels by which a task's examples differ, with their values: what a direction can be about."""
        found: dict[str, set[str]] = {}
        for e in self.tasks.get(spec).examples("explore", SAMPLE, self.seed):
            for name, value in e.values.items():
                found.setdefault(name, set()).add(str(value))
        return {k: sorted(v) for k, v in found.items() if 1 < len(v) <= 24}

    def look(self, given: Mapping[str, Any]) -> Data:
        """One example with switches on, at once and not kept. ToolInputError says what would be valid."""
        args = discover()[ILLUSTRATION].parse(given)
        assert isinstance(args, OneExampleArgs)
        started = time.perf_counter()
        with self._engine("a look"):
            waited = time.perf_counter() - started
            ctx = self.context()
            data = opened_data(self.subject, open_example(args, ctx, self._choose(args, ctx)))
        return {**data, "milliseconds": round(1000 * (time.perf_counter() - started - waited))}

    def _choose(self, args: OneExampleArgs, ctx: Context) -> Chosen:
        """The example, drawn and tokenised once."""
        key = (self.run_name, args.task, args.example, args.text, args.answer, args.twin)
        if key not in self._chosen:
            self._chosen[key] = choose(args, ctx)
            if len(self._chosen) > KEPT:
                self._chosen.popitem(last=False)
        return self._chosen[key]

    # -- conversations ------------------------------------------------------------------------------------------------

    def conversations(self) -> list[str]:
        """Tasks whose examples say something of who speaks."""
        if "next_token" not in self.subject.capabilities:
            return []
        return [t for t in self.task_names() if has_attributes(self.context(), t)]

    def conversation(self, task: str, at: str) -> Data:
        """What is read of who speaks, before anything is said. ToolInputError says what would be valid."""
        with self._engine("a look"):
            return self._conversing.opened(self.context(), self.run_name, task, at)

    def converse(self, given: Mapping[str, Any]) -> Data:
        """One turn of a conversation, at once; the page has it kept where a run is under way."""
        args = discover()[CONVERSATION].parse(given)
        with self._engine("a look"):
            kept = self.run_name if self.hand is not None and not self.hand.ended else None
            return self._conversing.turn(self.context(), kept, args)

    # -- one at a time ------------------------------------------------------------------------------------------------

    def _take(self, what: str) -> None:
        if self._running and self._running != "a look":
            raise BusyError(f"{self._running} is running: wait for it, or cancel it")
        if not self._lock.acquire(timeout=PATIENCE):
            raise BusyError(f"{self._running or 'something'} is running: wait for it, or cancel it")
        self._running = what

    def _give(self) -> None:
        self._running = ""
        self._lock.release()

    @contextmanager
    def _engine(self, what: str) -> Generator[None]:
        self._take(what)
        try:
            yield
        finally:
            self._give()
