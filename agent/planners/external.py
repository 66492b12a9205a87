"""A planner that is somebody else: calls arrive from outside, one at a time, and each waits for its answer.

The loop runs in a thread of its own; `submit` is called from any other.
"""

import asyncio
import contextlib
import json
import queue
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from agent.planners.base import Answer, PlannerError, ToolCall, Turn, View

PERSON = "person"  # who drives a run from a notebook or the workbench
ENDED = "the run has ended; its report is written"


class External:
    """Hands calls from outside to the loop, and the loop's answers back.

    patient: calls that come to nothing, however many in a row, do not end the run.
    """

    knows_price = True

    def __init__(self, name: str = "mcp", *, patient: bool = False) -> None:
        self.name, self.patient = name, patient
        self._calls: queue.Queue[tuple[ToolCall, Future[Answer]] | None] = queue.Queue()
        self._waiting: Future[Answer] | None = None
        self._lock = threading.Lock()
        self._closed = False
        self.first: Future[View | None] = Future()  # what the run's planner sees at first; None where it ended before
        self._awaited: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    async def propose(self, view: View) -> Turn:
        """Give the last call its answer and wait for the next one. PlannerError when the other side has gone."""
        if not self.first.done():
            self.first.set_result(view)
        if self._waiting is not None and view.exchanges:
            self._settle(view.exchanges[-1].answers[-1])
        taken = await self._next()
        if taken is None:
            raise PlannerError(f"the {PERSON if self.patient else 'client'} has gone")
        call, self._waiting = taken
        return Turn((call,))

    async def _next(self) -> tuple[ToolCall, Future[Answer]] | None:
        """The next call; a wait that is cancelled (a budget of minutes) takes none and leaves no thread behind."""
        arrived = asyncio.Event()
        self._awaited = (asyncio.get_running_loop(), arrived)
        while True:
            try:
                return self._calls.get_nowait()
            except queue.Empty:
                await arrived.wait()
                arrived.clear()

    def _put(self, item: tuple[ToolCall, Future[Answer]] | None) -> None:
        self._calls.put(item)
        if self._awaited is not None:
            loop, arrived = self._awaited
            with contextlib.suppress(RuntimeError):  # the run's loop has ended: `close` answers what is left
                loop.call_soon_threadsafe(arrived.set)

    def submit(self, name: str, arguments: Mapping[str, Any]) -> "Future[Answer]":
        """A call; the future holds its answer once it has been executed and recorded."""
        future: Future[Answer] = Future()
        with self._lock:
            if self._closed:
                future.set_result(Answer("", ENDED, "budget"))
            else:
                # The number makes the id unique within the run, which the record needs.
                identity = f"{self.name}-{id(future):x}"
                self._put((ToolCall(identity, name, json.dumps(dict(arguments))), future))
        return future

    @property
    def closed(self) -> bool:
        """Whether the run has ended."""
        return self._closed

    def hang_up(self) -> None:
        """Nothing more will come: the run ends after what is under way."""
        self._put(None)

    def close(self, last: Answer | None) -> None:
        """The run has ended: answer the call that ended it, and refuse all others."""
        with self._lock:
            self._closed = True
        if not self.first.done():
            self.first.set_result(None)
        self._settle(last or Answer("", ENDED, "budget"))
        while not self._calls.empty():
            taken = self._calls.get()
            if taken is not None:
                taken[1].set_result(Answer("", ENDED, "budget"))

    def _settle(self, answer: Answer) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)
        self._waiting = None
