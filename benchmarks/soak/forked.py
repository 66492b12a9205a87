"""Runs as processes that are forked from one which has imported everything: what is tried is the run, not its imports."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status, None where it was killed; seconds of wall time and of a processor, MiB at its peak."""

    status: int | None
    seconds: float
    processor: float
    peak: float


@dataclass(frozen=True)
class Running:
    """A process that was started, and when."""

    pid: int
    began: float

    def ended(self) -> Ended:
        """Wait for its end."""
        _, status, used = os.wait4(self.pid, 0)
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        unit = 1 if sys.platform == "darwin" else 1024
        spent = used.ru_utime + used.ru_stime
        return Ended(code, time.monotonic() - self.began, spent, used.ru_maxrss * unit / 2**20)

    def killed(self, after: float) -> Ended:
        """Kill it (SIGKILL) so many seconds after its start; it may have ended before."""
        time.sleep(max(0.0, self.began + after - time.monotonic()))
        os.kill(self.pid, signal.SIGKILL)
        return self.ended()


def preload() -> None:
    """Import what a run imports, in the process from which runs are forked; nothing is computed in it."""
    import transformers
    import vl_convert

    from agent import run
    from agent.loop import repeating, session
    from agent.planners import systematic
    from agent.report import build
    from tools.methods.tool import discover
    from tools.subjects import families

    discover()
    families()
    wanted = (transformers.AutoModelForCausalLM, transformers.AutoTokenizer, transformers.GPT2LMHeadModel)
    assert all((*wanted, vl_convert, run, repeating, session, systematic, build))


def start(work: Callable[[], int], log: Path) -> Running:
    """Do something in a process of its own, which exits with what is returned; what it prints goes into a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    began = time.monotonic()
    pid = os.fork()
    if pid:
        return Running(pid, began)
    status = 70
    try:
        with log.open("a", encoding="utf-8") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            status = work()
            sys.stdout.flush()
            sys.stderr.flush()
    except BaseException:  # noqa: BLE001  # whatever it is, this process must not go on as its parent
        import traceback

        with log.open("a", encoding="utf-8") as out:
            traceback.print_exc(file=out)
    finally:
        os._exit(status)


def run(arguments: Sequence[str], log: Path) -> Running:
    """Start `python -m agent.run` with these arguments."""

    def work() -> int:
        from agent.run import main

        return main(list(arguments))

    return start(work, log)
