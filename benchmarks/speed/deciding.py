"""Time until every variant of a sweep is decided: here on no more examples than it takes, elsewhere on a number fixed beforehand.

A variant is decided where a 95% interval says that its effect on accuracy is beyond a tenth, or within it. The fixed number is the
smallest with which an effect of twice a tenth is shown with a probability of 80%; here no variant gets more than MOST, with which
that is at least as likely. The peer runs one forward pass a variant and batch of equal lengths, under hooks, and reads the answers.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.speed import peers
from benchmarks.speed.jobs import HEADS, LAYERS, SEQ, WIDTH
from benchmarks.speed.timing import LENS
from tools import statistics
from tools.engine.programs import SWEEPS
from tools.methods.deciding import decide
from tools.methods.effects import Condition
from tools.methods.layout import select_components
from tools.methods.measuring import groups_of, load_examples
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.scoring import microbatches
from tools.methods.tool import Context
from tools.ports import ANSWERS, Batch
from tools.subjects import Subject, load_subject, wrap
from tools.tasks import Example, Task, from_records

SMALLEST, POWER, MOST, TASK = 0.1, 0.8, 192, "addition"
VOCABULARY, SPREAD = 4096, 0.08
NAME = "per decision"
WORDS = ("beyond", "within", "undecided")
Hooks = list[tuple[str, Callable[..., Any]]]
MakeHooks = Callable[[Batch], Hooks]


def fixed_number() -> int:
    """The fewest examples that show an effect of two tenths, beyond one, with a probability of POWER, at .025 a side."""
    found = statistics.smallest_n_for(
        POWER, effect=2 * SMALLEST, spread=0.4, bound=SMALLEST, alpha=0.025, bounds=(-1, 1)
    )
    assert found is not None
    return found


@dataclass(frozen=True)
class Raced:
    """One sweep decided in both ways: verdicts in order, processor seconds by round, mean examples a variant here."""

    name: str
    here: list[str]
    there: list[str]
    seconds: list[float]
    theirs: list[float]
    examples: float
    fixed: int

    @property
    def line(self) -> str:
        """A row of the table."""
        both = [(a, b) for a, b in zip(self.here, self.there, strict=True) if "undecided" not in (a, b)]
        ratios = sorted(b / a for a, b in zip(self.seconds, self.theirs, strict=True))
        counts = " / ".join(f"{sum(v != 'undecided' for v in side)}" for side in (self.here, self.there))
        return (
            f"| {self.name} | {len(self.here)} | {counts} | {sum(a == b for a, b in both)} of {len(both)} | {self.examples:.0f} | "
            f"{self.fixed} | {np.median(self.seconds):.2f} | {np.median(ratios):.1f} ({ratios[0]:.1f}-{ratios[-1]:.1f}) |"
        )


HEAD = (
    "| sweep | variants | decided, here / there | the same, where both decide | examples a variant here | there | here, s | "
    "TransformerLens |\n|---|---|---|---|---|---|---|---|"
)


def own_answers(n: int) -> tuple[GPT2LMHeadModel, Subject, Task]:
    """A model of the other tables' size with random weights of SPREAD, and a task: n prompts with what it answers."""
    torch.manual_seed(0)
    sizes = {"n_embd": WIDTH, "n_head": HEADS, "n_layer": LAYERS, "n_positions": 128, "vocab_size": VOCABULARY}
    config = GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, initializer_range=SPREAD)
    model = GPT2LMHeadModel(config).eval()
    ids = torch.randint(1, VOCABULARY, (n, SEQ))
    with torch.inference_mode():
        answers = model(ids, logits_to_keep=1).logits[:, -1].argmax(-1).tolist()
    rows = [
        {
            "prompt": " ".join(f"w{i}" for i in row), "answer": f" w{answer}", "split": "explore", "foil": None, "twin": None,
            "candidates": [], "metadata": {},
        }
        for row, answer in zip(ids.tolist(), answers, strict=True)
        if answer
    ]  # fmt: skip
    task = from_records("own answers", "what the model says", rows)
    subject = wrap(copy.deepcopy(model), peers.tokenizer_of(VOCABULARY))
    return model, subject, task


@dataclass(frozen=True)
class World:
    """A model under both libraries, and examples of a task that it does."""

    name: str
    subject: Subject
    bridge: Any
    task: Task
    examples: Sequence[Example]

    @classmethod
    def demo(cls) -> "World":
        """The demo model, adding."""
        subject = load_subject("demo", device="cpu")
        context = Context(subject, OfflineTasks([]), Nothing())
        return cls("demo", subject, peers.bridge_of(copy.deepcopy(subject.model)), *load_examples(context, TASK, MOST))

    @classmethod
    def wide(cls) -> "World":
        """A model of the other tables' size with random weights of SPREAD, giving its own answers."""
        model, subject, task = own_answers(MOST)
        name = f"{LAYERS} x {WIDTH}"
        return cls(name, subject, peers.bridge_of(model), task, task.examples("explore", MOST))


def races(modules: dict[str, Any], rounds: int) -> Iterator[Raced]:
    """On each world: ablation at the answer and everywhere, and programs without some blocks."""
    if LENS not in modules:
        return
    for make in (World.demo, World.wide):
        world = make()
        for title, conditions, hooks in _sweeps(world.subject):
            yield _raced(world, f"{world.name}: {title}", conditions, hooks, rounds)


def _sweeps(subject: Subject) -> Iterator[tuple[str, list[Condition], list[MakeHooks]]]:
    name, blocks = subject.spec().name, len(subject.spec().blocks)
    for title, texts in (
        ("zero every head and MLP at the answer", ["attn.z[*]@answer", "mlp.out@answer"]),
        ("zero every attention and MLP everywhere", ["attn.out", "mlp.out"]),
    ):
        found = select_components(subject, texts)
        yield title, [Condition.of(c, "zero") for c in found], [_zeroed(c) for c in found]
    for title, sweep in (("drop the last n, all n", "drop_last"), ("skip every contiguous range", "skip_ranges")):
        programs = [p.blocks for p in SWEEPS[sweep](blocks)]
        yield title, [Condition(programs=((name, p),)) for p in programs], [_skipped(p, blocks) for p in programs]


def _raced(world: World, title: str, conditions: Sequence[Condition], hooks: Sequence[MakeHooks], rounds: int) -> Raced:
    fixed = fixed_number()
    context = Context(world.subject, OfflineTasks([]), Nothing())
    here = partial(decide, context, world.task, world.examples, conditions, ANSWERS["accuracy"], SMALLEST)
    there = partial(_by_peer, world.bridge, world.subject, world.examples[:fixed], hooks)
    found, said, both = here(), [""], list[tuple[float, float]]()
    for _ in range(rounds):
        start = time.process_time()
        found = here()
        middle = time.process_time()
        said = there()
        both.append((middle - start, time.process_time() - middle))
    seconds, theirs = ([pair[side] for pair in both] for side in (0, 1))
    mean = float(np.mean([d.n for d in found.decisions]))
    return Raced(title, [d.verdict for d in found.decisions], said, seconds, theirs, mean, fixed)


def _zeroed(component: Any) -> MakeHooks:
    """Zero at the positions that predict the answer, or at all of them."""
    kind = {"attn.z": "attn.hook_z", "attn.out": "hook_attn_out", "mlp.out": "hook_mlp_out"}[component.part]
    where = f"blocks.{component.block}.{kind}"

    def hooks(batch: Batch) -> Hooks:
        rows, columns = batch.rows, batch.columns

        def change(t: torch.Tensor, hook: Any) -> torch.Tensor:  # noqa: ARG001  # the bridge passes it by name
            if not component.anchor:
                return torch.zeros_like(t)
            if component.units:
                t[rows, columns, component.units[0]] = 0.0
            else:
                t[rows, columns] = 0.0
            return t

        return [(where, change)]

    return hooks


def _skipped(program: Sequence[int], blocks: int) -> MakeHooks:
    def hooks(_: Batch) -> Hooks:
        out: Hooks = []
        for b in sorted(set(range(blocks)) - set(program)):
            seen: dict[str, torch.Tensor] = {}

            def keep(t: torch.Tensor, hook: Any, seen: dict[str, torch.Tensor] = seen) -> None:  # noqa: ARG001
                seen["in"] = t

            def give(t: torch.Tensor, hook: Any, seen: dict[str, torch.Tensor] = seen) -> torch.Tensor:  # noqa: ARG001
                return seen.get("in", t)

            out += [(f"blocks.{b}.hook_in", keep), (f"blocks.{b}.hook_out", give)]
        return out

    return hooks


def _by_peer(bridge: Any, subject: Any, examples: Sequence[Any], hooks: Sequence[MakeHooks]) -> list[str]:
    """Verdicts by exact intervals for a fixed number of examples."""
    right = np.ones((1 + len(hooks), len(examples)))
    with torch.inference_mode():
        for batch in microbatches(subject, examples, 4096, range(len(examples))):  # of one length: it needs no padding
            ids, owner = batch.inputs.fields["input_ids"], np.array(batch.indices)[batch.rows.numpy()]
            for row, make in enumerate([lambda _: [], *hooks]):
                logits = bridge.run_with_hooks(ids, use_cache=False, fwd_hooks=make(batch))
                said = logits[batch.rows, batch.columns].argmax(-1)
                np.minimum.at(right[row], owner, (said == batch.targets).numpy().astype(float))
    found = statistics.means(right[1:] - right[0], groups_of(examples), bounds=(-1, 1))
    return [
        WORDS[0]
        if e.low > SMALLEST or e.high < -SMALLEST
        else WORDS[1]
        if e.low > -SMALLEST and e.high < SMALLEST
        else WORDS[2]
        for e in found
    ]
