"""One sitting of a run: open the store, load the subject, drive the loop, write the report."""

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from agent.loop import goal as goals
from agent.loop import null_twins
from agent.loop.asked import InputError, as_before, as_new, device_map_of, free_name, options_of, slug, writable
from agent.loop.branch import Branch, BranchError
from agent.loop.budget import Limits
from agent.loop.delegating import children, parent_of
from agent.loop.executor import ToolRunner, kept_within
from agent.loop.history import event_line, history, spending
from agent.loop.investigate import investigate
from agent.loop.jobs import Elsewhere
from agent.loop.literature import NotesError, read_notes
from agent.loop.own_code import mismatch, sandbox_for
from agent.loop.progress import Progress
from agent.loop.prompts import version as prompts_version
from agent.loop.provenance import code_version, provenance
from agent.loop.record import RunRecord, RunTasks
from agent.loop.workers import workers_for
from agent.planners import PlannerChoiceError, make_planner
from agent.planners.base import Planner, PlannerError, View
from agent.report.build import run_folder, write_report
from agent.report.null_twins import null_report
from experiments_db.branch import copy_record
from experiments_db.records import Run, TaskData
from experiments_db.store import FaultError, Store, StoreError
from tools.findings import integrity
from tools.findings.integrity_report import IntegrityReport
from tools.methods.layout import select_components
from tools.methods.tool import Cancelled, ToolInputError, discover
from tools.ports import port_of
from tools.sandbox import Sandbox, SandboxError
from tools.subjects import Subject, SubjectError, load_subject
from tools.tasks import TaskError, families, from_records, read_jsonl

PROBLEMS = (TaskError, PlannerChoiceError, goals.GoalError, ToolInputError, SubjectError, SandboxError, StoreError)
SETTINGS = (
    "device", "dtype", "seed", "out", "planner", "fingerprint", "code", "provenance", "max_experiments", "max_minutes",
    "max_tokens", "max_cost",
)  # fmt: skip


class Session:
    """Everything one sitting needs."""

    def __init__(
        self, store: Store, run: Run, subject: Subject, planner: Planner, quiet: bool, sandbox: Sandbox | None = None,
        memory_limit: int | None = None, elsewhere: Elsewhere | None = None,
    ) -> None:  # fmt: skip
        self.store, self.run, self.planner, self.quiet = store, run, planner, quiet
        self.subject = subject.keeping(kept_within(subject, memory_limit))
        self.sandbox, self.elsewhere = sandbox, elsewhere
        self.record = RunRecord(store, run.name)
        s = run.settings
        self.folder = Path(s["out"]) / run.name
        self.limits = Limits(s["max_experiments"], s["max_minutes"], s["max_tokens"], s["max_cost"])
        self.twins = int(s.get("null_twins", 0))
        self._lock: TextIO | None = None
        self.watch: Callable[[str], None] = lambda _: None  # is told what is being computed
        self.check: Callable[[], None] = lambda: (
            None
        )  # is called between steps; Cancelled ends the call that is running

    @classmethod
    def open(cls, args: argparse.Namespace, environ: Mapping[str, str], planner: Planner | None = None) -> "Session":
        """A new run, an earlier one continued, or a new one that begins where an earlier one was, as the arguments say."""
        if not args.resume:
            return cls.begin(args, environ, planner)
        if args.step is None:
            return cls.resume(args, planner)
        try:
            store = Store(args.db, create=False)
            branch = Branch.of(store, store.resolve_run(args.resume), args.step)
            check_settings(branch.run)
        except (StoreError, BranchError) as error:
            raise InputError(str(error)) from None
        return cls.begin(args, environ, planner, branch)

    @classmethod
    def begin(
        cls,
        args: argparse.Namespace,
        environ: Mapping[str, str],
        planner: Planner | None = None,
        branch: Branch | None = None,
        subject: Subject | None = None,
        ready: "Session | None" = None,
    ) -> "Session":
        """Start a new run. Nothing is written until everything that can be wrong has been checked.

        ready: a session on the same subject, whose model is there already and has passed the integrity gate.

        With a branch, the goal, subject, tasks, seed and dtype are the earlier run's unless the arguments name others, and
        so is the record up to there. subject: the one that the arguments name, where it is loaded already.
        """
        asked = as_before(args, branch.run) if branch else as_new(args)
        try:
            own = {file.stem: read_jsonl(file) for file in args.task}
            notes = _notes(args, branch)
            planner = planner or make_planner(asked.planner, environ=environ, options=options_of(args))
            taken = sorted(set(own) & set(families()))
            if taken:
                raise InputError(f"--task {taken[0]}.jsonl has the name of a built-in task: rename the file")
            bad = [name for name in own if not re.fullmatch(r"\w[\w.-]*", name)]
            if bad:
                raise InputError(f"--task {bad[0]!r}: name the file with letters, digits, dots, dashes and underscores")
            if args.max_cost is not None and not getattr(planner, "knows_price", True):
                raise InputError(f"--max-cost needs the price of {planner.name}: add it to prompts/prices.json")
            subject_name = asked.subject or goals.subject_for(asked.goal)
            sandbox = sandbox_for(args)
            placed = device_map_of(args) or (branch.run.settings.get("device_map") if branch else None)
            subject = ready.subject if ready else subject
            subject = subject or load_subject(subject_name, device=asked.device, dtype=asked.dtype, device_map=placed)
            reads = port_of(subject).reads
            if planner.name == "systematic" and branch is None:
                goals.understand(args.goal, tuple(own), reads)
                if unit := goals.unit_named_in(args.goal):
                    select_components(subject, [unit], "goal")
            checked = ready.run.settings["integrity"] if ready else integrity.check(subject).as_json()
            report = IntegrityReport.from_json(checked)
            if report.broken:
                raise InputError(f"{subject_name} cannot be studied: {report.broken}")
            subject = subject if ready else subject.without(report.refused)
            writable(args.out)
            elsewhere = ready.elsewhere if ready else workers_for(args, subject_name, subject, report.refused)
            store = Store(args.db)
            earlier = _earlier(store, getattr(args, "continue_from", None), subject)
            if branch is not None:
                _fits(branch, subject, planner, asked.goal, store, own)
        except (*PROBLEMS, NotesError, OSError) as error:
            raise InputError(str(error)) from None
        settings = {
            **{
                k: getattr(asked, k)
                for k in ("max_experiments", "max_minutes", "max_tokens", "max_cost", "dtype", "seed", "device")
            },
            "out": str(args.out),
            "planner": asked.planner,
            "fingerprint": subject.fingerprint,
            "answered": port_of(subject).answered,
            "parts": subject.parts,
            "code": code_version(),
            "prompts": prompts_version(),
            "provenance": provenance(subject).model_dump(),
            "integrity": checked,
            "continue_from": earlier,
            "null_twins": null_twins.default_twins(subject) if args.null_twins is None else args.null_twins,
            "branch": {"run": branch.run.name, "turn": branch.turn, "seq": branch.seq} if branch else None,
            **({"device_map": placed} if placed else {}),
            **({"notes": notes} if notes else {}),
            **({"repeat": member} if (member := getattr(args, "member", None)) else {}),
            **({"allow_code": True} if sandbox else {}),
        }
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        wanted = getattr(args, "called", None) or f"{stamp}-{slug(asked.goal)}"
        with store.transaction():
            name = free_name(wanted, store.runs())  # another process may begin in the same second
            run = Run(name=name, goal=asked.goal.strip(), subject=subject_name, planner=planner.name, settings=settings)
            store.put_run(run)
            if branch is not None:
                copy_record(store, branch.run.name, run.name, branch.seq)
            begun = {"goal": run.goal, "subject": run.subject, "planner": run.planner, "branch": settings["branch"]}
            seq = store.put_event(run.name, "branch" if branch and branch.seq else "start", begun)
            if branch is None or not branch.seq:
                for question in goals.questions(run.goal, tuple(own), reads):
                    store.put_entry(run.name, seq, question)
            for task, examples in own.items():
                data = TaskData(name=task, description=f"from {task}.jsonl", examples=tuple(examples), origin="file")
                store.put_entry(run.name, seq, data)
        return cls(store, run, subject, planner, args.quiet, sandbox, getattr(args, "memory_limit", None), elsewhere)

    @classmethod
    def resume(cls, args: argparse.Namespace, planner: Planner | None = None) -> "Session":
        """Continue a run with the settings it began with; the weights must still be the same."""
        try:
            store = Store(args.db, create=False)
            run = store.run(store.resolve_run(args.resume))
            check_settings(run)
            for data in store.task_data(run.name):  # recordings and images must still be there, and the same
                from_records(data.name, data.description, data.examples)
            s = run.settings
            twins = s.get("null_twins", 0) if args.null_twins is None else args.null_twins
            over = run.status == "finished"  # then nobody is asked any more
            if not over and (problem := mismatch(run, args)):
                raise InputError(problem)
            sandbox = None if over else sandbox_for(args)
            chosen = "systematic" if over else args.planner or s["planner"]
            planner = planner or make_planner(chosen, environ=os.environ, options=options_of(args))
            placed = device_map_of(args) or s.get("device_map")
            subject = guarded(load_subject(run.subject, device=s["device"], dtype=s["dtype"], device_map=placed), run)
        except PROBLEMS as error:
            raise InputError(str(error)) from None
        if parent := parent_of(run):
            raise InputError(f"{run.name} belongs to {parent}: --resume {parent} goes on with both")
        if subject.fingerprint != s["fingerprint"]:
            raise InputError(
                f"{run.subject} is not the model this run began with: its weights or tokenizer have changed"
            )
        report = run_folder(run) / "report.md"
        if over and report.exists() and not null_twins.pending(RunRecord(store, run.name), twins):
            raise InputError(f"run {run.name} is finished; its report is {report}")
        elsewhere = workers_for(args, run.subject, subject, refused_of(run))
        if run.status == "stopped":
            budgets = ("max_experiments", "max_minutes", "max_tokens", "max_cost")
            raised = {k: given for k in budgets if (given := getattr(args, k)) is not None}
            run = run.model_copy(update={"settings": {**s, **raised}})
        if not over:
            store.update_run(run.name, "running")
        where = {"out": str(run_folder(run).parent), "null_twins": twins}
        run = run.model_copy(update={"settings": {**run.settings, **where}})
        return cls(store, run, subject, planner, args.quiet, sandbox, getattr(args, "memory_limit", None), elsewhere)

    def investigate(self, out: TextIO | None = None) -> int:
        """Drive the loop to its end and write the report, whatever happens but a FaultError or OSError; out: for progress."""
        try:
            return self._investigate(out)
        finally:
            if self._lock is not None:
                self._lock.close()

    def _investigate(self, out: TextIO | None) -> int:
        progress = Progress(
            self.run, self.limits, self.subject, self.record, quiet=self.quiet, out=out, watch=self.watch
        )
        tasks = RunTasks(self.store, self.run.name)
        runner = ToolRunner(
            self.subject, self.record, tasks, self.run.settings["seed"], sandbox=self.sandbox, check=self.check,
            elsewhere=self.elsewhere,
        )  # fmt: skip
        progress.begin(self.folder)
        interrupted = False
        if not self._alone():
            print(f"agent.run: run {self.run.name} is being driven by another process", file=sys.stderr)
            return 2
        if self.run.status == "finished":
            if not (self.folder / "report.md").exists():  # cut off while it was written
                self._report(progress)
            if waiting := null_twins.begin(self.record, self.twins):
                self._null_twins(progress, waiting)
            (self.folder / ".lock").unlink(missing_ok=True)
            return 0
        try:
            asyncio.run(investigate(self.planner, self.run, self.record, runner, discover(), self.limits, progress))
        except KeyboardInterrupt:
            interrupted = True
            self.store.update_run(self.run.name, "stopped", "interrupted; continue with --resume")
        except BaseException as error:
            if isinstance(error, FaultError):
                raise
            with suppress(FaultError, OSError):
                self.store.update_run(self.run.name, "stopped", f"a bug: {type(error).__name__}: {error}")
                self._write_transcript()
            raise
        finally:
            if self.sandbox is not None:
                self.sandbox.close()
        waiting = 0 if interrupted else null_twins.begin(self.record, self.twins)
        self._report(progress)
        if waiting:
            self._null_twins(progress, waiting)
        (self.folder / ".lock").unlink(missing_ok=True)
        return 130 if interrupted else 0

    def _report(self, progress: Progress) -> None:
        """Write the transcripts and reports of the run and of those that it delegated; say where they are."""
        self._write_transcript()
        for child in children(self.record):
            self._write_transcript(child.name)
            write_report(self.store, child.name, self.folder.parent / child.name)
        progress.closing()
        report = write_report(self.store, self.run.name, self.folder)
        progress.end(self.store.run(self.run.name), report, self.store.path)

    def _null_twins(self, progress: Progress, waiting: int) -> None:
        """Test what was confirmed where it cannot be true; the report, which is there already, says what came of it.

        An interrupt ends it, and not the run: what is missing can be made with --resume.
        """
        progress.note(
            f"\nnulls     {waiting} tests on null twins: what was confirmed, where it cannot be true (Ctrl-C skips them)"
        )
        made = null_twins.make(
            self.record, self.subject, self.twins, self.run.settings["seed"], lambda s: progress.note(s, passing=True),
            self.elsewhere,
        )  # fmt: skip
        spent, minutes = spending(self.record, self.run), self.limits.minutes
        bounded = (
            minutes is not None and self.run.status != "finished"
        )  # who resumes a finished run asks for nothing else
        try:
            while not (bounded and spent.minutes >= (minutes or 0)) and next(made, None):
                write_report(self.store, self.run.name, self.folder, figures=False)
                self.check()
        except (KeyboardInterrupt, Cancelled):
            null_twins.skip(self.record, "skipped")
        else:
            if null_twins.pending(self.record, self.twins):
                null_twins.skip(self.record, f"the budget of {minutes:g} minutes was spent")
        self._write_transcript()
        write_report(self.store, self.run.name, self.folder, figures=False)
        if found := null_report(self.record):
            progress.note(f"          {found.line()}")

    def _alone(self) -> bool:
        """Whether no other process drives this run; holds a lock that ends with this process, however it ends."""
        try:
            import fcntl
        except ImportError:  # no such locks on Windows
            return True
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _write_transcript(self, name: str | None = None) -> None:
        """events.jsonl: the timeline, one event a line, in one replacement of the file. name: of a child, else this run's."""
        folder = self.folder.parent / (name or self.run.name)
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / "events.jsonl.part"
        part.write_text(
            "".join(event_line(e) + "\n" for e in self.store.events(name or self.run.name)), encoding="utf-8"
        )
        part.replace(folder / "events.jsonl")


def guarded(subject: Subject, run: Run) -> Subject:
    """The subject without the parts that the run's integrity gate refused, computing as the run began."""
    made = subject.without(refused_of(run))
    made.engine = int((run.settings.get("provenance") or {}).get("engine", 1))
    return made


def refused_of(run: Run) -> Mapping[str, Mapping[str, str]]:
    """By stack and part, why the run's integrity gate refused it."""
    kept = run.settings.get("integrity")
    return IntegrityReport.from_json(kept).refused if kept else {}


def check_settings(run: Run) -> None:
    """InputError unless what a run needs to be run again is on record; a run from elsewhere may lack it."""
    missing = [k for k in SETTINGS if k not in run.settings]
    if missing:
        raise InputError(f"run {run.name} has no {', '.join(missing)} on record and cannot be run again")


def _notes(args: argparse.Namespace, branch: Branch | None) -> dict[str, str] | None:
    """The notes that a run's planner is given: this command's, or those of the run that it repeats or leaves."""
    file = getattr(args, "notes", None)
    kept = getattr(args, "notes_kept", None) or (branch.run.settings.get("notes") if branch else None)
    return kept if file is None else read_notes(file)


def _fits(
    branch: Branch, subject: Subject, planner: Planner, goal: str, store: Store, own: Mapping[str, object]
) -> None:
    """InputError unless the planner can go on from there with this subject."""
    run = branch.run
    if run.settings.get("fingerprint") != subject.fingerprint:
        raise InputError(f"{run.name} studied {run.subject}, which is another model than {subject.name} is now")
    kept = [t.name for t in store.task_data(run.name) if t.origin == "file"]
    twice = sorted(set(kept) & set(own))
    if twice:
        raise InputError(f"--task {twice[0]}.jsonl: {run.name} brings a task of this name already; rename the file")
    if planner.name == "systematic":
        exchanges = history(RunRecord(store, run.name), branch.seq)[0]
        view = View(goal, subject.name, [], exchanges, tasks=[*kept, *own])
        try:
            asyncio.run(planner.propose(view))
        except PlannerError:
            raise InputError(
                f"--from {branch.turn}: the systematic planner follows its own plan for its goal and cannot take over "
                "another's; use --from 0, or another planner"
            ) from None


def _earlier(store: Store, asked: str | None, subject: Subject) -> str | None:
    """The run whose notes the planner is shown; it has to be about the same weights."""
    if asked is None:
        return None
    run = store.run(store.resolve_run(asked))
    if run.settings.get("fingerprint") != subject.fingerprint:
        raise InputError(
            f"--continue-from {run.name} studied {run.subject}, which is another model than {subject.name}"
        )
    return run.name
