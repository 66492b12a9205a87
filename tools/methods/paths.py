"""Path patching: what goes from one component straight into a later one, everything in between held at its clean value.

The sender gives what it would on the twin (or on another example, or nothing), every attention and MLP between it and the
next node of the path is frozen, and what the next node then computes is handed on in the same way; what arrives at the receiver
is put into an otherwise clean run. Source: Wang et al. 2022, Interpretability in the Wild; Goldowsky-Dill et al. 2023.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from experiments_db.places import Component, Intervention, Path
from tools.engine.executor import Variant
from tools.engine.sites import Edit, Kind, Site
from tools.methods.anchors import positions
from tools.methods.effects import as_many, donors_for, sites_of, source_of
from tools.methods.interventions import select
from tools.methods.readings import units_of
from tools.methods.scoring import Microbatch, Scores, batch_of, score
from tools.methods.tool import Context, ToolInputError
from tools.methods.twins import donor_inputs
from tools.subjects import Subject
from tools.tasks import Example, Task
from tools.tasks.task import unit_hash

ALONG = "a random vector of the same norm along the same path"
TWIN = Intervention(op="resample", source="twin")
SENDERS: tuple[Kind, ...] = ("attn.q", "attn.k", "attn.v", "attn.z", "attn.out", "mlp.act", "mlp.out")
ATTENTION: frozenset[str] = frozenset({"attn.q", "attn.k", "attn.v", "attn.z", "attn.out"})
INSIDE = {
    *((a, b) for a in ("attn.q", "attn.k", "attn.v") for b in ("attn.z", "attn.out")),
    ("attn.z", "attn.out"),
    ("mlp.act", "mlp.out"),
}  # what feeds what within one sublayer
MLP: frozenset[str] = frozenset({"mlp.act", "mlp.out"})


@dataclass(frozen=True)
class Sending:
    """A path and what is sent along it: the twin's activation, another example's (resample(donor)), or none (zero).

    control: a random change of the same norm in its place; draw: which of several.
    """

    path: Path
    how: Intervention = TWIN
    control: bool = False
    draw: int = 0


def score_along(ctx: Context, task: Task, examples: Sequence[Example], sendings: Sequence[Sending]) -> list[Scores]:
    """The intact model's scores, then those with each sending, on examples with twins of as many tokens.

    ToolInputError for a path that cannot be: its nodes are in another order, or one of them cannot send.
    """
    subject = ctx.subject
    for sending in sendings:
        check_path(subject, sending.path)
        if sending.how.op != "zero" and source_of(sending.how) not in ("twin", "donor"):
            raise ToolInputError(
                f"{sending.how} cannot be sent along a path: use resample(twin), resample(donor) or zero"
            )
    intact = tuple(range(len(subject.spec().blocks)))
    resampled = [s.path.nodes[0].anchor or "all" for s in sendings if source_of(s.how) == "donor"]
    chosen = donors_for(ctx, examples, resampled)

    def variants(batch: Microbatch) -> list[Variant]:
        run = _Run(ctx, batch, sendings, [examples[chosen[i]] for i in batch.indices])
        return [Variant(intact), *(Variant(intact, (run.arriving(s),)) for s in sendings)]

    return score(subject, examples, variants, choices=task.choices, max_tokens=ctx.max_tokens)[0]


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
    """The clean and the twin's activations of one microbatch, and what arrives along each path."""

    def __init__(self, ctx: Context, batch: Microbatch, sendings: Sequence[Sending], donors: Sequence[Example]) -> None:
        self.ctx, self.subject, self.batch = ctx, ctx.subject, batch
        spec = self.subject.spec()
        kinds = [k for k in ("attn.out", "cross.out", "mlp.out") if k in spec.kinds]
        self.between = [Site(spec.name, b, k) for b in range(len(spec.blocks)) for k in kinds]  # type: ignore[arg-type]
        sending = list(dict.fromkeys(_site(self.subject, s.path.nodes[0]) for s in sendings))
        self.clean = self._captured(batch.inputs, tuple(dict.fromkeys([*sending, *self.between])))
        # Whose activations are sent, at the positions of their own anchors.
        self.sent: dict[str, tuple[Microbatch, dict[Site, Tensor]]] = {}
        sources = {source_of(s.how) for s in sendings}
        if "twin" in sources:
            self.sent["twin"] = batch, self._captured(donor_inputs(self.subject, batch), sending)
        if "donor" in sources:
            others = batch_of(self.subject, donors)
            self.sent["donor"] = others, self._captured(others.inputs, sending)

    def _captured(self, inputs: object, capture: Sequence[Site], edits: Sequence[Edit] = ()) -> dict[Site, Tensor]:
        return dict(self.subject.run(inputs, edits=edits, capture=capture).captured)  # type: ignore[arg-type]

    def arriving(self, sending: Sending) -> Edit:
        """The change at the receiver."""
        first, *rest = sending.path.nodes
        edit = self._edit(first, self._sent(first, sending))
        for a, b in pairwise((first, *rest)):
            site = _site(self.subject, b)
            arrived = self._captured(self.batch.inputs, [site], (edit, *self._frozen(a, b)))[site]
            edit = self._edit(b, self._part(arrived, b))
        return edit

    def _sent(self, c: Component, sending: Sending) -> Tensor:
        site = _site(self.subject, c)
        old = self._part(self.clean[site], c)
        source = source_of(sending.how)
        batch, full = self.sent.get(source, (self.batch, self.clean))
        new = (
            torch.zeros_like(old)
            if sending.how.op == "zero"
            else self._part(full[site], c, batch, twin=source == "twin")
        )
        if not sending.control:
            return new
        noise = torch.empty(old.shape)
        for row, index in enumerate(self.batch.indices):
            seed = int(unit_hash("path", self.ctx.seed, sending.draw, str(sending.path), index) * 2**62)
            noise[row] = torch.randn(old.shape[1:], generator=torch.Generator().manual_seed(seed))
        change = (new.float() - old.float()).norm(dim=-1, keepdim=True)
        noise = noise.to(old.device)
        return (old.float() + noise * change / noise.norm(dim=-1, keepdim=True).clamp(min=1e-12)).to(old.dtype)

    def _part(self, h: Tensor, c: Component, batch: Microbatch | None = None, *, twin: bool = False) -> Tensor:
        own = positions(self.subject, self.batch, c.anchor)
        at = as_many(positions(self.subject, batch or self.batch, c.anchor, twin=twin), own)
        return units_of(self.subject, select(h, at), _site(self.subject, c), c)

    def _edit(self, c: Component, value: Tensor) -> Edit:
        return Edit(
            _site(self.subject, c), "set", value, positions(self.subject, self.batch, c.anchor), c.units or None
        )

    def _frozen(self, a: Component, b: Component) -> list[Edit]:
        """Everything after the sender and before the receiver stays as it was."""
        assert a.block is not None
        until = len(self.subject.spec().blocks) if b.block is None else b.block
        sender, to_mlp = a.part in ATTENTION, b.part in MLP

        def inside(s: Site) -> bool:
            after = s.block > a.block or (s.block == a.block and sender and s.kind != "attn.out")  # type: ignore[operator]
            return after and (s.block < until or (to_mlp and s.block == until and s.kind != "mlp.out"))

        return [Edit(s, "set", self.clean[s]) for s in self.between if inside(s)]
