"""Sweeps of layer programs and of edits, here, in TransformerLens, in nnsight and in a plain loop over transformers.

The plain loop replaces the model's block list, or hangs a hook on one module, runs the model once for each variant, and asks
for the last position's logits only: the quickest that transformers alone does. The peers run as their own documentation has it.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.speed import peers
from benchmarks.speed.timing import HOOKS, LENS, NNSIGHT, OURS, Job, block_seconds, clocked
from tools.engine.executor import Variant
from tools.engine.programs import SWEEPS
from tools.engine.sites import Edit, Site
from tools.subjects import Inputs, wrap

LAYERS, WIDTH, HEADS, WORDS, SEQ = 12, 256, 4, 16384, 32
PATHS = {"resid_pre": "", "attn.z": "attn.c_proj", "attn.out": "attn.c_proj", "mlp.out": "mlp.c_proj"}
BRIDGED = {"resid_pre": "hook_resid_pre", "attn.z": "attn.hook_z", "mlp.out": "hook_mlp_out"}
SHARE_OF_KEYS = 1 / 6  # of a block's multiplications those that make keys and values


class Bench:
    """One model under every library, and prompts.

    modules: the peers that are installed. begin: how many tokens all prompts begin with.
    """

    def __init__(self, modules: dict[str, Any], batch: int, begin: int = 0) -> None:
        torch.manual_seed(0)
        config = GPT2Config(
            n_embd=WIDTH,
            n_head=HEADS,
            n_layer=LAYERS,
            vocab_size=WORDS,
            n_positions=128,
            bos_token_id=0,
            eos_token_id=0,
        )
        self.model = GPT2LMHeadModel(config).eval()
        self.subject = wrap(copy.deepcopy(self.model))  # which alters how an activation function is computed
        self.ids, self.begin = torch.randint(1, WORDS, (batch, SEQ)), begin
        self.ids[:, :begin] = self.ids[:1, :begin]
        self.inputs = Inputs({"input_ids": self.ids, "attention_mask": torch.ones_like(self.ids)}, (SEQ,) * batch)
        self.blocks = list(self.model.transformer.h)
        self.bridge = peers.bridge_of(copy.deepcopy(self.model)) if LENS in modules else None
        self.nnsight = modules[NNSIGHT].NNsight(copy.deepcopy(self.model)) if NNSIGHT in modules else None

    @property
    def batch(self) -> int:
        """Prompts."""
        return len(self.ids)

    def here(self, variants: Sequence[Variant]) -> Tensor:
        """Last logits of every variant, (variants, batch, words)."""
        with self.subject.evaluating():
            states, _ = self.subject.sweep(self.inputs, variants, lambda h, _: h[:, -1], read_from=SEQ - 1)
            return self.subject.unembed(torch.stack(states))

    def logits(self) -> Tensor:
        """Last logits of the model as it is, by transformers."""
        return self.model(self.ids, use_cache=False, logits_to_keep=1).logits[:, -1]

    def least(self, units: float, variants: int, alike: int) -> float:
        """Seconds of so many blocks x positions, and of one product that reads out the variants' last positions.

        alike: runs of a block that do not need one another, at most: no batch can hold more of them.
        """
        product = partial(self.subject.unembed, torch.randn(variants * self.batch, WIDTH))
        with self.subject.evaluating():
            product()
            block = units * self.batch * block_seconds(self.subject.spec().blocks[0], WIDTH, SEQ, alike * self.batch)
            return block + min(clocked(product) for _ in range(3))


@contextmanager
def _blocks(owner: Any, blocks: Sequence[nn.Module]) -> Iterator[None]:
    before = owner.h
    owner.h = nn.ModuleList(blocks)
    try:
        yield
    finally:
        owner.h = before


def _programs_by_list(owner: Any, logits: Callable[[], Tensor], programs: Sequence[tuple[int, ...]]) -> Tensor:
    blocks, rows = list(owner.h), list[Tensor]()
    for p in programs:
        with _blocks(owner, [blocks[i] for i in p]):
            rows.append(logits())
    return torch.stack(rows)


def _skips_in_bridge(bench: Bench, programs: Sequence[tuple[int, ...]]) -> Tensor:
    """Blocks are passed over by giving back what entered them: the bridge's hooks leave out no work."""
    rows: list[Tensor] = []
    for p in programs:
        hooks: list[tuple[str, Callable[..., Any]]] = []
        for b in sorted(set(range(LAYERS)) - set(p)):
            seen: dict[str, Tensor] = {}
            hooks += [(f"blocks.{b}.hook_in", _kept(seen)), (f"blocks.{b}.hook_out", _given(seen))]
        rows.append(bench.bridge.run_with_hooks(bench.ids, use_cache=False, fwd_hooks=hooks)[:, -1])
    return torch.stack(rows)


def _kept(seen: dict[str, Tensor]) -> Callable[..., None]:
    return lambda t, hook: seen.update({hook.name[-3:]: t})


def _given(seen: dict[str, Tensor]) -> Callable[..., Tensor]:
    return lambda t, hook: seen.get("_in", t) if hook else t


def _skips_in_nnsight(bench: Bench, programs: Sequence[tuple[int, ...]]) -> Tensor:
    rows: list[Tensor] = []
    model: Any = bench.nnsight
    for p in programs:
        with model.trace(bench.ids, use_cache=False):
            for b in range(LAYERS):
                if b not in p:
                    model.transformer.h[b].skip(model.transformer.h[b].input)
            out = model.lm_head.output[:, -1].save()
        rows.append(out)
    return torch.stack(rows)


def programs(bench: Bench) -> Iterator[Job]:
    """Drop the last n, contiguous ranges, swaps, repeats."""
    wanted: list[tuple[str, str, dict[str, float], float]] = [
        ("drop_last", "drop the last n, all n", {LENS: 14, NNSIGHT: 8}, 1.1),
        ("skip_ranges", "skip every contiguous range", {LENS: 5, NNSIGHT: 3}, 1.15),
        ("swap_adjacent", "swap neighbours", {LENS: 2.4, NNSIGHT: 2}, 1.15),
        ("repeat_each", "repeat each block", {LENS: 2.4, NNSIGHT: 2}, 1.15),
    ]
    if bench.begin:
        wanted = [("skip_ranges", f"skip every contiguous range, {bench.begin} tokens alike", {}, 1.5)]
    for name, title, floors, bound in wanted:
        found = [p.blocks for p in SWEEPS[name](LAYERS)]
        skips = name in ("drop_last", "skip_ranges")
        ways: dict[str, Callable[[], Tensor]] = {
            OURS: partial(bench.here, [Variant(p) for p in found]),
            HOOKS: partial(_programs_by_list, bench.model.transformer, bench.logits, found),
        }
        if bench.bridge is not None:
            whole = partial(_bridge_logits, bench)
            owner = bench.bridge.original_model.transformer
            ways[LENS] = (
                partial(_skips_in_bridge, bench, found) if skips else partial(_programs_by_list, owner, whole, found)
            )
        if bench.nnsight is not None:
            whole = partial(_nnsight_logits, bench)
            owner = bench.nnsight._module.transformer
            ways[NNSIGHT] = (
                partial(_skips_in_nnsight, bench, found) if skips else partial(_programs_by_list, owner, whole, found)
            )
        # The last block of a program that ends there has to give one position, and keys and values of the others.
        edges = {p[: i + 1] for p in found for i in range(len(p))}
        ends = len([p for p in set(found) if p and not any(e[:-1] == p for e in edges)])
        own = SEQ - bench.begin * (1 - 1 / bench.batch)  # positions, a prompt's share of what all begin with among them
        units = len(edges) * own - ends * (own - 1) * (1 - SHARE_OF_KEYS)
        naive = sum(len(p) * SEQ - bool(p) * (SEQ - 1) * (1 - SHARE_OF_KEYS) for p in found)
        alike = max(Counter((len(e), e[-1]) for e in edges).values())
        yield Job(title, len(found), ways, partial(bench.least, units, len(found), alike), floors, bound, naive / units)


def _bridge_logits(bench: Bench) -> Tensor:
    return bench.bridge(bench.ids, use_cache=False)[:, -1]


def _nnsight_logits(bench: Bench) -> Tensor:
    model: Any = bench.nnsight
    with model.trace(bench.ids, use_cache=False):
        out = model.lm_head.output[:, -1].save()
    return out  # noqa: RET504  # what a trace saves is there after it


def edits(bench: Bench) -> Iterator[Job]:
    """Patching of blocks x positions and of heads x positions, and ablation of every head and MLP."""
    value = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    every = tuple(range(LAYERS))

    def made(
        kind: str, positions: Sequence[int | None], units: Sequence[int | None], *, zero: bool = False
    ) -> list[Edit]:
        found: list[Edit] = []
        for b in every:
            for u in units:
                for p in positions:
                    at = None if p is None else torch.full((bench.batch, 1), p)
                    new = value if u is None else value[: WIDTH // HEADS]
                    what = ("scale", torch.zeros(())) if zero else ("set", new)
                    site = Site("decoder", b, kind)  # type: ignore[arg-type]
                    found.append(Edit(site, *what, at, None if u is None else (u,)))  # type: ignore[arg-type]
        return found

    heads = list(range(HEADS))
    patching = {LENS: 5.5, NNSIGHT: 5.5}
    ablation = {LENS: 3.5, NNSIGHT: 3.5}
    for title, found, floors in [
        ("patch blocks x positions", made("resid_pre", range(SEQ), [None]), patching),
        ("patch heads x positions (every fourth)", made("attn.z", range(3, SEQ, 4), heads), patching),
        (
            "ablate every head and MLP",
            [*made("attn.z", [None], heads, zero=True), *made("mlp.out", [None], [None], zero=True)],
            ablation,
        ),
    ]:
        ways: dict[str, Callable[[], Tensor]] = {
            OURS: partial(bench.here, [Variant(every, (e,)) for e in found]),
            HOOKS: partial(_hooked, bench, found),
        }
        if bench.bridge is not None:
            ways[LENS] = partial(_edits_in_bridge, bench, found)
        if bench.nnsight is not None:
            ways[NNSIGHT] = partial(_edits_in_nnsight, bench, found)
        units = float(LAYERS * SEQ)  # the unchanged run
        naive = 0.0
        for e in found:
            after = SEQ - (0 if e.positions is None else int(e.positions.min()))
            last = (after - 1) * (1 - SHARE_OF_KEYS)
            units += (LAYERS - e.site.block) * after - last
            naive += LAYERS * SEQ - (SEQ - 1) * (1 - SHARE_OF_KEYS)
        yield Job(
            title, len(found), ways, partial(bench.least, units, len(found), len(found)), floors, 1.3, naive / units, rounds=3
        )


def _hooked(bench: Bench, found: Sequence[Edit]) -> Tensor:
    rows: list[Tensor] = []
    for e in found:
        block, path, units = bench.blocks[e.site.block], PATHS[e.site.kind], HEADS if e.units else WIDTH
        if e.site.kind == "mlp.out":
            hook = block.get_submodule(path).register_forward_hook(lambda _m, _a, out, e=e: e.apply(out, WIDTH))
        else:
            module = block.get_submodule(path) if path else block
            hook = module.register_forward_pre_hook(lambda _m, a, e=e, u=units: (e.apply(a[0], u), *a[1:]))
        try:
            rows.append(bench.logits())
        finally:
            hook.remove()
    return torch.stack(rows)


def _edits_in_bridge(bench: Bench, found: Sequence[Edit]) -> Tensor:
    rows: list[Tensor] = []
    for e in found:

        def change(t: Tensor, hook: Any, e: Edit = e) -> Tensor:  # noqa: ARG001  # the bridge passes it by name
            where = slice(None) if e.positions is None else int(e.positions[0, 0])
            t[(slice(None), where, e.units[0]) if e.units else (slice(None), where)] = (
                0.0 if e.op == "scale" else e.value
            )
            return t

        name = f"blocks.{e.site.block}.{BRIDGED[e.site.kind]}"
        rows.append(bench.bridge.run_with_hooks(bench.ids, use_cache=False, fwd_hooks=[(name, change)])[:, -1])
    return torch.stack(rows)


def _edits_in_nnsight(bench: Bench, found: Sequence[Edit]) -> Tensor:
    rows: list[Tensor] = []
    model: Any = bench.nnsight
    for e in found:
        where = slice(None) if e.positions is None else int(e.positions[0, 0])
        size = WIDTH // HEADS
        channels = slice(None) if e.units is None else slice(e.units[0] * size, (e.units[0] + 1) * size)
        value = 0.0 if e.op == "scale" else e.value
        kind, b = e.site.kind, e.site.block
        with model.trace(bench.ids, use_cache=False):
            if kind == "resid_pre":
                model.transformer.h[b].input[:, where, channels] = value
            elif kind == "attn.z":
                model.transformer.h[b].attn.c_proj.input[:, where, channels] = value
            else:
                model.transformer.h[b].mlp.output[:, where, channels] = value
            out = model.lm_head.output[:, -1].save()
        rows.append(out)
    return torch.stack(rows)
