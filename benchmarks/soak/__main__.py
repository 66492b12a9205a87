"""Kill, crowd and outlast: `python -m benchmarks.soak [--kills N] [--minutes M] [--experiments N] [--seed S] [--sample] [--write]`.

Systematic runs are killed (SIGKILL) at random instants and go on: every store has to verify after every kill, and in the end to
hold what that of a run which nobody killed holds, up to times. Eight processes with different investigations share one database.
One run makes thousands of experiments by a script. What was tried before with the same code and seed is read from the results
file. Ends with status 1 where anything was lost.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import agent
import experiments_db
import tools
from benchmarks.keeping import Kept, code_of, made_with, write_table
from benchmarks.planted.train import FOLDER
from benchmarks.soak import killing, lasting, sharing
from benchmarks.soak.forked import preload, start
from benchmarks.soak.killing import Try
from benchmarks.soak.lasting import Stretch
from benchmarks.soak.sharing import Shared

HERE = Path(__file__).parent
SOURCES = (HERE, *(Path(m.__file__ or "").parent for m in (agent, tools, experiments_db)))
SAMPLE = {"kills": 3, "minutes": 0.0, "processes": 3, "experiments": 100}


def kill(kept: Kept, seed: int, kills: int) -> list[Try]:
    """Runs that are killed, until there were so many kills."""
    intact = cache(killing.whole)
    found: list[Try] = []
    while sum(len(t["kills"]) for t in found) < kills:
        number = len(found)
        tried: Try = kept.get(f"kill {number} | seed {seed}", lambda n=number: killing.killed(seed, n, intact()))
        found.append(tried)
        for text in tried["wrong"]:
            print(f"run {number}: WRONG {text}", flush=True)
    return found


def last(kept: Kept, experiments: int) -> list[Stretch]:
    """The long run, in a process of its own."""

    def play() -> list[Stretch]:
        with tempfile.TemporaryDirectory() as name:
            inner = Kept(Path(name) / "measured.jsonl", "")
            model = FOLDER / lasting.MODEL
            ended = start(
                lambda: 0 if inner.get("run", lambda: lasting.play(Path(name), model, experiments)) else 1,
                Path(name) / "log",
            ).ended()
            if ended.status != 0:
                raise RuntimeError((Path(name) / "log").read_text(encoding="utf-8")[-2000:])
            found: list[Stretch] = Kept(inner.path, "").get("run", list)
            return found

    return kept.get(f"last {experiments}", play)


def told(tries: Sequence[Try], shared: Shared, stretches: Sequence[Stretch]) -> tuple[str, int]:
    """Everything as text, and how much was lost."""
    kills = [k for t in tries for k in t["kills"]]
    wrong = sum(bool(t["wrong"]) for t in tries)
    before = sum(1 for _, events in kills if events == 0)
    lines = [
        "| tried | how many | lost |",
        "|---|---|---|",
        f"| kills at random instants, of {len(tries)} runs ({before} before anything was on record; "
        f"up to {most(tries)} of one run) | {len(kills)} | {wrong} |",
        f"| processes in one database for {shared['seconds'] / 60:.1f} minutes: {shared['runs']} runs, "
        f"{shared['experiments']} experiments, {shared['events']} events; {shared['compared']} runs compared with themselves alone "
        f"| {shared['processes']} | {len(shared['wrong'])} |",
        f"| experiments of one run | {stretches[-1]['experiments']} | 0 |",
        "",
        "| experiments on record | processor ms a turn | MiB held | MiB of database |",
        "|---|---|---|---|",
        *(f"| {s['experiments']} | {s['turn']:.1f} | {s['memory']:.0f} | {s['database']:.1f} |" for s in stretches),
    ]
    return "\n".join(lines), wrong + len(shared["wrong"])


def most(tries: Sequence[Try]) -> int:
    """The most kills of one run."""
    return max((len(t["kills"]) for t in tries), default=0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 where something was lost."""
    p = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--kills", type=int, default=200, metavar="N", help="default: 200")
    p.add_argument(
        "--minutes", type=float, default=3.0, metavar="M", help="that processes share a database (default 3)"
    )
    p.add_argument("--processes", type=int, default=8, metavar="N", help="default: 8")
    p.add_argument("--experiments", type=int, default=10_000, metavar="N", help="of the long run (default 10000)")
    p.add_argument("--seed", type=int, default=0, help="default: 0")
    p.add_argument(
        "--sample", action="store_true", help="a minute: " + ", ".join(f"{n:g} {w}" for w, n in SAMPLE.items())
    )
    p.add_argument("--results", type=Path, default=HERE / "results.jsonl", help="where results are kept")
    p.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    args = p.parse_args(arguments)
    if args.sample:
        vars(args).update(SAMPLE)
    if min(args.kills, args.processes) < 1 or args.experiments < 10 or args.minutes < 0:
        p.error("--kills and --processes must be at least 1, --experiments at least 10, --minutes 0 or more")
    preload()
    kept = Kept(args.results, code_of(SOURCES))
    tries = kill(kept, args.seed, args.kills)
    crowd = f"share {args.processes} for {args.minutes:g} | seed {args.seed}"
    shared: Shared = kept.get(crowd, lambda: sharing.play(args.processes, args.minutes, args.seed))
    for text in shared["wrong"]:
        print(f"shared: WRONG {text}", flush=True)
    text, lost = told(tries, shared, last(kept, args.experiments))
    print(text := f"{made_with(args.seed)}\n\n{text}")
    if args.write:
        write_table("soak", text)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
