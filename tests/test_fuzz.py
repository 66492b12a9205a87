"""Random calls, valid and broken: no crash, each answered, and the store is sound afterwards.

LOCUS_FUZZ sets how many calls of each kind are made (default 300; a full run is LOCUS_FUZZ=10000).
"""

import asyncio
import json
import os
import random

import pytest

from agent.loop.budget import Limits
from agent.loop.executor import ToolRunner
from agent.loop.investigate import investigate
from agent.loop.record import RunRecord, RunTasks
from agent.planners.base import PlannerError, ToolCall, Turn
from agent.planners.random_valid import _Known, arguments
from benchmarks.planted.__main__ import write_task
from benchmarks.planted.cases import CASES
from benchmarks.planted.train import FOLDER
from experiments_db.records import Run, TaskData
from experiments_db.store import Store
from tools.methods.tool import discover
from tools.subjects import load_subject
from tools.tasks import read_jsonl

CALLS = int(os.environ.get("LOCUS_FUZZ", "300"))
PER_TURN, PER_RUN = 25, 250
STRANGE = [
    None, True, -1, 0, 10**12, -(10**12), 0.5, 1e308, "", " ", "a" * 5000, "\n", "\x00", "\x1b[31m", "<script>alert(1)</script>",
    "{{E1.accuracy}}", "{{E9.x[", "E1", "H1", "P99", [], [[]], [None], {}, {"a": {"b": []}}, "NaN", "addition:digits=99", "../../etc/passwd",
    "'; DROP TABLE runs; --", "💥", "[link](javascript:x)", ["E1"] * 300, "decoder.0.attn.out", "accuracy[task=addition, split=confirm]",
]  # fmt: skip
RAW = [
    "",
    "{",
    "[]",
    "null",
    "3",
    '"x"',
    '{"a": 1',
    "{'a': 1}",
    "\x00",
    '{"tasks": ["a"]}' * 2,
    "NaN",
    '{"n": 1e999}',
    "{}" + " " * 3000,
]


class Nobody:
    """Watches nothing."""

    def turn(self, turn): ...
    def working(self, call, message): ...
    def answered(self, call, answer, seconds): ...


class Fuzzer:
    """Random calls; with `broken`, their arguments are damaged."""

    name = "fuzz"

    def __init__(self, seed, broken, calls):
        self.rng, self.broken, self.calls, self.made = random.Random(seed), broken, calls, 0

    async def propose(self, view):
        if self.made >= self.calls:
            raise PlannerError("enough")
        known = _Known.of(view)
        calls = []
        for i in range(PER_TURN):
            tool = self.rng.choice([t for t in view.tools if t.name != "finish"])
            given = json.dumps(arguments(tool, self.rng, known))
            name, given = self.damaged(tool.name, given) if self.broken else (tool.name, given)
            calls.append(ToolCall(f"{self.made}.{i}", name, given))
        self.made += PER_TURN
        return Turn(tuple(calls))

    def damaged(self, name, text):
        if self.rng.random() < 0.05:
            return self.rng.choice(["", "no_such", name.upper(), name + " ", "../" + name]), text
        if self.rng.random() < 0.1:
            return name, self.rng.choice(RAW)
        given = json.loads(text)
        for _ in range(self.rng.randint(1, 2)):
            key = self.rng.choice([*given, "surprise"]) if given else "surprise"
            if self.rng.random() < 0.15:
                given.pop(key, None)
            else:
                given[key] = self.rng.choice(STRANGE)
        return name, json.dumps(given)


@pytest.mark.parametrize("broken", [False, True], ids=["valid", "mutated"])
def test_no_call_crashes_each_is_answered_and_the_store_verifies(broken, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    case = next(c for c in CASES if c.name == "modular-a0-m1")
    subject = load_subject(str(FOLDER / case.name), device="cpu")
    file = write_task(case, tmp_path)
    store, tools = Store(tmp_path / "e.db"), discover()
    left, number, statuses = CALLS, 0, []
    while left > 0:
        number += 1
        run = Run(name=f"fuzz-{number}", goal="g", subject="s", planner="fuzz", settings={"seed": 0})
        with store.transaction():
            store.put_run(run)
            store.put_event(run.name, "start", {})
            store.put_entry(
                run.name, 1, TaskData(name=file.stem, description="d", examples=tuple(read_jsonl(file)), origin="file")
            )
        record = RunRecord(store, run.name)
        runner = ToolRunner(subject, record, RunTasks(store, run.name), 0)
        fuzzer = Fuzzer(f"{number} {broken}", broken, min(left, PER_RUN))

        ending = asyncio.run(investigate(fuzzer, run, record, runner, tools, Limits(), Nobody()))
        assert ending.status == "stopped"
        events = store.events(run.name)
        asked = [c["id"] for e in events if e.kind == "turn" for c in e.payload["calls"]]
        answered = [e.payload["call_id"] for e in events if e.kind == "answer"]
        assert answered == asked
        statuses += [e.payload["status"] for e in events if e.kind == "answer"]
        assert not [e.payload["traceback"] for e in events if "traceback" in e.payload]  # no tool fell over
        left -= max(PER_TURN, len(asked))
    assert store.verify() == []
    assert statuses.count("ok") > (0.01 if broken else 0.1) * len(statuses)  # few damaged calls mean anything; some do
    print(len(statuses), {s: statuses.count(s) for s in set(statuses)})
