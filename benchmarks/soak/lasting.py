"""One very long run: thousands of experiments by a script, in the real loop; memory and time of a turn by stretch."""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from agent.planners.base import PlannerError, ToolCall, Turn, View
from experiments_db.store import Store

SIDE = 24  # the model's two operands are numbers below it
MODEL = "lookup-a1-m2"


class Stretch(TypedDict):
    """A tenth of the run: experiments at its end, processor milliseconds a turn, MiB held, MiB of the database."""

    experiments: int
    turn: float
    memory: float
    database: float


class Dictated:
    """Asks for one experiment a turn, each another one, and every 20th turn for a note."""

    name = "dictated"
    knows_price = True

    def __init__(self, experiments: int, seen: Callable[[int], None]) -> None:
        self.experiments, self.seen = experiments, seen

    async def propose(self, view: View) -> Turn:
        """The next turn; PlannerError once there are enough experiments."""
        turn = len(view.exchanges)
        number = turn - turn // 20
        self.seen(number)
        if number >= self.experiments:
            raise PlannerError("that was the last experiment")
        if turn % 20 == 19:
            return _turn(turn, "note", text=f"As before: {{{{E{max(1, number - 1)}.tokens_as_intact}}}}.")
        first, second, rest = number % SIDE, number // SIDE % SIDE, number // SIDE**2
        return _turn(
            turn, "generate", prompts=[f"{first} ? {second} ="], max_new_tokens=1 + rest // 4, operation="skip", blocks=[rest % 4]
        )  # fmt: skip


def _turn(number: int, name: str, **arguments: object) -> Turn:
    return Turn((ToolCall(f"d{number}", name, json.dumps(arguments)),), f"Turn {number}.")


def play(folder: Path, model: Path, experiments: int) -> list[Stretch]:
    """Run it in this process; what was measured, by tenths. RuntimeError where an experiment is missing."""
    from agent.loop.session import Session
    from agent.run import parser

    found: list[Stretch] = []
    every = max(1, experiments // 10)
    last = [0, time.process_time()]

    def seen(number: int) -> None:
        if number >= last[0] + every:
            now = time.process_time()
            size = sum(f.stat().st_size for f in folder.glob("e.db*")) / 2**20
            turn = 1000 * (now - last[1]) / (number - last[0])
            found.append({"experiments": number, "turn": turn, "memory": held(), "database": size})
            print(found[-1], flush=True)
            last[:] = number, time.process_time()

    places = ["--db", str(folder / "e.db"), "--out", str(folder / "t"), "--device", "cpu", "--null-twins", "0", "--quiet"]
    args: argparse.Namespace = parser().parse_args(
        ["--goal", "describe the model", "--subject", str(model), "--max-experiments", str(experiments + 1), *places]
    )
    Session.begin(args, {}, Dictated(experiments, seen)).investigate()
    store = Store(folder / "e.db", create=False)
    (name,) = store.runs()
    if len(store.experiments(name)) != experiments:
        raise RuntimeError(f"{len(store.experiments(name))} of {experiments} experiments are on record")
    if problems := store.verify():
        raise RuntimeError(problems[0])
    return found


def held() -> float:
    """MiB of memory that this process holds now."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**20
    line = next(x for x in status.read_text(encoding="utf-8").splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
