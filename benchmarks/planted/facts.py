"""What is true of a planted case, as facts of one form (`benchmarks.planted.compiler.truth`), whatever made the model."""

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.planted.cases import Case
from benchmarks.planted.compiler.truth import Fact
from benchmarks.planted.net import parts
from benchmarks.planted.sites import Map, Site


def component(name: str, role: str = "answer") -> str:
    """`3.attn`, `3.mlp`, `3.head.1` in the project's grammar."""
    block, kind, *head = name.split(".")
    part = f"attn.z[{head[0]}]" if kind == "head" else f"{kind}.out"
    return f"decoder.{block}.{part}{f'@{role}' if role else ''}"


def facts_of(case: Case) -> tuple[Fact, ...]:
    """Of a shipped case: what training allowed and `checks` confirmed."""
    if not case.truth:
        return (Fact("cannot", note="trained on something else, or not at all"),)
    out = [Fact("necessary", (component(t),)) for t in sorted(case.truth) if "+" not in t]
    if case.redundant:
        both = tuple(component(r) for r in sorted(case.redundant))
        out += [Fact("jointly_necessary", both), Fact("redundant", both, ops=("zero",))]
    if case.decoy:
        out += [
            Fact("necessary", (component(case.decoy),), ops=("zero",), note="a constant without which nothing works"),
            Fact("not_needed", (component(case.decoy),), ops=("resample",)),
        ]
    others = tuple(component(o) for o in parts(case)[1])
    return (*out, Fact("not_needed", others, note="together, at the answer"))


@dataclass(frozen=True)
class Target:
    """What an exact answer has to name: one place, or a set that is missed only together. of_class: the class that needs it.

    level: `attention` where no head of it is known to be the one; then its heads, or sets of them, name it too.
    """

    sites: tuple[Site, ...]
    of_class: str | None
    ops: tuple[str, ...]

    @property
    def together(self) -> bool:
        """Whether it is a set."""
        return len(self.sites) > 1

    @property
    def of_attention(self) -> bool:
        """Whether it is planted in whole attentions."""
        return any(s.whole and len(s.units) > 1 for s in self.sites)

    def __str__(self) -> str:
        text = " + ".join(f"{words(s)}@{s.anchor}" for s in self.sites)
        return f"{text} ({self.of_class})" if self.of_class else text


def words(site: Site) -> str:
    """`3.attn`, `3.mlp`, `3.head.1`."""
    block, head = min(site.units, key=lambda u: (u[0], -1 if u[1] is None else u[1]))
    return f"{block}.mlp" if head is None else f"{block}.attn" if site.whole else f"{block}.head.{head}"


def targets(facts: Iterable[Fact], where: Map) -> tuple[Target, ...]:
    """What has to be named: what is necessary, with what it tells apart (so under resampling), alone or together.

    What breaks only when it is zeroed puts out the same for every example: it may be named, and need not.
    """
    kinds = ("necessary", "jointly_necessary")
    return tuple(
        Target(tuple(where.sites(f.components)), f.of_class, f.ops)
        for f in facts
        if f.kind in kinds and "resample" in f.ops
    )

