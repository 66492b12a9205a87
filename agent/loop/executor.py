"""Run one tool call: from raw arguments to a result on record, with the cache and the measure of time and memory."""

import hashlib
import json
import math
import platform
import resource
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import tools
from agent.loop.record import RunRecord, RunTasks
from agent.loop.unseen import stretch, tasks_of, used_groups
from experiments_db.findings import Finding
from experiments_db.records import Experiment, Outcome, Provenance, Result
from tools.engine.sites import SiteError
from tools.findings.gate import capability
from tools.findings.sealing import EXAMINE, arguments_of
from tools.methods.answers import with_answers
from tools.methods.tool import Context, DeadlineReached, TaskBook, Tool, ToolArgs, ToolInputError, discover
from tools.methods.worked import worked_example
from tools.ports import port_of
from tools.sandbox import Sandbox, SandboxError
from tools.subjects import Subject, SubjectError
from tools.tasks import Split, TaskError

LIBRARIES = ("torch", "transformers", "numpy", "pydantic", "tokenizers")


@dataclass(frozen=True)
class Work:
    """A call to compute, on which examples, who is told of it, and what is called now and then and may stop it."""

    tool: Tool
    args: ToolArgs
    progress: Callable[[str], None]
    check: Callable[[], None]
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


@cache
def code_version() -> str:
    """Hash of the source of everything that computes: the tools package."""
    digest = hashlib.sha256()
    root = Path(tools.__file__).parent
    for path in sorted(root.rglob("*.py")):
        if "demo" not in path.relative_to(root).parts:
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def provenance(subject: Subject) -> Provenance:
    """Where and with what this process computes."""
    return Provenance(
        device=str(subject.device),
        threads=torch.get_num_threads(),
        versions={"python": platform.python_version(), **{p: metadata.version(p) for p in LIBRARIES}},
        platform=f"{platform.system()} {platform.machine()}",
        cpu=f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}",
    )


@cache
def _processor() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


class ToolRunner:
    """Executes tool calls on one subject; holds no state that a resumed run would miss.

    fresh: nothing that an earlier process kept on disk is used, as in a replay. lifted: the capability gate is (`Context.lifted`),
    for nulls alone; what is measured so is never found under the key of what is not. sandbox: where the planner's own code runs.
    check: called between two steps of a call; what it raises ends it.
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
    ) -> None:
        self.sandbox, self.check = sandbox, check
        self.subject, self.record, self.tasks, self.seed = subject, record, tasks, seed
        self.max_tokens, self.fresh, self.lifted = max_tokens, fresh, lifted

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
        check = _deadline(seconds, self.check)
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
        result, trace = self._computed(Work(tool, args, progress, check))
        return Executed(
            Outcome(status=result.status, text=result.text), experiment, result, traceback=trace, worked=worked
        )

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
        return self._computed(Work(tool, args, progress, _deadline(None), split, draw))[0]

    def _computed(self, work: Work) -> tuple[Result, str]:
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
        check, out = _deadline(seconds, self.check), list[Executed]()
        for f in findings:
            progress(f"{f.handle} on unseen examples")
            args = tool.parse(arguments_of(f.statement))
            try:
                place = stretch(tasks_of(self.tasks, f.statement), f.statement.examples, used)
                draw = place.start
                experiment = self.experiment(tool, args, "confirm", draw)
                found = self.record.store.cached(experiment.id)
                work = Work(tool, args, progress, check, "confirm", draw)
                number, result = found or (None, self._computed(work)[0])
            except ToolInputError as error:
                out.append(Executed(Outcome(status="refused", text=str(error))))
                continue
            outcome = Outcome(status=result.status, text=result.text)
            out.append(Executed(outcome, experiment, result, number, reused=place.reused))
        return out

    def _measured(self, work: Work) -> tuple[Outcome, str]:
        """(what the tool returned, the traceback of an unexpected error).

        Out of memory halves the batch, and below one example's worth is a failed result; so is any error inside the tool.
        """
        max_tokens = self.max_tokens
        while True:
            torch.manual_seed(self.seed)
            try:
                return with_answers(work.tool, work.args, self._context(work, max_tokens)), ""
            except (SubjectError, SiteError, SandboxError) as error:
                raise ToolInputError(str(error)) from None
            except (ToolInputError, DeadlineReached):
                raise
            except (torch.OutOfMemoryError, MemoryError) as error:
                if max_tokens <= 64:
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


def _finite(text: str) -> float:
    """A number of the arguments; ToolInputError for infinities and NaN, which no record can hold."""
    value = float(text)
    if not math.isfinite(value):
        raise ToolInputError(f"the arguments hold {text}: numbers must be finite")
    return value


def tool_arguments(raw: str) -> Any:
    """Parsed JSON of a call's raw arguments; ToolInputError for text that is no JSON object."""
    try:
        value = json.loads(raw or "{}", parse_constant=_finite, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise ToolInputError(f"the arguments are not JSON: {error.msg} at character {error.pos}") from None
    if not isinstance(value, dict):
        raise ToolInputError(f"the arguments must be a JSON object, not {type(value).__name__}")
    return value
