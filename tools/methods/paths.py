"""Path patching: what goes from one component straight into a later one, everything in between held at its clean value.

The sender is changed (its twin's activation, another example's, none), every attention and MLP between it and the next node of
the path is frozen, and what the next node then computes is handed on in the same way; what arrives at the receiver is put into
an otherwise clean run. Source: Wang et al. 2022, Interpretability in the Wild; Goldowsky-Dill et al. 2023.
"""

from collections.abc import Sequence
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
SENDERS: tuple[Kind, ...] = ("attn.q", "attn.k", "attn.v", "attn.z", "attn.out", "mlp.act", "mlp.out")
ATTENTION: frozenset[str] = frozenset({"attn.q", "attn.k", "attn.v", "attn.z", "attn.out"})
MLP: frozenset[str] = frozenset({"mlp.act", "mlp.out"})
INSIDE = {
    *((a, b) for a in ("attn.q", "attn.k", "attn.v") for b in ("attn.z", "attn.out")),
    ("attn.z", "attn.out"),
    ("mlp.act", "mlp.out"),
}  # what feeds what within one sublayer
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
        run = _Run(subject, batch)
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
    for c in path.nodes:
        if c.stack != subject.readout:
            raise ToolInputError(f"{c}: paths lie in {subject.readout}")
    for a, b in pairwise(path.nodes):
        if not comes_before(subject, a, b):
            raise ToolInputError(f"senders have to come before receivers: {a} does not come before {b}")


def comes_before(subject: Subject, a: Component, b: Component) -> bool:
    """Whether what `a` writes can reach `b`."""
    if b.block is None or a.block is None:
        return b.block is None
    onward = a.part in ATTENTION and b.part in MLP and subject.spec(a.stack).mid
    return a.block < b.block or (a.block == b.block and (onward or (a.part, b.part) in INSIDE))


def _site(subject: Subject, c: Component) -> Site:
    """Where a node is read and changed; the logits are what leaves the last block."""
    if c.part == "logits":
        return Site(c.stack, len(subject.spec(c.stack).blocks) - 1, "resid_post")
    (site,) = sites_of(subject, c)
    return site


class _Run:
    """The clean activations of one microbatch, and what arrives along paths."""

    def __init__(self, subject: Subject, batch: Batch) -> None:
        self.subject, self.batch = subject, batch
        spec = subject.spec()
        self.between = [Site(spec.name, b, k) for b in range(len(spec.blocks)) for k in BETWEEN if k in spec.kinds]
        self.clean = activations(subject, batch, self.between)

    def arriving(self, path: Path, edits: Sequence[Edit]) -> Edit:
        """The change at the receiver when the sender is changed by the edits."""
        for a, b in pairwise(path.nodes):
            site = _site(self.subject, b)
            frozen = [Edit(s, "set", self.clean[s]) for s in self.between if self._is_between(a, s, b)]
            arrived = dict(self.subject.run(self.batch.inputs, edits=(*edits, *frozen), capture=[site]).captured)[site]
            edits = (self._received(arrived, site, b),)
        (edit,) = edits
        return edit

    def _received(self, arrived: Tensor, site: Site, c: Component) -> Edit:
        at = positions(self.subject, self.batch, c.anchor)
        heads = self.subject.spec().n_heads if site.kind in HEADED else arrived.shape[-1]
        value = select(arrived, at)[..., channels_of(c.units or None, arrived.shape[-1] // heads)]
        return Edit(site, "set", value, at, c.units or None)

    def _is_between(self, a: Component, s: Site, b: Component) -> bool:
        """Whether a site lies after the sender and before the receiver: it stays as it was."""
        assert a.block is not None
        until = len(self.subject.spec().blocks) if b.block is None else b.block
        after = s.block > a.block or (s.block == a.block and a.part in ATTENTION and s.kind != "attn.out")
        return after and (s.block < until or (s.block == until and b.part in MLP and s.kind != "mlp.out"))
