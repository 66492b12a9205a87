"""What a command line asks of a run: defaults filled in, what a branch takes over, and what cannot be used."""

import argparse
import itertools
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from agent.loop import goal as goals
from agent.loop.repeats import group_named
from agent.planners import PlannerChoiceError, PlannerOptions, make_planner
from experiments_db.records import Run
from experiments_db.store import Store, StoreError
from tools.tasks import TaskError, read_jsonl

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


def before_loading(args: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Raise InputError for what can be seen to be wrong without torch, so that nobody waits for it to load."""
    try:
        if args.resume is not None:
            store = Store(args.db, create=False)
            if group_named(store, args.resume) is None:
                store.resolve_run(args.resume)
        for file in args.task:
            read_jsonl(file)
        kind = (args.planner or "").partition(":")[0]
        if kind and kind not in ("systematic", "random_valid", "openai", "local"):
            make_planner(args.planner, environ=environ)
        keyed = environ.get("OPENAI_API_KEY") or environ.get("OPENAI_BASE_URL")
        alone = kind == "systematic" or not (kind or keyed)
        if alone and args.goal and args.resume is None and (args.subject or goals.subject_for(args.goal)) == "demo":
            goals.understand(args.goal, tuple(file.stem for file in args.task))
    except (StoreError, TaskError, PlannerChoiceError, goals.GoalError) as error:
        raise InputError(str(error)) from None


def device_map_of(args: argparse.Namespace) -> str | dict[str, str | int] | None:
    """Where the command line puts the model's parts; None where it names one device."""
    given = getattr(args, "device_map", None)
    if given is None or given == "auto" or isinstance(given, dict):  # a repeat has it from the first one's settings
        return given
    try:
        found = json.loads(Path(given).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--device-map {given} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise InputError(
            f'--device-map {given}: write an object of modules and devices, such as {{"model.layers.0": "cuda:0", ...}}'
        )
    return found


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


def free_name(name: str, taken: Collection[str]) -> str:
    """The name, with a number behind it where there is a run of that name: two may begin in one second."""
    numbered = (f"{name}-{n}" for n in itertools.count(2))
    return next(x for x in itertools.chain([name], numbered) if x not in taken)
