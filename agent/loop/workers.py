"""Experiments computed by Ray workers: `--executor ray`. The run itself, and all that is written, stay in one process.

Each worker is a Ray actor with one subject. What depends on nothing that is still to be written is handed out early: the calls
of one turn, the findings of one round, the tests on null twins. An experiment's bits depend on its record alone, so it makes no
difference where it is computed; Ray starts a worker that died again and gives it its experiment again, and only what comes back
is written.
"""

import argparse
import json
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from agent.loop.asked import InputError
from agent.loop.executor import ToolRunner, Work
from agent.loop.jobs import Done, Job, WorkersError
from agent.loop.null_twins import no_such_null
from agent.loop.provenance import code_version
from agent.loop.record import RunRecord
from experiments_db.records import Result
from tools.findings.null_tests import null_subject, null_tasks
from tools.methods.offline import KeptTasks, Nothing
from tools.methods.tool import Cancelled, DeadlineReached, TaskBook, ToolInputError, discover
from tools.subjects import Subject, load_subject

RETRIES, READY = (
    2,
    600,
)  # times that a job is tried again after its worker died; seconds until the first worker must be there
HERE = frozenset({"experiment"})  # tools that stay: a planner's own code runs in the sandbox of this process


class Computer:
    """One subject in one process, and what is asked of it. `Workers` makes Ray actors of this class."""

    def __init__(
        self,
        name: str,
        device: str,
        dtype: str,
        refused: Mapping[str, Mapping[str, str]],
        engine: int,
        threads: int,
        folder: str,
    ) -> None:
        if Path(folder).is_dir():
            os.chdir(folder)  # a relative path means here what it means where the run is
        torch.set_num_threads(threads)  # the bits of a sum may depend on it
        self.subject = load_subject(name, device=device, dtype=dtype).without(refused)
        self.subject.engine = engine
        self.nulls: dict[tuple[str, int], Subject] = {}
        self.played: Any = None  # the last session that was rehearsed

    def about(self) -> dict[str, str]:
        """What has to be the same everywhere, and which process this is."""
        return {**_same(self.subject), "process": str(os.getpid())}

    def compute(self, job: Job) -> Done:
        """Compute a job; what a tool refuses is an answer too."""
        subject, tasks = self.subject, cast("TaskBook", KeptTasks(job.tasks))
        if job.null is not None:
            try:
                subject = self._null(job.null)
            except Exception as error:  # noqa: BLE001  # a model that cannot be made anew from its configuration
                return Done(None, refused=no_such_null(error))
            tasks = null_tasks(tasks, *job.null)
        record = cast("RunRecord", Nothing())  # an experiment reads no record
        runner = ToolRunner(subject, record, tasks, job.seed, job.max_tokens, fresh=job.fresh, lifted=job.lifted)
        tool = discover()[job.tool]
        try:
            result, trace = runner.computed(
                Work(tool, tool.parse(json.loads(job.args)), split=job.split, draw=job.draw)
            )
        except ToolInputError as error:
            return Done(None, refused=str(error))
        return Done(result, trace)

    def rehearse(self, asked: argparse.Namespace) -> dict[tuple[Any, ...], Done]:
        """Play a run by itself, in a database that is thrown away: what it asked for and what came of it, by the job's key."""
        from agent.loop.rehearsing import rehearse

        made, self.played = rehearse(asked, self.subject, self.compute, self.played)
        return made

    def _null(self, null: tuple[str, int]) -> Subject:
        if null not in self.nulls:
            self.nulls.clear()  # one of them at a time
            self.nulls[null] = null_subject(self.subject, *null)
        return self.nulls[null]


@dataclass
class _Actor:
    handle: Any
    waiting: set[Any] = field(default_factory=set)


class Workers:
    """Ray actors that compute on one subject. `close` ends them, and Ray itself where this process started it."""

    def __init__(
        self,
        name: str,
        device: str,
        dtype: str,
        subject: Subject,
        refused: Mapping[str, Mapping[str, str]],
        count: int | None,
    ) -> None:
        """Start workers, and wait for the first. count: how many; by default as many as the GPUs or processors allow.

        WorkersError where there are none in time, or where they have another model or other code.
        """
        ray, threads = _ray(), torch.get_num_threads()
        self.started = not ray.is_initialized()
        gpus = 1 if subject.device.type == "cuda" else 0
        if self.started:
            _start(ray, None if count is None else count * threads)
        try:
            found = ray.cluster_resources()
            able = int(found.get("GPU", 0)) if gpus else int(found.get("CPU", 0)) // threads
            actor = ray.remote(max_restarts=-1, max_task_retries=RETRIES, num_cpus=threads, num_gpus=gpus)(Computer)
            asked = (name, device, dtype, refused, subject.engine, threads, str(Path.cwd()))
            self.actors = [_Actor(actor.remote(*asked)) for _ in range(count or max(1, able))]
            self.pending: dict[tuple[Any, ...], tuple[_Actor, Any]] = {}
            self.rehearsing: dict[int, Any] = {}
            self.foreseen: dict[tuple[Any, ...], Done] = {}
            self._agree(ray, subject, threads, gpus)
        except BaseException:
            self.close()
            raise

    def _agree(self, ray: Any, subject: Subject, threads: int, gpus: int) -> None:
        """Wait until a worker is there; every one that is has to compute the same thing."""
        here = _same(subject)
        told = [a.handle.about.remote() for a in self.actors]
        ready, later = ray.wait(told, num_returns=1, timeout=READY)
        if not ready:
            each = f"{threads} processors" + " and a GPU" * gpus
            raise WorkersError(
                f"no Ray worker is ready after {READY} s: each needs {each}; the cluster has {ray.cluster_resources()}"
            )
        ready += ray.wait(later, num_returns=len(later), timeout=0)[0] if later else []
        for ref in ready:
            try:
                there = ray.get(ref)
            except ray.exceptions.RayError as error:
                raise WorkersError(f"a Ray worker cannot load the subject: {_last_line(error)}") from None
            if other := [k for k in here if there[k] != here[k]]:
                raise WorkersError(
                    f"a Ray worker has other {', '.join(other)} than this process: install and copy the same there"
                )

    def takes(self, tool: str) -> bool:
        """Whether a tool's calls are computed by workers."""
        return tool not in HERE

    def begin(self, job: Job) -> None:
        """Hand a job to the worker that has the fewest, unless it is under way or what comes of it is known."""
        if job.key in self.pending or job.key in self.foreseen:
            return
        chosen = self._least()
        ref = chosen.handle.compute.remote(job)
        chosen.waiting.add(ref)
        self.pending[job.key] = chosen, ref

    def _least(self) -> _Actor:
        """The worker that has the fewest things to do."""
        ray = _ray()
        for a in self.actors:
            if a.waiting:
                a.waiting -= set(ray.wait(list(a.waiting), num_returns=len(a.waiting), timeout=0)[0])
        return min(self.actors, key=lambda a: len(a.waiting))

    @property
    def count(self) -> int:
        """How many workers there are."""
        return len(self.actors)

    def rehearse(self, number: int, asked: argparse.Namespace) -> None:
        """Have a worker play a run of this number by itself. It has its jobs all the same when it comes to nothing."""
        chosen = self._least()
        self.rehearsing[number] = ref = chosen.handle.rehearse.remote(asked)
        chosen.waiting.add(ref)

    def rehearsed(self, number: int) -> None:
        """Wait until a run has been rehearsed, if it is; only what that came to is foreseen from here on."""
        ray, ref = _ray(), self.rehearsing.pop(number, None)
        self.foreseen = {}
        if ref is not None:
            while not ray.wait([ref], timeout=0.2)[0]:  # so that an interrupt is minded
                pass
            with suppress(
                ray.exceptions.RayError
            ):  # its worker died, or has not the script or tasks: computed when it is asked for
                self.foreseen = ray.get(ref)

    def finish(self, job: Job, check: Callable[[], None]) -> tuple[Result, str]:
        """The answer to a job: a result, and where an unexpected error came from. ToolInputError where it cannot be made.

        check is called several times a second; what it raises ends the worker's job, and this.
        """
        if job.key in self.foreseen:
            return self.foreseen[job.key].told()
        ray = _ray()
        self.begin(job)
        actor, ref = self.pending.pop(job.key)
        try:
            while not ray.wait([ref], timeout=0.2)[0]:
                check()
        except (Cancelled, DeadlineReached, KeyboardInterrupt):
            self._drop(actor)
            raise
        try:
            done: Done = ray.get(ref)
        except ray.exceptions.RayError as error:
            text = f"{job.tool} failed: its worker died or gave up {RETRIES + 1} times: {_last_line(error)[:400]}"
            return Result(status="failed", text=text), str(error)
        return done.told()

    def _drop(self, actor: _Actor) -> None:
        """End what a worker computes and what waits there; Ray starts the worker again."""
        ray = _ray()
        for key in [k for k, (a, _) in self.pending.items() if a is actor]:
            del self.pending[key]
        actor.waiting.clear()
        with suppress(ray.exceptions.RayError):
            ray.kill(actor.handle, no_restart=False)

    def close(self) -> None:
        """End the workers."""
        ray = _ray()
        if self.started:
            ray.shutdown()
            return
        for a in getattr(self, "actors", []):
            with suppress(ray.exceptions.RayError):
                ray.kill(a.handle)


def _same(subject: Subject) -> dict[str, str]:
    return {"weights": subject.fingerprint, "code": code_version(), "version of torch": str(torch.__version__)}


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    try:
        import ray
    except ImportError:
        raise WorkersError("--executor ray needs Ray: pip install 'locus-agent[ray]'") from None
    return ray


def _start(ray: Any, processors: int | None) -> None:
    """Join the cluster that RAY_ADDRESS names, or start one on this machine alone."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    before = signal.getsignal(signal.SIGTERM)
    try:
        if os.environ.get("RAY_ADDRESS"):
            ray.init(**quiet)
        else:
            alone = {"include_dashboard": False, "_node_ip_address": "127.0.0.1", "object_store_memory": 256 * 2**20}
            ray.init(address="local", num_cpus=processors, **alone, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise WorkersError(f"Ray cannot be started or reached: {_last_line(error)}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray puts one there that ends the process at once


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def workers_for(
    args: argparse.Namespace, name: str, subject: Subject, refused: Mapping[str, Mapping[str, str]]
) -> Workers | None:
    """The workers that a command line asks for; None where it asks for none. InputError where there are none to be had."""
    if getattr(args, "executor", "local") != "ray":
        return None
    dtype = str(subject.dtype).removeprefix("torch.")
    try:
        return Workers(name, subject.device.type, dtype, subject, refused, getattr(args, "workers", None))
    except WorkersError as error:
        raise InputError(str(error)) from None


def in_order(compute: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """What independent calls return, in their order, each computed by a Ray task, which is tried again where its process dies.

    compute: a function of a module that is there on every machine. WorkersError.
    """
    ray, threads = _ray(), torch.get_num_threads()
    if not ray.is_initialized():
        _start(ray, None)
    task = ray.remote(max_retries=RETRIES, num_cpus=threads)(_with_threads)
    for ref in [task.remote(threads, compute, call) for call in calls]:
        try:
            yield ray.get(ref)
        except ray.exceptions.WorkerCrashedError:
            raise WorkersError(f"{compute.__name__} ended its process {RETRIES + 1} times") from None


def _with_threads(threads: int, compute: Callable[..., Any], call: tuple[Any, ...]) -> Any:
    torch.set_num_threads(threads)
    return compute(*call)
