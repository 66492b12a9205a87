"""Sweeps of layer programs: the trie executor against a plain loop over edited models, rounds interleaved.

`python -m benchmarks.sweep`. The plain loop replaces the model's block list for each program and asks for the last
position's logits only, which is the quickest that transformers alone can do. Both must give the same numbers.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from tools.engine.executor import Variant
from tools.engine.programs import SWEEPS
from tools.subjects import Inputs, wrap

ROUNDS, BATCH, SEQ = 7, 16, 32


def main() -> None:
    """Print a table: time of each way, median ratio, block runs."""
    torch.manual_seed(0)
    config = GPT2Config(n_embd=256, n_head=4, n_layer=12, vocab_size=16384, n_positions=128)
    model = GPT2LMHeadModel(config).eval()
    subject = wrap(model)
    ids = torch.randint(0, config.vocab_size, (BATCH, SEQ))
    inputs = Inputs({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, (SEQ,) * BATCH)
    blocks = list(model.transformer.h)
    print("| sweep | programs | block runs: loop | block runs: trie | loop, s | trie, s | loop / trie |")
    print("|---|---|---|---|---|---|---|")
    for name, make in SWEEPS.items():
        programs = [p.blocks for p in make(len(blocks))]
        cost = [0, 0]

        def loop(programs: list[tuple[int, ...]] = programs) -> torch.Tensor:
            rows = []
            try:
                for p in programs:
                    model.transformer.h = nn.ModuleList(blocks[i] for i in p)
                    rows.append(model(ids, use_cache=False, logits_to_keep=1).logits[:, -1])
            finally:
                model.transformer.h = nn.ModuleList(blocks)
            return torch.stack(rows)

        def trie(programs: list[tuple[int, ...]] = programs, cost: list[int] = cost) -> torch.Tensor:
            states, spent = subject.sweep(inputs, [Variant(p) for p in programs], lambda h, _: h[:, -1])
            cost[:] = spent.naive_edges, spent.edges
            return subject.unembed(torch.stack(states))

        with torch.inference_mode():
            difference = (loop() - trie()).abs().max().item()
            assert difference < 1e-3, f"{name}: the two disagree by {difference}"
            times = [(_seconds(loop), _seconds(trie)) for _ in range(ROUNDS)]
        ratio = statistics.median(a / b for a, b in times)
        a, b = (statistics.median(t) for t in zip(*times, strict=True))
        print(f"| {name} | {len(programs)} | {cost[0]} | {cost[1]} | {a:.3f} | {b:.3f} | {ratio:.2f} |", flush=True)


def _seconds(f: Callable[[], object]) -> float:
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
