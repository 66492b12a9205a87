"""Which model a seed draws: its task, its shape, and where the mechanism is planted."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.planted.compiler.truth import Fact
from benchmarks.planted.facts import component
from benchmarks.planted.fresh.net import Shape
from benchmarks.planted.fresh.tasks import Seeded, compare, item, lookup, modular, pair
from benchmarks.planted.fresh.train import Part, Recipe

Kind = Literal["planted", "cannot", "random"]


@dataclass(frozen=True)
class FreshCase:
    """A model to train. asked: what is asked of it; in a null that was trained on something else, not what it learnt."""

    name: str
    kind: Kind
    recipe: Recipe
    asked: Seeded
    seed: int

    def facts(self, everywhere: bool) -> tuple[Fact, ...]:
        """What is true of it once `checks` has accepted it. everywhere: what takes no part may go at all positions at once."""
        if self.kind != "planted":
            return (Fact("cannot", note="never trained" if self.kind == "random" else "trained on another table"),)
        r = self.recipe
        single = [p for p in r.parts if p.name not in r.backup]
        out = [Fact("necessary", (component(p.name, p.role),)) for p in single]
        if r.backup:
            both = tuple(component(p.name, p.role) for p in r.parts if p.name in r.backup)
            out += [Fact("jointly_necessary", both), Fact("redundant", both, ops=("zero",))]
        others = tuple(component(o, "" if everywhere else "answer") for o in r.others)
        return (*out, Fact("not_needed", others, note="together"))


def _all(task: Seeded) -> tuple[int, ...]:
    return tuple(range(len(task.ranges)))


def _two(rng: random.Random, early: bool = False) -> Seeded:
    return rng.choice((modular, lookup, compare))(rng, early)


def _blocks(rng: random.Random, n: int) -> tuple[int, list[int]]:
    """Depth, and n blocks in order."""
    depth = rng.randint(max(3, n), 8)
    return depth, sorted(rng.sample(range(depth), n))


def _attention(rng: random.Random, shape: Shape, block: int) -> str:
    return f"{block}.head.{rng.randrange(shape.heads)}" if rng.random() < 0.5 else f"{block}.attn"


def _shape(rng: random.Random, task: Seeded, depth: int) -> Shape:
    heads = rng.choice((2, 3, 4))
    return Shape(
        depth, heads, heads * rng.choice((16, 20, 24)) if heads > 2 else 2 * rng.choice((24, 32)), len(task.words)
    )


def joined(rng: random.Random) -> Recipe:
    """Attention brings two operands to the answer, an MLP joins them."""
    task = _two(rng)
    depth, _ = _blocks(rng, 2)
    a = rng.randrange(depth)
    shape, mlp = _shape(rng, task, depth), rng.randrange(a, depth)
    parts = (Part(_attention(rng, shape, a), "answer", (0, 1)), Part(f"{mlp}.mlp", "answer", (0, 1)))
    return Recipe(task, shape, parts)


def early(rng: random.Random) -> Recipe:
    """Two operands are joined at the second one's position, then moved to the answer."""
    task = _two(rng, early=True)
    depth, (a, b) = _blocks(rng, 2)
    shape, mlp = _shape(rng, task, depth), rng.randrange(a, b)
    first, last = _attention(rng, shape, a), _attention(rng, shape, b)
    return Recipe(
        task,
        shape,
        (Part(first, "operand2", (0,)), Part(f"{mlp}.mlp", "operand2", (0, 1)), Part(last, "answer", (0, 1))),
    )


def copied(rng: random.Random) -> Recipe:
    """One attention, or one head, copies."""
    task = rng.choice((item, pair))(rng)
    depth, (a,) = _blocks(rng, 1)
    shape = _shape(rng, task, depth)
    return Recipe(task, shape, (Part(_attention(rng, shape, a), "answer", _all(task)),))


def named(rng: random.Random) -> Recipe:
    """Answers of two tokens."""
    task = pair(rng)
    depth, (a,) = _blocks(rng, 1)
    shape = _shape(rng, task, depth)
    return Recipe(task, shape, (Part(_attention(rng, shape, a), "answer", _all(task)),))


def heads_twice(rng: random.Random) -> Recipe:
    """Two heads of one attention copy; one suffices."""
    task = item(rng)
    depth, (a,) = _blocks(rng, 1)
    shape = Shape(depth, 4, 4 * rng.choice((16, 20)), len(task.words))
    both = tuple(f"{a}.head.{h}" for h in sorted(rng.sample(range(4), 2)))
    return Recipe(task, shape, tuple(Part(h, "answer", _all(task)) for h in both), both)


def mlps_twice(rng: random.Random) -> Recipe:
    """Attention brings two operands; two MLPs look them up, one suffices."""
    task = lookup(rng)
    depth, (a, b) = _blocks(rng, 2)
    shape = _shape(rng, task, depth)
    both = (f"{a}.mlp", f"{b}.mlp")
    first = Part(_attention(rng, shape, rng.randrange(a + 1)), "answer", (0, 1))
    return Recipe(task, shape, (first, *(Part(m, "answer", (0, 1)) for m in both)), both)


PLANTED: tuple[Callable[[random.Random], Recipe], ...] = (
    joined,
    early,
    copied,
    named,
    joined,
    early,
    heads_twice,
    mlps_twice,
)


def planted_case(seed: int, i: int) -> FreshCase:
    """The i-th trained case of a seed; kinds of mechanism take turns, from a place that the seed draws."""
    rng = random.Random(f"fresh {seed} {i}")
    start = random.Random(f"fresh {seed}").randrange(len(PLANTED))
    make = PLANTED[(start + i) % len(PLANTED)]
    recipe = make(rng)
    return FreshCase(f"fresh-{seed}-{i}-{make.__name__}", "planted", recipe, recipe.task, rng.randrange(2**31))


def null_case(seed: int, i: int) -> FreshCase:
    """The i-th null: every second one was never trained, the others were trained on another table of the same form."""
    rng = random.Random(f"null {seed} {i}")
    recipe = joined(rng) if i % 2 else rng.choice((joined, copied))(rng)
    if i % 2 == 0:
        return FreshCase(f"null-{seed}-{i}-untrained", "random", recipe, recipe.task, rng.randrange(2**31))
    task = lookup(rng)
    other = lookup(rng)
    while other.ranges != task.ranges:
        other = lookup(rng)
    asked = replace(task, solve=other.solve)
    trained = Recipe(task, replace(recipe.shape, vocabulary=len(task.words)), recipe.parts)
    return FreshCase(f"null-{seed}-{i}-other_table", "cannot", trained, asked, rng.randrange(2**31))
