"""Investigate where nothing is: `python -m benchmarks.nulls [--investigations N] [--seed S] [--sample] [--write]`.

The systematic planner runs in the real loop on nulls: models of random weights, models asked for other problems' answers, and tasks
answered at chance, each with examples to explore on which the model happens to be right (`worlds`), and with the capability gate
lifted, so that nothing but the test on unseen examples protects. And on models that do their task, where it counts what it finds
in components that take no part. An investigation that was played before with the same code and seed is read from the results file.
Ends with status 1 where more than 5% of the nulls' investigations confirm something false about a place, beyond chance.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import agent
import experiments_db
import tools
from benchmarks.keeping import Kept, code_of, made_with, write_table
from benchmarks.nulls.playing import Result, play
from tools.statistics.means import proportion

WORDS = {
    "random_init": "model of random weights", "shuffled_answers": "other problems' answers", "chance": "answers drawn at random",
    "elsewhere": "the task is done elsewhere",
}  # fmt: skip
NULLS: tuple[str, ...] = ("random_init", "shuffled_answers", "chance")
SAMPLE = 2  # investigations of each kind
DESIGNED, PROMISED = 0.02, 0.05
HERE = Path(__file__).parent
SOURCES = (
    HERE,
    HERE.parent / "claims",
    HERE.parent / "planted",
    *(Path(m.__file__ or "").parent for m in (agent, tools, experiments_db)),
)


def counts(investigations: int) -> dict[str, int]:
    """How many of each kind: the nulls share them, and as many as a fifth of all come on top where there is something."""
    each = {n: investigations // len(NULLS) + (i < investigations % len(NULLS)) for i, n in enumerate(NULLS)}
    return {**each, "elsewhere": max(1, investigations // 5)}


def run(kept: Kept, seed: int, asked: dict[str, int]) -> dict[str, list[Result]]:
    """Every investigation, played or read."""
    found: dict[str, list[Result]] = {}
    for null, n in asked.items():
        for number in range(n):
            result: Result = kept.get(f"{null} {number} | seed {seed}", lambda a=(null, seed, number): play(*a))
            found.setdefault(null, []).append(result)
            for text in result["false"]:
                print(f"{result['world']}: FALSE {text}", flush=True)
    return found


def table(found: dict[str, list[Result]]) -> str:
    """One line a kind of null, all nulls together, and models that do the task."""
    lines = [
        "| null | investigations | with a false localisation | 95% interval | localisations tested | true of the null too "
        "| experiments | CPU-seconds |",
        "|" + "---|" * 8,
    ]
    nulls = [r for n in NULLS for r in found.get(n, [])]
    rows = [(WORDS[n], found[n]) for n in NULLS if n in found]
    rows += [("all nulls", nulls), (WORDS["elsewhere"], found.get("elsewhere", []))]
    return "\n".join([*lines, *(_line(words, results) for words, results in rows if results)])


def _line(words: str, results: Sequence[Result]) -> str:
    false = [bool(r["false"]) for r in results]
    low, high = interval(false)
    return (
        f"| {words} | {len(results)} | {sum(false)} ({sum(false) / len(false):.1%}) | {low:.1%} to {high:.1%} | "
        f"{sum(r['located'] for r in results)} | {sum(len(r['true']) for r in results)} | "
        f"{_mean(results, 'experiments'):.0f} each | {_mean(results, 'seconds'):.1f} each |"
    )


def _mean(results: Sequence[Result], what: str) -> float:
    return sum(r[what] for r in results) / len(results)


def interval(false: Sequence[bool]) -> tuple[float, float]:
    """The exact 95% interval of a share of investigations; all there is where they are too few for one."""
    if len(false) < 5:
        return 0.0, 1.0
    found = proportion(list(false), [str(i) for i in range(len(false))])
    return found.low, found.high


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 where the promise is broken."""
    p = argparse.ArgumentParser(prog="python -m benchmarks.nulls", description=(__doc__ or "").split("\n")[0])
    p.add_argument(
        "--investigations", type=int, default=200, metavar="N", help="of nulls, all kinds together (default 200)"
    )
    p.add_argument("--seed", type=int, default=0, help="default: 0")
    p.add_argument("--sample", action="store_true", help=f"some seconds: {SAMPLE} of each kind")
    p.add_argument("--results", type=Path, default=HERE / "results.jsonl", help="where results are kept")
    p.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    args = p.parse_args(arguments)
    if args.investigations < len(NULLS):
        p.error(f"--investigations must be at least {len(NULLS)}: one of each null")
    asked = dict.fromkeys((*NULLS, "elsewhere"), SAMPLE) if args.sample else counts(args.investigations)
    found = run(Kept(args.results, code_of(SOURCES)), args.seed, asked)
    nulls = [bool(r["false"]) for n in NULLS for r in found[n]]
    broken = interval(nulls)[0] > PROMISED
    said = (
        f"A localisation is confirmed in {sum(nulls)} of {len(nulls)} investigations of nulls ({sum(nulls) / len(nulls):.1%}; "
        f"designed for at most {DESIGNED:.0%}, promised at most {PROMISED:.0%})."
    )
    text = f"{made_with(args.seed)} {said}\n\n{table(found)}"
    print(text)
    if args.write:
        write_table("nulls", text)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
