"""What a turn costs beside its computation: at the start of a run and after 500 experiments, and what recording one takes.

`python -m benchmarks.speed.turns [--experiments 520]`. A scripted planner scores the demo under another layer program each turn, on
eight examples; a turn is all that happens from one proposal to the next.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tools.engine.threads import share_the_machine

TURNS = 40  # of which a median is taken, at the start and at the end
DEPTH, BLOCKS = 5, 4


def main() -> int:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.turns", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--experiments", type=int, default=520)
    asked = parser.parse_args()
    share_the_machine()
    import torch

    torch.set_num_threads(1)
    from agent import run
    from agent.loop.session import Session
    from agent.planners.base import ToolCall, Turn, View
    from agent.planners.scripted import Scripted
    from experiments_db.store import Store

    class Clocked(Scripted):
        """The script, with the processor time at each of its turns."""

        def __init__(self, turns: list[Turn]) -> None:
            super().__init__(turns)
            self.clock: list[float] = []

        async def propose(self, view: View) -> Turn:
            self.clock.append(time.process_time())
            return await super().propose(view)

    turns: list[Turn] = []
    for i in range(asked.experiments):
        blocks = [i // BLOCKS**k % BLOCKS for k in range(DEPTH)]
        given = {"tasks": ["copying"], "operation": "custom", "blocks": blocks, "examples": 8}
        turns.append(Turn((ToolCall(f"t{i}", "loss", json.dumps(given)),), ""))
    turns.append(Turn((ToolCall("end", "finish", json.dumps({"answer": "unclear", "words": "Timed."})),), ""))
    planner = Clocked(turns)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        argv = ["--goal", "time it", "--subject", "demo", "--db", str(folder / "e.db"), "--out", str(folder), "--device", "cpu",
                "--quiet", "--null-twins", "0", "--max-experiments", str(asked.experiments + 1)]  # fmt: skip
        session = Session.begin(run.parser().parse_args(argv), {}, planner)
        session.investigate()
        took = [b - a for a, b in zip(planner.clock, planner.clock[1:], strict=False)]
        store = Store(folder / "e.db")
        rows = store.experiments(session.run.name)
        first, last = statistics.median(took[5 : 5 + TURNS]), statistics.median(took[-TURNS:])
        fresh = Store(folder / "fresh.db")
        fresh.put_run(session.run)
        writes: list[float] = []
        for row in rows[:100]:
            result = store.result(row.result_id)
            start = time.process_time()
            with fresh.transaction():
                kept = fresh.put_result(row.experiment, result)
                fresh.link_experiment(session.run.name, row.experiment.id, kept, cached=False, seq=1, why="")
            writes.append(time.process_time() - start)
    print(f"\n| turn | processor ms |\n|---|---|\n| of the first {TURNS} | {1000 * first:.1f} |")
    print(f"| of the last {TURNS} of {len(rows)} | {1000 * last:.1f}, {last / first:.2f} times |")
    print(f"| recording one experiment | {1000 * statistics.median(writes):.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
