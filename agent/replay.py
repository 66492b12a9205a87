"""`python -m agent.replay RUN`: run every logged experiment again and compare it with what is on record.

With --planner, another planner is given the same question instead, and both conclusions are shown side by side.
"""

from experiments_db import interrupts

if __name__ == "__main__":
    interrupts.mind("agent.replay")

import argparse
import json
import random
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.report.text import inert

if TYPE_CHECKING:
    import numpy as np

    from agent.loop.executor import ToolRunner
    from agent.loop.record import RunRecord
    from experiments_db.records import Array, Control, Measurement, Provenance, Result, Run
    from experiments_db.store import ExperimentRow, Store
    from tools.methods.tool import Tool
    from tools.subjects import Subject

# How far a value may move, relative to max(1, |value|), where a result was computed on another kind of machine.
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 2e-2}
SHARE_OF_EXAMPLES = 1 / 64  # and, of a share of examples, this many of them may fall on the other side of a near tie


@dataclass(frozen=True)
class Comparison:
    """One experiment run again. verdict: equal | within tolerance | DIFFERENT | skipped | not comparable."""

    handle: str
    tool: str
    verdict: str
    detail: str


def allowed(m: "Measurement", tolerance: float) -> float:
    """How far a measurement may move elsewhere: `tolerance` of its size, or one example in 64 (at least one) of a share."""
    scale = tolerance * max(1.0, abs(m.value))
    return max(scale, max(1.0, SHARE_OF_EXAMPLES * m.n) / m.n) if m.n and m.unit.startswith("share of") else scale


def _numbers(m: "Measurement | Control") -> list[float | None]:
    control = getattr(m, "control", None)
    return [m.value, m.low, m.high, *(_numbers(control) if control else [])]


def _moved(a: "Measurement", b: "Measurement") -> float:
    """The largest change in value, interval and control; infinite where something else changed."""
    before, now = ((m.unit, m.n, m.control and (m.control.kind, m.control.n)) for m in (a, b))
    if before != now:
        return float("inf")
    pairs = list(zip(_numbers(a), _numbers(b), strict=True))
    if any((x is None) != (y is None) for x, y in pairs):
        return float("inf")
    return max(abs(x - y) for x, y in pairs if x is not None and y is not None)


def compare(old: "Result", new: "Result", *, exact: bool, tolerance: float) -> tuple[str, str]:
    """(verdict, detail) of a result against the one on record; `exact` where both come from the same kind of machine."""
    from experiments_db.records import as_compared

    old, new = as_compared(old, new, exact=exact)
    if (old.status, [m.key for m in old.measurements]) != (new.status, [m.key for m in new.measurements]):
        return "DIFFERENT", "other status or other measurements"
    if [(a.name, a.shape, a.axes) for a in old.arrays] != [(a.name, a.shape, a.axes) for a in new.arrays]:
        return "DIFFERENT", "other arrays"
    pairs = list(zip(old.measurements, new.measurements, strict=True))
    changed = [(_moved(a, b) / allowed(a, tolerance), _moved(a, b), a.key) for a, b in pairs if a != b]
    arrays = [
        (_moved_array(a, b, tolerance), 0.0, f"array {a.name}")
        for a, b in zip(old.arrays, new.arrays, strict=True)
        if a.sha != b.sha
    ]
    if not changed and not arrays and old.text == new.text:
        return "equal", f"{len(old.measurements)} measurements, {len(old.arrays)} arrays, to the last bit"
    if not changed and not arrays:
        words = "other text" if _words(old.text) != _words(new.text) else "other numbers in the text"
        return "DIFFERENT" if exact or words == "other text" else "within tolerance", words
    relative, worst, key = max([*changed, *arrays])
    if not exact and relative <= 1:
        within = f"largest difference in {key} ({100 * relative:.0f}% of what is allowed)"
        return ("within tolerance", within) if _words(old.text) == _words(new.text) else ("DIFFERENT", "other text")
    what = f"{len(changed)} of {len(old.measurements)} measurements, {len(arrays)} of {len(old.arrays)} arrays"
    return "DIFFERENT", f"{what}; largest in {key}" + (f", {worst:.3g}" if worst else "")


def array_values(array: "Array") -> "np.ndarray":
    """The numbers of an array on record: little-endian, in C order."""
    import numpy as np

    return np.frombuffer(array.data, dtype=np.dtype(array.dtype).newbyteorder("<")).reshape(array.shape)


def _moved_array(a: "Array", b: "Array", tolerance: float) -> float:
    """The largest change in an array as a share of what is allowed; infinite where NaN or infinities differ.

    Allowed is `tolerance` of the array's largest magnitude, and for whole numbers and truth values one entry in 64.
    """
    import numpy as np

    x, y = array_values(a), array_values(b)
    if a.dtype in ("int32", "int64", "bool"):
        return float((x != y).sum()) / max(1.0, SHARE_OF_EXAMPLES * x.size)
    finite = np.isfinite(x)
    if not np.array_equal(finite, np.isfinite(y)) or not np.array_equal(x[~finite], y[~finite], equal_nan=True):
        return float("inf")
    scale = tolerance * max(1.0, float(np.abs(x[finite]).max(initial=0.0)))
    return float(np.abs(x[finite].astype(float) - y[finite].astype(float)).max(initial=0.0)) / scale


def _words(text: str) -> str:
    """A text without its numbers and its spacing: what has to be the same wherever it was computed."""
    return " ".join(re.sub(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?", "#", text).split())


def replay_one(row: "ExperimentRow", store: "Store", runner: "ToolRunner", tools: dict[str, "Tool"]) -> Comparison:
    """Run one experiment again, past the cache, and compare."""
    from agent.loop.executor import asked_of
    from agent.loop.own_code import ALLOW, runs_code
    from agent.loop.provenance import code_version, provenance
    from tools.engine.version import ENGINE
    from tools.methods.tool import ToolInputError

    x = row.experiment

    def verdict(word: str, detail: str) -> Comparison:
        return Comparison(row.handle, x.tool, word, detail)

    if x.tool not in tools:
        return verdict("not comparable", f"there is no tool {x.tool} any more")
    if runs_code(x) and runner.sandbox is None:
        return verdict("skipped", f"it runs code that the planner wrote: {ALLOW} runs it again")
    old = store.result(row.result_id)
    engine = old.provenance.engine if old.provenance else 1
    if engine > ENGINE:
        return verdict("not comparable", f"version {engine} of the engine computed it, and this is version {ENGINE}")
    runner.subject.engine = engine
    try:
        given, split, draw = asked_of(x)
        args = tools[x.tool].parse(given)
        if runner.experiment(tools[x.tool], args, split, draw).tasks != x.tasks:
            return verdict("DIFFERENT", "the task's examples are not those on record (their hash has changed)")
        new = runner.execute(tools[x.tool], args, split=split, draw=draw)
    except ToolInputError as error:
        return verdict("DIFFERENT", f"it cannot be run any more: {error}")
    here, there = provenance(runner.subject), old.provenance
    exact = there is not None and here == there and here.device == "cpu" and x.dtype == "float32"
    word, detail = compare(old, new, exact=exact, tolerance=TOLERANCE.get(x.dtype, 1e-3))
    elsewhere = (
        [name for name, _, _, same in _machine(there, here) if not same] if there else ["no provenance on record"]
    )
    if there is not None and not there.cpu:
        elsewhere.append("the processor is not on record")
    notes = [f"computed elsewhere: {', '.join(elsewhere)}"] if elsewhere and word != "equal" else []
    if x.code != code_version():
        notes.append("the code has changed since")
    return verdict(word, "; ".join([detail, *notes]))


def replay_nulls(
    record: "RunRecord", subject: "Subject", seed: int, *, exact: bool, tolerance: float
) -> Iterator[Comparison]:
    """Test the confirmed findings on each null again that is on record, and compare p values and what they decided."""
    from agent.loop.null_twins import compare_null, trial
    from agent.report.null_twins import events
    from tools.findings.null_report import TRIAL

    for kind, old in events(record):
        if kind != TRIAL:
            continue
        told = {t["finding"]: t for t in old["tests"]}
        new = {t["finding"]: t for t in trial(record, subject, seed, old["null"], old["seed"], list(told))["tests"]}
        for handle, before in told.items():
            after = new.get(handle, {})
            word, detail = compare_null(before, after, exact=exact, tolerance=tolerance)
            yield Comparison(handle, f"{old['null']} {old['seed'] + 1}", word, detail)


Compared = tuple[str, str, str, bool]


def _machine(there: "Provenance", here: "Provenance") -> Iterator[Compared]:
    """(what, on record, here, the same) for each thing that says where a result was computed."""
    old, new = there.model_dump(), here.model_dump()
    for name in ("device", "threads", "platform", "cpu"):
        if old[name]:
            yield name, str(old[name]), str(new[name]), old[name] == new[name]
    for name in sorted({*old["versions"], *new["versions"]}):
        a, b = old["versions"].get(name, "none"), new["versions"].get(name, "none")
        yield name, a, b, a == b


def compare_provenance(run: "Run", subject: "Subject", seeds: set[int]) -> list[Compared]:
    """Everything that decides a run's numbers, on record and here: model, machine, libraries, seed, code.

    seeds: those of the run's experiments, which must all be the run's own.
    """
    from agent.loop.provenance import code_version, provenance
    from experiments_db.records import Provenance

    s = run.settings
    found: list[Compared] = []

    def add(name: str, old: Any, new: Any) -> None:
        found.append((name, str(old)[:16], str(new)[:16], old == new))

    parts: dict[str, str] = s.get("parts") or {}
    for part in parts:
        add(part, parts[part], subject.parts.get(part, "none"))
    if not parts:
        add("model", s["fingerprint"], subject.fingerprint)
    add("seed", s["seed"], next(iter(seeds), s["seed"]) if len(seeds) < 2 else sorted(seeds))
    add("dtype", s["dtype"], str(subject.dtype).removeprefix("torch."))
    found += _machine(Provenance.model_validate(s["provenance"]), provenance(subject))
    add("code", s["code"], code_version())
    return found


def parser() -> argparse.ArgumentParser:
    """The command line of agent.replay."""
    p = argparse.ArgumentParser(
        prog="python -m agent.replay", description="Run every logged experiment again and compare it with the record."
    )
    p.add_argument("run", help="a run's name, a prefix, or latest")
    p.add_argument("--db", type=Path, default=Path("experiments.db"), help="experiments database")
    p.add_argument("--out", type=Path, metavar="FOLDER", help="also write the table to FOLDER/RUN/replay.jsonl")
    p.add_argument("--experiment", metavar="E17", help="only this one")
    p.add_argument("--sample", type=int, metavar="N", help="only N, drawn at random")
    p.add_argument("--subject", help="where the model is now, if it has moved")
    p.add_argument("--device", default=None, help="default: as the run")
    p.add_argument(
        "--planner",
        metavar="P",
        help="instead: give planner P the same question (a new run) and show both conclusions side by side",
    )
    p.add_argument(
        "--allow-code", action="store_true", help="run the code again that the planner wrote; else it is skipped"
    )
    p.add_argument("--from", dest="step", metavar="STEP", help="with --planner: go on after turn STEP (default 0)")
    p.add_argument("--max-experiments", type=int, metavar="N", help="with --planner: its budget (default: as the run)")
    return p


def _plain_problem(args: argparse.Namespace) -> str | None:
    """What is wrong with the arguments, as far as can be seen without loading anything."""
    if args.planner is None and (args.step is not None or args.max_experiments is not None):
        return "--from and --max-experiments need --planner"
    if args.planner is not None and (args.experiment is not None or args.sample is not None):
        return "--planner asks the whole question again: leave out --experiment and --sample"
    for name in ("sample", "max_experiments"):
        value = getattr(args, name)
        if value is not None and value < 1:
            return f"--{name.replace('_', '-')} must be at least 1, not {value}"
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """0 all equal (or within the stated tolerance elsewhere), 1 a difference, 2 bad input, 130 interrupted."""
    args = parser().parse_args(argv)
    problem = _plain_problem(args)
    if problem:
        print(f"agent.replay: {problem}", file=sys.stderr)
        return 2
    from experiments_db.faults import StoreError, held_to_records

    try:
        with interrupts.working("agent.replay"), held_to_records(args.db):
            return _replay(args, argv or sys.argv[1:])
    except KeyboardInterrupt:  # before or after the experiments
        print("\nagent.replay: interrupted", file=sys.stderr)
        return interrupts.LEFT
    except StoreError as error:
        print(f"agent.replay: {inert(str(error))}", file=sys.stderr)
        return 2


def _replay(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """As `main`; StoreError for a run or a database that is not there."""
    from experiments_db.store import Store, StoreError

    Store(args.db, create=False).resolve_run(args.run)  # before torch is loaded
    from tools.engine.threads import share_the_machine

    share_the_machine()
    from agent.loop.another import another_planner
    from agent.loop.delegating import children
    from agent.loop.executor import ToolRunner
    from agent.loop.own_code import sandbox_for
    from agent.loop.record import RunRecord, RunTasks
    from agent.loop.session import InputError, check_settings, guarded, writable
    from tools.methods.tool import discover
    from tools.sandbox import SandboxError
    from tools.subjects import SubjectError, load_subject

    try:
        store = Store(args.db, create=False)
        run = store.run(store.resolve_run(args.run))
        check_settings(run)
        if args.out is not None:
            writable(args.out)
        if args.planner is not None:
            return another_planner(store, run, args)
        rows = [store.experiment(run.name, args.experiment)] if args.experiment else store.experiments(run.name)
        settings = run.settings
        subject = load_subject(
            args.subject or run.subject, device=args.device or settings["device"], dtype=settings["dtype"],
            device_map=None if args.device else settings.get("device_map"),
        )  # fmt: skip
        sandbox = sandbox_for(args)
    except SubjectError as error:
        moved = "" if args.subject else "; if the model has moved, say where it is now with --subject"
        print(f"agent.replay: nothing can be compared: {error}{moved}", file=sys.stderr)
        return 2
    except (StoreError, InputError, SandboxError) as error:
        print(f"agent.replay: {inert(str(error))}", file=sys.stderr)
        return 2
    subject.name = run.subject  # it may have moved; what the tools say of it has not changed
    _say_provenance(compare_provenance(run, subject, {r.experiment.seed for r in rows}))
    if subject.fingerprint != settings["fingerprint"]:
        parts = settings.get("parts") or {}
        changed = [k for k in parts if parts[k] != subject.parts.get(k)] or ["configuration, weights or tokenizer"]
        print(
            f"agent.replay: {args.subject or run.subject} is not the model of this run: its {' and '.join(changed)} changed; "
            f"fingerprint {subject.fingerprint[:16]}, on record {settings['fingerprint'][:16]}",
            file=sys.stderr,
        )
        return 1
    if args.sample is not None:
        rows = random.Random(0).sample(rows, min(args.sample, len(rows)))
        rows.sort(key=lambda r: int(r.handle[1:]))
    subject = guarded(subject, run)
    record, tasks = RunRecord(store, run.name), RunTasks(store, run.name)
    runner = ToolRunner(subject, record, tasks, settings["seed"], fresh=True, sandbox=sandbox)
    tools, made, interrupted = discover(), list[Comparison](), False
    try:
        for row in rows:
            made.append(c := replay_one(row, store, runner, tools))
            print(inert(f"{c.handle:5} {c.tool:18} {c.verdict:16} {c.detail}"), flush=True)
        nulls = [] if args.experiment or args.sample else _nulls(run, subject, record)
    except KeyboardInterrupt:
        print(f"interrupted after {len(made)} of {len(rows)} experiments", flush=True)
        nulls, interrupted = [], True
    good = sum(c.verdict in ("equal", "within tolerance") for c in made)
    exact = sum(c.verdict == "equal" for c in made)
    skipped = sum(c.verdict == "skipped" for c in made)
    print(f"{good} of {len(made)} experiments came out as recorded, {exact} of them to the last bit")
    if skipped:
        print(f"{skipped} were not run again: they are code that the planner wrote, which --allow-code runs")
    if nulls:
        well = sum(c.verdict != "DIFFERENT" for c in nulls)
        print(f"{well} of {len(nulls)} tests on null twins came out as recorded")
    if args.out is not None:
        folder = args.out / run.name
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / "replay.jsonl.part"
        part.write_text("".join(json.dumps(asdict(c)) + "\n" for c in [*made, *nulls]), encoding="utf-8")
        part.replace(folder / "replay.jsonl")
    different = good < len(made) or any(c.verdict == "DIFFERENT" for c in nulls)
    status = 1 if different else interrupts.LEFT if interrupted else 0
    again = [] if args.experiment or interrupted else children(record)
    return max([status, *(main([c.name if a == args.run else a for a in argv]) for c in again)])


def _nulls(run: "Run", subject: "Subject", record: "RunRecord") -> list[Comparison]:
    """The tests on null twins again, each in a line."""
    from agent.loop.provenance import provenance
    from experiments_db.records import Provenance

    s, made = run.settings, list[Comparison]()
    there = Provenance.model_validate(s["provenance"])
    subject.engine = there.engine
    here = provenance(subject)
    exact = here == there and here.device == "cpu" and s["dtype"] == "float32"
    for c in replay_nulls(record, subject, s["seed"], exact=exact, tolerance=TOLERANCE.get(s["dtype"], 1e-3)):
        made.append(c)
        print(inert(f"{c.handle:5} {c.tool:18} {c.verdict:16} {c.detail}"), flush=True)
    return made


def _say_provenance(rows: list[Compared]) -> None:
    print(inert(f"same as on record: {', '.join(name for name, _, _, equal in rows if equal) or 'nothing'}"))
    for name, old, new, equal in rows:
        if not equal:
            print(inert(f"other than on record: {name}, {old} then, {new} here"))


if __name__ == "__main__":
    sys.exit(interrupts.ended(main()))
