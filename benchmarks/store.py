"""Queries on a store with a million measurements: `python -m benchmarks.store`."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from experiments_db.records import Experiment, Measurement, Result, Run
from experiments_db.store import Store

RUNS, EXPERIMENTS, MEASUREMENTS = 20, 50, 1000


def main() -> None:
    """Fill a store and print the median time of each query."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "e.db")
        start = time.perf_counter()
        for r in range(RUNS):
            store.put_run(Run(name=f"run{r}", goal="g", subject="s", planner="p"))
            for e in range(EXPERIMENTS):
                _experiment(store, r, e)
        total = store.counts()["measurements"]
        print(f"{total:,} measurements in {store.counts()['experiments']:,} experiments, written in "
              f"{time.perf_counter() - start:.0f} s, {store.path.stat().st_size / 2**20:.0f} MiB\n")  # fmt: skip
        print("| query | median, ms |\n|---|---|")
        where = {"name": {"=": "accuracy"}, "task": {"=": "task3"}}
        for name, f in {
            "one experiment's result": lambda: store.result(store.experiment("run7", "E20").result_id),
            "a run's experiments": lambda: store.experiments("run7"),
            "filter within a run": lambda: store.select({**where, "value": {"<": 0.1}}, run="run7", limit=50),
            "group by program within a run": lambda: store.select(where, ["program"], "mean", run="run7"),
            "group by task over all runs": lambda: store.select({"name": {"=": "accuracy"}}, ["task"], "mean"),
        }.items():
            print(f"| {name} | {1000 * statistics.median(_seconds(f) for _ in range(7)):.1f} |", flush=True)


def _experiment(store: Store, r: int, e: int) -> None:
    made = tuple(
        Measurement(
            name=("accuracy", "nll")[i % 2], value=(i * 37 % 101) / 101, unit="u", n=64, low=0.0, high=1.0,
            task=f"task{i // 2 % 5}", split="explore", program=f"skip {i // 10}",
        )
        for i in range(MEASUREMENTS)
    )  # fmt: skip
    asked = Experiment(tool="layer_program", args={"r": r, "e": e}, subject="f", seed=0, dtype="float32", code="c")
    with store.transaction():
        number = store.put_result(asked, Result(status="ok", text="t", measurements=made))
        store.link_experiment(f"run{r}", asked.id, number, cached=False, seq=e)


def _seconds(f: Callable[[], object]) -> float:
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
