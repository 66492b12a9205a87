"""How long the engine takes beside TransformerLens, nnsight and a plain loop, and beside the least work that a job needs.

`python -m benchmarks.speed [--rounds N] [--only WORDS] [--no-peers]`. Peers that are not installed are left out: a virtual
environment with `pip install transformer-lens nnsight nnterp tuned-lens` beside this project's requirements has them.
"""

import argparse
import os
import sys

import torch

from benchmarks.speed import deciding, forecasting, peers
from benchmarks.speed.jobs import SEQ, Bench, edits, programs
from benchmarks.speed.reading import lenses, tuned, tuned_table
from benchmarks.speed.timing import HOOKS, LENS, NNSIGHT, OURS, Timed, timed
from tools.engine.threads import share_the_machine

ROUNDS, PROMPTS, FEW, ALIKE = 5, 16, 8, 24
COLUMNS = (LENS, NNSIGHT, HOOKS)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--only", default="", help="jobs whose name has these words")
    parser.add_argument("--no-peers", action="store_true", help="leave the other libraries out")
    asked = parser.parse_args()
    share_the_machine()
    torch.set_num_threads(1)
    modules, lines = ({}, ["peers are left out"]) if asked.no_peers else peers.found()
    print(f"{'; '.join(lines)}. torch {torch.__version__}, one thread; load {os.getloadavg()[0]:.1f} at the start.\n")
    print(f"| job | variants | here, s | {' | '.join(COLUMNS)} | cap of a batched loop | against the bound |")
    print(f"|---|---|---|{'---|' * len(COLUMNS)}---|---|")
    with torch.no_grad():
        for make, prompts, begin in ((programs, PROMPTS, 0), (programs, PROMPTS, ALIKE), (edits, FEW, 0), (lenses, 1, 0)):
            for job in make(Bench(modules, prompts, begin)):
                if asked.only in job.name:
                    print(line(timed(job, asked.rounds)), flush=True)
    if asked.only in "tuned lens":
        print("\n" + "\n".join(tuned_table(tuned(modules))))
    if asked.only in deciding.NAME and LENS in modules:
        print(f"\n{deciding.HEAD}")
        for race in deciding.races(modules, asked.rounds):
            print(race.line, flush=True)
    if asked.only in forecasting.NAME:
        print(f"\n{forecasting.HEAD}")
        for found in forecasting.compared():
            print(found.line, flush=True)
    print(f"\nTimes are of the processor; load {os.getloadavg()[0]:.1f} at the end. Prompts have {SEQ} tokens.")
    return 0


def line(found: Timed) -> str:
    """A row: medians over the rounds, with the lowest and the highest ratio."""
    job = found.job
    here = sorted(found.seconds[OURS])[len(found.seconds[OURS]) // 2]
    cells = [job.name, str(job.variants), f"{here:.3f}"]
    for way in COLUMNS:
        if way not in found.seconds:
            cells.append("")
            continue
        middle, low, high = found.ratio(way)
        floor = job.floors.get(way)
        cells.append(f"{middle:.2f} ({low:.2f}-{high:.2f})" + (f", floor {floor:g}" if floor else ""))
    cells.append(f"{job.cap:.2f}" if job.cap else "")
    cells.append(f"{found.over_least:.2f}, at most {job.bound:g}")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
