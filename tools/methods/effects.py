"""How a model answers with components changed: one function behind every ablation, patch and finding.

What takes a component's place is fixed for each example over the whole sample, by the seed: neither the microbatch nor the
memory limit decides it. Several components, in several blocks and at several positions, change together.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from experiments_db.places import Component, ComponentSet, Intervention
from tools.engine.executor import Variant
from tools.engine.sites import HEADED, Edit, Site, channels_of
from tools.methods.anchors import as_many, having, positions
from tools.methods.answers import INTACT, keep
from tools.methods.arguments import AblationMode
from tools.methods.interventions import activations, select
from tools.methods.narrowing import SomeOnlyError
from tools.methods.scoring import FEW, batch_of, encoded_all, microbatches, score
from tools.methods.tool import Context, ToolInputError
from tools.ports import Batch, PortError, Scores, port_of
from tools.subjects import Subject
from tools.tasks import Example, Task
from tools.tasks.task import unit_hash

RANDOM_VECTOR = "random vector of the same norm at the same site"
OTHER_WEIGHTS = "another example's weights"
SUBLAYERS = ("attn.out", "cross.out", "mlp.out")
MOST_ALONE = 0.05  # share of examples without a donor
Change = tuple[ComponentSet, Intervention]


@dataclass(frozen=True)
class Condition:
    """One way of running the model: changes made together (none: intact), and stacks' blocks in another order.

    control: a change of the same size that carries no information takes the place of each one: at the same sites and
    positions a random vector with the norm of the real change; at patterns the weights of yet another example.
    draw: which of several random vectors. programs: (stack, blocks to run, in order); stacks not named run as they are.
    """

    changes: tuple[Change, ...] = ()
    control: bool = False
    draw: int = 0
    programs: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @classmethod
    def of(cls, components: ComponentSet | Component, intervention: Intervention | str, **others: int) -> "Condition":
        """One set of components under one intervention."""
        made = components if isinstance(components, ComponentSet) else ComponentSet.of(components)
        chosen = intervention if isinstance(intervention, Intervention) else Intervention.parse(intervention)
        return cls(((made, chosen),), control=bool(others.get("control", 0)), draw=others.get("draw", 0))

    @property
    def words(self) -> str:
        """The same as a reader knows it from the coordinates of what was measured."""
        programs = [f"{stack} runs {','.join(map(str, blocks)) or 'no block'}" for stack, blocks in self.programs]
        return " and ".join([*(f"{how} of {made}" for made, how in self.changes), *programs]) or INTACT


def sites_of(subject: Subject, component: Component) -> tuple[Site, ...]:
    """Where a component's output is changed; a block is what its attention and its MLP write.

    ToolInputError for one that this model lacks or that cannot be changed.
    """
    stack = subject.spec(component.stack)
    if component.block is None:
        raise ToolInputError(f"{component}: only what lies in a block can be changed")
    kinds = tuple(k for k in SUBLAYERS if k in stack.declared) if component.part == "block" else (component.part,)
    missing = [k for k in kinds if k not in stack.kinds]
    if missing or not 0 <= component.block < len(stack.blocks):
        raise ToolInputError(
            f"{component} does not exist in this model: {stack.name} has blocks 0 to {len(stack.blocks) - 1} with "
            f"{', '.join(stack.kinds)}"
        )
    return tuple(Site(stack.name, component.block, k) for k in kinds if k in stack.kinds)


def donors(subject: Subject, examples: Sequence[Example], anchors: Sequence[str], seed: int) -> tuple[list[int], int]:
    """For each example another one, of another group, whose activation can stand in for its own; and how many have none.

    The port says who can stand in for whom (`donor_key`): who has as many positions wherever an anchor needs them. Those
    without a donor keep themselves, so that their ablation changes nothing: `with_donors` leaves them out.
    """
    port, classes = port_of(subject), defaultdict[tuple[Hashable, ...], list[int]](list)
    try:
        for i, e in enumerate(encoded_all(subject, examples)):
            classes[port.donor_key(subject, examples[i], e, anchors)].append(i)
    except PortError as error:
        raise SomeOnlyError(str(error), having(subject, anchors, stack=port.reading(subject))) from None
    chosen, alone = list(range(len(examples))), 0
    for key, members in classes.items():
        order = list(members)
        random.Random(f"donors/{seed}/{key}").shuffle(order)
        for at, i in enumerate(order):
            others = (order[(at + step) % len(order)] for step in range(1, len(order)))
            found = next((j for j in others if group_of(examples[j]) != group_of(examples[i])), None)
            alone += found is None
            chosen[i] = i if found is None else found
    return chosen, alone


def sets_of(found: Sequence[Component], mode: AblationMode) -> list[ComponentSet]:
    """What is removed at once, under each mode."""
    match mode:
        case "each" | "decide":
            return [ComponentSet.of(c) for c in found]
        case "together":
            return [ComponentSet.of(*found)]
        case "cumulative":
            return [ComponentSet.of(*found[: i + 1]) for i in range(len(found))]


def with_donors(
    ctx: Context, examples: Sequence[Example], components: Sequence[Component], how: Intervention
) -> tuple[list[Example], str]:
    """The examples that another one can stand in for at these components, and a line that says how many were left out.

    All of them where nothing is resampled. ToolInputError where that leaves out more than one in twenty: the sample would
    be another one.
    """
    if source_of(how) != "donor":
        return list(examples), ""
    chosen, alone = _donors(ctx, examples, sorted({c.anchor or "all" for c in components}))
    line = f"\n{alone} more examples have no other one to resample from and were left out" if alone else ""
    return [e for i, e in enumerate(examples) if chosen[i] != i], line


def donors_for(ctx: Context, examples: Sequence[Example], anchors: Sequence[str]) -> list[int]:
    """The donor of each example, itself where no anchor needs one. ToolInputError where too many have none."""
    return _donors(ctx, examples, sorted(set(anchors)))[0] if anchors else list(range(len(examples)))


def _donors(ctx: Context, examples: Sequence[Example], anchors: Sequence[str]) -> tuple[list[int], int]:
    """As `donors`; ToolInputError where too many have none."""
    chosen, alone = donors(ctx.subject, examples, anchors, ctx.seed)
    if alone > MOST_ALONE * len(examples):
        raise SomeOnlyError(
            f"{alone} of {len(examples)} examples have no other example of their length to resample from: name positions in "
            "place of all, another intervention, more examples, or a class of them (among)",
            lambda some: [i != at for at, i in enumerate(donors(ctx.subject, some, anchors, ctx.seed)[0])],
        )
    return chosen, alone


def group_of(example: Example) -> str:
    """The independent problem that an example poses."""
    return example.group


def score_under(
    ctx: Context,
    task: Task,
    examples: Sequence[Example],
    conditions: Sequence[Condition],
    *,
    directions: Mapping[str, Tensor] | None = None,
    kl: bool = False,
    intact: bool = True,
) -> list[Scores]:
    """The intact model's scores, if they are wanted, then those under each condition, on the same examples.

    directions: vectors by the name that interventions give them, (channels,) each, or (n, channels) with one for each
    example. ToolInputError where more than one example in twenty has no donor.
    """
    prepared = _Prepared(ctx, list(examples), conditions, dict(directions or {}))
    run, few, unread, most = prepared.variants, len(conditions) <= FEW, int(not intact), ctx.max_tokens
    found, _ = score(ctx.subject, examples, run, choices=task.choices, max_tokens=most, kl=kl, few=few, unread=unread)
    named = [*([INTACT] if intact else []), *(None if c.control else c.words for c in conditions)]
    keep(ctx, task, examples, {name: s for name, s in zip(named, found, strict=True) if name})
    return found


def edits_of(
    ctx: Context,
    examples: Sequence[Example],
    conditions: Sequence[Condition],
    directions: Mapping[str, Tensor] | None = None,
) -> Callable[[Batch], list[tuple[Edit, ...]]]:
    """For each microbatch of the examples the edits of every condition, where somebody has to run them in another way."""
    made = variants_of(ctx, examples, conditions, directions)
    return lambda batch: [variant.edits for variant in made(batch, conditions)[1:]]


def variants_of(
    ctx: Context,
    examples: Sequence[Example],
    conditions: Sequence[Condition],
    directions: Mapping[str, Tensor] | None = None,
) -> Callable[[Batch, Sequence[Condition]], list[Variant]]:
    """For a microbatch of the examples the intact model and some of the conditions, prepared for the whole sample."""
    return _Prepared(ctx, list(examples), conditions, dict(directions or {})).variants


@dataclass
class _Prepared:
    """What the conditions need to know about the whole sample."""

    ctx: Context
    examples: list[Example]
    conditions: Sequence[Condition]
    directions: dict[str, Tensor]
    chosen: list[int] = field(init=False)
    means: dict[tuple[Site, str], Tensor] = field(init=False)  # by baseline of the port, (baselines, channels)
    baselines: list[int] = field(init=False)  # which of them is each example's
    others: dict[int, list[int]] = field(init=False)  # whose weights the control of a pattern has, by draw

    def __post_init__(self) -> None:
        changes = [(c, how) for condition in self.conditions for made, how in condition.changes for c in made]
        resampled = {c.anchor or "all" for c, how in changes if source_of(how) == "donor"}
        self.chosen = donors_for(self.ctx, self.examples, sorted(resampled))
        patterns = {
            k.draw
            for k in self.conditions
            if k.control and any(c.part.endswith("pattern") for s, _ in k.changes for c in s)
        }
        self.others = {
            d: donors(self.ctx.subject, self.examples, ["all"], self.ctx.seed + 1 + d)[0] for d in sorted(patterns)
        }
        if any(source_of(how) == "twin" for _, how in changes) and any(e.twin is None for e in self.examples):
            raise ToolInputError("these examples have no twins: use resample(donor), or a task with twins (make_task)")
        wanted = {
            (s, c.anchor or "all") for c, how in changes if how.op == "mean" for s in sites_of(self.ctx.subject, c)
        }
        self.baselines = self._baselines() if wanted else []
        self.means = self._means(sorted(wanted)) if wanted else {}

    def _baselines(self) -> list[int]:
        """The number of each example's key among the port's."""
        subject, numbers = self.ctx.subject, dict[tuple[Hashable, ...], int]()
        port = port_of(subject)
        pairs = zip(self.examples, encoded_all(subject, self.examples), strict=True)
        keys = [port.baseline_key(subject, e, x) for e, x in pairs]
        return [numbers.setdefault(k, len(numbers)) for k in keys]

    def _means(self, wanted: Sequence[tuple[Site, str]]) -> dict[tuple[Site, str], Tensor]:
        """Mean activation over the examples' positions of each anchor, each example counting once, by baseline."""
        subject, sizes = self.ctx.subject, torch.bincount(torch.tensor(self.baselines))[:, None]
        total: dict[tuple[Site, str], Tensor] = {}
        with subject.evaluating():
            for batch in microbatches(subject, self.examples, self.ctx.max_tokens):
                full = activations(subject, batch, [s for s, _ in wanted])
                for site, anchor in wanted:
                    stack = subject.spec(site.stack).lies_in(site.kind)
                    at = positions(subject, batch, anchor, stack=stack)
                    if at is None:
                        chosen, lengths = full[site], batch.inputs.of(stack)
                    else:  # a shorter row repeats its end, which counts once
                        chosen, lengths = select(full[site], at), [len(set(row)) for row in at.tolist()]
                    rows = torch.stack([chosen[i, :n].double().mean(0) for i, n in enumerate(lengths)])
                    whole = total.setdefault((site, anchor), torch.zeros(len(sizes), rows.shape[-1], dtype=rows.dtype))
                    for k in sorted({self.baselines[i] for i in batch.indices}):
                        mine = [self.baselines[i] == k for i in batch.indices]
                        whole[k] += rows[torch.tensor(mine, device=rows.device)].sum(0).cpu()
        return {key: (t / sizes).to(subject.device, subject.dtype) for key, t in total.items()}

    def variants(self, batch: Batch, conditions: Sequence[Condition] | None = None) -> list[Variant]:
        """Intact, then each condition, or those named, for one microbatch."""
        subject = self.ctx.subject
        runs = _Runs(subject, batch, self)
        out = [subject.variant()]
        for condition in self.conditions if conditions is None else conditions:
            edits = tuple(e for made, how in condition.changes for c in made for e in runs.edits(c, how, condition))
            out.append(subject.variant(dict(condition.programs), edits))
        return out


class _Runs:
    """The activations of one microbatch, of its donors and of its twins, each read once; edits shared by conditions."""

    def __init__(self, subject: Subject, batch: Batch, prepared: _Prepared) -> None:
        self.subject, self.batch, self.prepared = subject, batch, prepared
        changes = [(c, how, k) for k in prepared.conditions for made, how in k.changes for c in made]
        self._sites: dict[str, list[Site]] = defaultdict(list)
        for c, how, condition in changes:
            sites = sites_of(subject, c)
            self._sites[source_of(how)] += sites
            if condition.control or _is_mixed(how):
                self._sites["own"] += sites
            if condition.control:
                self._sites[f"other {condition.draw}"] += [s for s in sites if s.kind.endswith("pattern")]
        self._full: dict[str, tuple[Batch, dict[Site, Tensor]]] = {}
        self._made: dict[tuple[Component, Intervention, bool, int], tuple[Edit, ...]] = {}

    def edits(self, c: Component, how: Intervention, condition: Condition) -> tuple[Edit, ...]:
        """The edits that change a component, the same objects each time, so that a sweep shares what they share."""
        key = (c, how, condition.control, condition.draw if condition.control else 0)
        if key not in self._made:
            sites = sites_of(self.subject, c)
            at = positions(self.subject, self.batch, c.anchor or "all", stack=self._stack(sites[0]))
            self._made[key] = tuple(self._edit(s, c, how, condition, at) for s in sites)
        return self._made[key]

    def _edit(self, site: Site, c: Component, how: Intervention, condition: Condition, at: Tensor | None) -> Edit:
        units = c.units or None
        if condition.control:
            return Edit(site, "set", self._control(site, c, how, condition.draw, at), at, units)
        match how.op:
            case "zero":
                return Edit(site, "scale", torch.zeros((), device=self.subject.device), at, units)
            case "scale":
                return Edit(site, "scale", torch.tensor(how.dose, device=self.subject.device), at, units)
            case "add" | "project_out":
                return Edit(site, how.op, (how.dose if how.dose is not None else 1.0) * self._direction(how), at, units)
            case _:
                return Edit(site, "set", self._new(site, c, how, at), at, units)

    def _direction(self, how: Intervention) -> Tensor:
        if how.direction not in self.prepared.directions:
            raise ToolInputError(f"{how}: there is no direction {how.direction!r} on record for this experiment")
        found = self.prepared.directions[how.direction].to(self.subject.device, self.subject.dtype)
        return found[list(self.batch.indices)][:, None] if found.ndim > 1 else found

    def _new(self, site: Site, c: Component, how: Intervention, at: Tensor | None) -> Tensor:
        """What takes the place of the component's activation, (batch, positions, channels)."""
        own = self._selected("own", site, c) if how.op in ("add", "scale", "project_out") else None
        match how.op:
            case "zero":
                return torch.zeros_like(self._selected("own", site, c))
            case "scale":
                assert own is not None
                return own * float(how.dose or 0.0)
            case "add":
                assert own is not None
                return own + (1.0 if how.dose is None else how.dose) * self._direction(how)
            case "project_out":
                assert own is not None
                unit = self._direction(how) / self._direction(how).norm().clamp(min=1e-12)
                return own - (own * unit).sum(-1, keepdim=True) * unit
            case "mean":
                mine = [self.prepared.baselines[i] for i in self.batch.indices]
                mean = self.prepared.means[site, c.anchor or "all"][mine][:, None]
                count = max(self.batch.inputs.of(self._stack(site))) if at is None else at.shape[1]
                return self._units(mean, site, c).expand(-1, count, -1)
            case "set":
                count = max(self.batch.inputs.of(self._stack(site))) if at is None else at.shape[1]
                return self._direction(how).expand(len(self.batch.examples), count, -1)
            case "resample":
                return self._mixed(self._selected(source_of(how), site, c), site, c, how)
            case _:
                raise ToolInputError(f"{how} cannot be done at {site}")

    def _mixed(self, new: Tensor, site: Site, c: Component, how: Intervention) -> Tensor:
        """The new activation; where it has a weight, on the line from the old one to it."""
        return torch.lerp(self._selected("own", site, c), new, float(how.dose or 0.0)) if _is_mixed(how) else new

    def _control(self, site: Site, c: Component, how: Intervention, draw: int, at: Tensor | None) -> Tensor:
        """A change of the same size without information, drawn for each example by its place in the sample."""
        old, new = self._selected("own", site, c), self._new(site, c, how, at)
        if site.kind.endswith("pattern"):  # a random vector is no distribution over tokens
            return self._mixed(self._selected(f"other {draw}", site, c), site, c, how)
        noise = torch.empty(old.shape)
        for row, index in enumerate(self.batch.indices):
            seed = int(unit_hash("control", self.prepared.ctx.seed, draw, str(site), c.units, c.anchor, index) * 2**62)
            noise[row] = torch.randn(old.shape[1:], generator=torch.Generator().manual_seed(seed))
        change = (new.float() - old.float()).norm(dim=-1, keepdim=True)
        noise = noise.to(old.device)
        return (old.float() + noise * change / noise.norm(dim=-1, keepdim=True).clamp(min=1e-12)).to(old.dtype)

    def _selected(self, source: str, site: Site, c: Component) -> Tensor:
        batch, full = self._of(source)
        at, own = (positions(self.subject, b, c.anchor, stack=self._stack(site)) for b in (batch, self.batch))
        return self._units(select(full[site], as_many(at, own)), site, c)

    def _stack(self, site: Site) -> str:
        """The stack in which a site's positions lie."""
        return self.subject.spec(site.stack).lies_in(site.kind)

    def _units(self, h: Tensor, site: Site, c: Component) -> Tensor:
        heads = self.subject.spec(c.stack).n_heads if site.kind in HEADED else h.shape[-1]
        return h[..., channels_of(c.units or None, h.shape[-1] // heads)]

    def _of(self, source: str) -> tuple[Batch, dict[Site, Tensor]]:
        """The microbatch itself, its donors or its twins, with their intact activations at the sites wanted."""
        if source not in self._full:
            batch = self.batch
            if source == "donor":
                batch = batch_of(self.subject, [self.prepared.examples[self.prepared.chosen[i]] for i in batch.indices])
            elif source.startswith("other "):
                others = self.prepared.others[int(source.removeprefix("other "))]
                batch = batch_of(self.subject, [self.prepared.examples[others[i]] for i in batch.indices])
            elif source == "twin":
                batch = batch_of(self.subject, [e.as_twin(e.target) for e in batch.examples])
            self._full[source] = (batch, activations(self.subject, batch, self._sites[source]))
        return self._full[source]


def source_of(how: Intervention) -> str:
    """Whose activations an intervention needs."""
    return (how.source or "donor") if how.op == "resample" else "own"


def _is_mixed(how: Intervention) -> bool:
    """Whether a new activation is put in with a weight."""
    return how.op == "resample" and how.dose is not None
