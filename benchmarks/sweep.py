"""Sweeps of layer programs and of edits: what the engine shares against a plain loop, rounds interleaved.

`python -m benchmarks.sweep [--rounds N]`. For programs the plain loop replaces the model's block list, for edits it hangs a hook
on one module; it runs the model once for each and asks for the last position's logits only, which is the quickest that
transformers alone can do. Both must give the same numbers.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from tools.engine.executor import SweepCost, Variant
from tools.engine.programs import SWEEPS
from tools.engine.sites import Edit, Site
from tools.subjects import Inputs, wrap

ROUNDS, BATCH, SEQ = 7, 16, 32
MODULES = {"resid_pre": "", "attn.out": "attn.c_proj", "mlp.out": "mlp.c_proj"}


def main() -> None:
    """Print two tables: time of each way, median ratio, block runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    config = GPT2Config(n_embd=256, n_head=4, n_layer=12, vocab_size=16384, n_positions=128)
    model = GPT2LMHeadModel(config).eval()
    subject = wrap(model)
    ids = torch.randint(0, config.vocab_size, (BATCH, SEQ))
    inputs = Inputs({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, (SEQ,) * BATCH)
    blocks = list(model.transformer.h)
    every = tuple(range(len(blocks)))
    print("| sweep | variants | block runs: loop | block runs: here | loop, s | here, s | loop / here |")
    print("|---|---|---|---|---|---|---|")

    def logits() -> Tensor:
        return model(ids, use_cache=False, logits_to_keep=1).logits[:, -1]

    def swept(variants: Sequence[Variant], costs: list[SweepCost]) -> Tensor:
        states, cost = subject.sweep(inputs, variants, lambda h, _: h[:, -1])
        costs[:] = [cost]
        return subject.unembed(torch.stack(states))

    def replaced(programs: Sequence[tuple[int, ...]]) -> Tensor:
        rows: list[Tensor] = []
        try:
            for p in programs:
                model.transformer.h = nn.ModuleList(blocks[i] for i in p)
                rows.append(logits())
        finally:
            model.transformer.h = nn.ModuleList(blocks)
        return torch.stack(rows)

    def hooked(edits: Sequence[Edit]) -> Tensor:
        rows: list[Tensor] = []
        for e in edits:
            block, path = blocks[e.site.block], MODULES[e.site.kind]
            hook = _set_before(block, e) if not path else _set_after(block.get_submodule(path), e)
            try:
                rows.append(logits())
            finally:
                hook.remove()
        return torch.stack(rows)

    for name, make in SWEEPS.items():
        programs = [p.blocks for p in make(len(blocks))]
        variants = [Variant(p) for p in programs]
        _compare(name, len(programs), lambda p=programs: replaced(p), lambda c, v=variants: swept(v, c), rounds)
    value = torch.randn(256)
    for name, kinds, positions in [
        ("patching, blocks x positions", ["resid_pre"], range(SEQ)),
        ("every attention and MLP, at the last position", ["attn.out", "mlp.out"], [SEQ - 1]),
        ("every attention and MLP, in the middle", ["attn.out", "mlp.out"], [SEQ // 2]),
    ]:
        at = {p: torch.full((BATCH, 1), p) for p in positions}
        edits = [Edit(Site("decoder", b, k), "set", value, at[p]) for b in every for k in kinds for p in positions]  # type: ignore[arg-type]
        variants = [Variant(every, (e,)) for e in edits]
        _compare(name, len(edits), lambda e=edits: hooked(e), lambda c, v=variants: swept(v, c), rounds)


def _compare(
    name: str, n: int, loop: Callable[[], Tensor], here: Callable[[list[SweepCost]], Tensor], rounds: int
) -> None:
    costs: list[SweepCost] = []
    with torch.inference_mode():
        difference = (loop() - here(costs)).abs().max().item()
        assert difference < 1e-3, f"{name}: the two disagree by {difference}"
        times = [(_seconds(loop), _seconds(lambda: here(costs))) for _ in range(rounds)]
    ratio = statistics.median(a / b for a, b in times)
    a, b = (statistics.median(t) for t in zip(*times, strict=True))
    (cost,) = costs
    print(f"| {name} | {n} | {cost.naive_edges} | {cost.edges} | {a:.3f} | {b:.3f} | {ratio:.2f} |", flush=True)


def _set_before(module: nn.Module, edit: Edit) -> Any:
    return module.register_forward_pre_hook(lambda _m, args: (edit.apply(args[0], 256), *args[1:]))


def _set_after(module: nn.Module, edit: Edit) -> Any:
    return module.register_forward_hook(lambda _m, _a, out: edit.apply(out, 256))


def _seconds(f: Callable[[], object]) -> float:
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
