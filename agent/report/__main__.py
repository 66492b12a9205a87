"""`python -m agent.report RUN`: build report.md and its figures from the database alone, or --check that they are what it says."""

from experiments_db import interrupts

if __name__ == "__main__":
    interrupts.mind("agent.report")

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.report.text import inert
from experiments_db.faults import held_to_records
from experiments_db.store import Store, StoreError


def main(argv: Sequence[str] | None = None) -> int:
    """0 written (or, with --check, equal), 1 different, 2 bad input."""
    p = argparse.ArgumentParser(prog="python -m agent.report", description="Build a run's report from the database.")
    p.add_argument("run", help="a run's name, a prefix, or latest; or a group of repeats")
    p.add_argument("--db", type=Path, default=Path("experiments.db"), help="experiments database")
    p.add_argument("--out", type=Path, help="folder of transcripts; default: where the run wrote")
    p.add_argument("--check", action="store_true", help="compare the file with what the database says; write nothing")
    p.add_argument(
        "--script",
        metavar="F3",
        help="write FOLDER/RUN/F3.py instead, which measures that finding again with torch and transformers alone",
    )
    p.add_argument("--subject", help="with --script: where the model is now, if it has moved")
    args = p.parse_args(argv)
    try:
        with interrupts.working("agent.report"), held_to_records(args.db):
            return _report(args)
    except StoreError as error:
        print(f"agent.report: {inert(str(error))}", file=sys.stderr)
        return 2


def _report(args: argparse.Namespace) -> int:
    """As `main`; StoreError for a run or a database that is not there."""
    if args.subject is not None and args.script is None:
        print("agent.report: --subject goes with --script", file=sys.stderr)
        return 2
    store = Store(args.db, create=False)  # before torch is loaded
    from agent.loop.repeats import group, group_named
    from agent.report.build import render, run_folder, write_report  # brings torch, by way of the kinds of finding
    from agent.report.repeated import render_repeated, repeated_folder, write_repeated

    if repeated := group_named(store, args.run):
        if not args.check:
            print(write_repeated(store, repeated, args.out))
            return 0
        return _checked(repeated_folder(group(store, repeated), args.out), render_repeated(store, repeated))
    name = store.resolve_run(args.run)
    folder = run_folder(store.run(name), args.out)
    if args.script is not None:
        from agent.report.script import ScriptError, write_script

        try:
            print(write_script(store, name, args.script, folder, args.subject))
        except ScriptError as error:
            print(f"agent.report: {inert(str(error))}", file=sys.stderr)
            return 2
        return 0
    if not args.check:
        print(write_report(store, name, folder))
        return 0
    return _checked(folder, render(store, name, None))


def _checked(folder: Path, derived: str) -> int:
    file = folder / "report.md"
    if not file.is_file():
        print(f"agent.report: there is no {file}", file=sys.stderr)
        return 2
    return _check(file.read_text(encoding="utf-8"), derived, file)


def _check(written: str, derived: str, file: Path) -> int:
    for number, (a, b) in enumerate(zip(written.splitlines(), derived.splitlines(), strict=False), 1):
        if a != b:
            print(f"{file}, line {number} differs\n  file:     {inert(a)[:300]}\n  database: {inert(b)[:300]}")
            return 1
    if written != derived:
        print(f"{file} has another length than what the database gives")
        return 1
    print(f"{file} is what the database says")
    return 0


if __name__ == "__main__":
    sys.exit(interrupts.ended(main()))
