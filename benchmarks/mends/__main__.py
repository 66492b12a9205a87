"""Take back each mend and see its test turn red: `python -m benchmarks.mends [--only WORDS] [--sample N --seed S] [--write]`.

The tree is copied; with all fixes in place every test has to be green, and without a fix the one test that is named for it
has to be red. A fix whose source is not found is an error: the list and the code belong together.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.keeping import made_with, write_table
from benchmarks.mends import mended, runner, tried
from benchmarks.mends.mend import Mend, SnippetError, Tree, check

ROOT = Path(__file__).parents[2]
MENDS: tuple[Mend, ...] = (*tried.MENDS, *mended.MENDS)
LEFT_OUT = (".git", "__pycache__", ".*_cache", ".hypothesis", "transcripts", "*.egg-info", "*.db")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 where a test was not what it has to be, 2 where a fix is not found."""
    p = argparse.ArgumentParser(prog="python -m benchmarks.mends", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--only", default="", help="mends whose line, file or test holds this text")
    p.add_argument("--sample", type=int, metavar="N", help="N of them, drawn by the seed")
    p.add_argument("--seed", type=int, default=0, help="default: 0")
    p.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    p.add_argument("--list", action="store_true", help="say which there are, and run nothing")
    args = p.parse_args(arguments)
    try:
        for one in MENDS:
            check(ROOT, one)
    except SnippetError as error:
        print(f"benchmarks.mends: {error}", file=sys.stderr)
        return 2
    chosen = [m for m in MENDS if args.only in " ".join([m.line, m.test, *(e.file for e in m.edits)])]
    if args.sample is not None:
        chosen = random.Random(args.seed).sample(chosen, min(args.sample, len(chosen)))
    if args.list:
        print("\n".join(f"{m.line}: {m.test}" for m in chosen))
        return 0
    rows, good = run(chosen)
    print(f"\n{sum(r[2] == 'red' for r in rows)} of {len(rows)} tests are red without their fix")
    if args.write:
        _write(rows)
    return 0 if good else 1


def run(chosen: Sequence[Mend]) -> tuple[list[tuple[str, str, str]], bool]:
    """(line, test, result) of each mend, and whether all are as they have to be."""
    runner.load()
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        tree, log = Tree(Path(folder).resolve() / "tree"), Path(folder) / "log.txt"
        shutil.copytree(ROOT, tree.root, ignore=shutil.ignore_patterns(*LEFT_OUT))
        (tree.root / "transcripts").mkdir()
        before = runner.run(tree.root, sorted({m.test for m in chosen}), log)
        good = True
        for test in sorted({m.test for m in chosen}):
            if before.of(test) != "green":
                good = False
                print(f"not green as it is: {test}: {before.reason(test)}")
        for one in chosen:
            started = time.monotonic()
            with tree.reverted(one):
                after = runner.run(tree.root, [one.test], log)
            result = after.of(one.test)
            good = good and result == "red"
            rows.append((one.line, one.test, result))
            why = after.reason(one.test) if result != "green" else "the test does not see it"
            seconds = time.monotonic() - started
            print(
                f"{result:6} {seconds:4.1f} s ({before.cost(one.test):.1f})  {one.line}\n       {one.test}: {why[:150]}",
                flush=True,
            )
    return rows, good


def _write(rows: Sequence[tuple[str, str, str]]) -> None:
    table = ["| what was wrong | test | without the fix |", "|---|---|---|"]
    table += [f"| {line} | `{test.removeprefix('tests/')}` | {result} |" for line, test, result in rows]
    write_table("mends", f"{made_with()[:-1]}: {len(rows)} fixes.\n\n" + "\n".join(table))


if __name__ == "__main__":
    sys.exit(main())
