"""Path patching: what goes from one component straight into a later one, everything in between held at its clean value.

The sender is changed (its twin's activation, another example's, none), every attention and MLP between it and the next node of
the path is frozen, and what the next node then computes is handed on in the same way; what arrives at the receiver is put into
an otherwise clean run. Source: Wang et al. 2022, Interpretability in the Wild; Goldowsky-Dill et al. 2023.
"""

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from experiments_db.places import Component, Intervention, Path
from tools.engine.executor import Variant
from tools.engine.sites import HEADED, Edit, Kind, Site, channels_of
from tools.methods.anchors import positions
from tools.methods.answers import INTACT, keep
from tools.methods.effects import Condition, edits_of, sites_of
from tools.methods.interventions import activations, select
from tools.methods.scoring import score
from tools.methods.tool import Context, ToolInputError
from tools.ports import Batch, Scores
from tools.subjects import Subject
from tools.tasks import Example, Task

ALONG = "a random vector of the same norm along the same path"
TWIN = Intervention(op="resample", source="twin")
SENDERS: tuple[Kind, ...] = (
    "attn.q", "attn.k", "attn.v", "attn.z", "attn.out", "cross.q", "cross.k", "cross.v", "cross.z", "cross.out", "mlp.act",
    "mlp.out",
)  # fmt: skip
ORDER = {"attn": 0, "cross": 1, "mlp": 2}  # of the sublayers of a block
STAGE = {"q": 0, "k": 0, "v": 0, "act": 0, "z": 1, "out": 2}  # what feeds what within one
READS = ("cross.k", "cross.v", "cross.z", "cross.out")  # what another stack's last state goes straight into
BETWEEN: tuple[Kind, ...] = ("attn.out", "cross.out", "mlp.out")


@dataclass(frozen=True)
class Sending:
    """A path and how its first node is changed.

    control: a random change of the same norm in its place; draw: which of several.
    """

    path: Path
    how: Intervention = TWIN
    control: bool = False
    draw: int = 0

    @property
    def condition(self) -> Condition:
        """The change of the sender by itself."""
        return Condition.of(self.path.nodes[0], self.how, control=self.control, draw=self.draw)


def score_along(ctx: Context, task: Task, examples: Sequence[Example], sendings: Sequence[Sending]) -> list[Scores]:
    """The intact model's scores, then those with each sending alone.

    ToolInputError for a path that cannot be: its nodes are in another order, or one of them cannot send.
    """
    subject = ctx.subject
    for path in dict.fromkeys(s.path for s in sendings):
        check_path(subject, path)
    changes = edits_of(ctx, examples, [s.condition for s in sendings])

    def variants(batch: Batch) -> list[Variant]:
        run = _Run(subject, batch, {c.stack for s in sendings for c in s.path.nodes})
        arriving = [run.arriving(s.path, edits) for s, edits in zip(sendings, changes(batch), strict=True)]
        return [subject.variant(), *(subject.variant(edits=(edit,)) for edit in arriving)]

    scores, _ = score(subject, examples, variants, choices=task.choices, max_tokens=ctx.max_tokens)
    own = {f"{s.how} of {s.path}": found for s, found in zip(sendings, scores[1:], strict=True) if not s.control}
    keep(ctx, task, examples, {INTACT: scores[0], **own})
    return scores


def check_path(subject: Subject, path: Path) -> None:
    """ToolInputError unless each node of the path can hand something on to the next."""
    for c in path.nodes[:-1]:
        if c.part not in SENDERS:
            raise ToolInputError(f"{c} cannot send: senders are {', '.join(SENDERS)}")
    last = path.nodes[-1]
    if last.part not in (*SENDERS, "logits"):
        raise ToolInputError(f"{last} cannot receive: receivers are {', '.join((*SENDERS, 'logits'))}")
    for a, b in pairwise(path.nodes):
        if not comes_before(subject, a, b):
            raise ToolInputError(_why_not(subject, a, b))


def comes_before(subject: Subject, a: Component, b: Component) -> bool:
    """Whether what `a` writes can go straight to `b`: later in its stack, or where another stack reads its own."""
    if a.stack != b.stack:
        return subject.spec(b.stack).attends_to == a.stack and b.part in READS
    if b.block is None or a.block is None:
        return b.block is None and b.stack == subject.readout
    if b.part in ("cross.k", "cross.v"):  # they read the other stack alone
        return False
    if a.block != b.block:
        return a.block < b.block
    (one, first), (other, second) = a.part.split("."), b.part.split(".")
    if one == other:
        return STAGE[first] < STAGE[second]
    return ORDER[one] < ORDER[other] and _in_sequence(subject, a.stack)


def _in_sequence(subject: Subject, stack: str) -> bool:
    """Whether a block's MLP reads what its attention has written."""
    return not any({"attn.out", "mlp.out"} <= set(s.terms) for s in subject.spec(stack).equation)


def _why_not(subject: Subject, a: Component, b: Component) -> str:
    if a.stack == b.stack and b.part in ("cross.k", "cross.v"):
        return f"{a} does not send to {b}: that reads {subject.spec(b.stack).attends_to} alone"
    if a.stack == b.stack and b.part != "logits":
        return f"senders have to come before receivers: {a} does not come before {b}"
    readers = [s.name for s in subject.stacks.values() if s.attends_to == a.stack]
    if not readers:
        return f"{a} does not send to {b}: nothing reads {a.stack} but its own blocks" + (
            " and the logits" if a.stack == subject.readout else ""
        )
    return (
        f"{a} does not send straight to {b}: what {a.stack} ends in is read by {readers[0]} through {', '.join(READS)}; name "
        "one of these in between"
    )


def _site(subject: Subject, c: Component) -> Site:
    """Where a node is read and changed; the logits are what leaves the last block."""
    if c.part == "logits":
        return Site(c.stack, len(subject.spec(c.stack).blocks) - 1, "resid_post")
    (site,) = sites_of(subject, c)
    return site


class _Run:
    """The clean activations of one microbatch, and what arrives along paths."""

    def __init__(self, subject: Subject, batch: Batch, stacks: Collection[str]) -> None:
        self.subject, self.batch = subject, batch
        specs = [spec for name, spec in subject.stacks.items() if name in stacks]
        self.between = [
            Site(s.name, b, k) for s in specs for b in range(len(s.blocks)) for k in BETWEEN if k in s.kinds
        ]
        self.clean = activations(subject, batch, self.between)

    def arriving(self, path: Path, edits: Sequence[Edit]) -> Edit:
        """The change at the receiver when the sender is changed by the edits."""
        for a, b in pairwise(path.nodes):
            site = _site(self.subject, b)
            frozen = [Edit(s, "set", self.clean[s]) for s in self.between if _is_between(a, s, b)]
            arrived = self.subject.activations(self.batch.inputs, [site], (*edits, *frozen))[site]
            edits = (self._received(arrived, site, b),)
        (edit,) = edits
        return edit

    def _received(self, arrived: Tensor, site: Site, c: Component) -> Edit:
        spec = self.subject.spec(site.stack)
        at = positions(self.subject, self.batch, c.anchor, stack=spec.lies_in(site.kind))
        heads = spec.n_heads if site.kind in HEADED else arrived.shape[-1]
        value = select(arrived, at)[..., channels_of(c.units or None, arrived.shape[-1] // heads)]
        return Edit(site, "set", value, at, c.units or None)


def _is_between(a: Component, s: Site, b: Component) -> bool:
    """Whether a site lies after the sender, in its stack, or before the receiver in the receiver's: it stays as it was."""
    place = s.block, ORDER[s.kind.split(".")[0]]

    def of(c: Component) -> tuple[int, int]:
        return (sys.maxsize, 0) if c.block is None else (c.block, ORDER[c.part.split(".")[0]])

    if s.stack not in (a.stack, b.stack):
        return False
    return (s.stack != a.stack or of(a) < place) and (s.stack != b.stack or place < of(b))
