"""A planted case as it is put to a planner: a model's folder, a user's task file, and what is true of it.

Four origins: the shipped trained cases (`cases`), the compiled programs (`compiled`), models trained for a seed (`fresh`),
and nulls among them. Each is written into a folder of its own, where it is found again.
"""

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

from benchmarks.planted.cases import BLOCKS, CASES, HEADS, Case
from benchmarks.planted.compiled import compile_case
from benchmarks.planted.compiler.truth import Fact
from benchmarks.planted.facts import Target, facts_of, targets
from benchmarks.planted.fresh.making import make as make_fresh
from benchmarks.planted.fresh.recipes import FreshCase
from benchmarks.planted.judging import Judge
from benchmarks.planted.oracle import Oracle
from benchmarks.planted.programs import PROGRAMS
from benchmarks.planted.sites import Map, rows_of
from benchmarks.planted.tasks import TASKS
from benchmarks.planted.train import FOLDER, make

PER_SPLIT = 200
Origin = Literal["trained", "compiled", "null"]


@dataclass(frozen=True)
class Posed:
    """task: the file; more: examples to judge by, in the same form. blocks, heads: of the model. made: how it came about."""

    name: str
    origin: Origin
    model: Path
    task: Path
    more: Path
    facts: tuple[Fact, ...]
    blocks: int
    heads: int
    made: str = ""

    @cached_property
    def whole(self) -> Map:
        """The model's heads with the task's examples."""
        return Map(self.blocks, self.heads, rows_of(self.task))

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """What an exact answer names; nothing in a null."""
        return targets(self.facts, self.whole)

    @cached_property
    def judge(self) -> Judge:
        """Says of a finding whether it is true."""
        return Judge(self.facts, self.whole, Oracle(self.model, rows_of(self.more)))

    @property
    def anchors(self) -> tuple[str, ...]:
        """The answer, and the roles that every example has."""
        rows = self.whole.rows
        return ("answer", *(r for r in rows[0].spans if all(r in row.spans for row in rows)))


def task_name(case: Case) -> str:
    """The name of the user's file; built-in tasks keep theirs."""
    return f"planted_{case.task}"


def write_task(case: Case, folder: Path, seed: int = 7, name: str = "") -> Path:
    """A shipped case's task as a user's file: half of the prompts to explore, half to confirm."""
    task, rng = TASKS[case.task], random.Random(seed)
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
    file = folder / f"{name or task_name(case)}.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def shipped(case: Case, folder: Path) -> Posed:
    """A case of `CASES`; an untrained model is made from its seed."""
    folder.mkdir(parents=True, exist_ok=True)
    if case.kind == "random" and not (folder / case.name).is_dir():
        make(case, folder)
    model = folder / case.name if case.kind == "random" else FOLDER / case.name
    origin: Origin = "trained" if case.truth else "null"
    more = write_task(case, folder, seed=8, name="more")
    return Posed(case.name, origin, model, write_task(case, folder), more, facts_of(case), BLOCKS, HEADS)


def compiled(program: str, seed: int, folder: Path) -> Posed:
    """A program compiled for a seed."""
    name = f"{program}-{seed}"
    case = compile_case(program, seed)
    if not (folder / "written").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        case.write(folder / "model")
        shutil.copy(folder / "model" / "task.jsonl", folder / "compiled.jsonl")
        drawn = islice(case.draw("confirm", random.Random(f"to judge by {name}")), 2 * PER_SPLIT)
        lines = [json.dumps(s.as_json()) for s in {s.example.prompt: s for s in drawn}.values()]
        (folder / "more.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / "written").touch()
    origin: Origin = "compiled" if case.design.able else "null"
    return Posed(name, origin, folder / "model", folder / "compiled.jsonl", folder / "more.jsonl", case.truth,
                 case.plan.blocks, case.plan.heads, case.plan.family)  # fmt: skip


def fresh(case: FreshCase, folder: Path) -> Posed:
    """A model trained for a seed; what was trained before is taken from its folder."""
    made = make_fresh(case, folder)
    task = folder / "fresh.jsonl"  # a name that says nothing: a goal's words are read
    shutil.copy(folder / "task.jsonl", task)
    facts = case.facts(everywhere=made["checks"].get("everywhere", 0.0) >= 0.95)
    origin: Origin = "trained" if case.kind == "planted" else "null"
    shape = case.recipe.shape
    said = f"{made['attempts']} attempt{'s' * (made['attempts'] != 1)}, {made['seconds']:.0f} CPU s"
    return Posed(
        case.name, origin, folder / "model", task, folder / "more.jsonl", facts, shape.blocks, shape.heads, said
    )


def tuning(names: Sequence[str] = ()) -> list[Case]:
    """The shipped cases, or those of these names."""
    return [c for c in CASES if not names or c.name in names]


def programs(able: bool | None = None) -> list[str]:
    """The compiled programs; able: those whose models do their task, or those that do not."""
    unable = ("unable", "shadow")
    return [p for p in PROGRAMS if able is None or (p not in unable) == able]
