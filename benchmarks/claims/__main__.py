"""Try to claim what is not so: `python -m benchmarks.claims [--seed S] [--sample] [--write]`.

Each hostile claim goes through the real loop beside a true one that differs in one thing. None of the former may be
accepted, none of the latter lost. For findings that are true nulls by construction, how many are confirmed is counted against
the promised level.
"""

import argparse
import gc
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.claims import flow, leaks, measured, nulls, wording
from benchmarks.claims.case import Case
from benchmarks.claims.stage import Stage
from benchmarks.claims.worlds import Worlds

CLASSES = (*measured.CLASSES, *flow.CLASSES, *wording.CLASSES, *leaks.CLASSES)
EACH, SAMPLE = 10, 1
MORE = {"typed": 60, "leaked": 28, "empty": 24}
STREAMS, FEW_STREAMS = 60, 2
README = Path(__file__).parents[1] / "README.md"
MARKS = ("<!-- claims -->", "<!-- end claims -->")


@dataclass
class Score:
    """How a class fared. accepted: hostile claims that got through; lost: true ones that did not."""

    tried: int = 0
    accepted: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def play(stage: Stage, worlds: Worlds, case: Case) -> tuple[bool, bool]:
    """Whether the hostile claim was accepted, and whether the true one was lost."""
    world = worlds.get(case.world)
    hostile = case.said(stage.play(world, case.hostile, case.before, case.earlier))
    true = (case.passes or case.said)(stage.play(world, case.true, case.before, case.earlier))
    return hostile, not true


def run(seed: int, folder: Path, *, sample: bool = False, say: bool = False) -> dict[str, Score]:
    """Every class; `sample`: one case of each."""
    stage, worlds = Stage(folder), Worlds(folder)
    scores: dict[str, Score] = {}
    for make in CLASSES:
        rng = random.Random(f"{seed}/{make.__name__}")
        n = SAMPLE if sample else MORE.get(make.__name__, EACH)
        for case in make(worlds, rng, n):
            started = time.monotonic()
            score = scores.setdefault(case.group, Score())
            accepted, lost = play(stage, worlds, case)
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
    p.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    args = p.parse_args(arguments)
    gc.freeze()  # what is loaded by now stays: each round of settling collects garbage, and would look through all of it
    with tempfile.TemporaryDirectory() as folder:
        scores = run(args.seed, Path(folder), sample=args.sample, say=True)
        streams = nulls.run(args.seed, Path(folder), FEW_STREAMS if args.sample else STREAMS)
    text = f"{table(scores)}\n\n{streams.text}"
    print(f"\n{text}")
    if args.write:
        _write(text, args.seed)
    through = [x for s in scores.values() for x in (*s.accepted, *s.lost)]
    return 1 if through or not streams.holds else 0


def _write(text: str, seed: int) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        cwd=README.parent, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    made = f"Commit {commit}, seed {seed}, {datetime.now(UTC):%Y-%m-%d}.\n\n{text}"
    before, _, rest = README.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    README.write_text(f"{before}{MARKS[0]}\n{made}\n{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
