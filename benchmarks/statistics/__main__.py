"""`python -m benchmarks.statistics [--repeats N] [--seed S] [--sample] [--results FILE]`: tables of coverage and of errors.

A cell that was computed before with the same code, seed and repeats is read from the results file, so that a stopped run goes
on where it was. Ends with status 1 where a promise is broken: an estimator that gives a wrong interval in more than 7% of
samples, or a test, a stream of them or looks at a growing sample that err more often than they say; each by more than 2.5
of the simulation's standard errors (the tables have hundreds of cells).
"""

import argparse
import hashlib
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.statistics import coverage, errors, stops, streams
from tools import statistics

HERE = Path(__file__).parent
COVERED, STREAM_LIMIT = 0.93, 0.05
SURE = 2.5  # standard errors of the simulation


class Results:
    """Cells by their key, kept as JSON lines."""

    def __init__(self, path: Path, seed: int) -> None:
        sources = [*sorted(HERE.glob("*.py")), *sorted(Path(statistics.__file__).parent.glob("*.py"))]
        self.path, self.seed = path, seed
        self.code = hashlib.sha256(b"".join(p.read_bytes() for p in sources)).hexdigest()[:12]
        self.known: dict[str, list[float]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                cell = json.loads(line)
                self.known[cell["key"]] = cell["value"]

    def get(self, name: str, repeats: int, compute: Callable[[np.random.Generator], list[float]]) -> list[float]:
        """The cell's value, computed with a generator of its own unless it is known."""
        key = f"{name} | {repeats} repeats | seed {self.seed} | code {self.code}"
        if key not in self.known:
            self.known[key] = compute(np.random.default_rng((self.seed, zlib.crc32(name.encode()))))
            with self.path.open("a") as file:
                file.write(json.dumps({"key": key, "value": self.known[key]}) + "\n")
        return self.known[key]


def main() -> int:
    """Print the tables; 1 where a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.statistics", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3000, help="samples a cell (default 3000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--sample", action="store_true", help="some seconds: 200 samples, at the minimum and at 64 only"
    )
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl", help="where cells are kept")
    args = parser.parse_args()
    results = Results(args.results, args.seed)
    repeats = 200 if args.sample else args.repeats
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True, cwd=HERE, check=False)  # noqa: S603 (git itself)
    print(f"Commit {commit.stdout.strip() or 'unknown'}, code {results.code}, seed {args.seed}, {repeats} samples a cell, "
          f"{datetime.now(UTC):%Y-%m-%d}.\n")  # fmt: skip
    broken = intervals(results, repeats, sample=args.sample)
    broken += tests(results, repeats, sample=args.sample)
    broken += planners(results, repeats // 2)
    broken += looks(results, repeats // 2)
    print("\nAll promises kept." if not broken else "\nBroken:\n- " + "\n- ".join(broken))
    return 1 if broken else 0


def _kept(groups: int, least: int, *, sample: bool) -> bool:
    return not sample or groups in (least, 64)


def intervals(results: Results, repeats: int, *, sample: bool) -> list[str]:
    """Coverage of 95% intervals; returns the cells below 93%."""
    print("## Coverage of 95% intervals\n\nShare of samples whose interval holds the truth; in brackets the share without an "
          "interval (it reaches to both ends).\n"
          f"The simulation's standard error is {_error(0.95, repeats):.3f} at .95.\n")  # fmt: skip
    rows: dict[tuple[str, str], dict[int, str]] = {}
    broken: list[str] = []
    for cell in coverage.cells():
        least = statistics.MINIMUM[cell.estimator]
        if not _kept(cell.groups, least, sample=sample):
            continue
        name = f"{cell.estimator} | {cell.distribution} | {cell.groups}"

        def compute(rng: np.random.Generator, cell: coverage.Cell = cell) -> list[float]:
            found, truth = cell.sample(rng, repeats, cell.groups)
            held = np.mean([e.low <= truth <= e.high for e in found])
            return [float(held), float(np.mean([e.method.endswith("unknown") for e in found]))]

        held, unknown = results.get(name, repeats, compute)
        text = f"{held:.3f}" + (f" ({unknown:.0%})" if unknown else "")
        if held < COVERED - SURE * _error(COVERED, repeats):
            broken.append(f"{name}: {text}")
            text = f"**{text}**"
        rows.setdefault((cell.estimator, cell.distribution), {})[cell.groups] = text
    _table(rows, "estimator")
    return broken


def tests(results: Results, repeats: int, *, sample: bool) -> list[str]:
    """False positives of tests at their bounds; returns the cells above their level."""
    print("\n## False positives of tests\n\nShare of samples with p at most .05, and at most .01, where the truth lies on the "
          "bound.\n"
          f"The simulation's standard errors are {_error(0.05, repeats):.3f} and {_error(0.01, repeats):.3f}.\n")  # fmt: skip
    rows: dict[tuple[str, str], dict[int, str]] = {}
    broken: list[str] = []
    for null in errors.nulls():
        least = statistics.MINIMUM[errors.CASES[null.test][0]]
        if not _kept(null.groups, least, sample=sample):
            continue
        name, n = f"{null.test} | {null.distribution} | {null.groups}", min(repeats, null.most)

        def compute(rng: np.random.Generator, null: errors.Null = null, n: int = n) -> list[float]:
            p = null.sample(rng, n, null.groups)
            return [float(np.mean(p <= level)) for level in errors.LEVELS]

        found = results.get(name, n, compute)
        text = ", ".join(f"{rate:.3f}" for rate in found)
        if any(rate > level + SURE * _error(level, n) for rate, level in zip(found, errors.LEVELS)):
            broken.append(f"{name}: {text}")
            text = f"**{text}**"
        rows.setdefault((null.test, null.distribution), {})[null.groups] = text
    _table(rows, "test")
    return broken


def planners(results: Results, repeats: int) -> list[str]:
    """Streams of adaptive hypotheses; returns those that promise their rate and break it."""
    print(f"\n## Streams of hypotheses\n\nShare of {repeats} planners that confirm anything, where nothing is there, in up to "
          f"{streams.ROUNDS} rounds of {streams.PREDICTIONS} predictions (promised: at most {STREAM_LIMIT}; the "
          f"simulation's standard error is {_error(STREAM_LIMIT, repeats):.3f}).\n")  # fmt: skip
    print("| planner | distribution | groups | errs | promised |\n|---|---|---|---|---|")
    broken: list[str] = []
    for s in streams.streams():
        name = f"{s.planner} | {s.distribution} | {s.groups}"
        (rate,) = results.get(name, repeats, lambda rng, s=s: [streams.rate(s, rng, repeats)])
        print(f"| {name} | {rate:.3f} | {'yes' if s.promised else 'no'} |", flush=True)
        if s.promised and rate > STREAM_LIMIT + SURE * _error(STREAM_LIMIT, repeats):
            broken.append(f"{name}: {rate:.3f}")
    return broken


def looks(results: Results, repeats: int) -> list[str]:
    """Looks again and again; returns those whose intervals ever exclude the truth more often than they say."""
    print(f"\n## Looking again and again\n\nShare of {repeats} samples in which an interval excludes the truth at any of "
          f"{len(stops.LOOKS)} looks, from {stops.LOOKS[0]} to {stops.MOST} groups (promised: at most {STREAM_LIMIT}; the "
          f"simulation's standard error is {_error(STREAM_LIMIT, repeats):.3f}); of those who stop once it says whether the mean "
          f"is beyond {stops.SMALLEST}, who decide wrongly, and the mean number of groups; and how often the truth is ever "
          "outside an interval for a fixed number of groups.\n")  # fmt: skip
    print(
        "| distribution | mean | ever outside | decides wrongly | groups | fixed intervals |\n|---|---|---|---|---|---|"
    )
    broken: list[str] = []
    for s in stops.sequences():
        name = f"looks | {s.distribution}"
        ever, wrong, groups, fixed = results.get(name, repeats, lambda rng, s=s: s.errs(rng, repeats))
        beside = f"{fixed:.3f}" if fixed else ""
        print(f"| {s.distribution} | {s.truth:g} | {ever:.3f} | {wrong:.3f} | {groups:.0f} | {beside} |", flush=True)
        if max(ever, wrong) > STREAM_LIMIT + SURE * _error(STREAM_LIMIT, repeats):
            broken.append(f"{name}: {ever:.3f}, {wrong:.3f}")
    return broken


def _error(rate: float, repeats: int) -> float:
    return (rate * (1 - rate) / max(repeats, 1)) ** 0.5


def _table(rows: dict[tuple[str, str], dict[int, str]], kind: str) -> None:
    """One table; a column for each number of groups, empty where it is refused."""
    columns = sorted({g for row in rows.values() for g in row})
    print(f"| {kind} | distribution | " + " | ".join(map(str, columns)) + " |")
    print("|---|---|" + "---|" * len(columns))
    for (name, distribution), row in rows.items():
        print(f"| {name} | {distribution} | " + " | ".join(row.get(g, "") for g in columns) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
