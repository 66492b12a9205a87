"""Score planners and baselines on the planted models: `python -m benchmarks.planted [--planner P ...] [--case C ...]`.

Prints one line a method; with --write the table in benchmarks/README.md is replaced by it.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent import run as agent_run
from benchmarks.planted.cases import BLOCKS, CASES, Case
from benchmarks.planted.scoring import Found, Row, claimed, component_of, components, positives, summarise
from benchmarks.planted.tasks import TASKS
from benchmarks.planted.train import FOLDER, make
from experiments_db.places import Component, ComponentSet
from experiments_db.records import Measurement
from experiments_db.store import Store
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, discover
from tools.subjects import Subject, load_subject

PER_SPLIT = 200
GOAL = "find where the model does what the examples of {task} ask for"
README = Path(__file__).parents[1] / "README.md"
BASELINES = ("zero ablation, one pass", "resample ablation, one pass", "attribution patching", "weight norms")


def task_name(case: Case) -> str:
    """The name of the user's file; built-in tasks keep theirs."""
    return f"planted_{case.task}"


def write_task(case: Case, folder: Path) -> Path:
    """The case's task as a user's file: half of the prompts to explore, half to confirm."""
    task, rng = TASKS[case.task], random.Random(7)
    seen: set[tuple[int, ...]] = set()
    lines: list[str] = []
    while len(lines) < 2 * PER_SPLIT:
        operands = task.draw(rng)
        if operands in seen:
            continue
        seen.add(operands)
        twin = task.changed(operands, rng)
        labels = {f"x{i}": v for i, v in enumerate(operands)}
        record = {
            "prompt": " ".join(task.prompt(operands)),
            "answer": f" {task.answer(operands)}",
            "foil": f" {task.answer(twin)}",
            "twin": " ".join(task.prompt(twin)),
            "split": "explore" if len(lines) % 2 else "confirm",
            "metadata": labels,
        }
        lines.append(json.dumps(record))
    file = folder / f"{task_name(case)}.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def model_folder(case: Case, work: Path) -> Path:
    """The shipped model; an untrained one is made from its seed."""
    if case.kind != "random":
        return FOLDER / case.name
    make(case, work)
    return work / case.name


def investigate(case: Case, planner: str, work: Path, experiments: int) -> Found:
    """One run of the agent, read back from its database."""
    folder = work / planner.replace(":", "-") / case.name
    folder.mkdir(parents=True)
    db = folder / "experiments.db"
    argv = [
        "--goal", GOAL.format(task=task_name(case)), "--subject", str(model_folder(case, folder)),
        "--task", str(write_task(case, folder)), "--planner", planner, "--db", str(db), "--out", str(folder / "out"),
        "--device", "cpu", "--max-experiments", str(experiments), "--quiet",
    ]  # fmt: skip
    started = time.perf_counter()
    if agent_run.main(argv) != 0:
        raise RuntimeError(f"the run on {case.name} failed")
    seconds = time.perf_counter() - started
    store = Store(db)
    (name,) = store.runs()
    run, findings = store.run(name), store.findings(name)
    found = claimed(findings, case)
    drops = _drops(store, name, case)
    confidences = [(f.probability, f.fate == "confirmed") for f in findings if f.settled and f.fate != "void"]
    score = {
        c: drops.get(c, 0.0) + sum(p for site, p in found.items() if c in site.split("+")) for c in components(case)
    }
    tokens = sum(int(u) for e in store.events(name) if e.kind == "turn" and (u := _tokens(e.payload)))
    return Found(found, score, run.reason if run.status == "finished" else "", tuple(confidences),
                 len(store.experiments(name)), tokens, seconds)  # fmt: skip


def _tokens(payload: Any) -> int:
    usage = payload.get("usage") or {}
    return int(usage.get("prompt_tokens", 0)) + int(usage.get("completion_tokens", 0))


def _drops(store: Store, run: str, case: Case) -> dict[str, float]:
    """Mean drop of accuracy that resampling a component caused on explore examples, as far as the run measured it."""
    wanted, found = set(components(case)), dict[str, float]()
    for row in store.experiments(run):
        for m in store.measurements(row.result_id):
            place = _single(m) if m.name == "accuracy.delta" and m.split == "explore" else None
            if place in wanted and m.done is not None and m.done.op == "resample":
                found[place] = -m.value
    return found


def _single(m: Measurement) -> str | None:
    """The benchmark's name of the one component that a measurement is about, if it is about one."""
    if m.component is None or not isinstance(m.place, Component | ComponentSet):
        return None
    singles = m.place.singles()
    return component_of(singles[0]) if len(singles) == 1 else None


def baselines(case: Case, work: Path) -> dict[str, Found]:
    """Each names what a reader of a single pass would: components whose effect is at least half of the largest, or of all."""
    started = time.perf_counter()
    subject = load_subject(str(model_folder(case, work)), device="cpu", dtype="float32")
    tasks = OfflineTasks([write_task(case, work)])
    ctx = Context(subject, tasks, Nothing())
    out: dict[str, Found] = {}
    for method in BASELINES:
        began = time.perf_counter()
        scores = _scores(method, case, subject, ctx)
        top = max(max(scores.values()), 1e-9)
        named = {c: 1.0 for c, s in scores.items() if s >= top / 2}
        seconds = time.perf_counter() - began
        # A ranking has no way to say that there is nothing: it always names its top.
        out[method] = Found(named, scores, "found", tuple((1.0, c in positives(case)) for c in named), 1, 0, seconds)
    del started
    return out


def _scores(method: str, case: Case, subject: Subject, ctx: Context) -> dict[str, float]:
    wanted = components(case)
    if method == "weight norms":
        return {c: _norm(subject, c) for c in wanted}
    found: dict[str, float] = dict.fromkeys(wanted, 0.0)
    parts = ["attn.out@answer", "mlp.out@answer"] + ["attn.z[*]@answer"] * bool(case.heads)
    if method == "attribution patching":
        rows = _measure(
            ctx, "attribute", task=task_name(case), method="patching", components=parts, check=0, examples=128
        )
        name = "attribution"
    else:
        how = method.partition(" ")[0]
        rows = _measure(ctx, "ablate", task=task_name(case), components=parts, intervention=how, examples=128)
        name = "accuracy.delta"
    for m in rows:
        place = _single(m) if m.name == name else None
        if place in found:
            found[place] = abs(m.value) if name == "attribution" else -m.value
    return found


def _measure(ctx: Context, name: str, **given: Any) -> Sequence[Measurement]:
    tool = discover()[name]
    try:
        return tool.run(tool.parse(given), ctx).measurements
    except ValueError:  # twins that change nothing, on a model that cannot do the task
        return ()


def _norm(subject: Subject, component: str) -> float:
    """Frobenius norm of what a component writes with; a head's share of its block's output projection."""
    block: Any = subject.spec().blocks[int(component.split(".")[0])]
    weight: torch.Tensor = (block.mlp if component.endswith("mlp") else block.attn).c_proj.weight
    if ".head." in component:
        width = weight.shape[0] // subject.spec().n_heads
        head = int(component.rpartition(".")[2])
        weight = weight[head * width : (head + 1) * width]
    return float(weight.detach().float().norm())


def table(rows: Sequence[Row]) -> str:
    """The methods as a markdown table."""
    head = (
        "| method | exact cases | sites named | AUROC | AP | false findings | nulls: said so | ECE "
        "| experiments | tokens | s a case, median (max) |"
    )
    lines = [head, "|" + "---|" * 11]
    lines += [
        f"| {r.method} | {_share(r.exact)} | {_share(r.sites)} | {_number(r.auroc)} | {_number(r.precision)} | "
        f"{r.false_findings} | {_share(r.not_found)} | {_number(r.calibration)} | {r.experiments:.0f} | {r.tokens:.0f} | "
        f"{r.seconds:.1f} ({r.slowest:.1f}) |"
        for r in rows
    ]
    return "\n".join(lines)


def _share(x: float) -> str:
    return "" if np.isnan(x) else f"{100 * x:.0f}%"


def _number(x: float) -> str:
    return "" if np.isnan(x) else f"{x:.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    names = [c.name for c in CASES]
    p = argparse.ArgumentParser(prog="python -m benchmarks.planted", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--planner", action="append", help="planners to score (default: systematic and random_valid)")
    p.add_argument("--case", action="append", choices=names, metavar="CASE", help=f"default: all of {', '.join(names)}")
    p.add_argument("--max-experiments", type=int, default=80, help="a run's budget (default 80)")
    p.add_argument("--no-baselines", action="store_true", help="planners only")
    p.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    p.add_argument("--keep", type=Path, help="folder in which runs and databases are kept")
    args = p.parse_args(arguments)
    cases = [c for c in CASES if not args.case or c.name in args.case]
    with tempfile.TemporaryDirectory() as scratch:
        work = args.keep or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        rows = [
            _planner(planner, cases, work, args.max_experiments)
            for planner in args.planner or ["systematic", "random_valid:0"]
        ]
        if not args.no_baselines:
            found = [(c, baselines(c, Path(tempfile.mkdtemp(dir=scratch)))) for c in cases]
            rows += [summarise(m, [(c, f[m]) for c, f in found]) for m in BASELINES]
    real = sum(bool(c.truth) for c in cases)
    decoys = sum(c.kind == "decoy" for c in cases)
    text = (
        f"{len(cases)} cases of {BLOCKS} blocks: {real} with a mechanism ({decoys} of them beside a "
        f"decoy), {len(cases) - real} nulls.\n\n" + table(rows)
    )
    print(text)
    if args.write:
        _write(text)
    return 0


def _planner(planner: str, cases: Sequence[Case], work: Path, experiments: int) -> Row:
    results: list[tuple[Case, Found]] = []
    for case in cases:
        found = investigate(case, planner, work, experiments)
        results.append((case, found))
        planted = ", ".join(sorted(case.truth)) or "nothing"
        judged = "right" if set(found.claimed) == case.truth else f"planted: {planted}"
        shown = ", ".join(sorted(found.claimed)) or found.verdict or "nothing"
        print(f"{planner} {case.name}: {shown} ({judged}; {found.seconds:.0f} s)", file=sys.stderr, flush=True)
    return summarise(planner, results)


def _write(text: str) -> None:
    begin, end = "<!-- planted -->", "<!-- end planted -->"
    old = README.read_text(encoding="utf-8")
    before, _, rest = old.partition(begin)
    _, _, after = rest.partition(end)
    README.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
