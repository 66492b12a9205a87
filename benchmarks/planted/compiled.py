"""Models compiled exactly from small programs, with the truth about them: `python -m benchmarks.planted.compiled --list`.

Nothing is trained and nothing is shipped: (program, seed) determines a model of transformers, its tokenizer, its
task, and a list of what is true of it. Family (GPT-2, Llama, GPT-NeoX: seeds take turns), depth, heads, width, norm,
vocabulary, tables, distances, where each step lies, and what all other components do, differ by seed.

    case = compile_case("induction", 0)
    case.task                            # a Task: splits, twins, foils, candidates
    case.samples("explore", 100)         # the same examples with their roles (spans), class and group
    case.truth                           # see `truth`
    write_case("induction", 0, folder)   # a model folder, with task.jsonl and truth.json beside the weights
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.planted.compiler.language import START, Design, Shown
from benchmarks.planted.compiler.plan import FAMILIES, Plan, plan
from benchmarks.planted.compiler.truth import Fact, truth
from benchmarks.planted.compiler.weights import Assembler
from benchmarks.planted.programs import PROGRAMS, Program
from tools.tasks import SPLITS, Example, Split, Task, split_of

PER_SPLIT = 200
UNKNOWN = "<unk>"


@dataclass(frozen=True)
class Sample:
    """An example and what its places are called.

    roles: role -> (first, last + 1) of its tokens; `answer` holds the positions that predict the answer, counted on
    prompt and answer together. spans: the same, but `answer`, in characters of the prompt; twin_spans: of the twin. group:
    the independent problem. of_class: the class of examples. source: the role whose token differs in the twin, where there
    is one.
    """

    example: Example
    roles: dict[str, tuple[int, int]]
    spans: dict[str, tuple[int, int]]
    twin_spans: dict[str, tuple[int, int]]
    group: str
    of_class: str | None
    source: str | None

    def as_json(self) -> dict[str, object]:
        """A line of a user's task file: the example with its group, and where its roles are, here and in the twin."""
        moved = {} if self.spans == self.twin_spans else self.twin_spans
        spans, twins = ({r: list(at) for r, at in places.items()} for places in (self.spans, moved))
        return self.example.as_json() | {"group": self.group, "spans": spans, "twin_spans": twins}


@dataclass(frozen=True)
class CompiledCase:
    """A compiled program: the model (float32, CPU) with its tokenizer, its task, and the truth."""

    name: str
    words: str
    seed: int
    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    design: Design = field(repr=False)
    plan: Plan
    truth: tuple[Fact, ...] = field(repr=False)

    @cached_property
    def task(self) -> Task:
        """The behaviour; a group lies in one split."""
        return Task(f"compiled_{self.name}", self.words, self._draw, source="generator")

    def _draw(self, split: Split, rng: random.Random) -> Iterator[Example]:
        for sample in self.draw(split, rng):
            yield sample.example

    def draw(self, split: Split, rng: random.Random) -> Iterator[Sample]:
        """Samples of a split without end. A program with few groups has each of them in several prompts."""
        while True:
            shown, twin, source = self.design.problem(rng)
            if split_of("compiled", self.name, self.seed, shown.group, explore=0.5, confirm=0.5) == split:
                yield _sample(shown, twin, source)

    def samples(self, split: Split, n: int, seed: int = 0) -> list[Sample]:
        """The samples of `task.examples(split, n, seed)`, in the same order."""
        wanted = self.task.examples(split, n, seed)
        found: dict[str, Sample] = {}
        drawn = self.draw(split, random.Random(f"{self.task.name}/{split}/{seed}"))
        while len(found) < len(wanted):
            sample = next(drawn)
            found.setdefault(sample.example.prompt, sample)
        return [found[e.prompt] for e in wanted]

    def write(self, folder: Path) -> None:
        """Write the model folder for `load_subject`: configuration, weights, tokenizer.

        Beside them `task.jsonl`, up to 200 examples a split in the format of a user's task, with
        groups and spans, and `truth.json`: the facts,
        and each prompt's spans (in characters) and group.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        samples = [(split, s) for split in SPLITS for s in self.samples(split, PER_SPLIT)]
        lines = [json.dumps(s.as_json() | {"split": split}) for split, s in samples]
        (folder / "task.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        places = {s.example.prompt: {"spans": s.spans, "group": s.group} for _, s in samples}
        facts = {"program": self.name, "seed": self.seed, "truth": [f.as_json() for f in self.truth], "places": places}
        (folder / "truth.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _sample(shown: Shown, twin: Shown, source: str | None) -> Sample:
    n = len(shown.tokens)
    labels: dict[str, int | float | str | bool] = {"group": shown.group, "length": n}
    example = Example.of_text(
        " ".join(shown.tokens),
        " " + " ".join(shown.answer),
        " " + " ".join(twin.answer),
        " ".join(twin.tokens),
        tuple(f" {c}" for c in shown.candidates),
        labels | ({"class": shown.of_class} if shown.of_class else {}),
    )
    roles = {**shown.roles, "answer": (n - 1, n - 1 + len(shown.answer))}
    return Sample(example, roles, _characters(shown), _characters(twin), shown.group, shown.of_class, source)


def _characters(shown: Shown) -> dict[str, tuple[int, int]]:
    starts = [len(" ".join(shown.tokens[:i])) + bool(i) for i in range(len(shown.tokens))]
    return {r: (starts[a], starts[b - 1] + len(shown.tokens[b - 1])) for r, (a, b) in shown.roles.items()}


def compile_case(program: str | Program, seed: int) -> CompiledCase:
    """The case of a program and a seed, the same each time; of a name the one of `PROGRAMS`, KeyError where there is none."""
    chosen = PROGRAMS[program] if isinstance(program, str) else program
    name = chosen.name
    rng = random.Random(f"compiled {name} {seed}")
    design = chosen.design(rng)
    vocabulary = [START, *design.words]
    rng.shuffle(vocabulary)
    # The unknown word comes first: it is what the largest of logits that are all the same would be.
    vocabulary.insert(0, UNKNOWN)
    number = list(PROGRAMS).index(name) if name in PROGRAMS else len(PROGRAMS)
    family = FAMILIES[(number + seed) % len(FAMILIES)]
    shape = plan(design, family, rng)
    model = Assembler(design, vocabulary, shape, rng.randrange(2**31)).build()
    roles = sorted({role for _ in range(50) for role in design.problem(rng)[0].roles})
    facts = truth(design, shape, [*roles, "answer"])
    return CompiledCase(name, chosen.words, seed, model, _tokenizer(vocabulary), design, shape, facts)


def _tokenizer(vocabulary: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {w: i for i, w in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN)


def write_case(name: str, seed: int, folder: Path) -> CompiledCase:
    """Compile a case and write its folder (`CompiledCase.write`)."""
    case = compile_case(name, seed)
    case.write(folder)
    return case


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.planted.compiled", description=(__doc__ or "").split("\n")[0]
    )
    p.add_argument("--list", action="store_true", help="the programs and, for the seed, where their steps lie")
    p.add_argument("--write", type=Path, metavar="FOLDER", help="write each case's model folder below this one")
    p.add_argument("--program", action="append", choices=list(PROGRAMS), metavar="NAME", help="default: all")
    p.add_argument("--seed", type=int, default=0, help="default: 0")
    args = p.parse_args(arguments)
    if not (args.list or args.write):
        p.error("give --list or --write FOLDER")
    for name in args.program or list(PROGRAMS):
        case = compile_case(name, args.seed)
        if args.write:
            case.write(args.write / f"{name}-{args.seed}")
        places = ", ".join(f"{s} {b}.mlp" if h is None else f"{s} {b}.{h}" for s, (b, h) in case.plan.places.items())
        print(
            f"{name} ({case.plan.family}, {case.plan.blocks} blocks, {case.plan.heads} heads): {PROGRAMS[name].words}"
        )
        print(f"    {places or 'no mechanism'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
