"""The integrity gate: is each part of this model what its name says, and does an edit do what is asked, and nothing else?

Everything that the engine reads and changes is compared with the plain transformers model, under hooks of the gate's own
(`tools.findings.plain`), on two short batches of tokens drawn from the model's vocabulary. Right logits are no proof: other
libraries called the middle of the block `attn_out` for years with correct logits. What fails is refused for this model.
"""

import functools
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tools.engine.adapter import StackSpec
from tools.engine.executor import Variant
from tools.engine.kept import Kept, share_of_free
from tools.engine.sites import HEADED, Edit, Site
from tools.findings.integrity_inputs import Given
from tools.findings.integrity_report import Check, IntegrityReport, Verdict
from tools.findings.plain import Change, Plain, Seen, rounding
from tools.ports import Encoded
from tools.subjects import Inputs, Subject

Op = Literal["set", "add", "scale", "project_out", "self"]
Way = tuple[Op, bool, bool]
OPS: tuple[Op, ...] = ("set", "add", "scale", "project_out")
CHUNK = 32
LIMITS = {torch.float64: 1e-8, torch.float32: 5e-5, torch.bfloat16: 3e-2, torch.float16: 1e-2}
SCOPES = ((False, False), (False, True), (True, False), (True, True))  # (some units, one position)
FACTOR = -1.5  # a norm takes a positive factor out again
ROUNDINGS = 8.0  # times what rounding alone does is still called the same
WORK = {"cpu": 2e11, "cuda": 1e14}  # floating-point operations that the edits may take, about seconds each


@dataclass(frozen=True)
class Ask:
    """One edit in the gate's own terms.

    value: (batch, seq, channels), of which those of the units and positions count. units: heads or channels, None for all;
    at: each row's position, None for all. channels: of those units, in their order.
    """

    site: Site
    op: Op
    value: Tensor
    units: tuple[int, ...] | None
    at: Tensor | None
    channels: list[int]

    def of(self, before: Tensor) -> Tensor:
        """What the activation (batch, seq, channels) is to become."""
        rows = torch.arange(len(before))[:, None]
        at = torch.arange(before.shape[1]).expand(len(before), -1) if self.at is None else self.at.cpu()[:, None]
        old, value = (x[rows, at][..., self.channels].double() for x in (before, self.value))
        match self.op:
            case "set":
                new = value
            case "add":
                new = old + value
            case "scale":
                new = old * FACTOR
            case "project_out":
                pairs = zip(old.flatten(0, 1), value.flatten(0, 1))
                shares = torch.stack([(x.clone() @ (v := y.clone())) / (v @ v) for x, y in pairs])
                new = old - shares.reshape(*at.shape, 1) * value
            case "self":
                new = old
        after = before.clone()
        after[rows[..., None], at[..., None], torch.tensor(self.channels)] = new.to(after.dtype)
        return after

    def edit(self) -> Edit:
        """The same in the engine's terms."""
        value = self.value[..., self.channels]
        if self.at is not None:
            value = value[torch.arange(len(value)), self.at][:, None]
        if self.op == "scale":
            value = torch.tensor(FACTOR)
        positions = None if self.at is None else self.at[:, None]
        return Edit(self.site, "set" if self.op == "self" else self.op, value, positions, self.units)

    def __str__(self) -> str:
        unit = "whole" if self.units is None else f"units {', '.join(map(str, self.units))}"
        return f"{self.op} at {self.site}, {unit}, {'all positions' if self.at is None else 'one position'}"


@dataclass
class _Book:
    """Comparisons as they are made, by (check, stack, part); `still`: edits that move no logits of the plain model."""

    limit: float
    usual: float = 0.0  # the norm of a position's logits below which rounding alone can make so much of a difference
    cases: dict[tuple[str, str, str], list[tuple[float, str]]] = field(default_factory=dict)
    unseen: dict[tuple[str, str, str], str] = field(default_factory=dict)
    still: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, name: str, error: float, where: str = "", site: tuple[str, str] = ("", "")) -> None:
        self.cases.setdefault((name, *site), []).append((error if math.isfinite(error) else 1e9, where))

    def same(
        self,
        name: str,
        got: Tensor,
        want: Tensor,
        where: str,
        site: tuple[str, str] = ("", ""),
        *,
        logits: bool = False,
    ) -> None:
        """Note how far `got` is from `want`, relative to the size of `want`; logits: or to what rounding makes of them."""
        if got.shape != want.shape:
            self.add(name, math.inf, f"{where}: shape {tuple(got.shape)}, not {tuple(want.shape)}", site)
        else:
            self.add(name, _off(got, want, self.least(want) if logits else 0.0), where, site)

    def least(self, logits: Tensor) -> float:
        """The norm that counts as the size of logits that are smaller."""
        return self.usual * math.sqrt(logits[..., 0].numel())

    def checks(self) -> tuple[Check, ...]:
        made: list[Check] = []
        for (name, stack, part), cases in self.cases.items():
            worst, where = max(cases)
            verdict: Verdict = "holds" if worst <= self.limit else "fails"
            detail = "" if verdict == "holds" else f"{where}, off by {worst:.2g} of its size"
            still = self.still.get((stack, part), 0) if name == "effect" else 0
            made.append(Check(name, stack, part, verdict, len(cases), worst, self.limit, detail, still))
        for (name, stack, part), why in self.unseen.items():
            made.append(Check(name, stack, part, "not seen", 0, 0.0, self.limit, why))
        return tuple(made)


def check(
    subject: Subject, batch: Callable[[Sequence[Sequence[int]]], Inputs] | None = None, seed: int = 0
) -> IntegrityReport:
    """Hold a subject against its plain transformers model.

    batch: rows of the readout stack's tokens to inputs, in place of the port's own random ones. Takes seconds on small
    models; on large ones edits are tried at fewer blocks. The same model and seed give the same comparisons.
    """
    started = time.perf_counter()
    given = Given(subject, batch)
    even, ragged = given.noise(seed)
    make = given.inputs
    book = _Book(LIMITS.get(subject.dtype, 1e-2))
    asks: list[Ask] = []
    with subject.evaluating(), _noting(book, "identity"):
        plain, inputs = Plain(subject), make(even)
        clean = plain.logits(inputs.fields)
        book.add("finite", 0.0 if bool(clean.isfinite().all()) else math.inf, "the plain model's logits are not finite")
        seen = plain.see(inputs.fields)
        book.usual = ROUNDINGS * rounding(subject, plain, inputs, seen, seed) / book.limit
        _identity(subject, inputs, clean, book)
        _independent(subject, plain, given, even, ragged, book)
        _parts(subject, inputs, seen, book)
        asks = _asks(subject, seen, inputs, seed)
        _edits(subject, plain, inputs, seen, asks, book)
    blocks = {s: tuple(sorted({a.site.block for a in asks if a.site.stack == s})) for s in subject.stacks}
    return IntegrityReport(book.checks(), blocks, round(time.perf_counter() - started, 2))


@contextmanager
def _noting(book: _Book, name: str, site: tuple[str, str] = ("", "")) -> Generator[None]:
    """An error on the way is a check that fails."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # whatever goes wrong, the model is not what its family says
        first = str(error).strip().split("\n")[0]
        book.add(name, math.inf, f"{type(error).__name__}: {first[:200]}", site)


def _off(got: Tensor, want: Tensor, least: float = 0.0) -> float:
    """Distance from `want` relative to its norm (of at least so much); not a number counts as infinitely far."""
    got, want = got.double(), want.double()
    gap, size = (got - want).norm(), want.norm().clamp_min(least)
    return 0.0 if gap == 0 else float(gap / size) if size > 0 else math.inf


def _identity(subject: Subject, inputs: Inputs, clean: Tensor, book: _Book) -> None:
    spec = subject.spec()
    every = tuple(range(len(spec.blocks)))
    whole = {name: range(len(s.blocks)) for name, s in subject.stacks.items()}
    book.same("identity", subject.run(inputs).logits, clean, "a plain run", logits=True)
    book.same("identity", subject.run(inputs, whole).logits, clean, "a run of all blocks in order", logits=True)
    (swept,), _ = subject.sweep(inputs, [Variant(every)], lambda h, _: subject.unembed(h))
    book.same("identity", swept, clean, "a sweep", logits=True)


def _independent(
    subject: Subject, plain: Plain, given: Given, even: list[Encoded], ragged: list[Encoded], book: _Book
) -> None:
    """Each input by itself in the plain model against the engine's batches: together, in reverse, among shorter ones."""
    alone = {id(e): plain.logits(given.inputs([e]).fields)[0] for e in [*even, *ragged]}
    for rows, where in ((even, "beside others"), (even[::-1], "in another order"), (ragged, "beside padding")):
        if not rows:
            book.unseen["rows", "", ""] = "inputs have one size: none is padded"
            continue
        logits = subject.run(given.inputs(rows)).logits
        for e, got in zip(rows, logits, strict=True):
            n = min(len(alone[id(e)]), len(got))
            book.same("rows", got[:n], alone[id(e)], f"a row of {n} positions {where}", logits=True)
    if subject.spec().causal and ragged:
        for e in even:
            row, whole = given.row(e) or [], alone[id(e)]
            first = plain.logits(given.inputs([given.first(e, 1)]).fields)[0]
            book.same("causal", whole[:1], first, "the first token's logits", logits=True)
            other = (given.row(even[0]) or [])[:2]
            changed = given.with_row(e, [*row[:-1], other[0] if row[-1] != other[0] else other[1]])
            later = plain.logits(given.inputs([changed]).fields)[0]
            before = "logits before a token that is changed"
            book.same("causal", later[:-1], whole[:-1], before, logits=True)


def _parts(subject: Subject, inputs: Inputs, seen: Seen, book: _Book) -> None:
    """Readings, the block's equation, projections and patterns."""
    sites = [Site(s.name, b, k) for s in subject.stacks.values() for b in range(len(s.blocks)) for k in s.declared]
    run = subject.run(inputs, capture=sites)
    mine = run.captured
    book.same("identity", run.logits, seen.logits, "a run in which every part is read", logits=True)
    for site in sites:
        where = (site.stack, site.kind)
        if site not in seen.parts:
            book.unseen[("reading", *where)] = f"block {site.block}: the plain model does not show it"
        else:
            book.same("reading", mine[site], seen.parts[site], f"block {site.block}", where)
    for spec in subject.stacks.values():
        for b, block in enumerate(spec.blocks):
            at = {kind: mine[Site(spec.name, b, kind)] for kind in spec.declared}
            _equation(spec, b, at, seen, book)
            if not spec.equation:
                book.unseen["equation", spec.name, "attn.out"] = "the family declares no equation of its block"
                book.unseen["equation", spec.name, "mlp.out"] = "the family declares no equation of its block"
            for before, after, path in (
                ("attn.z", "attn.out", spec.o_proj),
                ("cross.z", "cross.out", spec.cross_o_proj),
                ("mlp.act", "mlp.out", spec.down_proj),
            ):
                if path:
                    with _noting(book, "projection", (spec.name, after)):
                        made = block.get_submodule(path)(at[before])
                        for kind in (before, after):
                            book.same("projection", at[after], made, f"block {b}", (spec.name, kind))
            for attention in ("attn", "cross"):
                if f"{attention}.pattern" in at:
                    causal = spec.causal and attention == "attn"
                    _pattern(spec.name, b, spec.n_heads, at, book, attention, causal=causal)


def _equation(spec: StackSpec, b: int, at: Mapping[str, Tensor], seen: Seen, book: _Book) -> None:
    """The sums that the family declares: of what the engine reads, against what the plain model's modules are given."""
    enters, leaves = (seen.parts[Site(spec.name, b, kind)] for kind in ("resid_pre", "resid_post"))
    parts: dict[str, Tensor] = {**at, "resid_pre": enters}
    parts |= {key: value for (stack, block, key), value in seen.modules.items() if (stack, block) == (spec.name, b)}
    for line in spec.equation:
        total = parts[f"in:{line.reader}"] if line.reader else leaves
        added = functools.reduce(torch.add, [parts[t] for t in line.terms])
        written = [t for t in line.terms if t in at and t != "resid_pre"]
        # What is wrong counts against what the block adds: the stream itself may be very much larger.
        size = sum(float(parts[t].norm()) for t in written) if written else float(total.norm())
        rounding = 2 * torch.finfo(total.dtype).eps * float(total.norm())
        off = max(0.0, float((added - total).norm()) - rounding) / max(size, 1e-30)
        named = [*written, *(["resid_mid"] if spec.mid and {"attn.out", "cross.out"} & set(written) else [])]
        for part in named:
            book.add("equation", off, f"block {b}: {' + '.join(line.terms)}", (spec.name, part))


def _pattern(
    stack: str, b: int, heads: int, at: Mapping[str, Tensor], book: _Book, attention: str, *, causal: bool
) -> None:
    weights = at[f"{attention}.pattern"].unflatten(2, (heads, -1)).transpose(1, 2)
    value = at[f"{attention}.v"].unflatten(2, (heads, -1)).transpose(1, 2)
    site = (stack, f"{attention}.pattern")
    book.same("pattern", weights.sum(-1), torch.ones_like(weights[..., 0]), f"block {b}: a sum over keys", site)
    made = (weights @ value).transpose(1, 2).flatten(2)
    for kind in (f"{attention}.pattern", f"{attention}.v"):
        book.same("pattern", made, at[f"{attention}.z"], f"block {b}: the pattern times v", (stack, kind))
    if causal:
        book.add("pattern", float(weights.triu(1).abs().max()), f"block {b}: weight on a later token", site)


def _asks(subject: Subject, seen: Seen, inputs: Inputs, seed: int) -> list[Ask]:
    """Every operation at every part: whole, one head, one position; all of them over the blocks, some in each."""
    generator = torch.Generator().manual_seed(seed)
    parameters = sum(p.numel() for p in subject.model.parameters())
    tokens = sum(inputs.lengths)
    affordable = int(WORK.get(subject.device.type, WORK["cpu"]) / (6 * parameters * tokens))
    asks: list[Ask] = []
    for spec in subject.stacks.values():
        n = len(spec.blocks)
        most = max(2, affordable // (2 * len(spec.declared) * len(subject.stacks)))
        chosen = sorted({round(i * (n - 1) / (most - 1)) for i in range(most)}) if n > most else range(n)
        for k, kind in enumerate(spec.declared):
            ways: list[Way] = [(op, *SCOPES[(i + j + k) % len(SCOPES)]) for j in (0, 2) for i, op in enumerate(OPS)]
            each = min(math.ceil(len(ways) / len(chosen)), max(math.ceil(len(OPS) / len(chosen)), most // len(chosen)))
            for i, b in enumerate(chosen):
                site = Site(spec.name, b, kind)
                if site not in seen.parts:
                    continue
                picked: list[Way] = [ways[(i * each + j + k) % len(ways)] for j in range(each)]
                picked.append(("self", *SCOPES[(i + k) % len(SCOPES)]))
                asks += [_ask(site, way, seen.parts[site], spec.n_heads, generator) for way in picked]
    return asks


def _ask(site: Site, way: Way, before: Tensor, heads: int, generator: torch.Generator) -> Ask:
    op, some_units, one_position = way
    batch, seq, channels = before.shape
    count = heads if site.kind in HEADED else channels
    width = channels // count
    units: tuple[int, ...] | None = None
    if some_units:  # one head, or a quarter of the channels, in any order
        many = 1 if site.kind in HEADED else max(1, channels // 4)
        units = tuple(torch.randperm(count, generator=generator)[:many].tolist())
    chosen = [u * width + i for u in (range(count) if units is None else units) for i in range(width)]
    # Rows look at different positions, none at the first: what a causal model does there moves nothing in its attention.
    at = torch.randint(min(1, seq - 1), seq, (batch,), generator=generator).to(before.device) if one_position else None
    if op == "self":
        return Ask(site, op, before, units, at, chosen)
    scale = before.float().pow(2).mean().sqrt().clamp(min=1e-3).item()
    # Set draws another value for each row and position, so that mixing them up shows.
    drawn = scale * torch.randn(before.shape if op == "set" else (1, 1, channels), generator=generator)
    return Ask(site, op, drawn.to(before.device, before.dtype).expand(before.shape), units, at, chosen)


def _edits(subject: Subject, plain: Plain, inputs: Inputs, seen: Seen, asks: list[Ask], book: _Book) -> None:
    """Each edit by itself: what stands at its part afterwards, and what becomes of the logits, alone and in a sweep."""
    subject = subject.keeping(Kept(share_of_free(subject.device)))  # as in experiments
    for part in _chunks(asks):
        wanted = plain.changed(inputs.fields, [Change(a.site, a.of) for a in part], seen)
        swept = _sweep(subject, inputs, part, book)
        if part[0] is asks[0] and len(subject.stacks) == 1 and "cached_generation" in subject.capabilities:
            _read_late(subject, inputs, part, wanted, seen, book)
        for i, (ask, want) in enumerate(zip(part, wanted, strict=True)):
            place = (ask.site.stack, ask.site.kind)
            if ask.op == "self":
                if i in swept:
                    book.same("self-patch", swept[i], seen.logits, str(ask), place, logits=True)
                continue
            with _noting(book, "edit", place):
                run = subject.run(inputs, edits=[ask.edit()], capture=[ask.site])
                book.same("edit", run.captured[ask.site], ask.of(seen.parts[ask.site]), str(ask), place)
                for got, how in [(run.logits, ""), (swept.get(i, run.logits), ", in a sweep")]:
                    book.add("effect", _missed(got, want, seen.logits, book), f"{ask}{how}", place)
            if _off(want, seen.logits, book.least(want)) <= book.limit:
                book.still[place] = book.still.get(place, 0) + 1


def _read_late(subject: Subject, inputs: Inputs, asks: list[Ask], wanted: Tensor, seen: Seen, book: _Book) -> None:
    """The same edits where the end alone is read: there last blocks are then run, and nowhere else."""
    last = seen.logits.shape[1] - 1
    stack = asks[0].site.stack
    every = tuple(range(len(subject.spec(stack).blocks)))
    with _noting(book, "effect", (stack, asks[0].site.kind)):
        variants = [Variant(every, (a.edit(),)) for a in asks]
        found, _ = subject.sweep(inputs, variants, lambda h, _: subject.unembed(h), stack=stack, read_from=last)
        for ask, got, want in zip(asks, found, wanted, strict=True):
            off = _missed(got, want[:, last:], seen.logits[:, last:], book)
            book.add("effect", off, f"{ask}, read at the end", (stack, ask.site.kind))


def _sweep(subject: Subject, inputs: Inputs, asks: list[Ask], book: _Book) -> dict[int, Tensor]:
    """Logits of each edit by itself, all in one sweep of their stack; of what cannot be run together, each in its own."""
    stack = asks[0].site.stack
    every = tuple(range(len(subject.spec(stack).blocks)))

    def logits(some: list[Ask]) -> list[Tensor]:
        variants = [Variant(every, (a.edit(),)) for a in some]
        return subject.sweep(inputs, variants, lambda h, _: subject.unembed(h), stack=stack)[0]

    try:
        return dict(enumerate(logits(asks)))
    except Exception as error:  # noqa: BLE001  # one of them is at fault: which one is seen below
        found: dict[int, Tensor] = {}
        for i, ask in enumerate(asks):
            with _noting(book, "effect", (stack, ask.site.kind)):
                (found[i],) = logits([ask])
        if len(found) == len(asks):
            with _noting(book, "rows"):
                raise RuntimeError(f"edits that work alone fail in one sweep: {error}") from None
        return found


def _missed(got: Tensor, want: Tensor, clean: Tensor, book: _Book) -> float:
    """How far `got` is from `want`: relative to its size, and to how far it should have moved where that is well seen."""
    least, limit = book.least(want), book.limit
    off, moved = _off(got, want, least), _off(want, clean, least)
    return max(off, off / moved * limit * 10) if moved > 20 * limit and off > limit / 10 else off


def _chunks(asks: list[Ask]) -> Iterator[list[Ask]]:
    for stack in sorted({a.site.stack for a in asks}):
        mine = [a for a in asks if a.site.stack == stack]
        for i in range(0, len(mine), CHUNK):
            yield mine[i : i + CHUNK]
