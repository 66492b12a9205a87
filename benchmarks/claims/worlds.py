"""Subjects of which the truth is known: compiled programs, and the demo model with one task that it does."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.claims.stage import World
from benchmarks.planted import programs
from benchmarks.planted.compiled import CompiledCase, compile_case
from benchmarks.planted.compiler.language import Design, Head
from benchmarks.planted.compiler.truth import Fact
from benchmarks.planted.programs import lists
from experiments_db.records import TaskData
from tools.subjects import load_subject
from tools.tasks import SPLITS, to_records
from tools.tasks.task import unit_hash

PER_SPLIT = 420
BUILT_IN = {  # what is asked of them, and the task that is about
    "translator": ("where does translation happen?", "translation"), "masked": ("where are the trees of sentences?", "trees"),
    "shapes": ("what in the image decides the shape?", "shape:decoys=wrong"),
    "candid": ("does the model know more than it says?", "candid"),
    "othello": ("what does the model know about the board?", "othello"),
}  # fmt: skip


def held(rng: random.Random) -> Design:
    """One head copies the last letter but one, another lowers it half as much."""
    steps = [Head(name="copy", offset=2, looks="item"), Head(name="hold", offset=2, gain=-0.5, looks="item")]
    return lists._listed(rng, lambda *_: steps, 2)


HELD = programs.Program("held", "a letter is copied and held down", held)


@dataclass
class Worlds:
    """Worlds by name, each made once; `routes-1` is the compiled program
    `routes` of seed 1, `routes-1?GOAL` the same with another goal.
    """

    folder: Path
    known: dict[str, World] = field(default_factory=dict)

    def get(self, name: str) -> World:
        """A world; KeyError for a program that does not exist."""
        if name not in self.known:
            plain, _, asked = name.partition("?")
            program, _, seed = plain.partition("-")
            if asked:
                self.known[name] = replace(self.get(plain), name=name, goal=asked)
            elif program == "demo":
                self.known[name] = World(
                    name, load_subject("demo"), "find where addition and copying happen", "addition"
                )
            elif program in BUILT_IN:
                self.known[name] = World(name, load_subject(program), *BUILT_IN[program])
            else:
                made = compile_case(HELD if program == HELD.name else program, int(seed or 0))
                self.known[name] = _compiled(made, self.folder / name)
        return self.known[name]


def _compiled(case: CompiledCase, folder: Path) -> World:
    folder.mkdir(parents=True, exist_ok=True)
    case.model.save_pretrained(folder)
    case.tokenizer.save_pretrained(folder)
    rows = []
    for split in SPLITS:
        for s in case.samples(split, PER_SPLIT):
            e = s.example
            chance = int(unit_hash("coin", e.prompt) < 0.5)
            metadata = {"coin": chance, "always": 1, **({"class": s.of_class} if s.of_class else {})}
            rows.append(
                {
                    "prompt": e.prompt, "answer": e.answer, "foil": e.foil, "twin": e.twin, "candidates": list(e.candidates),
                    "metadata": metadata, "split": split, "spans": {r: list(at) for r, at in s.spans.items()},
                }
            )  # fmt: skip
    unique = {r["prompt"]: r for r in rows}
    data = TaskData(
        name="listed",
        description=case.task.description,
        examples=tuple(to_records([*unique.values()], "listed")),
        origin="file",
    )
    subject = load_subject(str(folder))
    return World(f"{case.name}-{case.seed}", subject, "find where listed happens", "listed", (data,), case)


def facts(world: World, kind: str) -> list[Fact]:
    """What is true of a compiled world, of one kind."""
    return [f for f in world.facts.truth if f.kind == kind]


def ops(names: Sequence[str]) -> list[str]:
    """Ablations as interventions."""
    return [{"resample": "resample(donor)"}.get(n, n) for n in names]


def idle(world: World) -> list[str]:
    """Components that take no part, at the answer."""
    longest = max(facts(world, "not_needed"), key=lambda f: len(f.components))
    return [f"{c}@answer" for c in longest.components if "@" not in c]


def needed(world: World) -> list[str]:
    """Components that are each needed, whatever the ablation, for all examples."""
    found = [
        f.components[0] for f in facts(world, "necessary") if set(f.ops) == {"zero", "resample"} and f.of_class is None
    ]
    return [c for c in found if c.endswith("@answer")]
