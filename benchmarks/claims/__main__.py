"""Try to claim what is not so: `python -m benchmarks.claims [--seed S] [--sample] [--only CLASS] [--write]`.

Each hostile claim goes through the real loop beside a true one that differs in one thing. None of the former may be
accepted, none of the latter lost. For findings that are true nulls by construction, how many are confirmed is counted against
the promised level. What was played before with the same code and seed is read from the results file: a suite that was stopped
goes on where it was.
"""

import argparse
import gc
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.claims import again, branches, built_in, contradictions, flow, kinds, leaks, measured, nulls, wording
from benchmarks.claims.case import Case
from benchmarks.claims.results import Results
from benchmarks.claims.stage import Stage
from benchmarks.claims.worlds import Worlds
from benchmarks.keeping import made_with, write_table

CLASSES = (
    *measured.CLASSES, *kinds.CLASSES, *flow.CLASSES, *wording.CLASSES, *leaks.CLASSES, *branches.CLASSES,
    *contradictions.CLASSES, *again.CLASSES, *built_in.CLASSES,
)  # fmt: skip
EACH, SAMPLE = 10, 1
MORE = {"typed": 60, "leaked": 28, "empty": 24, "at_odds": 12, "used_before": 20, "built_in": 60}
STREAMS, FEW_STREAMS = 60, 2
HERE = Path(__file__).parent


@dataclass
class Score:
    """How a class fared. accepted: hostile claims that got through; lost: true ones that did not."""

    tried: int = 0
    accepted: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def play(stage: Stage, worlds: Worlds, case: Case) -> tuple[bool, bool]:
    """Whether the hostile claim was accepted, and whether the true one was lost."""
    world = worlds.get(case.world)
    begun: Mapping[str, Any] = {"before": case.before, "earlier": case.earlier, "branch": case.branch}
    hostile = case.said(stage.play(world, case.hostile, **begun))
    true = (case.passes or case.said)(stage.play(world, case.true, **begun))
    return hostile, not true


def run(
    seed: int, folder: Path, results: Results, *, sample: bool = False, only: str = "", say: bool = False
) -> dict[str, Score]:
    """Every class, or those whose name holds `only`; `sample`: one case of each."""
    stage, worlds = Stage(folder), Worlds(folder)
    scores: dict[str, Score] = {}
    for make in (c for c in CLASSES if only in c.__name__):
        rng = random.Random(f"{seed}/{make.__name__}")
        n = SAMPLE if sample else MORE.get(make.__name__, EACH)
        for number, case in enumerate(make(worlds, rng, n)):
            started = time.monotonic()
            score = scores.setdefault(case.group, Score())
            key = f"{make.__name__} {number} of {n}, seed {seed}: {case.world}: {case.words}"
            (accepted, lost), _ = results.get(key, lambda c=case: play(stage, worlds, c))
            score.tried += 1
            score.accepted += [f"{case.world}: {case.words}"] * accepted
            score.lost += [f"{case.world}: {case.words}"] * lost
            if say:
                mark = " ACCEPTED" * accepted + " TRUE ONE LOST" * lost
                print(
                    f"{time.monotonic() - started:5.1f} s  {case.group}, {case.world}: {case.words}{mark}", flush=True
                )
    return scores


def table(scores: dict[str, Score]) -> str:
    """One line a class, and the sums."""
    lines = ["| class | hostile claims | accepted | true twins lost |", "|---|---|---|---|"]
    lines += [f"| {name} | {s.tried} | {len(s.accepted)} | {len(s.lost)} |" for name, s in scores.items()]
    total = [sum(x) for x in zip(*((s.tried, len(s.accepted), len(s.lost)) for s in scores.values()), strict=True)]
    return "\n".join([*lines, f"| all | {total[0]} | {total[1]} | {total[2]} |"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 where something got through or was lost."""
    p = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--seed", type=int, default=0, help="default: 0")
    p.add_argument("--sample", action="store_true", help="one case of each class, a few streams of nulls")
    p.add_argument("--only", default="", help="classes whose name holds this text, and no streams of nulls")
    p.add_argument("--results", type=Path, default=HERE / "results.jsonl", help="where results are kept")
    p.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    args = p.parse_args(arguments)
    gc.freeze()  # what is loaded by now stays: each round of settling collects garbage, and would look through all of it
    torch.set_num_threads(1)  # the models are tiny: threads would wait for each other
    results = Results(None if args.sample else args.results)
    with tempfile.TemporaryDirectory() as folder:
        scores = run(args.seed, Path(folder), results, sample=args.sample, only=args.only, say=True)
        count = 0 if args.only else FEW_STREAMS if args.sample else STREAMS
        streams = nulls.run(args.seed, Path(folder), count, results)
    text = f"{table(scores)}\n\n{streams.text}"
    print(f"\n{text}")
    if args.write:
        write_table("claims", f"{made_with(args.seed)}\n\n{text}")
    through = [x for s in scores.values() for x in (*s.accepted, *s.lost)]
    return 1 if through or not streams.holds else 0


if __name__ == "__main__":
    sys.exit(main())
