"""Queries over a hundred million measurements in exported runs: `python -m benchmarks.exports`.

The Parquet folders are made from a seed as `experiments_db export` writes them, but for the hashes: they can be queried and
not imported. Each query is a process of its own, as a reader would start it; time and memory are those of that process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from experiments_db.exchange import VERSION
from experiments_db.formats import FORMAT
from experiments_db.run_tables import tables
from experiments_db.store import Store

RUNS, EXPERIMENTS, MEASUREMENTS = 1000, 100, 1000
TASKS = [f"task{i}" for i in range(5)]
TOOLS = ("layer_program", "patch", "ablate", "lens")
KINDS = {"TEXT": pa.large_string(), "INTEGER": pa.int64(), "REAL": pa.float64(), "BLOB": pa.large_binary()}
ONE = "WHERE run = 'run00007'"
EACH = "FROM measurements_view"
QUERIES = {
    "how many runs, experiments, findings": "SELECT count(*), sum(experiments), sum(findings) FROM runs_view",
    "one run: mean by program": f"SELECT program, avg(value) FROM measurements_view {ONE} AND name = 'accuracy' GROUP BY program",
    "one run: its experiments": f"SELECT experiment, tool, measurements FROM experiments_view {ONE}",
    "all: how many measurements": "SELECT count(*) FROM measurements_view",
    "all: mean and spread by task": f"SELECT task, avg(value), stddev(value) {EACH} WHERE name = 'accuracy' GROUP BY task",
    "all: by tool and block": f"SELECT tool, block, count(*), avg(difference) {EACH} GROUP BY tool, block",
    "all: the ten largest": f"SELECT run, experiment, component, value {EACH} ORDER BY value DESC, run LIMIT 10",
    "all: median by component, over runs": "SELECT component, median(v) FROM (SELECT run, component, avg(value) AS v "
    "FROM measurements_view WHERE name = 'nll' GROUP BY run, component) GROUP BY component",
    "findings by kind and fate": "SELECT kind, fate, count(*) FROM findings_view GROUP BY kind, fate",
}  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Make the folders, ask, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exports", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"of {EXPERIMENTS * MEASUREMENTS:,} measurements each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory-limit", default="2GB")
    parser.add_argument("--folder", type=Path, help="make them there, or take what this command has made there, and keep it")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        made = args.folder or Path(folder) / "exports"
        size = make(made, args.runs, args.seed)
        print(f"{args.runs * EXPERIMENTS * MEASUREMENTS:,} measurements in {args.runs:,} exported runs, made in "
              f"{time.perf_counter() - start:.0f} s, {size / 2**20:,.0f} MiB; load {os.getloadavg()[0]:.1f} "
              f"on {os.cpu_count()} cores\n")  # fmt: skip
        print("| query | time, s | processor time, s | peak memory, MiB | rows |\n|---|---|---|---|---|")
        for name, sql in QUERIES.items():
            seconds, used, memory, rows = asked(sql, made, args.memory_limit)
            print(f"| {name} | {seconds:.1f} | {used:.1f} | {memory:.0f} | {rows} |", flush=True)


def make(folder: Path, runs: int, seed: int) -> int:
    """Exported runs in a folder; returns their bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch) / "e.db")
        kinds = {t.name: t.kinds for t in tables(store)}
        store.db.close()
    same = _same()
    for r in range(runs):
        out = folder / f"run{r:05}"
        if out.exists():
            continue
        out.mkdir(parents=True)
        content = {**_small(out.name, r), "measurements": {**same, **_values(np.random.default_rng((seed, r)))}}
        counts = {name: len(next(iter(content[name].values()))) if name in content else 0 for name in kinds}
        header = json.dumps({"format": FORMAT, "version": VERSION, "run": out.name, "rows": counts}) + "\n"
        for name, columns in kinds.items():
            schema = pa.schema([pa.field(c, KINDS[k]) for c, k in columns.items()], metadata={FORMAT: header})
            given = content.get(name, {})
            arrays = [_array(given[c], f.type) if c in given else pa.nulls(counts[name], f.type) for c, f in zip(columns, schema)]
            pq.write_table(pa.table(arrays, schema=schema), out / f"{name}.parquet", compression="zstd")
    return sum(p.stat().st_size for p in folder.rglob("*.parquet"))


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _same() -> dict[str, pa.Array]:
    """What every run has in common: each experiment measures two things on five tasks at a hundred places."""
    i = np.arange(MEASUREMENTS)
    name, task, place = np.array(["accuracy", "nll"])[i % 2], np.array(TASKS)[i // 2 % 5], i // 10
    block, part, unit = place // 8, np.where(place % 2, "attn.z", "mlp.out"), np.where(place % 2, place % 8, -1)
    component = [f"decoder.{b}.{p}{f'[{u}]' if u >= 0 else ''}@answer" for b, p, u in zip(block, part, unit)]
    one = {
        "name": name, "unit": np.where(i % 2, "nats", "share"), "task": task, "split": ["explore"] * MEASUREMENTS,
        "component": component, "intervention": ["mean"] * MEASUREMENTS, "stack": ["decoder"] * MEASUREMENTS, "part": part,
        "anchor": ["answer"] * MEASUREMENTS, "control_kind": ["random"] * MEASUREMENTS,
        "key": [f"{n}[task={t}, split=explore, component={c}, intervention=mean]" for n, t, c in zip(name, task, component)],
    }  # fmt: skip
    of = np.full(MEASUREMENTS, 64)
    numbers = {"n": of, "groups": of // 2, "block": block, "control_n": of}
    whole = {c: pa.array(list(v) * EXPERIMENTS, pa.large_string()) for c, v in one.items()}
    whole |= {c: pa.array(np.tile(v, EXPERIMENTS), pa.int64()) for c, v in numbers.items()}
    whole["unit_index"] = pa.array(np.tile(unit, EXPERIMENTS), pa.int64(), mask=np.tile(unit < 0, EXPERIMENTS))
    whole["result"] = pa.array(np.repeat(np.arange(1, EXPERIMENTS + 1), MEASUREMENTS), pa.int64())
    return whole


def _values(rng: np.random.Generator) -> dict[str, Any]:
    """Shares of 64 examples, and losses; what the control gives, and the difference."""
    size = EXPERIMENTS * MEASUREMENTS
    share = np.arange(size) % 2 == 0
    value = np.where(share, rng.binomial(64, 0.6, size) / 64, rng.gamma(4, 0.5, size).astype(np.float32))
    control = np.where(share, rng.binomial(64, 0.9, size) / 64, rng.gamma(2, 0.5, size).astype(np.float32))
    half = np.where(share, 0.125, 0.25)
    return {
        "value": value, "low": value - half, "high": value + half, "control_value": control, "control_low": control - half,
        "control_high": control + half, "difference": value - control, "difference_low": value - control - half,
        "difference_high": value - control + half,
    }  # fmt: skip


def _small(run: str, r: int) -> dict[str, dict[str, list[Any]]]:
    when, e = "2026-11-22T00:00:00.000+00:00", range(1, EXPERIMENTS + 1)
    ids = [f"{run}-x{i}" for i in e]
    finding = {
        "statement": {"kind": ("necessary", "sufficient")[r % 2], "task": TASKS[r % 5], "components": ["decoder.3.mlp.out@answer"]},
        "probability": 0.5, "round": 1, "experiment": "E1", "fate": ("confirmed", "absent", "inconclusive")[r % 3], "p": 0.01,
        "reason": "", "sentence": "A sentence.", "retracted": "",
    }  # fmt: skip
    same = {c: [v] * EXPERIMENTS for c, v in {"args": "{}", "subject": "s", "tasks": "{}", "dtype": "float32", "code": "c"}.items()}
    none, dated = [0] * EXPERIMENTS, [when] * EXPERIMENTS
    return {
        "runs": {"name": [run], "goal": ["g"], "subject": ["s"], "planner": ["p"], "settings": ["{}"], "status": ["finished"],
                 "reason": [""], "created": [when], "ended": [when]},
        "experiments": {**same, "id": ids, "tool": [TOOLS[i % 4] for i in e], "seed": none, "created": dated},
        "results": {"id": list(e), "experiment": ids, "status": ["ok"] * EXPERIMENTS, "text": ["One line.\nAnother."] * EXPERIMENTS,
                    "wall_seconds": [1.0] * EXPERIMENTS, "peak_memory_bytes": none, "sha": ["s"] * EXPERIMENTS, "created": dated},
        "run_experiments": {"run": [run] * EXPERIMENTS, "number": list(e), "experiment": ids, "result": list(e), "cached": none,
                            "seq": list(e), "why": [""] * EXPERIMENTS},
        "assertions": {"run": [run], "kind": ["Finding"], "handle": ["F1"], "revision": [1],
                       "body": [json.dumps(finding)], "seq": [9]},
    }  # fmt: skip


def asked(sql: str, folder: Path, memory_limit: str) -> tuple[float, float, float, int]:
    """Wall seconds, processor seconds, peak memory in MiB and rows of one query, asked in a process of its own (Linux)."""
    command = [sys.executable, "-c", _ASKING, "query", sql, str(folder), "--format", "json", "--memory-limit", memory_limit]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 (our own program)
    seconds = time.perf_counter() - start
    peak, used = done.stderr.splitlines()[-1].split()
    return seconds, float(used), int(peak) / 1024, len(json.loads(done.stdout))


# A child's own count of its memory: what its parent would be told of it includes the parent's, from before exec.
_ASKING = """
import sys, time
from experiments_db.__main__ import main
code = main(sys.argv[1:])
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak, time.process_time(), file=sys.stderr)
sys.exit(code)
"""


if __name__ == "__main__":
    main()
