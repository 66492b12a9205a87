"""Every page of the review with 10,000 experiments and a million measurements in the store, and a person's looks on the
workbench: `python -m benchmarks.review`.

The worst case: one run did 9,000 of the experiments, and fifty others the rest. Each page is asked for over HTTP from a
server of its own process, as a browser does.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

from experiments_db.findings import Claim, Conclusion, Finding, Question, Statement
from experiments_db.records import Experiment, Hypothesis, Measurement, Note, Result, Run
from experiments_db.store import Store

LARGE, SMALL, EACH, ROUNDS, LIMIT_MS, LOOK_MS = 9000, 50, 20, 9, 200, 300
USAGE = {"prompt_tokens": 900, "completion_tokens": 90, "cost": 0.0}


def main() -> None:
    """Fill a store, serve it, and print the median time of each page."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "e.db")
        start = time.perf_counter()
        fill(store)
        counts = store.counts()
        print(f"{counts['measurements']:,} measurements in {counts['experiments']:,} experiments and {counts['runs']} runs, "
              f"{counts['events']:,} events, written in {time.perf_counter() - start:.0f} s, "
              f"{store.path.stat().st_size / 2**20:.0f} MiB\n")  # fmt: skip
        server = subprocess.Popen(  # noqa: S603 - our own server
            [sys.executable, "-m", "agent.review", "--db", str(store.path)], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        site = server.stdout.readline().split(" at ")[1].split("  ")[0].strip().rstrip("/")
        try:
            print(f"| page | median, ms (of {ROUNDS}) | worst, ms | KiB |\n|---|---|---|---|")
            slow = [name for name, path in pages().items() if _measure(name, site + path) > LIMIT_MS]
        finally:
            server.terminate()
            server.wait()
        print(f"\n| on the workbench (demo) | median, ms (of {ROUNDS}) | worst, ms |\n|---|---|---|")
        slow += looks(Path(folder) / "hand.db")
        print(f"\n{'Over' if slow else 'None over'} {LIMIT_MS} ms{': ' + ', '.join(slow) if slow else ''}.")


def pages() -> dict[str, str]:
    """Every kind of page, on the large run where it is of a run."""
    q = urllib.parse.quote
    return {
        "list of runs": "/",
        "search in runs": "/?q=" + q("find addition"),
        "report of 9,000 experiments": "/runs/large/report",
        "hypotheses (60, with 300 findings)": "/runs/large/hypotheses",
        "timeline, first page": "/runs/large/timeline",
        "timeline, last page": "/runs/large/timeline?page=360",
        "experiments, first page": "/runs/large/experiments",
        "experiments, last page": "/runs/large/experiments?page=180",
        "experiments of one tool, slowest first": "/runs/large/experiments?tool=ablate&sort=seconds&down=1",
        "search in experiments": "/runs/large/experiments?q=" + q("block 77"),
        "an experiment": "/runs/large/experiments/E4500",
        "an experiment with 10,000 measurements": "/runs/large/experiments/E1",
        "state of a live run": "/runs/large/state.json",
        "compare two runs": "/compare?a=large&b=small7",
        "compare two experiments": "/compare?a=large/E77&b=large/E78",
        "report of a small run": "/runs/small7/report",
    }


def looks(database: Path) -> list[str]:
    """How long an answer on the workbench takes to change when a person switches something; the names of what is slow."""
    from agent.review.workbench.bench import Bench
    from agent.workbench import parser, run_options

    bench = Bench(run_options(parser().parse_args(["--subject", "demo", "--db", str(database)])))
    operations = {
        "an example as it is": {},
        "an MLP zeroed": {"zero": ["decoder.0.mlp.out@answer"]},
        "a head patched from the twin": {"patch": ["decoder.1.attn.z[2]@answer"]},
        "an MLP resampled": {"resample": ["decoder.0.mlp.out@answer"]},
        "a block skipped": {"programs": ["skip 2"]},
        "steered": {"steer_label": "carry", "steer_value": "1", "steer_at": "decoder.2.resid_post", "dose": 2},
    }
    slow: list[str] = []
    for name, given in operations.items():
        taken: list[float] = []
        for i in range(ROUNDS + 1):  # the first of each kind reads examples
            start = time.perf_counter()
            bench.look({"task": "addition", "example": i, **given})
            taken.append(1000 * (time.perf_counter() - start))
        middle = statistics.median(taken[1:])
        print(f"| {name} | {middle:.0f} | {max(taken[1:]):.0f} |", flush=True)
        slow += [name] if middle > LOOK_MS else []
    bench.end()
    return slow


def fill(store: Store) -> None:
    """One large run and many small ones."""
    for name, many in [("large", LARGE), *((f"small{i}", EACH) for i in range(SMALL))]:
        settings = {"seed": 0, "dtype": "float32", "fingerprint": "f" * 64, "code": "c", "out": "t"}
        store.put_run(
            Run(
                name=name,
                goal=f"find where addition happens ({name})",
                subject="demo",
                planner="openai:x",
                settings=settings,
            )
        )
        with store.transaction():
            store.put_event(name, "start", {"goal": "g"})
            for i in range(many):
                _step(store, name, i, 10_000 if name == "large" and i == 0 else 99)
            for i in range(60 if name == "large" else 3):
                _findings(store, name, i)
            store.put_entry(name, 1, Question(handle="Q1", asks="where", text="Where is it?", tasks=("addition",)))
            store.put_entry(name, 1, Note(text="In the end: {{E2.accuracy[block=1, unit_index=1]}}."))
            store.put_entry(name, 1, Conclusion(answer="found", words="In the end it is clear."))
            store.put_event(name, "end", {"status": "finished", "reason": "found"})
            store.update_run(name, "finished", "found")


def _step(store: Store, run: str, i: int, count: int) -> None:
    """One turn with its experiment: heads of blocks, with intervals and controls."""
    arguments = json.dumps({"task": "addition", "block": i})
    call = {"id": f"c{i}", "name": "ablate", "arguments": arguments}
    store.put_event(run, "turn", {"calls": [call], "text": f"Look at block {i}.", "usage": USAGE, "minutes": 0.01 * i})
    made = tuple(
        Measurement(
            name="accuracy" if count > 99 or j % 2 else "nll", value=(j * 37 + i) % 101 / 101, unit="share of examples", n=64,
            low=0.0, high=1.0, task="addition", split="confirm" if i % 7 == 0 else "explore",
            component=f"decoder.{j // 8}.attn.z[{j % 8}]@answer",
        )
        for j in range(count)
    )  # fmt: skip
    tool = ("ablate", "patch", "attention")[i % 3]
    asked = Experiment(
        tool=tool, args={"task": "addition", "run": run, "block": i}, subject="f", seed=0, dtype="float32", code="c"
    )
    result = Result(status="ok", text=f"{tool} of block {i}\nsecond line", measurements=made, wall_seconds=i % 13 / 10)
    number = store.put_result(asked, result)
    handle = store.link_experiment(run, asked.id, number, cached=False, seq=2 * i + 3, why=f"Look at block {i}.")
    text = f"{handle}: {result.text}"
    store.put_event(run, "answer", {"call_id": f"c{i}", "text": text, "status": "ok", "handle": handle})


def _findings(store: Store, run: str, i: int) -> None:
    """A hypothesis with five findings, one of them confirmed and claimed."""
    h, e = f"H{i + 1}", f"E{7 * i + 1 if run == 'large' else i + 2}"
    store.put_entry(run, 2, Hypothesis(handle=h, statement=f"Block {i} adds.", status="supported", evidence_for=(e,)))
    for k in range(5):
        s = Statement(
            kind="necessary",
            task="addition",
            components=f"decoder.{k + 1}.attn.z[{i % 8}]@answer",
            interventions=("zero",),
        )
        handle = f"F{5 * i + k + 1}"
        f = Finding(handle=handle, statement=s, hypothesis=h, seen=e, smallest=0.1, probability=0.8, power=0.8)
        store.put_entry(run, 2, f)
        if k == 0:
            decided = {
                "round": 1,
                "experiment": e,
                "fate": "confirmed",
                "p": 1e-6,
                "threshold": 0.01,
                "sentence": "It is.",
            }
            store.put_entry(run, 2, f.model_copy(update=decided))
            store.put_entry(run, 2, Claim(finding=handle, interpretation=f"Block {i} may add."))


def _measure(name: str, url: str) -> float:
    """Median milliseconds of a page; prints its line of the table."""
    seconds: list[float] = []
    size = 0
    for _ in range(ROUNDS):
        start = time.perf_counter()
        with urllib.request.urlopen(url) as answer:  # noqa: S310 - our own server
            size = len(answer.read())
        seconds.append(1000 * (time.perf_counter() - start))
    print(f"| {name} | {statistics.median(seconds):.0f} | {max(seconds):.0f} | {size / 1024:.0f} |", flush=True)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
