"""Ctrl-C, a request to end (SIGTERM) and a terminal that closes (SIGHUP): what a command line makes of each.

While something is under way, the first is a KeyboardInterrupt, and what was done is put away. Another Ctrl-C meanwhile is answered
in a line, and one more leaves at once: what is on record was written whole. Before that, while libraries are loaded, the first one
leaves at once, since an import that is cut off may come out as any error, or as none.
"""

import atexit
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import NoReturn

LEFT = 130  # exit status
AT_ONCE = 3  # Ctrl-C so many times leaves whatever is under way
WAIT = 0.02  # seconds until an interrupt that came at a bad moment is tried again
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
IMPORTING = "<frozen importlib._bootstrap>"
_Handler = Callable[[int, FrameType | None], object] | int | None


class Interrupts:
    """The handler of the signals that end a program. words: what is said when it leaves at once."""

    def __init__(self, name: str, words: Callable[[], str] = lambda: "interrupted") -> None:
        self.name, self.words = name, words
        self.minded = False  # whether the process is this command line's own, which may leave it
        self.working = False  # whether there is something to put away
        self.beneath = 0  # frames of the import under way when the work began, which does not end before it
        self.alarm: tuple[_Handler, tuple[float, float]] | None = None  # of somebody else, while this one is set
        self.asked = 0
        self.ending = False  # whether SIGTERM or a closed terminal asked for the end of all that is under way
        self.status: int | None = None  # the program's own, once all is said

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raise, answer, or leave."""
        if number == getattr(signal, "SIGHUP", None):
            _no_terminal()
        if not self.working and not self.minded:  # its place is being given back: raised after that
            self.asked += 1
            return
        if not self.working:
            self.leave()
        self.ending = self.ending or number != signal.SIGINT
        if not self.asked:
            self.asked = 1
            self._interrupt(frame)
        elif number == signal.SIGINT:
            self.asked += 1
            if self.asked >= AT_ONCE:
                self.leave()
            self.say("ending: what was done is being put away; Ctrl-C once more leaves at once")

    def say(self, text: str) -> None:
        """A line to standard error, whatever is being written just now."""
        with suppress(OSError):
            os.write(2, f"\n{self.name}: {text}\n".encode())

    def leave(self) -> NoReturn:
        """End the process, with no tidying up that could fail or take its time; one that is somebody else's is interrupted."""
        if not self.minded:
            raise KeyboardInterrupt
        if self.status is None:
            self.say(self.words())
        os._exit(LEFT if self.status is None else self.status)

    def uncaught(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """As sys.excepthook: an interrupt that nothing minded, or that came out as another error."""
        if self.asked or issubclass(kind, KeyboardInterrupt):
            self.leave()
        sys.__excepthook__(kind, error, trace)

    def unraisable(self, what: "sys.UnraisableHookArgs") -> None:
        """As sys.unraisablehook: an interrupt that came where nothing can be raised, such as in a destructor, is tried again."""
        if not issubclass(what.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(what)
        elif self.working:
            self._later()

    def _interrupt(self, frame: FrameType | None) -> None:
        """KeyboardInterrupt, once the imports that are under way have ended."""
        if hasattr(signal, "setitimer") and _importing(frame) > self.beneath:
            self._later()
            return
        raise KeyboardInterrupt

    def _later(self) -> None:
        before = signal.signal(signal.SIGALRM, self._again), signal.setitimer(signal.ITIMER_REAL, WAIT)
        self.alarm = self.alarm or before

    def restore(self) -> None:
        """Give somebody's alarm back to them."""
        if self.alarm is not None:
            handler, left = self.alarm
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
            signal.setitimer(signal.ITIMER_REAL, *left)
            self.alarm = None

    def _again(self, number: int, frame: FrameType | None) -> None:
        del number
        if self.working:
            self._interrupt(frame)


def mind(name: str, words: str = "interrupted") -> None:
    """For this process from now on, which runs the command line of this name: to be called first thing."""
    own = Interrupts(name, lambda: words)
    own.minded = True
    _take(own, {})
    sys.excepthook, sys.unraisablehook = own.uncaught, own.unraisable
    atexit.register(_over)  # registered first, so that it is called last


@contextmanager
def working(name: str, words: Callable[[], str] = lambda: "interrupted") -> Generator[Interrupts]:
    """Inside, there is something to put away: the first signal is a KeyboardInterrupt. words: what is on record, and how to go on.

    In another thread than the main one, which gets no signals, nothing is changed; nor is a signal that somebody ignores. A program
    that was not minded from its first line is somebody else's: all is as it was afterwards, and it is interrupted, never left.
    """
    if threading.current_thread() is not threading.main_thread():
        yield Interrupts(name)
        return
    own = _in_force() or Interrupts(name)
    if own.working:  # a command line that calls another
        yield own
        return
    import inspect  # here, since it takes longer than the rest of this file

    before: dict[signal.Signals, _Handler] = {}
    try:
        own.words, own.asked, own.ending, own.beneath = words, 0, False, _importing(inspect.currentframe())
        own.working = True
        _take(own, before)
        yield own
    finally:
        own.working, asked = False, own.asked
        own.restore()
        for number, handler in before.items():
            signal.signal(number, handler)
        if own.asked > asked:
            raise KeyboardInterrupt


def heeded() -> bool:
    """After a part that one Ctrl-C may have ended alone: whether the rest goes on, and then the next Ctrl-C is the first again.

    It does not after a second one, a request to end, or a terminal that closed.
    """
    own = _in_force()
    if own is None or threading.current_thread() is not threading.main_thread():
        return True
    if own.asked > 1 or own.ending:
        return False
    own.asked = 0
    return True


def ended(status: int) -> int:
    """The exit status of a program that has said what there is to say: what comes now changes nothing."""
    own = _in_force()
    if own is not None:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        own.status = status
    return status


def _in_force() -> Interrupts | None:
    return next((h for s in SIGNALS if isinstance(h := signal.getsignal(s), Interrupts)), None)


def _take(own: Interrupts, before: "dict[signal.Signals, _Handler]") -> None:
    """Put a handler in the place of those that Python has by itself, kept in `before`. What nohup has ignored stays so."""
    usual = (signal.SIG_DFL, signal.default_int_handler)
    for number in SIGNALS:
        if (handler := signal.getsignal(number)) in usual:
            before[number] = handler
            signal.signal(number, own)


def _importing(frame: FrameType | None) -> int:
    """How many frames of imports under way are beneath a frame."""
    found = 0
    while frame is not None:
        found += frame.f_code.co_filename == IMPORTING
        frame = frame.f_back
    return found


def _over() -> None:
    """The interpreter takes itself apart, which may take seconds: the system ends it, without a word."""
    for number in SIGNALS:
        if isinstance(signal.getsignal(number), Interrupts):
            signal.signal(number, signal.SIG_DFL)


def _no_terminal() -> None:
    """Standard streams of a terminal that is gone lead nowhere, so that writing to them is no error."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                os.dup2(nowhere, stream)
    os.close(nowhere)
