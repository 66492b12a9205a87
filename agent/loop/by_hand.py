"""A run that a person drives, call by call, from a notebook or the workbench: every planner's loop, in a thread of its own."""

import argparse
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, TextIO

from agent.loop.history import history
from agent.loop.session import Session
from agent.planners.base import Answer
from agent.planners.external import PERSON, External
from tools.methods.tool import Cancelled
from tools.subjects import Subject


class ByHand:
    """A run under way. Calls wait for their turn; what is running can be cancelled, and then leaves nothing behind.

    message: what is being computed; began: when the last call was handed in (monotonic seconds).
    """

    def __init__(self, session: Session, planner: External, out: TextIO | None = None) -> None:
        self.session, self.planner = session, planner
        self.name = session.run.name
        self.message, self.began = "", time.monotonic()
        self._cancelled = threading.Event()
        session.watch, session.check = self._watch, self._check
        self._out = out or sys.stderr
        self.thread = threading.Thread(target=self._drive, name="investigation", daemon=True)
        self.thread.start()

    @classmethod
    def open(cls, args: argparse.Namespace, subject: Subject | None = None, out: TextIO | None = None) -> "ByHand":
        """A new run, or with `args.resume` an earlier one. InputError for what cannot be begun.

        args: the options of agent.run. subject: the one they name, where it is loaded already.
        """
        planner = External(PERSON, patient=True)
        args = argparse.Namespace(**{**vars(args), "planner": PERSON})
        session = Session.resume(args, planner) if args.resume else Session.begin(args, {}, planner, subject=subject)
        return cls(session, planner, out)

    @property
    def ended(self) -> bool:
        """Whether the run has come to its end and its report is written."""
        return self.planner.closed or not self.thread.is_alive()

    def submit(self, tool: str, args: Mapping[str, Any]) -> "Future[Answer]":
        """A call; the future holds its answer once it has been executed and recorded."""
        self._cancelled.clear()
        self.message, self.began = tool, time.monotonic()
        return self.planner.submit(tool, args)

    def cancel(self) -> None:
        """Stop what is running at its next step; nothing of it is kept."""
        self._cancelled.set()

    def end(self) -> None:
        """Nothing more will come: waits until the report is written."""
        self.planner.hang_up()
        self.thread.join()

    def _drive(self) -> None:
        try:
            self.session.investigate(out=self._out)
        finally:
            exchanges, _ = history(self.session.record)
            self.planner.close(exchanges[-1].answers[-1] if exchanges and exchanges[-1].answers else None)

    def _watch(self, message: str) -> None:
        self.message = message

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled("cancelled: nothing of it was kept")
