"""Check an experiments database, exchange runs, ask over many: `python -m experiments_db verify|export|import|query`."""

from experiments_db import interrupts

if __name__ == "__main__":
    interrupts.mind("experiments_db")

import argparse
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments_db.store import Store


def main(argv: list[str] | None = None) -> int:
    """0 if it is done, 1 if a database that was to be verified is not sound, 2 with one line if it cannot be done."""
    args = _parser().parse_args(argv)
    from experiments_db.exchange import ExchangeError
    from experiments_db.query import QueryError
    from experiments_db.store import StoreError

    try:
        with interrupts.working("experiments_db"):
            return {"verify": _verify, "export": _export, "import": _import, "query": _query}[args.verb](args)
    except (StoreError, ExchangeError, QueryError, OSError, sqlite3.Error) as error:
        print(_shown(str(error)), file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments_db", description="Check an experiments database; take runs from one to another."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    database = argparse.ArgumentParser(add_help=False)
    help_db = "experiments database (default experiments.db)"
    database.add_argument("--db", type=Path, default=Path("experiments.db"), help=help_db)

    verify = verbs.add_parser("verify", help="does every record fit its hash, does every reference lead somewhere?")
    which = verify.add_mutually_exclusive_group(required=True)
    which.add_argument("database", type=Path, nargs="?")
    which.add_argument("--db", type=Path, metavar="FILE", help="the same as DATABASE")

    export = verbs.add_parser(
        "export", parents=[database], help="write one run to a file that another database can import"
    )
    which = export.add_mutually_exclusive_group(required=True)
    which.add_argument("run", nargs="?", help="name of a run, the beginning of one, or latest")
    which.add_argument(
        "--all", action="store_true", help="every run that has ended, each under its name in the folder --out"
    )
    export.add_argument("--out", type=Path, help="a file ending in .jsonl, or a folder for Parquet (default RUN.jsonl)")
    export.add_argument("--format", choices=["jsonl", "parquet"], help="default: by the name of --out")
    export.add_argument("--force", action="store_true", help="replace an earlier export")

    into = verbs.add_parser(
        "import", parents=[database], help="take over the run in a file or folder that export wrote"
    )
    into.add_argument("path", type=Path)

    query = verbs.add_parser(
        "query", help="one SELECT over many databases and exported runs together, read only (needs DuckDB)",
        description="Tables and views are those of docs/database.md, each with a column source.",
    )  # fmt: skip
    query.add_argument("sql", help="for example: SELECT task, avg(value) FROM measurements_view GROUP BY task")
    query.add_argument(
        "sources", type=Path, nargs="*", default=[Path("experiments.db")], metavar="SOURCE",
        help="a database, a folder of Parquet files that export wrote, or a folder of those (default experiments.db)",
    )  # fmt: skip
    query.add_argument("--format", choices=["table", "csv", "json"], default="table", help="default: table")
    query.add_argument(
        "--memory-limit", default="2GB", help="what DuckDB may hold; the rest goes to a temporary folder"
    )
    return parser


def _verify(args: argparse.Namespace) -> int:
    from experiments_db.store import Store

    store = Store(args.database or args.db, create=False)
    problems = [_shown(p) for p in store.verify()]
    print("\n".join(problems) or ", ".join(f"{n} {t}" for t, n in store.counts().items()) + ": all verified")
    return 1 if problems else 0


def _export(args: argparse.Namespace) -> int:
    from experiments_db.exchange import ExchangeError, export_run
    from experiments_db.store import Store

    store = Store(args.db, create=False)
    if args.all:
        return _export_all(args, store)
    run = store.resolve_run(args.run)
    form = args.format or ("jsonl" if args.out is None or args.out.suffix == ".jsonl" else None)
    if form is None:
        raise ExchangeError(f"--out {args.out}: end it in .jsonl, or say --format parquet for a folder")
    out = args.out or Path(f"{run}.{form}")
    rows = export_run(store, run, out, form, force=args.force)
    print(f"{out}: {run} with {_counted(rows)}")
    return 0


def _export_all(args: argparse.Namespace, store: "Store") -> int:
    from experiments_db.exchange import ExchangeError, export_run

    if args.out is None or args.format is None:
        raise ExchangeError("--all takes a folder with --out, and --format")
    args.out.mkdir(parents=True, exist_ok=True)
    done = 0
    for run in (r for r in store.runs() if store.run(r).status != "running"):
        out = args.out / (f"{run}.jsonl" if args.format == "jsonl" else run)
        if args.force or not out.exists():
            export_run(store, run, out, args.format, force=args.force)
            done += 1
    print(f"{args.out}: {done} runs written")
    return 0


def _query(args: argparse.Namespace) -> int:
    from experiments_db.answers import WRITERS
    from experiments_db.query import answered

    with answered(args.sql, args.sources, args.memory_limit) as answer:
        for note in answer.notes:
            print(_shown(note), file=sys.stderr)
        WRITERS[args.format](answer.columns, answer.rows, sys.stdout)
    return 0


def _import(args: argparse.Namespace) -> int:
    from experiments_db.exchange import import_run

    done = import_run(args.path, args.db)
    print(f"{args.db}: {done.run} " + (f"with {_counted(done.rows)}" if done.new else "is already there"))
    return 0


def _counted(rows: Mapping[str, int]) -> str:
    shown = ("experiments", "results", "measurements", "arrays", "events")
    return ", ".join(f"{rows[t]} {t}" for t in shown)


def _shown(text: str) -> str:
    """One line, whatever a file or a database put into it."""
    return "".join(c if c.isprintable() else " " for c in text)


if __name__ == "__main__":
    sys.exit(interrupts.ended(main()))
