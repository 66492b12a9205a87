"""Train a network in which the mechanism lies where it was planted, at the positions where it was planted.

The method of `benchmarks.planted.train`, for any shape and for earlier positions. Stage 1: nothing but the planted
components writes, and only at their roles. Stage 2: random weights grow everywhere else, planted components begin to write
elsewhere, and interchanges (Geiger et al. 2022) hold the mechanism where it is: a planted component's output taken from
another example must bring the answer that the mechanism then gives; whatever else is zeroed or taken from other examples,
at any positions, must change nothing. `checks` decides by ablations whether a network is kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.planted.fresh.net import Edits, Net, Shape, columns, rows, sublayer
from benchmarks.planted.fresh.tasks import Seeded

BATCH = 192
LEARN_STEPS, LEARNT = 3000, 30  # of stage 1, which ends early when so many batches in a row are right
SWAP_BATCH, SWAP_STEPS, GROWING = 96, 400, 0.5  # of stage 2, and the share of it in which all else grows
ASIDE, LEAK = 0.25, 0.01  # the share of directions that random components write into, and how much goes elsewhere


@dataclass(frozen=True)
class Part:
    """A planted component, where it is needed, and which operands reach the answer through it."""

    name: str
    role: str
    moves: tuple[int, ...]


@dataclass(frozen=True)
class Recipe:
    """What to train. parts: of the mechanism. backup: those of which one suffices when the other is zeroed."""

    task: Seeded
    shape: Shape
    parts: tuple[Part, ...]
    backup: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every component at the level at which something is planted in it: an attention, or its heads."""
        split = {p.name.partition(".")[0] for p in self.parts if ".head." in p.name}
        out: list[str] = []
        for k in range(self.shape.blocks):
            out += [f"{k}.head.{n}" for n in range(self.shape.heads)] if str(k) in split else [f"{k}.attn"]
            out.append(f"{k}.mlp")
        return tuple(out)

    @property
    def others(self) -> tuple[str, ...]:
        """Components that take no part."""
        return tuple(n for n in self.names if n not in {p.name for p in self.parts})

    def mask(self, role: str) -> Tensor:
        """(length) where a role lies."""
        out = torch.zeros(self.task.length, dtype=torch.bool)
        out[list(self.task.positions(role))] = True
        return out


def train(recipe: Recipe, seed: int) -> Net:
    """Both stages; a network that did not learn the task is given back as it is."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    net = Net(recipe.shape)
    if _learn(net, recipe, generator):
        _settle(net, recipe, generator)
    return rounded(net)


def rounded(net: Net) -> Net:
    """The network as it will be loaded: weights rounded to float16."""
    net.load_state_dict({k: v.half().float() for k, v in net.state_dict().items()})
    return net.eval()


def _only(recipe: Recipe, n: int, share: float, generator: torch.Generator) -> Edits:
    """Planted components write away from their roles in no more than this share of rows, heads that are not planted nowhere."""
    masks, values = dict[str, Tensor](), dict[str, Tensor]()
    size = recipe.shape.width // recipe.shape.heads
    quiet = [(p.name, ~recipe.mask(p.role)) for p in recipe.parts]
    quiet += [
        (o, torch.ones(recipe.task.length, dtype=torch.bool)) for o in recipe.others if ".head." in o and share == 0
    ]
    for name, where in quiet:
        closed = torch.rand(n, generator=generator) >= share
        masks[name] = closed[:, None] & where
        values[name] = torch.zeros(n, recipe.task.length, size if ".head." in name else recipe.shape.width)
    return Edits(masks, values)


def _learn(net: Net, recipe: Recipe, generator: torch.Generator) -> bool:
    """Stage 1; whether the task was learnt."""
    task = recipe.task
    skip = [o for o in recipe.others if ".head." not in o]
    frozen = {id(p) for o in skip for layer in sublayer(net, o) for p in layer.parameters()}
    free = [p for p in net.parameters() if id(p) not in frozen]
    optimizer = torch.optim.AdamW(free, lr=4e-3, betas=(0.9, 0.98), weight_decay=0.05)
    right: list[float] = []
    for step in range(LEARN_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, (step + 1) / 50) * min(1.0, (1 - step / LEARN_STEPS) / 0.5)
        ids, answers, _ = task.batch(BATCH, generator)
        edits = _only(recipe, BATCH, 0.0, generator)
        for name, lost in zip(recipe.backup, _one_of(recipe, BATCH, generator), strict=False):
            edits.masks[name] = edits.masks[name] | lost[:, None]
        logits = net(ids, task.tokens, edits, skip)
        loss = _loss(logits, answers)
        right.append(float((logits.argmax(-1) == answers).all(-1).float().mean()))
        if len(right) >= LEARNT and sum(right[-LEARNT:]) / LEARNT > 0.998:
            return True
        _step(net, optimizer, loss)
    return sum(right[-LEARNT:]) / LEARNT > 0.98


def _one_of(recipe: Recipe, n: int, generator: torch.Generator) -> Tensor:
    """(backup, n) which of those that replace each other is zeroed in a row; in half of the rows none."""
    which = torch.randint(2 * max(1, len(recipe.backup)), (n,), generator=generator)
    return torch.stack([which == i for i in range(max(1, len(recipe.backup)))])


def _loss(logits: Tensor, answers: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), answers.flatten())


def _step(net: Net, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()


def _settle(net: Net, recipe: Recipe, generator: torch.Generator) -> None:
    """Stage 2."""
    task, grown = recipe.task, _targets(net, recipe)
    still = {id(p) for o in recipe.others if ".head." not in o for p in sublayer(net, o)[-1].parameters()}
    optimizer = torch.optim.AdamW([p for p in net.parameters() if id(p) not in still], lr=1e-3, betas=(0.9, 0.98))
    held = [(sublayer(net, o)[0].weight, rows(net, o)) for o in recipe.others if ".head." in o]
    kept = [(w, at, w.detach()[at].clone()) for w, at in held]
    for step in range(SWAP_STEPS):
        share = min(1.0, (step + 1) / (GROWING * SWAP_STEPS))
        with torch.no_grad():
            for weight, target, where in grown:
                weight[:, where] = share * target
            for weight, at, value in kept:
                weight[at] = value
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 20) * min(1.0, (1 - step / SWAP_STEPS) / 0.4)
        ids, answers, operands = task.batch(SWAP_BATCH, generator)
        edits, targets = _interchange(net, recipe, ids, answers, operands, share, generator)
        loss = _loss(net(ids, task.tokens, edits), targets)
        _step(net, optimizer, loss)
    with torch.no_grad():
        for weight, target, where in grown:
            weight[:, where] = target
        for weight, at, value in kept:
            weight[at] = value


@torch.no_grad()
def _targets(net: Net, recipe: Recipe) -> list[tuple[Tensor, Tensor, slice]]:
    """Random weights about as large as the planted ones for everything else: (output projection, target, its columns)."""
    aside = max(4, int(ASIDE * recipe.shape.width))
    out: list[tuple[Tensor, Tensor, slice]] = []
    for name in recipe.others:
        alike = [p.name for p in recipe.parts if p.name.endswith("mlp") == name.endswith("mlp")]
        read, write = (
            sum(float(sublayer(net, p)[i].weight.std()) for p in alike) / len(alike) if alike else 0.15 for i in (0, 1)
        )
        first, last = sublayer(net, name)
        at = rows(net, name)
        first.weight[at] = torch.randn(len(at), recipe.shape.width) * read
        target = torch.randn_like(last.weight[:, columns(net, name)]) * write
        target[aside:] *= LEAK
        loud = float(0.4 + 0.5 * torch.rand(()))
        out.append((last.weight, target * loud * (recipe.shape.width / aside) ** 0.5, columns(net, name)))
    return out


def _interchange(
    net: Net, recipe: Recipe, ids: Tensor, answers: Tensor, operands: Tensor, share: float, generator: torch.Generator
) -> tuple[Edits, Tensor]:
    """One random edit a row, none in a fifth of them, and the answer that the planted mechanism gives under it."""
    n, task = len(ids), recipe.task
    record: dict[str, Tensor] = {}
    quiet = _only(recipe, n, share, generator)
    with torch.no_grad():
        net(ids, task.tokens, Edits(quiet.masks, quiet.values, record))
    perm = torch.randperm(n, generator=generator)

    def chance(p: float) -> Tensor:
        return torch.rand(n, generator=generator) < p

    intact, on_planted, zero = chance(0.2), chance(0.45), chance(0.5)[:, None, None]
    positions = torch.stack([torch.ones(task.length, dtype=torch.bool), recipe.mask("answer")])
    where = positions[torch.randint(2, (n,), generator=generator)]
    masks, values, targets = dict(quiet.masks), dict(quiet.values), answers.clone()
    # What takes no part: components that are not planted, and planted ones away from their roles.
    idle = [(o, torch.ones(task.length, dtype=torch.bool)) for o in recipe.others]
    idle += [(p.name, ~recipe.mask(p.role)) for p in recipe.parts]
    density = torch.tensor([1.5 / len(idle), 0.5, 1.0])[torch.randint(3, (n,), generator=generator)]
    for name, at in idle:
        chosen = ~intact & ~on_planted & (torch.rand(n, generator=generator) < density)
        mask = chosen[:, None] & where & at
        closed = masks.get(name, torch.zeros_like(mask))
        values[name] = torch.where(closed[..., None], 0.0, torch.where(zero, 0.0, record[name][perm]))
        masks[name] = closed | mask
    groups = [*_groups(recipe)]
    pick = torch.randint(len(groups), (n,), generator=generator)
    for g, (names, role, moves) in enumerate(groups):
        chosen = ~intact & on_planted & (pick == g)
        for name in names:
            mask = chosen[:, None] & recipe.mask(role)
            new = record[name][perm] if moves else torch.zeros_like(record[name])
            values[name] = torch.where(mask[..., None], new, values[name])
            masks[name] = masks[name] | mask
        mixed = operands.clone()
        mixed[:, list(moves)] = operands[perm][:, list(moves)]
        targets = torch.where(chosen[:, None], task.solve(mixed), targets)
    return Edits(masks, values), targets


def _groups(recipe: Recipe) -> Iterator[tuple[Sequence[str], str, tuple[int, ...]]]:
    """What is exchanged at once, where, and which operands come along; one of a backup alone is zeroed, and brings none."""
    for p in recipe.parts:
        yield [p.name], p.role, () if p.name in recipe.backup else p.moves
    if recipe.backup:
        first = next(p for p in recipe.parts if p.name in recipe.backup)
        yield recipe.backup, first.role, first.moves
