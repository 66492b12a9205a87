"""Score planners and baselines where the truth is known: `python -m benchmarks.planted [--planner P ...] [--case C ...]`.

The tuning set (shipped, trained models), `--compiled` (every program at the seeds given), or `--fresh N --seed S`: N cases that
the seed draws, trained where they have to be. Results are kept line by line, so that a stopped benchmark goes on; with
--write the table in benchmarks/README.md is replaced.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from agent.loop.workers import in_order
from benchmarks.planted import tables
from benchmarks.planted.baselines import BASELINES, rank
from benchmarks.planted.cases import CASES
from benchmarks.planted.fresh import mix
from benchmarks.planted.posed import Posed, compiled, programs, shipped, task_name, tuning, write_task
from benchmarks.planted.running import GOAL, investigate, keep, kept
from benchmarks.planted.scoring import Scored

__all__ = ["GOAL", "main", "task_name", "write_task"]
HERE = Path(__file__).parent
SAMPLE = ("copy-h3.1", "random-copy")
SAMPLE_PROGRAM = ("relay", 0)
Asked = Iterator[tuple[str, Callable[[], Posed]]]


def asked(args: argparse.Namespace, work: Path) -> Asked:
    """The cases that a command line asks for, each with what makes it."""
    if args.fresh:
        yield from mix.cases(args.fresh, args.seed, args.models, work)
    elif args.compiled:
        for program in args.case or programs():
            for seed in args.seeds:
                name = f"{program}-{seed}"
                yield name, lambda p=program, s=seed, n=name: compiled(p, s, work / "compiled" / n)
    else:
        for case in tuning(SAMPLE if args.sample and not args.case else args.case or ()):
            yield case.name, lambda case=case: shipped(case, work / "shipped")
        if args.sample and not args.case:
            program, seed = SAMPLE_PROGRAM
            yield f"{program}-{seed}", lambda: compiled(program, seed, work / "compiled" / f"{program}-{seed}")


def collect(args: argparse.Namespace, work: Path, kind: str) -> list[Scored]:
    """Every method on every case, what was kept first: a planner's lines are those of this commit, a ranking's of any."""
    own = {"set": kind, "commit": commit(), "experiments": args.max_experiments}
    ranked = {"set": kind}
    wanted = [*args.planner, *(() if args.no_baselines else BASELINES)]
    rows = [
        r for stamp in (own, ranked) for r in (kept(args.results, stamp) if args.results else ()) if r.method in wanted
    ]
    done = {(r.case, r.method) for r in rows}
    names: list[str] = []

    def due() -> Iterator[tuple[Posed, Sequence[str], bool, Path, int]]:
        for name, pose in asked(args, work):
            names.append(name)
            planners = [p for p in args.planner if (name, p) not in done]
            baselines = not args.no_baselines and not all((name, m) in done for m in BASELINES)
            if planners or baselines:
                yield pose(), planners, baselines, work, args.max_experiments

    for planned, rankings in in_order(_scored, due()) if args.executor == "ray" else (_scored(*d) for d in due()):
        for row in (*(replace(r, stamp=own) for r in planned), *(replace(r, stamp=ranked) for r in rankings)):
            rows.append(row)
            if args.results:
                keep(args.results, row)
    order = {m: i for i, m in enumerate(wanted)}
    return sorted((r for r in rows if r.case in names), key=lambda r: (order[r.method], names.index(r.case)))


def _scored(
    posed: Posed, planners: Sequence[str], baselines: bool, work: Path, experiments: int
) -> tuple[list[Scored], list[Scored]]:
    """A case's rows: of planners, and of rankings. Each run has a folder and a database of its own, made anew."""
    return [_planned(posed, p, work, experiments) for p in planners], list(rank(posed)) if baselines else []


def _planned(posed: Posed, planner: str, work: Path, experiments: int) -> Scored:
    row = investigate(posed, planner, work / "runs", experiments)
    planted = ", ".join(map(str, posed.targets)) or "nothing"
    right = (row.exact if row.targets else row.quiet) and not row.false
    judged = "right" if right else f"planted: {planted}; not named: {', '.join(row.missed) or 'nothing'}"
    judged += "".join(f"; FALSE: {s.kind} {s.text}" for s in row.false)
    shown = ", ".join(s.text for s in row.said if "necessary" in s.kind) or row.ending or "nothing"
    print(f"{planner} {posed.name}: {shown} ({judged}; {row.seconds:.0f} s)", file=sys.stderr, flush=True)
    return row


def about(args: argparse.Namespace, rows: Sequence[Scored]) -> str:
    """What the cases are, with commit, seed and date."""
    first = {r.case: r for r in rows}.values()
    trained = [r for r in first if r.origin == "trained"]
    made = sum(r.origin == "compiled" for r in first)
    nulls = sum(r.origin == "null" for r in first)
    kind = "fresh" if args.fresh else "compiled" if args.compiled else "shipped"
    seed = (
        f"seed {args.seed}"
        if args.fresh
        else f"seeds {', '.join(map(str, args.seeds))}"
        if args.compiled
        else "tuning set"
    )
    text = f"{len(first)} {kind} cases: {len(trained)} trained with a mechanism, {made} compiled, {nulls} nulls"
    trainings = [r for r in first if r.made.endswith("CPU s")]
    if trainings:
        attempts = sum(int(r.made.split()[0]) for r in trainings)
        text += f"; {len(trainings)} models were trained or drawn, in {attempts} attempts"
        text += f", and {mix.left_out(args.seed, args.models)} others left out, for want of a network with one mechanism alone"
    return f"Commit {commit()}, {seed}, {datetime.now(UTC):%Y-%m-%d}. {text}.\n"


def commit() -> str:
    """The commit that is checked out."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)  # noqa: S603 (git itself)
    return found.stdout.strip() or "unknown"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    args = _parser().parse_args(arguments)
    if args.executor == "ray" and find_spec("ray") is None:
        _parser().error("--executor ray needs Ray: pip install 'locus-agent[ray]'")
    args.planner = [p for p in args.planner or ["systematic"] if p != "none"]
    names = programs() if args.compiled else [c.name for c in CASES]
    if unknown := [c for c in args.case or () if c not in names]:
        _parser().error(f"no case {unknown[0]!r}; there are {', '.join(names)}")
    kind = f"fresh-{args.fresh}-{args.seed}" if args.fresh else "compiled" if args.compiled else "tuning"
    if args.train_only:
        for name, pose in mix.cases(args.fresh, args.seed, args.models, args.models):
            if name.startswith(("fresh-", "null-")):
                print(f"{name}: {pose().made}", file=sys.stderr, flush=True)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        work = args.keep or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        rows = collect(args, work, kind)
    text = "\n".join(filter(None, (about(args, rows), tables.table(rows), "\n" + tables.misses(rows)))).rstrip()
    print(text)
    if args.write:
        tables.write(text, {"tuning": "planted", "compiled": "compiled"}.get(kind, "fresh"))
    return 0


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m benchmarks.planted", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--planner", action="append", help="planners to score (default: systematic; none: rankings only)")
    p.add_argument(
        "--case", action="append", metavar="CASE", help="of the tuning set, or programs with --compiled (default: all)"
    )
    p.add_argument("--compiled", action="store_true", help="the compiled programs")
    p.add_argument("--seeds", type=int, nargs="+", default=[0], help="of compiled programs (default: 0)")
    p.add_argument("--fresh", type=int, default=0, metavar="N", help="N cases that --seed draws")
    p.add_argument("--seed", type=int, default=0, help="of fresh cases")
    p.add_argument(
        "--models",
        type=Path,
        default=mix.cache_folder(),
        help="folder of fresh models (default: the cache)",
    )
    p.add_argument("--train-only", action="store_true", help="train the fresh models, and look at nothing")
    p.add_argument("--sample", action="store_true", help="three cases")
    p.add_argument("--max-experiments", type=int, default=80, help="a run's budget (default 80)")
    p.add_argument("--no-baselines", action="store_true", help="planners only")
    p.add_argument("--results", type=Path, help="a file of lines: what stands in it for this commit is not done again")
    p.add_argument("--keep", type=Path, help="folder in which runs and databases are kept")
    p.add_argument("--executor", choices=["local", "ray"], default="local",
                   help="where cases are looked into: one after the other here (default), or by Ray (docs/scale.md)")  # fmt: skip
    p.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    return p


if __name__ == "__main__":
    raise SystemExit(main())
