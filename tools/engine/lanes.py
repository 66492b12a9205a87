"""Steps that wait for one another, run side by side on the processor's cores.

Torch divides one matrix product among threads. The products of a sweep are too small for that to pay: on two cores it takes longer
than one thread alone, while two batches side by side take half the time. So each lane computes with one thread, or with its share
of them where memory allows fewer lanes than there are threads. Which rows run as one batch is decided beforehand, and no step
looks at another's timing, so the bits are those of running the steps one after the other.
"""

import os
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import TypeVar, cast

import torch

T = TypeVar("T")
SIDE = 1.5  # steps for each one of the longest chain, below which they run one after the other where products can be divided
_here = threading.local()
_pool: list[SimpleQueue[Callable[[], None]]] = []
_growing = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.clear)  # threads stay with the parent


@dataclass(eq=False)
class Step:
    """Something to do once other steps are done."""

    run: Callable[[], None]
    after: Sequence["Step"] = ()
    done: bool = field(default=False, init=False)


def lane() -> int:
    """Which lane this thread is, counted from 1; 0 outside of any."""
    return getattr(_here, "lane", 0)


def lanes() -> int:
    """How many steps may run side by side: as many as torch has threads here; inside a lane one."""
    return 1 if lane() else getattr(_here, "threads", 0) or torch.get_num_threads()


@contextmanager
def undivided() -> Generator[None]:
    """Let what this thread computes in torch have one thread for the time of the context, and lanes as many as there were."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    try:
        _here.threads = before
        _divide(1, before)
        yield
    finally:
        torch.set_num_threads(before)  # and for threads that are still to come, wherever an interrupt fell
        _here.threads = 0


def _divide(threads: int, elsewhere: int) -> None:
    """Divide what this thread computes in torch among so many threads.

    elsewhere: the same for threads that are still to come, for which torch takes what was asked for last, by whomever.
    """
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
        if threads != elsewhere:
            other = threading.Thread(target=torch.set_num_threads, args=(elsewhere,))
            other.start()
            other.join()


def run_steps(steps: Sequence[Step], wide: int) -> None:
    """Run every step once, each after those that it waits for, which stand before it.

    wide: how many at once; each gets its share of the threads. What a step raises ends the others at their next step, and is
    raised here, of several errors that of the earliest step. Gradients are not recorded in lanes.
    """
    depth: dict[Step, int] = {}
    for step in steps:
        depth[step] = 1 + max((depth[before] for before in step.after), default=0)
    chain, divided = max(depth.values(), default=0), torch.get_num_threads() > 1
    try:
        if wide < 2 or len(steps) <= chain or (divided and len(steps) < SIDE * chain):
            for step in steps:
                step.run()
        else:
            _Lanes(steps, max(1, lanes() // wide) if divided else 1).run(min(wide, len(steps)))
    finally:
        for step in (
            steps
        ):  # steps and what they compute with hold one another, and would stay until all memory is looked through
            step.run, step.after = _nothing, ()


class _Lanes:
    """Steps, and the lanes that take them. threads: of arithmetic, for each lane."""

    def __init__(self, steps: Sequence[Step], threads: int) -> None:
        self.todo, self.threads, self.whole = list(enumerate(steps)), threads, lanes()
        self.changed, self.begun, self.ended = threading.Condition(), 0, 0
        self.failed: list[tuple[int, BaseException]] = []
        self.inference = torch.is_inference_mode_enabled()

    def run(self, wide: int) -> None:
        """Have so many lanes work, and wait for them."""
        try:
            for queue in _lanes(wide):
                queue.put(partial(copy_context().run, self._work))
            with self.changed:
                while self.ended < wide:
                    self.changed.wait()
        except BaseException as error:  # Ctrl-C: the lanes end before what they write to is left behind
            with self.changed:
                self.failed.append((-1, error))
                self.changed.notify_all()
                while self.ended < self.begun:
                    self.changed.wait()
            raise
        if self.failed:
            raise min(self.failed, key=lambda found: found[0])[1]

    def _work(self) -> None:
        with self.changed:
            if self.failed and self.failed[-1][0] < 0:  # nobody waits any more
                return
            self.begun += 1
        at = len(self.todo)
        try:
            _divide(self.threads, self.whole)
            with torch.inference_mode(self.inference), torch.no_grad():
                while found := self._take():
                    at, step = found
                    step.run()
                    with self.changed:
                        step.done = True
                        self.changed.notify_all()
        except BaseException as error:  # noqa: BLE001  # raised where the steps were asked for
            with self.changed:
                self.failed.append((at, error))
        with self.changed:
            self.ended += 1
            self.changed.notify_all()

    def _take(self) -> tuple[int, Step] | None:
        """The first step that can begin; None once there is nothing more to do."""
        with self.changed:
            while self.todo and not self.failed:
                for place, (_, step) in enumerate(self.todo):
                    if all(before.done for before in step.after):
                        return self.todo.pop(place)
                self.changed.wait()
            return None


def _nothing() -> None:
    """What a step does that is over."""


def side_by_side(jobs: Sequence[Callable[[], T]], wide: int) -> list[T]:
    """What jobs that do not need one another return, in their order. wide: as of `run_steps`."""
    out: list[T | None] = [None] * len(jobs)

    def run(at: int) -> None:
        out[at] = jobs[at]()

    run_steps([Step(partial(run, at)) for at in range(len(jobs))], wide)
    return cast("list[T]", out)


def _lanes(count: int) -> list[SimpleQueue[Callable[[], None]]]:
    """The queues of the first lanes, which are started when they are first needed and stay."""
    with _growing:
        while len(_pool) < count:
            queue = SimpleQueue[Callable[[], None]]()
            ready = threading.Event()
            number = len(_pool) + 1
            threading.Thread(target=_serve, args=(number, queue, ready), name=f"lane {number}", daemon=True).start()
            ready.wait()
            _pool.append(queue)
        return _pool[:count]


def _serve(number: int, queue: SimpleQueue[Callable[[], None]], ready: threading.Event) -> None:
    _here.lane = number
    ready.set()
    while True:
        queue.get()()
