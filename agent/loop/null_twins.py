"""After a run: its confirmed findings once more, by the same code, where they cannot be true, so that a report can say how much
its tests are worth. What was concluded stands whatever comes out; each null's results are on record as it ends.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any

from agent.loop.executor import ToolRunner, asked_of
from agent.loop.jobs import Elsewhere
from agent.loop.record import RunRecord, RunTasks
from agent.report.null_twins import Payload, events
from experiments_db.findings import Finding
from experiments_db.records import Measurement
from tools.findings.null_report import BEGUN, SKIPPED, TRIAL
from tools.findings.null_tests import NullTest, apart, left_out, null_statement, null_subject, null_tasks, plan
from tools.findings.sealing import EXAMINE, arguments_of
from tools.findings.settling import whole
from tools.methods.tool import Tool, ToolArgs, ToolInputError, discover
from tools.subjects import Subject
from tools.tasks import Split

TWINS = 3  # of each kind, where nothing is asked for
SMALL = 10_000_000  # parameters up to which they are made unasked


def default_twins(subject: Subject) -> int:
    """How many null twins of each kind a run has where nothing is asked for: none for a model that is not small."""
    return TWINS if sum(p.numel() for p in subject.model.parameters()) <= SMALL else 0


def pending(record: RunRecord, twins: int) -> list[NullTest]:
    """The tests that are still to be made for so many twins of each kind."""
    done = {
        NullTest(p["null"], p["seed"], t["finding"]) for kind, p in events(record) if kind == TRIAL for t in p["tests"]
    }
    return [t for t in plan(record.findings(), twins) if t not in done]


def begin(record: RunRecord, twins: int) -> int:
    """Put on record what will be tested; returns how many tests that is. Nothing where nothing was confirmed, or no twins are
    asked for, or all is on record already.
    """
    findings, waiting = record.findings(), pending(record, twins)
    known = any(kind == BEGUN for kind, _ in events(record))
    if twins and (waiting or (not known and left_out(findings))):
        told = {
            "twins": twins,
            "planned": len(plan(findings, twins)),
            "left_out": left_out(findings),
            "apart": apart(findings),
        }
        record.store.put_event(record.run, BEGUN, told)
    return len(waiting)


def skip(record: RunRecord, why: str) -> None:
    """Put on record that the tests end here."""
    record.store.put_event(record.run, SKIPPED, {"why": why})


def make(
    record: RunRecord,
    subject: Subject,
    twins: int,
    seed: int,
    said: Callable[[str], None],
    elsewhere: Elsewhere | None = None,
) -> Iterator[Payload]:
    """Make the tests that are still to be made; yields each null's results once they are on record."""
    waiting = pending(record, twins)
    findings = {f.handle: f for f in record.findings()}
    for t in waiting if elsewhere else ():
        runner = ToolRunner(
            subject, record, RunTasks(record.store, record.run), seed, fresh=True, lifted=True, elsewhere=elsewhere,
            null=(t.null, t.seed),
        )  # fmt: skip
        with suppress(ToolInputError):  # which is on record when it is the test's turn
            runner.ahead(*_asked(record, findings[t.finding]))
    for (null, number), tests in groupby(waiting, key=lambda t: (t.null, t.seed)):
        said(f"{null.replace('_', ' ')} {number + 1} of {twins}")
        payload = trial(record, subject, seed, null, number, [t.finding for t in tests], elsewhere)
        record.store.put_event(record.run, TRIAL, payload)
        yield payload


def trial(
    record: RunRecord,
    subject: Subject,
    seed: int,
    null: str,
    number: int,
    handles: Sequence[str],
    elsewhere: Elsewhere | None = None,
) -> Payload:
    """Findings on one null: of each its p value there, and whether it would have been confirmed."""
    tasks = RunTasks(record.store, record.run)
    try:
        other = subject if elsewhere else null_subject(subject, null, number)  # which has the null made there
    except Exception as error:  # noqa: BLE001  # a model that cannot be made anew from its configuration
        tests = [_result(f, None, (), no_such_null(error)) for f in record.findings() if f.handle in handles]
    else:
        runner = ToolRunner(
            other.keeping(subject.kept),
            record,
            null_tasks(tasks, null, number),
            seed,
            fresh=True,
            lifted=True,
            elsewhere=elsewhere,
            null=(null, number),
        )
        tests = [_tested(runner, record, f) for f in record.findings() if f.handle in handles]
    return {"null": null, "seed": number, "tests": tests}


def no_such_null(error: Exception) -> str:
    """Why a finding is not tested on a null that cannot be made."""
    return f"no such null: {type(error).__name__}: {str(error)[:200]}"


def _asked(record: RunRecord, f: Finding) -> tuple[Tool, ToolArgs, Split, int]:
    """What tests a finding on a null, on the unseen examples that confirmed it."""
    tool = discover()[EXAMINE]
    _, split, draw = asked_of(record.experiment(str(f.experiment)))
    return tool, tool.parse(arguments_of(null_statement(f.statement))), split, draw


def _tested(runner: ToolRunner, record: RunRecord, f: Finding) -> Payload:
    """One finding on one null."""
    try:
        tool, args, split, draw = _asked(record, f)
        result = runner.execute(tool, args, split=split, draw=draw)
    except ToolInputError as error:
        return _result(f, None, (), str(error))
    if result.status != "ok":
        return _result(f, None, (), result.text[:300])
    return _result(f, whole(result.measurements).value, result.measurements, "")


def _result(f: Finding, p: float | None, rows: Sequence[Measurement], refused: str) -> Payload:
    """As a trial keeps it. refused: why it could not be measured."""
    confirmed = p is not None and f.threshold is not None and p <= f.threshold
    smallest = next((m for m in rows if m.name == "smallest"), None)
    measured = {} if smallest is None else {"smallest": smallest.value, "unit": smallest.unit}
    return {
        "finding": f.handle,
        "p": p,
        "threshold": f.threshold,
        "confirmed": confirmed,
        "refused": refused,
        **measured,
    }


def compare_null(old: Mapping[str, Any], new: Mapping[str, Any], *, exact: bool, tolerance: float) -> tuple[str, str]:
    """(verdict, detail) of a test on a null against the one on record."""
    if old == new:
        return "equal", "could not be measured" if old["refused"] else "p value and smallest effect, to the last bit"
    same = all(old.get(k) == new.get(k) for k in ("refused", "confirmed", "threshold", "unit"))
    close = same and old["p"] is not None and abs(old["p"] - new["p"]) <= 10 * tolerance
    if close and not exact:
        return "within tolerance", f"p {old['p']:.3g} then, {new['p']:.3g} here"
    return "DIFFERENT", f"p {old['p']} then, {new.get('p')} here"
