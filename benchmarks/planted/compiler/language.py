"""A small language of exact transformers, in the manner of RASP (Weiss et al. 2021) and tracr (Lindner et al. 2023).

A variable holds, at each position, one word of its domain, or nothing, as a one-hot vector in directions of its own. `tok`
is the token itself. A head selects positions (by offset, by equality of two variables, or by class of token) and copies a
variable from there into another; a lookup maps variables at one position to another through an MLP. What is written
into `out` is read by the unembedding. Which step stands before which follows from what they read and write.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

START = ":"  # the first token of every prompt; heads that find nothing look there
OPS = ("zero", "resample")


@dataclass(frozen=True, kw_only=True)
class Step:
    """What heads and lookups share.

    at: the roles of the positions at which the step is needed; none for a decoy, which is needed nowhere. only: the class
    of examples that needs it, where others do not. ops: the ablations that show the need. spare: the ablations that show
    that there is none at other positions and in other classes (what a head writes there may mislead a later one when it
    comes from another example). backup: steps of one such name replace each other; `covers` are the ablations under
    which the rest of them still do the task when one is gone. suppresses: it lowers the token that it looks at.
    """

    name: str
    writes: str = "out"
    at: tuple[str, ...] = ("answer",)
    gain: float = 1.0
    only: str | None = None
    ops: tuple[str, ...] = OPS
    spare: tuple[str, ...] = OPS
    backup: str | None = None
    covers: tuple[str, ...] = ("zero",)
    suppresses: bool = False


@dataclass(frozen=True, kw_only=True)
class Head(Step):
    """Attention, by exactly one of `offset` (so many positions back), `equal` (the query's variable, the key's variable)
    and `keys` (all positions with one of these tokens, alike).

    reads: what is copied; values: how words are renamed on the way (default: kept; words without a name are dropped).
    when: the query tokens at which the head acts; at others it looks at the start. looks: the role that it looks at.
    """

    reads: str = "tok"
    offset: int | None = None
    equal: tuple[str, str] | None = None
    keys: tuple[str, ...] = ()
    when: tuple[str, ...] = ()
    values: Mapping[str, str] | None = None
    looks: str | None = None

    @property
    def by(self) -> str:
        """How it selects: by position, identity or class."""
        return "position" if self.offset is not None else "identity" if self.equal else "class"

    def inputs(self) -> dict[str, str]:
        """Receiver (q, k or v) -> variable that it reads, the token apart."""
        q, k = self.equal or ("tok", "tok")
        return {r: v for r, v in (("q", q), ("k", k), ("v", self.reads)) if v != "tok"}


@dataclass(frozen=True, kw_only=True)
class Lookup(Step):
    """An MLP: `table` maps the values of the variables in `reads` to the word that is written. Without `reads`: a constant."""

    reads: tuple[str, ...]
    table: Mapping[tuple[str, ...], str]

    def inputs(self) -> dict[str, str]:
        """As for a head; an MLP has one receiver, numbered for each variable."""
        return {f"in{i}": v for i, v in enumerate(self.reads) if v != "tok"}


AnyStep = Head | Lookup
Operands = tuple[object, ...]


@dataclass(frozen=True)
class Shown:
    """One problem as tokens. roles: name -> (first, last + 1) of its tokens; `answer` is added by the case. group: the
    independent problem. of_class: the class of examples that it belongs to. source: operand index -> the role that holds it.
    """

    tokens: tuple[str, ...]
    answer: tuple[str, ...]
    roles: Mapping[str, tuple[int, int]]
    group: str
    of_class: str | None = None
    candidates: tuple[str, ...] = ()
    source: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Design:
    """A program for one seed: its words, variables (name -> domain), steps, and problems.

    draw: operands; show: operands -> a problem, or None where they make none. flows: chains role, head, role, head, ...
    along which the value of the first role travels. classes: of examples. able: whether the steps do the task.
    """

    words: tuple[str, ...]
    variables: Mapping[str, tuple[str, ...]]
    steps: tuple[AnyStep, ...]
    draw: Callable[[random.Random], Operands]
    show: Callable[[Operands], Shown | None]
    flows: tuple[tuple[str, ...], ...] = ()
    classes: tuple[str, ...] = ()
    able: bool = True

    def problem(self, rng: random.Random) -> tuple[Shown, Shown, str | None]:
        """A problem, its twin (one operand differs, and the answer; the same shape), and the role that differs."""
        while True:
            operands = self.draw(rng)
            shown = self.show(operands)
            for _ in range(200 if shown else 0):
                assert shown is not None
                at = rng.randrange(len(operands))
                other = self.draw(rng)
                if len(other) != len(operands):
                    continue
                twin = self.show((*operands[:at], other[at], *operands[at + 1 :]))
                if twin and _twins(shown, twin):
                    return shown, twin, shown.source.get(at)


def _twins(a: Shown, b: Shown) -> bool:
    same = a.roles == b.roles if a.of_class == b.of_class else True
    return same and a.answer != b.answer and len(a.tokens) == len(b.tokens) and len(a.answer) == len(b.answer)


def writers(steps: Sequence[AnyStep], variable: str) -> list[AnyStep]:
    """The steps that write a variable."""
    return [s for s in steps if s.writes == variable]
