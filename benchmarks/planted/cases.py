"""The planted cases: which sublayers carry which task, what hides them, and what the right finding is.

A component is written `3.attn`, `3.mlp` or `3.head.1`; a set of components joined by `+` is necessary only together.
"""

from dataclasses import dataclass
from typing import Literal

BLOCKS, HEADS, WIDTH = 6, 4, 64


@dataclass(frozen=True)
class Case:
    """One model.

    kind: planted (a mechanism), decoy (a mechanism, and beside it a sublayer whose removal breaks every task alike),
    cannot (trained on something else, or on noise) or random (never trained). attention, mlps: planted blocks; for
    `split` the first attention may see only the first operand and the second only the second. heads: in a planted
    attention, the heads that carry it. redundant: components of which one suffices (the
    other zeroed: if the two contradict each other, neither can be known to be right). bare: weights elsewhere stay zero.
    """

    name: str
    task: str
    kind: Literal["planted", "decoy", "cannot", "random"]
    attention: tuple[int, ...] = ()
    mlps: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    redundant: tuple[str, ...] = ()
    split: bool = False
    decoy: str | None = None
    trained_on: tuple[str, ...] = ()
    bare: bool = False
    seed: int = 0
    steps: int = 6000

    @property
    def truth(self) -> frozenset[str]:
        """The right answer: every necessary component or jointly necessary set, at the finest level planted."""
        if self.kind in ("cannot", "random"):
            return frozenset()
        joint = set(self.redundant)
        single = {f"{m}.mlp" for m in self.mlps}
        if self.heads:
            (block,) = self.attention
            single |= {f"{block}.head.{h}" for h in self.heads}
        else:
            single |= {f"{k}.attn" for k in self.attention}
        found = single - joint
        return frozenset(found | ({"+".join(sorted(joint))} if joint else set()))

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the model is trained on."""
        return self.trained_on or (self.task,)


CASES = (
    Case("modular-a2-m4", "modular", "planted", (2,), (4,)),
    Case("modular-a0-m1", "modular", "planted", (0,), (1,)),
    Case("modular-a3-m3", "modular", "planted", (3,), (3,)),
    Case("modular-a1-m5", "modular", "planted", (1,), (5,)),
    Case("modular-a2-m3-bare", "modular", "planted", (2,), (3,), bare=True),
    Case("addition-a0-m3", "addition", "planted", (0,), (3,)),
    Case("lookup-a1-m2", "lookup", "planted", (1,), (2,)),
    Case("lookup-a2-m5", "lookup", "planted", (2,), (5,)),
    Case("compare-a1", "compare", "planted", (1,)),
    Case("copy-a4", "item", "planted", (4,)),
    Case("copy-h3.1", "item", "planted", (3,), heads=(1,)),
    Case("addition-h2.3-m4", "addition", "planted", (2,), (4,), heads=(3,)),
    Case("lookup-h1.0-m3", "lookup", "planted", (1,), (3,), heads=(0,)),
    Case("copy-two-heads", "item", "planted", (2,), heads=(0, 2), redundant=("2.head.0", "2.head.2")),
    Case("copy-backup", "item", "planted", (1, 4), redundant=("1.attn", "4.attn")),
    Case("lookup-backup", "lookup", "planted", (1,), (2, 4), redundant=("2.mlp", "4.mlp")),
    Case("lookup-split", "lookup", "planted", (1, 3), (5,), split=True),
    Case("copy-decoy-m1", "item", "decoy", (3,), decoy="1.mlp", trained_on=("item", "compare"), steps=12000),
    Case("cannot-modular", "modular", "cannot", (2,), (3,), trained_on=("compare",)),
    Case("cannot-copy", "item", "cannot", (1,), (4,), trained_on=("modular",)),
    Case("cannot-lookup", "lookup", "cannot", (0,), (3,), trained_on=("addition",)),
    Case("random-modular", "modular", "random"),
    Case("random-copy", "item", "random", seed=1),
    Case("random-lookup", "lookup", "random", seed=2),
    Case("random-compare", "compare", "random", seed=3),
    Case("random-addition", "addition", "random", seed=4),
)  # fmt: skip
