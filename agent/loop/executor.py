"""Run one tool call: from raw arguments to a result on record, with the cache and the measure of time and memory."""

import asyncio
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from agent.loop.arguments import tool_arguments as tool_arguments
from agent.loop.jobs import Elsewhere, Job
from agent.loop.provenance import code_version, provenance
from agent.loop.record import RunRecord, RunTasks
from agent.loop.unseen import stretch, tasks_of, unquoted, used_groups
from experiments_db.faults import FaultError
from experiments_db.findings import Finding
from experiments_db.records import Experiment, Outcome, Result
from tools.engine.kept import Kept, share_of_free
from tools.engine.sites import SiteError
from tools.findings.gate import capability
from tools.findings.sealing import EXAMINE, arguments_of
from tools.methods.answers import with_answers
from tools.methods.forecasting import Forecast, Pace, forecast, measure
from tools.methods.narrowing import SomeOnlyError, way_out
from tools.methods.tool import Context, DeadlineReached, TaskBook, Tool, ToolArgs, ToolInputError, discover
from tools.methods.worked import worked_example
from tools.ports import port_of
from tools.sandbox import Sandbox, SandboxError
from tools.subjects import Subject, SubjectError
from tools.tasks import Split, TaskError

FEWEST_TOKENS = 8  # of a batch, and states read out at once: with less nothing is won
_Done = TypeVar("_Done")


@dataclass(frozen=True)
class Work:
    """A call to compute, on which examples, who is told of it, and what is called now and then and may stop it."""

    tool: Tool
    args: ToolArgs
    progress: Callable[[str], None] = lambda _: None
    check: Callable[[], None] = lambda: None
    split: Split = "explore"
    draw: int = 0


@dataclass(frozen=True)
class Executed:
    """What one call came to. `experiment` is None for notebook tools; `result_id` is set for a cache hit.

    traceback: where an unexpected error came from, which is what failed. reused: of a finding that is settled, whether some
    of its examples were used to settle another one. worked: an example of each task that the run had not touched before.
    """

    outcome: Outcome
    experiment: Experiment | None = None
    result: Result | None = None
    result_id: int | None = None
    traceback: str = ""
    reused: bool = False
    worked: tuple[dict[str, Any], ...] = ()


def kept_within(subject: Subject, limit: int | None = None) -> Kept:
    """Room for what unchanged runs give: so many bytes, by default a share of what is free where the subject computes."""
    return Kept(share_of_free(subject.device) if limit is None else limit)


class ToolRunner:
    """Executes tool calls on one subject; holds no state that a resumed run would miss.

    fresh: nothing that an earlier process kept on disk is used, as in a replay. lifted: the capability gate is (`Context.lifted`),
    for nulls alone; what is measured so is never found under the key of what is not. sandbox: where the planner's own code runs.
    check: called between two steps of a call; what it raises ends it. elsewhere: who computes experiments in this process' place,
    null: on which null twin they do. What unchanged runs of the subject gave is kept for the next call, within the subject's own
    budget or a share of what is free; no result depends on it.
    """

    def __init__(
        self,
        subject: Subject,
        record: RunRecord,
        tasks: TaskBook,
        seed: int,
        max_tokens: int = 2048,
        *,
        fresh: bool = False,
        lifted: bool = False,
        sandbox: Sandbox | None = None,
        check: Callable[[], None] = lambda: None,
        elsewhere: Elsewhere | None = None,
        null: tuple[str, int] | None = None,
    ) -> None:
        self.elsewhere, self.null = elsewhere, null
        self.sandbox, self.check, self._left = sandbox, check, threading.Event()
        subject = subject.keeping(subject.kept or kept_within(subject))
        self.subject, self.record, self.tasks, self.seed = subject, record, tasks, seed
        self.max_tokens, self.fresh, self.lifted = max_tokens, fresh, lifted
        self._pace: Pace | None = None
        self._warned: set[str] = set()

    async def apart(self, work: Callable[..., _Done], *given: Any) -> _Done:
        """Do something of this runner in a thread; once nobody waits for it any more, it ends between two steps."""
        try:
            return await asyncio.to_thread(work, *given)
        except (asyncio.CancelledError, KeyboardInterrupt):
            self._left.set()
            raise

    def _check(self) -> None:
        if self._left.is_set():
            raise DeadlineReached("interrupted")
        self.check()

    def experiment(self, tool: Tool, args: ToolArgs, split: Split = "explore", draw: int = 0) -> Experiment:
        """The identity of a call: everything that determines its answer.

        What is scored on confirm examples may have been fitted on explore ones: both are in its key.
        """
        hashes: dict[str, str] = {}
        for spec, n in tool.task_specs(args):
            try:
                task = self.tasks.get(spec)
                hashes[f"{spec} explore"] = task.sha("explore", n, self.seed)
                if split == "confirm":
                    hashes[f"{spec} confirm"] = task.sha("confirm", n, self.seed, draw)
            except TaskError as error:
                raise ToolInputError(str(error)) from None
        sealed: dict[str, Any] = {"split": split, "draw": draw} if split == "confirm" else {}
        sealed |= {"lifted": True} if self.lifted else {}
        return Experiment(
            tool=tool.name,
            args={**args.model_dump(mode="json"), **sealed},
            subject=self.subject.fingerprint,
            tasks=hashes,
            seed=self.seed,
            dtype=str(self.subject.dtype).removeprefix("torch."),
            code=code_version(),
        )

    def run(
        self,
        tool: Tool,
        args: ToolArgs,
        progress: Callable[[str], None] = lambda _: None,
        seconds: float | None = None,
    ) -> Executed:
        """Run a call, or find it in the cache. ToolInputError goes back to the planner; any other error is a failed result.

        seconds: how long it may take; DeadlineReached is raised soon after.
        """
        check = _deadline(seconds, self._check)
        if tool.kind != "experiment":
            outcome, trace = self._measured(Work(tool, args, progress, check))
            return Executed(outcome, traceback=trace)
        experiment = self.experiment(tool, args)
        if tool.localises and not self.lifted:
            self._require_capability(tool, args)
        worked = self._worked(tool, args)
        found = self.record.store.cached(experiment.id)
        if found is not None:
            number, result = found
            return Executed(Outcome(status=result.status, text=result.text), experiment, result, number, worked=worked)
        result, trace = self.computed(Work(tool, args, progress, check))
        return Executed(
            Outcome(status=result.status, text=result.text), experiment, result, traceback=trace, worked=worked
        )

    def forecast(self, tool: Tool, args: ToolArgs) -> Forecast | None:
        """Time and memory of a call; None where nothing is known beforehand, or its answer is on record. Measures the pace once."""
        if tool.work is None:
            return None
        with suppress(Exception):  # what is wrong with a call is for the call itself to say
            if self.record.store.cached(self.experiment(tool, args).id) is not None:
                return None
            ctx = self._context(Work(tool, args, lambda _: None, lambda: None), self.max_tokens)
            works = tool.work(args, ctx)
            if works and self._pace is None:
                self._pace = measure(self.subject, works[0].examples)
            return forecast(ctx, works, self._pace) if works and self._pace else None
        return None

    def warn(self, tool: Tool, args: ToolArgs, told: Forecast, left: float, most: float) -> None:
        """ToolInputError, once, for a call that would take more than a share of the seconds left; asked again it runs."""
        key = f"{tool.name} {args.model_dump_json()}"
        if told.seconds > most * left and key not in self._warned:
            self._warned.add(key)
            raise ToolInputError(
                f"not run yet: it would take {told.text}, and {left / 60:.1f} min are left. Name fewer components or examples, or "
                "ask for the same again to run it anyway"
            )

    def ahead(self, tool: Tool, args: ToolArgs, split: Split = "explore", draw: int = 0) -> None:
        """Have an experiment computed elsewhere that will be asked for soon, unless its answer is on record and will do."""
        if self.elsewhere is None or tool.kind != "experiment" or not self.elsewhere.takes(tool.name):
            return
        with suppress(ToolInputError):  # which is said when it is asked for
            if self.fresh or self.record.store.cached(self.experiment(tool, args, split, draw).id) is None:
                self.elsewhere.begin(self._job(tool, args, split, draw))

    def _job(self, tool: Tool, args: ToolArgs, split: Split, draw: int) -> Job:
        asked = tool.name, args.model_dump_json(), split, draw, self.seed, self.max_tokens, self.fresh, self.lifted
        return Job(*asked, tuple(self.tasks.made()), self.null)

    def _worked(self, tool: Tool, args: ToolArgs) -> tuple[dict[str, Any], ...]:
        """An example of each task that this run meets for the first time; none of a task that cannot be shown."""
        sql = "SELECT json_extract(payload, '$.task') AS task FROM events WHERE run = ? AND kind = 'example'"
        shown = {row["task"] for row in self.record.store.rows(sql, self.record.run)}
        made: list[dict[str, Any]] = []
        for task in {(t := self.tasks.get(spec)).name: t for spec, _ in tool.task_specs(args)}.values():
            if task.name not in shown:
                with suppress(SubjectError, SiteError, ToolInputError, TaskError):
                    made.append(worked_example(self.subject, task, self.seed))
        return tuple(made)

    def execute(
        self,
        tool: Tool,
        args: ToolArgs,
        progress: Callable[[str], None] = lambda _: None,
        split: Split = "explore",
        draw: int = 0,
    ) -> Result:
        """Compute an experiment, past the cache, with time, memory and provenance."""
        return self.computed(Work(tool, args, progress, self._check, split, draw))[0]

    def computed(self, work: Work) -> tuple[Result, str]:
        """As `execute`, and where an unexpected error came from."""
        if self.elsewhere is not None and self.elsewhere.takes(work.tool.name):
            return self.elsewhere.finish(self._job(work.tool, work.args, work.split, work.draw), work.check)
        started = time.perf_counter()
        outcome, trace = self._measured(work)
        about: dict[str, Any] = {
            "wall_seconds": time.perf_counter() - started,
            "peak_memory_bytes": _peak_memory(self.subject.device),
            "provenance": provenance(self.subject),
        }
        try:
            made = {"measurements": outcome.measurements, "arrays": outcome.arrays}
            return Result(status=outcome.status, text=outcome.text, **made, **about), trace
        except ValueError as error:  # a record refuses what the tool returned
            failed, trace = _failure(work.tool, error)
            return Result(status=failed.status, text=failed.text, **about), trace

    def confirm(
        self,
        findings: Sequence[Finding],
        progress: Callable[[str], None] = lambda _: None,
        seconds: float | None = None,
    ) -> list[Executed]:
        """Measure what findings say on confirm examples that no run on this subject has been shown.

        Nothing is written. A finding that cannot be measured there has no experiment, and a text that says why.
        seconds: how long all of them may take together; DeadlineReached is raised soon after.
        """
        tool, store = discover()[EXAMINE], self.record.store
        used = used_groups(store, self.subject.fingerprint, lambda run: RunTasks(store, run))
        check, out = _deadline(seconds, self._check), list[Executed]()
        for f in findings if self.elsewhere else ():
            with suppress(ToolInputError):
                place = stretch(tasks_of(self.tasks, f.statement), f.statement.examples, used)
                self.ahead(tool, tool.parse(arguments_of(f.statement)), "confirm", place.start)
        for f in findings:
            progress(f"{f.handle} on unseen examples")
            args = tool.parse(arguments_of(f.statement))
            try:
                place = stretch(tasks_of(self.tasks, f.statement), f.statement.examples, used)
                draw = place.start
                experiment = self.experiment(tool, args, "confirm", draw)
                found = self.record.store.cached(experiment.id)
                number, result = found or (None, self.computed(Work(tool, args, progress, check, "confirm", draw))[0])
            except ToolInputError as error:
                said = unquoted(str(error), lambda f=f: tasks_of(self.tasks, f.statement), f.statement.examples, used)
                out.append(Executed(Outcome(status="refused", text=said)))
                continue
            outcome = Outcome(status=result.status, text=result.text)
            out.append(Executed(outcome, experiment, result, number, reused=place.reused))
        return out

    def _measured(self, work: Work) -> tuple[Outcome, str]:
        """(what the tool returned, the traceback of an unexpected error).

        Out of memory halves the batch, and with it the states that wait and those that are read out at once, until nothing is
        left to halve: then it is a failed result; so is any error inside the tool.
        """
        max_tokens = self.max_tokens
        while True:
            torch.manual_seed(self.seed)
            ctx = self._context(work, max_tokens)
            try:
                return with_answers(work.tool, work.args, ctx), ""
            except SomeOnlyError as error:
                raise ToolInputError(f"{error}{way_out(error, work.args, ctx)}") from None
            except (SubjectError, SiteError, SandboxError) as error:
                raise ToolInputError(str(error)) from None
            except (ToolInputError, DeadlineReached, FaultError):
                raise
            except (torch.OutOfMemoryError, MemoryError) as error:
                if max_tokens <= FEWEST_TOKENS:
                    return Outcome(status="failed", text=f"out of memory at {max_tokens} tokens a batch: {error}"), ""
                max_tokens //= 2
                if self.subject.device.type == "cuda":
                    torch.cuda.empty_cache()
            except Exception as error:  # noqa: BLE001  # one experiment fails, not the investigation
                return _failure(work.tool, error)

    def _require_capability(self, tool: Tool, args: ToolArgs) -> None:
        """Where a task is done can be asked only once the intact model is known to do it."""
        port = port_of(self.subject)
        for spec, _ in tool.task_specs(args):
            name = self.tasks.get(spec).name
            seen = capability(self.record, name, port.objectives[port.first])
            if seen is None:
                raise ToolInputError(
                    f"first measure whether the intact model can do {name} at all: loss with tasks [{spec!r}]. "
                    f"{tool.name} looks for where a task is done, and that has no meaning for one that is not done"
                )
            if not seen.above_chance:
                side = "above" if seen.better > 0 else "below"
                raise ToolInputError(
                    f"the intact model cannot do {name}: {seen.measured.name} {seen.measured.value:.3f} in {seen.experiment} "
                    f"is not {side} chance, {seen.chance:.3f}. That is a finding: examine kind cannot. There is nothing to locate"
                )

    def _context(self, work: Work, max_tokens: int) -> Context:
        return Context(
            subject=self.subject.watched(work.check),
            tasks=self.tasks,
            history=self.record,
            seed=self.seed,
            max_tokens=max_tokens,
            split=work.split,
            draw=work.draw,
            progress=work.progress,
            check=work.check,
            fresh=self.fresh,
            lifted=self.lifted,
            sandbox=self.sandbox,
        )


def asked_of(experiment: Experiment) -> tuple[dict[str, Any], Split, int]:
    """The arguments of an experiment on record, and the examples that it was run on: split and draw."""
    args = dict(experiment.args)
    return args, args.pop("split", "explore"), args.pop("draw", 0)


def _deadline(seconds: float | None, also: Callable[[], None] = lambda: None) -> Callable[[], None]:
    """A function that raises DeadlineReached once so many seconds have passed from now, and calls another one first."""
    if seconds is None:
        return also
    end = time.monotonic() + seconds

    def check() -> None:
        also()
        if time.monotonic() >= end:
            raise DeadlineReached(f"{seconds:.0f} seconds are over")

    return check


def _failure(tool: Tool, error: Exception) -> tuple[Outcome, str]:
    """An unexpected error as a failed result, and where it came from."""
    said = next((line for line in str(error).strip().splitlines() if line.strip()), "no message")
    text = f"{tool.name} failed: {type(error).__name__}: {said.strip()[:500]}"
    return Outcome(status="failed", text=text), "".join(traceback.format_exception(error))


def _peak_memory(device: torch.device) -> int:
    """Bytes at the peak: of the process on CPU, allocated on CUDA."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
