"""`python -m agent.replay RUN`: run every logged experiment again and compare it with what is on record."""

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.executor import ToolRunner
    from experiments_db.records import Result
    from experiments_db.store import ExperimentRow, Store
    from tools._base import Tool

TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}


@dataclass(frozen=True)
class Comparison:
    """One experiment run again. verdict: equal | within tolerance | DIFFERENT | not comparable."""

    handle: str
    tool: str
    verdict: str
    detail: str


def compare(old: "Result", new: "Result", *, exact: bool, tolerance: float) -> tuple[str, str]:
    """(verdict, detail) of a result against the one on record; `exact` where both come from the same kind of machine."""
    if (old.status, [m.key for m in old.measurements]) != (new.status, [m.key for m in new.measurements]):
        return "DIFFERENT", "other status or other measurements"
    if [(a.name, a.shape, a.axes) for a in old.arrays] != [(a.name, a.shape, a.axes) for a in new.arrays]:
        return "DIFFERENT", "other arrays"
    changed = [
        (abs(a.value - b.value), a.key) for a, b in zip(old.measurements, new.measurements, strict=True) if a != b
    ]
    arrays = [a.name for a, b in zip(old.arrays, new.arrays, strict=True) if a.sha != b.sha]
    if not changed and not arrays and old.text == new.text:
        return "equal", f"{len(old.measurements)} measurements, {len(old.arrays)} arrays, to the last bit"
    worst, key = max(changed, default=(0.0, ", ".join(arrays) or "text"))
    scale = tolerance * max([1.0, *(abs(m.value) for m in old.measurements)])
    if not exact and worst <= scale:
        return "within tolerance", f"largest difference {worst:.2g} in {key} (allowed {scale:.2g})"
    return "DIFFERENT", f"{len(changed)} of {len(old.measurements)} measurements; largest {worst:.3g} in {key}"


def replay_one(row: "ExperimentRow", store: "Store", runner: "ToolRunner", tools: dict[str, "Tool"]) -> Comparison:
    """Run one experiment again, past the cache, and compare."""
    from agent.executor import code_version, provenance
    from tools._base import ToolInputError

    x = row.experiment

    def verdict(word: str, detail: str) -> Comparison:
        return Comparison(row.handle, x.tool, word, detail)

    if x.tool not in tools:
        return verdict("not comparable", f"there is no tool {x.tool} any more")
    old = store.result(row.result_id)
    try:
        args = tools[x.tool].parse(x.args)
        if runner.experiment(tools[x.tool], args).tasks != x.tasks:
            return verdict("DIFFERENT", "the task's examples have changed since")
        new = runner.execute(tools[x.tool], args)
    except ToolInputError as error:
        return verdict("DIFFERENT", f"it cannot be run any more: {error}")
    here, there = provenance(runner.subject), old.provenance
    exact = there is not None and here == there and here.device == "cpu" and x.dtype == "float32"
    word, detail = compare(old, new, exact=exact, tolerance=TOLERANCE.get(x.dtype, 1e-4))
    notes: list[str] = []
    if there is not None and here != there:
        notes.append("computed elsewhere: " + _differences(there.model_dump(), here.model_dump()))
    if x.code != code_version():
        notes.append("the code has changed since")
    return verdict(word, "; ".join([detail, *notes]))


def _differences(old: dict[str, object], new: dict[str, object]) -> str:
    return ", ".join(f"{k} {old[k]} -> {new[k]}" for k in old if old[k] != new[k])


def main(argv: Sequence[str] | None = None) -> int:
    """0 all equal (or within the stated tolerance elsewhere), 1 a difference, 2 bad input."""
    p = argparse.ArgumentParser(prog="python -m agent.replay", description=(__doc__ or "").partition(": ")[2])
    p.add_argument("run", help="a run's name, a prefix, or latest")
    p.add_argument("--db", type=Path, default=Path("experiments.db"), help="experiments database")
    p.add_argument("--experiment", metavar="E17", help="only this one")
    p.add_argument("--sample", type=int, metavar="N", help="only N, drawn at random")
    p.add_argument("--subject", help="where the model is now, if it has moved")
    p.add_argument("--device", default=None, help="default: as the run")
    args = p.parse_args(argv)
    from tools._threads import share_the_machine

    share_the_machine()
    from agent.executor import ToolRunner
    from agent.record import RunRecord, RunTasks
    from experiments_db.store import Store, StoreError
    from tools._base import discover
    from tools.subjects import SubjectError, load_subject

    try:
        store = Store(args.db, create=False)
        run = store.run(store.resolve_run(args.run))
        rows = [store.experiment(run.name, args.experiment)] if args.experiment else store.experiments(run.name)
        settings = run.settings
        subject = load_subject(
            args.subject or run.subject, device=args.device or settings["device"], dtype=settings["dtype"]
        )
    except (StoreError, SubjectError) as error:
        print(f"agent.replay: {error}", file=sys.stderr)
        return 2
    if subject.fingerprint != settings["fingerprint"]:
        print(
            f"agent.replay: {args.subject or run.subject} is not the model of this run: fingerprint "
            f"{subject.fingerprint[:16]}, on record {settings['fingerprint'][:16]}",
            file=sys.stderr,
        )
        return 1
    if args.sample is not None:
        rows = random.Random(0).sample(rows, min(max(0, args.sample), len(rows)))
        rows.sort(key=lambda r: int(r.handle[1:]))
    runner = ToolRunner(subject, RunRecord(store, run.name), RunTasks(store, run.name), settings["seed"])
    tools = discover()
    different = 0
    for row in rows:
        made = replay_one(row, store, runner, tools)
        different += made.verdict not in ("equal", "within tolerance")
        print(f"{made.handle:5} {made.tool:18} {made.verdict:16} {made.detail}", flush=True)
    print(f"{len(rows) - different} of {len(rows)} experiments came out as recorded")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
