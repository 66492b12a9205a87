"""What a planner is worth: `python -m benchmarks.planners [--planner P ...] [--sample]`, on cases whose truth is known.

Planted and compiled models under names that say nothing: neither the folder of the model nor that of the task tells which case it
is. Counted are confirmed findings that are true, false, or that nothing decides, planted places that were missed, and what a
confirmed finding cost in tokens and dollars. Beside the planners that are asked for stand those driven by hand of which a recording
exists: folders of scripts, one a case, in benchmarks/recorded. Results are kept line by line, so that a stopped benchmark goes on.
"""

import argparse
import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent import run as agent_run
from agent.loop.history import spending
from agent.loop.record import RunRecord
from benchmarks.keeping import Kept, code_of, made_with, write_table
from benchmarks.planted.cases import CASES
from benchmarks.planted.posed import Posed, compiled, programs, shipped, tuning
from benchmarks.planted.running import GOAL, read
from experiments_db.store import Store

HERE = Path(__file__).parent
SOURCES = [HERE.parent / name for name in ("agent", "tools", "experiments_db")] + [HERE / "planted"]
RECORDED = HERE / "recorded"
COMPILED = ("relay-0", "lookup-0", "unable-0")
SHIPPED = ("modular-a2-m4", "copy-h3.1", "lookup-backup", "random-lookup")
SAMPLE = ("copy-h3.1", "relay-0")
ALWAYS = ("systematic", "random_valid")
Row = dict[str, Any]
HEAD = (
    "| planner | cases | exact | right | false | not judged | missed | experiments a case | tokens a confirmed finding "
    "| dollars a confirmed finding | s a case |"
)


def known_cases() -> list[str]:
    """Names of all cases: the trained ones, and each compiled program at seed 0; another seed may be asked for."""
    return [*(c.name for c in CASES), *(f"{p}-0" for p in programs())]


def posed(name: str, folder: Path) -> Posed:
    """A case by its name, written below a folder."""
    program, _, seed = name.rpartition("-")
    if program in programs() and seed.isdecimal():
        return compiled(program, int(seed), folder)
    return shipped(tuning([name])[0], folder)


def sign(case: str) -> str:
    """The name that says nothing, for a case's name: eight hexadecimal digits."""
    return hashlib.sha256(f"planners/{case}".encode()).hexdigest()[:8]


def anonymous(case: Posed, folder: Path) -> Posed:
    """The same case in a folder and with a task whose names are hashes, without its truth: nothing there tells what was planted."""
    there = folder / sign(case.name)
    shutil.rmtree(there, ignore_errors=True)
    there.mkdir(parents=True)
    shutil.copytree(case.model, there / "model", ignore=shutil.ignore_patterns("truth.json", "*.jsonl"))
    task = there / f"task_{sign(case.name)}.jsonl"
    shutil.copy(case.task, task)
    return replace(case, model=there / "model", task=task)


def play(case: Posed, planner: str, seed: int, experiments: int, folder: Path, more: Sequence[str] = ()) -> Row:
    """One run of a planner on one case, judged. RuntimeError where the run fails."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    db = folder / "experiments.db"
    argv = [
        "--goal", GOAL.format(task=case.task.stem), "--subject", str(case.model), "--task", str(case.task), "--planner", planner,
        "--db", str(db), "--out", str(folder / "out"), "--device", "cpu", "--max-experiments", str(experiments),
        "--null-twins", "0", "--seed", str(seed), "--quiet", *more,
    ]  # fmt: skip
    started = time.perf_counter()
    if agent_run.main(argv) != 0:
        raise RuntimeError(f"the run of {planner} failed")
    seconds = time.perf_counter() - started
    scored, store = read(case, planner, db, seconds), Store(db)
    run = store.run(store.resolve_run("latest"))
    spent = spending(RunRecord(store, run.name), run)
    verdicts = [s.verdict for s in scored.said]
    return {
        "case": case.name, "origin": case.origin, "targets": scored.targets, "seed": seed, "budget": experiments,
        "right": verdicts.count("true"), "false": verdicts.count("false"),
        "unjudged": len(verdicts) - verdicts.count("true") - verdicts.count("false"), "missed": len(scored.missed),
        "exact": (scored.exact if scored.targets else scored.quiet) and "false" not in verdicts,
        "experiments": spent.experiments, "tokens": spent.tokens, "dollars": spent.cost, "seconds": round(seconds, 1),
        "made": made_with(seed),
    }  # fmt: skip


def recordings(folder: Path = RECORDED) -> dict[str, dict[str, Path]]:
    """Planners of which there are recordings, each with its scripts by case."""
    return {
        f"{d.name} (recorded)": {f.stem: f for f in sorted(d.glob("*.jsonl"))}
        for d in sorted(folder.iterdir() if folder.is_dir() else ())
        if d.is_dir()
    }


def collect(args: argparse.Namespace, kept: Kept, work: Path) -> Iterator[tuple[str, Row]]:
    """(planner, its row) for each case; a recorded planner has rows for the cases of which there is a script."""
    scripts = recordings(args.recorded)
    for name in args.case:
        made: list[Posed] = []

        def case(name: str = name, made: list[Posed] = made) -> Posed:
            if not made:
                made.append(anonymous(posed(name, work / "made" / name), work / "anonymous"))
            return made[0]

        for planner in (*args.planner, *scripts):
            spec = planner if planner not in scripts else f"scripted:{scripts[planner].get(name, '')}"
            if spec == "scripted:":
                continue
            folder = work / "runs" / hashlib.sha256(f"{planner}/{name}".encode()).hexdigest()[:12]
            key = f"{planner} | {name} | seed {args.seed} | {args.max_experiments} experiments"
            more = [] if args.prices is None else ["--prices", str(args.prices)]
            row = kept.get(key, lambda s=spec, f=folder, c=case, m=more: play(c(), s, args.seed, args.max_experiments, f, m))
            said = f"{row['right']} right, {row['false']} false, {row['missed']} missed, {row['seconds']:.0f} s"
            print(f"{planner}, {name}: {said}", flush=True)
            yield planner, row


def table(rows: Sequence[tuple[str, Row]]) -> str:
    """A line for each planner, in the order in which they come."""
    lines = [HEAD, "|" + "---|" * (HEAD.count("|") - 1)]
    for planner in dict.fromkeys(p for p, _ in rows):
        mine = [r for p, r in rows if p == planner]

        def total(name: str, mine: Sequence[Row] = mine) -> float:
            return sum(r[name] for r in mine)

        confirmed = total("right") + total("false") + total("unjudged")
        counts = [f"{total(name):.0f}" for name in ("exact", "right", "false", "unjudged")]
        costs = [_each(total("tokens"), confirmed, ".0f"), _each(total("dollars"), confirmed, ".4f")]
        experiments, seconds = (f"{total(name) / len(mine):.0f}" for name in ("experiments", "seconds"))
        missed = f"{total('missed'):.0f} of {total('targets'):.0f}"
        lines.append(f"| {' | '.join([planner, str(len(mine)), *counts, missed, experiments, *costs, seconds])} |")
    return "\n".join(lines)


def _each(spent: float, confirmed: float, form: str) -> str:
    return format(spent / confirmed, form) if confirmed else "nothing confirmed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 done, 2 bad input."""
    p = argparse.ArgumentParser(prog="python -m benchmarks.planners", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--planner", action="append", help="as agent.run takes it; systematic and random_valid stand beside it")
    p.add_argument("--case", action="append", metavar="CASE", help="a case, PROGRAM-SEED, or its sign (default: seven cases)")
    p.add_argument("--seed", type=int, default=0, help="of the runs")
    p.add_argument("--max-experiments", type=int, default=60, help="a run's budget (default 60)")
    p.add_argument("--sample", action="store_true", help="two cases with twelve experiments each")
    p.add_argument("--prices", type=Path, help="as agent.run takes it")
    p.add_argument("--recorded", type=Path, default=RECORDED, help="folder of recordings: one folder a planner, one script a case")
    p.add_argument("--results", type=Path, help="a file of lines: what this code has done is not done again")
    p.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    args = p.parse_args(arguments)
    args.planner = list(dict.fromkeys([*(args.planner or []), *ALWAYS]))
    if args.sample:
        args.max_experiments = min(args.max_experiments, 12)
    known = known_cases()
    signs = {sign(c): c for c in known}
    args.case = [signs.get(c, c) for c in args.case or (SAMPLE if args.sample else (*SHIPPED, *COMPILED))]
    if unknown := [c for c in args.case if c not in known and c.rpartition("-")[0] not in programs()]:
        p.error(f"no case {unknown[0]!r}; there are {', '.join(known)}")
    with tempfile.TemporaryDirectory() as scratch:
        kept = Kept(args.results or Path(scratch) / "results.jsonl", code_of(SOURCES))
        rows = list(collect(args, kept, Path(scratch)))
    origins = [r["origin"] for _, r in {r["case"]: (q, r) for q, r in rows}.values()]
    about = ", ".join(f"{origins.count(o)} {o}" for o in dict.fromkeys(origins))
    commits = sorted({r["made"] for _, r in rows})
    hand = "" if recordings(args.recorded) else " There is no recording of a planner driven by hand yet."
    about = f"{len(origins)} cases ({about}), at most {args.max_experiments} experiments each."
    text = f"{' '.join(commits)} {about}{hand}\n\n{table(rows)}"
    print(text)
    if args.write:
        write_table("planners", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
