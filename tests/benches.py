"""Benches for kinds of findings: compiled models, whose mechanism is known, and others in which there is none."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from benchmarks.claims.worlds import HELD
from benchmarks.planted.compiled import CompiledCase, compile_case
from experiments_db.findings import Statement
from tools.findings.contrast import Contrast
from tools.findings.examining import bench_for
from tools.findings.kind import Bench, kind_of
from tools.methods.offline import Nothing
from tools.methods.tool import Context
from tools.subjects import Subject, wrap
from tools.tasks import Example, Split, Task

ALPHA = 0.025


class Tasks:
    """A task book with these tasks alone."""

    def __init__(self, *tasks: Task) -> None:
        self.tasks = {t.name: t for t in tasks}

    def get(self, spec: str) -> Task:
        """A task by its name."""
        return self.tasks[spec]

    def made(self) -> list[Any]:
        """None."""
        return []


def task_of(case: CompiledCase) -> Task:
    """A case's task, its examples with their roles, groups and class."""

    def draw(split: Split, rng: random.Random) -> Iterator[Example]:
        for s in case.draw(split, rng):
            yield replace(s.example, group=s.group, spans=s.spans)

    return Task("t", "a compiled program", draw)


def swapped(task: Task) -> Task:
    """The same problems with their second and third word in the other order: where the last one counts, another wording."""

    def draw(split: Split, rng: random.Random) -> Iterator[Example]:
        for e in task.draw(split, rng):
            start, first, second, *rest = str(e.inputs["text"]).split()
            text = " ".join((start, second, first, *rest))
            yield replace(e, inputs={"text": text}, twin_inputs=None, foil=None, spans={}, twin_spans={})

    return Task(f"{task.name}:swapped", "a compiled program, its words swapped", draw)


@cache
def compiled(name: str, seed: int = 0) -> tuple[CompiledCase, Subject, Task]:
    """A compiled case, its subject and its task, which is called t."""
    case = compile_case(HELD if name == HELD.name else name, seed)
    return case, wrap(case.model, case.tokenizer), task_of(case)


def untrained(subject: Subject, seed: int = 0) -> Subject:
    """The subject's family and tokenizer with weights of the usual size and no norm that is out of the ordinary."""
    torch.manual_seed(seed)
    config = type(subject.model.config)(**{**subject.model.config.to_dict(), **_USUAL})
    return wrap(type(subject.model)(config).eval(), subject.tokenizer)


_USUAL = {"layer_norm_epsilon": 1e-5, "layer_norm_eps": 1e-5, "rms_norm_eps": 1e-5}


def context(subject: Subject, *tasks: Task, split: Split = "confirm") -> Context:
    """What a kind may use."""
    return Context(subject, Tasks(*tasks), Nothing(), split=split)


def contrasts(
    subject: Subject, task: Task, kind: str, split: Split = "confirm", *others: Task, **fields: Any
) -> list[Contrast]:
    """What must hold for a statement on these examples."""
    statement = kind_of(kind).complete(Statement(kind=kind, **{"task": task.name, "examples": 80, **fields}))
    return list(kind_of(kind).measure(statement, bench_for(statement, context(subject, task, *others, split=split))))


def p_of(subject: Subject, task: Task, kind: str, *others: Task, **fields: Any) -> float:
    """P value of a statement on confirm examples: the largest of its contrasts'."""
    return max(c.p() for c in contrasts(subject, task, kind, "confirm", *others, **fields))


Prove = Callable[..., float]
__all__ = ["ALPHA", "Bench", "Prove", "Tasks", "compiled", "context", "contrasts", "p_of", "swapped", "task_of", "untrained"]
