"""Check an experiments database, and exchange runs: `python -m experiments_db verify|export|import`."""

import argparse
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """0 if it is done, 1 if a database that was to be verified is not sound, 2 with one line if it cannot be done."""
    args = _parser().parse_args(argv)
    from experiments_db.exchange import ExchangeError
    from experiments_db.store import StoreError

    try:
        return {"verify": _verify, "export": _export, "import": _import}[args.verb](args)
    except (StoreError, ExchangeError, OSError, sqlite3.Error) as error:
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
    export.add_argument("run", help="name of a run, the beginning of one, or latest")
    export.add_argument("--out", type=Path, help="a file ending in .jsonl, or a folder for Parquet (default RUN.jsonl)")
    export.add_argument("--format", choices=["jsonl", "parquet"], help="default: by the name of --out")
    export.add_argument("--force", action="store_true", help="replace an earlier export")

    into = verbs.add_parser(
        "import", parents=[database], help="take over the run in a file or folder that export wrote"
    )
    into.add_argument("path", type=Path)
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
    run = store.resolve_run(args.run)
    form = args.format or ("jsonl" if args.out is None or args.out.suffix == ".jsonl" else None)
    if form is None:
        raise ExchangeError(f"--out {args.out}: end it in .jsonl, or say --format parquet for a folder")
    out = args.out or Path(f"{run}.{form}")
    rows = export_run(store, run, out, form, force=args.force)
    print(f"{out}: {run} with {_counted(rows)}")
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
    sys.exit(main())
