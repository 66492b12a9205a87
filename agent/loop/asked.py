"""What a command line asks of a run: defaults filled in, what a branch takes over, and what cannot be used."""

import argparse
import os
import re
from pathlib import Path

from agent.loop import goal as goals
from agent.planners import PlannerOptions
from experiments_db.records import Run

DEFAULT_EXPERIMENTS = 60


class InputError(ValueError):
    """Something given on the command line cannot be used; one line says what would be valid."""


def as_new(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments of a new run, with what is left open filled in."""
    filled = {"seed": args.seed or 0, "dtype": args.dtype or "float32", "max_experiments": _experiments(args)}
    return argparse.Namespace(**{**vars(args), **filled})


def _experiments(args: argparse.Namespace) -> int:
    return DEFAULT_EXPERIMENTS if args.max_experiments is None else int(args.max_experiments)


def as_before(args: argparse.Namespace, run: Run) -> argparse.Namespace:
    """The arguments of a branch: what was not asked for is as in the run that it leaves."""
    s = run.settings
    asked = argparse.Namespace(**vars(args))
    asked.goal = args.goal or run.goal
    asked.subject = args.subject or goals.model_named_in(args.goal or "") or run.subject
    asked.planner = args.planner or s["planner"]
    asked.max_experiments = _experiments(args)
    asked.device = s["device"] if args.device == "auto" else args.device
    for name in ("seed", "dtype"):
        if getattr(args, name) not in (None, s[name]):
            raise InputError(
                f"--{name} {getattr(args, name)}: {run.name} was made with {s[name]}, and what it did could not be shared; begin a "
                "new run instead"
            )
        setattr(asked, name, s[name])
    return asked


def options_of(args: argparse.Namespace) -> PlannerOptions:
    """What the command line says about the planner."""
    given = {k: v for k in PlannerOptions.__dataclass_fields__ if (v := getattr(args, k, None)) is not None}
    return PlannerOptions(**given)


def writable(folder: Path) -> None:
    """Raise InputError unless something can be written below the folder; makes nothing."""
    above = folder.absolute()
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"--out {folder} cannot be written to ({above} is no folder one may write in); name another")


def slug(goal: str) -> str:
    """A goal as part of a name."""
    words = re.findall(r"[a-z0-9]+", goal.lower())
    return "-".join(words)[:40].strip("-") or "run"
