"""Another planner on the question of a run on record, and both conclusions side by side."""

import argparse
import os
import sys

from agent.loop.record import Reading
from agent.loop.session import InputError, Session
from agent.report.build import run_folder
from agent.report.summary import side_by_side, summary
from agent.run import parser as run_parser
from agent.run import plain_problem
from experiments_db.records import Run
from experiments_db.store import Store


def another_planner(store: Store, run: Run, args: argparse.Namespace) -> int:
    """Give another planner the same question and lay both conclusions side by side."""
    s = run.settings
    words = [
        "--resume",
        run.name,
        "--from",
        args.step or "0",
        "--planner",
        args.planner,
        "--db",
        str(args.db),
        "--quiet",
    ]
    words += ["--out", str(args.out or run_folder(run).parent), "--null-twins", str(s.get("null_twins", 0))]
    words += ["--max-experiments", str(args.max_experiments or s["max_experiments"])]
    words += ["--subject", args.subject] if args.subject else []
    words += ["--device", args.device] if args.device else []
    words += ["--allow-code"] if args.allow_code else []
    for name in ("max_minutes", "max_tokens", "max_cost"):
        words += [f"--{name.replace('_', '-')}", str(s[name])] if s.get(name) is not None else []
    asked = run_parser().parse_args(words)
    problem = plain_problem(asked)
    try:
        if problem:
            raise InputError(problem)
        session = Session.open(asked, os.environ)
    except InputError as error:
        print(f"agent.replay: {error}", file=sys.stderr)
        return 2
    status = session.investigate()
    print("\n" + side_by_side(summary(Reading(store, run.name)), summary(Reading(store, session.run.name))))
    return status
