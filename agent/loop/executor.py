"""Run one tool call: from raw arguments to a result on record, with the cache and the measure of time and memory."""

import hashlib
import json
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import tools
from agent.loop.record import RunRecord, RunTasks
from experiments_db.findings import Finding
from experiments_db.records import Experiment, Outcome, Provenance, Result
from tools.findings.gate import capability
from tools.findings.sealing import EXAMINE, arguments_of
from tools.methods.tool import Context, Tool, ToolArgs, ToolInputError, discover
from tools.subjects import Subject, SubjectError
from tools.tasks import Split, TaskError

LIBRARIES = ("torch", "transformers", "numpy", "pydantic", "tokenizers")


@dataclass(frozen=True)
class Executed:
    """What one call came to. `experiment` is None for notebook tools; `result_id` is set for a cache hit."""

    outcome: Outcome
    experiment: Experiment | None = None
    result: Result | None = None
    result_id: int | None = None


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
    """Executes tool calls on one subject; holds no state that a resumed run would miss."""

    def __init__(self, subject: Subject, record: RunRecord, tasks: RunTasks, seed: int, max_tokens: int = 2048) -> None:
        self.subject, self.record, self.tasks, self.seed = subject, record, tasks, seed
        self.max_tokens = max_tokens

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
        sealed = {"split": split, "draw": draw} if split == "confirm" else {}
        return Experiment(
            tool=tool.name,
            args={**args.model_dump(mode="json"), **sealed},
            subject=self.subject.fingerprint,
            tasks=hashes,
            seed=self.seed,
            dtype=str(self.subject.dtype).removeprefix("torch."),
            code=code_version(),
        )

    def run(self, tool: Tool, args: ToolArgs, progress: Callable[[str], None] = lambda _: None) -> Executed:
        """Run a call, or find it in the cache. ToolInputError goes back to the planner; anything else is a bug."""
        if tool.kind != "experiment":
            return Executed(tool.run(args, self._context(self.max_tokens, progress)))
        experiment = self.experiment(tool, args)
        if tool.localises:
            self._require_capability(tool, args)
        found = self.record.store.cached(experiment.id)
        if found is not None:
            number, result = found
            return Executed(Outcome(status=result.status, text=result.text), experiment, result, number)
        result = self.execute(tool, args, progress)
        return Executed(Outcome(status=result.status, text=result.text), experiment, result)

    def execute(
        self,
        tool: Tool,
        args: ToolArgs,
        progress: Callable[[str], None] = lambda _: None,
        split: Split = "explore",
        draw: int = 0,
    ) -> Result:
        """Compute an experiment, past the cache, with time, memory and provenance."""
        started, outcome = time.perf_counter(), self._measured(tool, args, progress, split, draw)
        return Result(
            status=outcome.status,
            text=outcome.text,
            measurements=outcome.measurements,
            arrays=outcome.arrays,
            wall_seconds=time.perf_counter() - started,
            peak_memory_bytes=_peak_memory(self.subject.device),
            provenance=provenance(self.subject),
        )

    def confirm(self, findings: Sequence[Finding], progress: Callable[[str], None] = lambda _: None) -> list[Executed]:
        """Measure what findings say on confirm examples that no run on this subject has been shown.

        Nothing is written. A finding that cannot be measured there has no experiment, and a text that says why.
        """
        tool, draw = discover()[EXAMINE], self.record.store.rounds(self.subject.fingerprint)
        out: list[Executed] = []
        for f in findings:
            progress(f"{f.handle} on unseen examples")
            args = tool.parse(arguments_of(f.statement))
            try:
                experiment = self.experiment(tool, args, "confirm", draw)
                found = self.record.store.cached(experiment.id)
                number, result = found or (None, self.execute(tool, args, progress, "confirm", draw))
            except ToolInputError as error:
                out.append(Executed(Outcome(status="refused", text=str(error))))
                continue
            out.append(Executed(Outcome(status=result.status, text=result.text), experiment, result, number))
        return out

    def _measured(
        self, tool: Tool, args: ToolArgs, progress: Callable[[str], None], split: Split, draw: int
    ) -> Outcome:
        """Run the tool; out of memory halves the batch, and below one example's worth is a failed result."""
        max_tokens = self.max_tokens
        while True:
            torch.manual_seed(self.seed)
            try:
                return tool.run(args, self._context(max_tokens, progress, split, draw))
            except SubjectError as error:
                raise ToolInputError(str(error)) from None
            except (torch.OutOfMemoryError, MemoryError) as error:
                if max_tokens <= 64:
                    return Outcome(status="failed", text=f"out of memory at {max_tokens} tokens a batch: {error}")
                max_tokens //= 2
                if self.subject.device.type == "cuda":
                    torch.cuda.empty_cache()

    def _require_capability(self, tool: Tool, args: ToolArgs) -> None:
        """Where a task is done can be asked only once the intact model is known to do it."""
        for spec, _ in tool.task_specs(args):
            name = self.tasks.get(spec).name
            seen = capability(self.record, name)
            if seen is None:
                raise ToolInputError(
                    f"first measure whether the intact model can do {name} at all: loss with tasks [{spec!r}]. "
                    f"{tool.name} looks for where a task is done, and that has no meaning for one that is not done"
                )
            if not seen.above_chance:
                raise ToolInputError(
                    f"the intact model cannot do {name}: accuracy {seen.accuracy.value:.3f} in {seen.experiment} is not above "
                    f"chance, {seen.chance:.3f}. That is a finding: examine kind cannot. There is nothing to locate"
                )

    def _context(
        self, max_tokens: int, progress: Callable[[str], None], split: Split = "explore", draw: int = 0
    ) -> Context:
        return Context(
            subject=self.subject,
            tasks=self.tasks,
            history=self.record,
            seed=self.seed,
            max_tokens=max_tokens,
            split=split,
            draw=draw,
            progress=progress,
        )


def asked_of(experiment: Experiment) -> tuple[dict[str, Any], Split, int]:
    """The arguments of an experiment on record, and the examples that it was run on: split and draw."""
    args = dict(experiment.args)
    return args, args.pop("split", "explore"), args.pop("draw", 0)


def _peak_memory(device: torch.device) -> int:
    """Bytes at the peak: of the process on CPU, allocated on CUDA."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def tool_arguments(raw: str) -> Any:
    """Parsed JSON of a call's raw arguments; ToolInputError for text that is no JSON object."""
    try:
        value = json.loads(raw or "{}")
    except json.JSONDecodeError as error:
        raise ToolInputError(f"the arguments are not JSON: {error.msg} at character {error.pos}") from None
    if not isinstance(value, dict):
        raise ToolInputError(f"the arguments must be a JSON object, not {type(value).__name__}")
    return value
