"""`agent.run --repeat N`: one run after the other, each a run of its own; what is done stays done when it is killed."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from agent.loop.goal import subject_for
from agent.loop.rehearsing import FREE
from agent.loop.repeats import Group, Repeat, group, group_named, groups, planned, setting
from agent.loop.session import InputError, Session, options_of, slug
from agent.loop.workers import Workers
from agent.planners import PlannerChoiceError, make_planner
from agent.report.repeated import combined, write_repeated
from experiments_db import interrupts
from experiments_db.records import TaskData
from experiments_db.store import Store, StoreError
from tools.tasks import TaskError, read_jsonl

BUDGETS = ("max_experiments", "max_minutes", "max_tokens", "max_cost")
KEPT = (
    *BUDGETS,
    "seed",
    "dtype",
    "device",
    "device_map",
    "null_twins",
)  # settings that later repeats take from the first


def repeat(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Begin a group of repeats. Exit status as agent.run's; InputError before anything is written."""
    planners: list[str | None] = [args.planner] if args.planners is None else _planners(args.planners)
    plan = planned([args.goal, *args.paraphrase], planners, args.seed or 0, args.repeat)
    for planner in dict.fromkeys(r.planner for r in plan):
        try:
            made = make_planner(planner, environ=environ, options=options_of(args))
        except PlannerChoiceError as error:
            raise InputError(str(error)) from None
        if args.max_cost is not None and not getattr(made, "knows_price", True):
            raise InputError(f"--max-cost needs the price of {made.name}: add it to prompts/prices.json")
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    try:
        taken = groups(Store(args.db, create=False)) if args.db.exists() else []
    except StoreError as error:
        raise InputError(str(error)) from None
    name, number = f"{stamp}-{slug(args.goal)}-x{args.repeat}", 1
    while name in taken:
        number += 1
        name = f"{stamp}-{slug(args.goal)}-x{args.repeat}-{number}"
    return _run(args, environ, name, plan, range(1, len(plan) + 1), [str(f.absolute()) for f in args.task])


def _planners(text: str) -> list[str | None]:
    found: list[str | None] = [p.strip() for p in text.split(",") if p.strip()]
    if not found:
        raise InputError("--planners: name at least one, for example systematic,random_valid")
    return found


def resume(args: argparse.Namespace, environ: Mapping[str, str]) -> int | None:
    """Go on with a group: the repeat that was cut off, then those that have not begun. None where --resume names no group."""
    try:
        store = Store(args.db, create=False)
        name = group_named(store, args.resume)
    except StoreError:
        return None
    if name is None:
        return None
    found = group(store, name)
    first = next(iter(found.runs.values()))
    files = [str(f) for f in first.settings["repeat"]["files"]]
    if found.open is None and not found.waiting:
        raise InputError(f"all {len(found.plan)} runs of {name} are done; its report is {write_repeated(store, name)}")
    _same_tasks(store, first.name, files)
    s = first.settings
    again = argparse.Namespace(**{**vars(args), **{k: s.get(k) for k in KEPT}})
    again.subject, again.out, again.task, again.goal = (
        first.subject,
        Path(s["out"]),
        [Path(f) for f in files],
        first.goal,
    )
    again.continue_from, again.notes, again.notes_kept = s.get("continue_from"), None, s.get("notes")
    if found.open is not None:
        one = argparse.Namespace(**{**vars(args), "resume": found.open.name, "step": None, "planner": None})
        session = Session.resume(one)
        status = session.investigate()
        if isinstance(session.elsewhere, Workers):
            session.elsewhere.close()  # those of the others begin with them
        if status or (not interrupts.heeded() and found.waiting):
            return _stopped(store, name, status or interrupts.LEFT)
    again.resume = None
    return _run(again, environ, name, found.plan, found.waiting, files)


def _same_tasks(store: Store, run: str, files: Sequence[str]) -> None:
    """InputError unless the task files are what they were when the first repeat read them."""
    kept = {t.name: t.sha for t in store.task_data(run) if t.origin == "file"}
    for file in map(Path, files):
        try:
            rows = tuple(read_jsonl(file))
        except TaskError as error:
            raise InputError(str(error)) from None
        if TaskData(name=file.stem, description="", examples=rows, origin="file").sha != kept.get(file.stem):
            raise InputError(
                f"--task {file}: it has changed since the first repeat, so that the others would ask something else"
            )


def _run(
    args: argparse.Namespace, environ: Mapping[str, str], name: str, plan: Sequence[Repeat], numbers: Sequence[int],
    files: Sequence[str],
) -> int:  # fmt: skip
    """Run the repeats with these numbers, one after the other; the combined report is written after each."""
    ready: Session | None = None  # a model is loaded and checked once for all of them
    rehearsed = 0
    for done, number in enumerate(numbers):
        one = _asked(args, name, plan, number, files)
        if not args.quiet:
            print(f"\nrepeat   {number} of {len(plan)}", flush=True)
        ready = session = Session.begin(one, environ, ready=ready)
        args.group = name  # what an interrupt says to go on with
        if isinstance(workers := session.elsewhere, Workers) and workers.count > 1:
            for later in numbers[rehearsed : done + workers.count]:  # as many at once as there are workers
                _rehearse(workers, _asked(args, name, plan, later, files), environ)
            rehearsed = done + workers.count
            if not args.quiet:
                print("         its experiments are computed ahead by a worker …", flush=True)
            workers.rehearsed(number)
        status = session.investigate()
        if status or (not interrupts.heeded() and number != numbers[-1]):  # one Ctrl-C skips the null twins alone
            return _stopped(session.store, name, status or interrupts.LEFT)
        write_repeated(session.store, name)
    store = Store(args.db, create=False)
    _said(store, group(store, name))
    return 0


def _asked(
    args: argparse.Namespace, name: str, plan: Sequence[Repeat], number: int, files: Sequence[str]
) -> argparse.Namespace:
    """The options of agent.run for one of the repeats."""
    asked = plan[number - 1]
    one = argparse.Namespace(**vars(args))
    one.goal, one.planner, one.seed, one.resume, one.step = asked.goal, asked.planner, asked.seed, None, None
    one.called, one.member = f"{name}-r{number}", setting(name, number, plan, files)
    one.subject = args.subject or subject_for(args.goal)
    return one


def _rehearse(workers: Workers, one: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Have a run computed ahead, if asking its planner twice costs nothing."""
    planner = make_planner(one.planner, environ=environ, options=options_of(one))
    if planner.name.partition(":")[0] in FREE:
        one.planner = one.planner or planner.name
        workers.rehearse(one.member["number"], one)


def _stopped(store: Store, name: str, status: int) -> int:
    """Say how to go on after an interrupt; the report holds what there is."""
    write_repeated(store, name)
    where = f" --db {store.path}" if str(store.path) != "experiments.db" else ""
    print(f"\ngo on with all repeats: python -m agent.run --resume {name}{where}", file=sys.stderr)
    return status


def _said(store: Store, found: Group) -> None:
    """What the repeats share, and where the report is."""
    c = combined(store, found.name)
    lines = [f"  {r.share}  {r.words}" for r in c.reached[:12]]
    more = [f"  and {len(c.reached) - 12} more"] if len(c.reached) > 12 else []
    print("\n".join(["", c.line(), *lines, *more, "", f"report    {write_repeated(store, found.name)}"]), flush=True)
