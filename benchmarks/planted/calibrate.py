"""Fit and score the probability that `examine` gives: `python -m benchmarks.planted.calibrate [--seed S] [--write] [--sample]`.

Statements about single components and random sets of the planted models and of the demo are examined on few explore
examples, where things are uncertain, and put to as many unseen ones. What explore examples showed (tools.findings.sureness)
against what unseen ones said is fitted on half of the models and scored on the other half; with --write the coefficients go
to tools/findings/calibration.json with their reliability. Rows that are done are kept beside, so that a stopped run goes on.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planted.__main__ import task_name, write_task
from benchmarks.planted.cases import CASES
from benchmarks.planted.train import FOLDER
from experiments_db.findings import Statement
from experiments_db.places import Component, ComponentSet
from tools import statistics
from tools.findings.examining import CONFIRMED_WITH, bench_for
from tools.findings.kind import Bench, kind_of
from tools.findings.sureness import FILE, NAMES, features, probability
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context
from tools.subjects import Subject, load_subject

SIZES = (12, 16, 24, 32, 48, 64, 96)
DEMO_TASKS = ("addition", "subtraction", "agreement", "indirect_object", "copying", "brackets", "facts")
KEPT = Path(tempfile.gettempdir()) / "locus-calibration.jsonl"
Row = dict[str, Any]


def statements(subject: Subject, task: str, n: int, rng: random.Random) -> Iterator[Statement]:
    """Every attention and MLP at the answer as necessary under one or two interventions, and random sets as not needed."""
    spec = subject.spec()
    parts = [
        Component(stack=spec.name, block=b, part=p, anchor="answer")
        for b in range(len(spec.blocks))
        for p in ("attn.out", "mlp.out")
    ]
    ways = (("resample(donor)",), ("zero",), ("resample(donor)", "zero"))
    for c in parts:
        yield Statement(kind="necessary", task=task, components=str(c), interventions=rng.choice(ways), examples=n)
    for _ in range(4):
        chosen = ComponentSet.of(*rng.sample(parts, rng.randint(1, 4)))
        yield Statement(kind="not_needed", task=task, components=str(chosen), interventions=rng.choice(ways), examples=n)


def rows(name: str, subject: Subject, tasks: OfflineTasks, task: str, seed: int) -> Iterator[Row]:
    """One row a statement: what explore examples showed, and whether unseen ones confirmed it."""
    rng, alpha = random.Random(f"{name}/{task}/{seed}"), statistics.share(1) / CONFIRMED_WITH
    for n in rng.sample(SIZES, 3):
        contexts = [Context(subject, tasks, Nothing(), seed=seed, split=s) for s in ("explore", "confirm")]
        known: list[Bench | None] = [None, None]
        for statement in statements(subject, task, n, rng):
            seen: list[Any] = []
            for i, ctx in enumerate(contexts):
                fresh = known[i] or bench_for(statement, ctx)
                known[i] = fresh
                bench = Bench(ctx, statement, fresh.task, fresh.examples, known=fresh.known)
                if bench.gap <= 0:
                    break
                seen.append(list(kind_of(statement.kind).measure(statement, bench)))
            if len(seen) == 2:
                confirmed = max(c.p() for c in seen[1]) <= alpha
                yield {"model": name, "kind": statement.kind, "n": n, "row": features(seen[0], alpha).row, "confirmed": confirmed}


def models(seed: int, sample: bool) -> Iterator[tuple[str, Iterator[Row]]]:
    """(name, rows) of each model and task."""
    demo = load_subject("demo")
    for task in DEMO_TASKS[: 1 if sample else None]:
        yield f"demo/{task}", rows(f"demo/{task}", demo, OfflineTasks([]), task, seed)
    for case in [c for c in CASES if c.kind in ("planted", "decoy")][: 2 if sample else None]:
        with tempfile.TemporaryDirectory() as folder:
            file = write_task(case, Path(folder))
            subject = load_subject(str(FOLDER / case.name))
            yield case.name, rows(case.name, subject, OfflineTasks([file]), task_name(case), seed)


def score(found: Sequence[Row], probabilities: np.ndarray) -> dict[str, float]:
    """Brier score, skill over the base rate, and expected calibration error."""
    y = np.array([float(r["confirmed"]) for r in found])
    return {
        "n": len(y),
        "base_rate": float(y.mean()),
        "brier": statistics.brier(probabilities, y),
        "skill": statistics.brier_skill(probabilities, y),
        "ece": statistics.expected_calibration_error(probabilities, y),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Collect rows, fit on half of the models, score on the other half; 0 when done."""
    p = argparse.ArgumentParser(prog="python -m benchmarks.planted.calibrate", description="Calibrate probabilities.")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--write", action="store_true", help="keep the fit in tools/findings/calibration.json")
    p.add_argument("--sample", action="store_true", help="a few models only")
    args = p.parse_args(argv)
    done: dict[str, list[Row]] = {}
    if KEPT.is_file():
        for line in KEPT.read_text().splitlines():
            r = json.loads(line)
            if r["seed"] == args.seed:
                done.setdefault(r["name"], []).extend(r["rows"])
    for name, made in models(args.seed, args.sample):
        if name not in done:
            done[name] = list(made)
            with KEPT.open("a") as file:
                file.write(json.dumps({"seed": args.seed, "name": name, "rows": done[name]}) + "\n")
            print(f"{name}: {len(done[name])} statements", file=sys.stderr)
    names = sorted(done)
    random.Random(args.seed).shuffle(names)
    fitted, held = ([r for n in half for r in done[n]] for half in (names[::2], names[1::2]))
    x, y = ([r["row"] for r in fitted], [float(r["confirmed"]) for r in fitted])
    made = statistics.fit(x, y, NAMES)
    own = np.clip(made.probability([r["row"] for r in held]), 0.01, 0.99)
    report = {"fitted_on": len(fitted), "held_out": score(held, own)}
    bins = statistics.reliability(own, [float(r["confirmed"]) for r in held])
    for b in bins:
        print(b)
    print(json.dumps(report, indent=1))
    shipped = np.array([probability_of(r["row"]) for r in held])
    print("as shipped before:", json.dumps(score(held, shipped)))
    if args.write:
        table = [{"n": b.n, "said": round(b.predicted, 3), "confirmed": round(b.observed, 3)} for b in bins]
        said = {"reliability": table, "seed": args.seed, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
        kept = {"calibration": made.to_json(), **report, **said}
        FILE.write_text(json.dumps(kept, indent=1) + "\n")
    return 0


def probability_of(row: Sequence[float]) -> float:
    """The shipped calibration's probability of one row of features."""
    from tools.findings.sureness import Features

    return probability(Features(*row))


if __name__ == "__main__":
    sys.exit(main())
