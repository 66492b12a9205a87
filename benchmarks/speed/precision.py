"""The same sweeps in float32 and in bfloat16, and blocks run as they are or compiled: seconds, and what becomes of the answers.

`python -m benchmarks.speed.precision [--device cpu] [--rounds N] [--wide] [--compile]`. The models are as wide as that of
`benchmarks.speed`, and with `--wide` also as GPT-2 small and Llama-3.2-1B; weights are random. Answers are compared where a model's
first two logits are further apart than what rounding moves.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from tools.engine.threads import share_the_machine

SHAPES = {"12 x 256": (12, 256, 16384), "GPT-2 small": (12, 768, 50257), "Llama-3.2-1B": (16, 2048, 128256)}
PROMPTS, SEQ = 16, 32


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.precision", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wide", action="store_true", help="the larger models, too")
    parser.add_argument("--compile", action="store_true", help="also compile a block, which takes minutes")
    asked = parser.parse_args()
    share_the_machine()
    import torch

    from tools.engine.executor import Variant
    from tools.engine.programs import SWEEPS
    from tools.engine.sites import Edit, Site
    from tools.subjects import Inputs, Subject, wrap

    torch.set_num_threads(1)

    def model_of(name: str) -> torch.nn.Module:
        from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

        blocks, width, words = SHAPES[name]
        torch.manual_seed(0)
        if name.startswith("Llama"):
            return LlamaForCausalLM(
                LlamaConfig(
                    num_hidden_layers=blocks,
                    hidden_size=width,
                    intermediate_size=4 * width,
                    num_attention_heads=32,
                    num_key_value_heads=8,
                    vocab_size=words,
                    tie_word_embeddings=True,
                )
            )
        return GPT2LMHeadModel(
            GPT2Config(n_layer=blocks, n_embd=width, n_head=width // 64, vocab_size=words, bos_token_id=0, eos_token_id=0)
        )

    def clocked(way: Callable[[], object]) -> float:
        if asked.device == "cpu":
            start = time.process_time()
            way()
            return time.process_time() - start
        torch.cuda.synchronize()
        start = time.perf_counter()
        way()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    def jobs(subject: Subject) -> dict[str, Sequence[Variant]]:
        n = len(subject.spec().blocks)
        every, zero = tuple(range(n)), torch.zeros((), device=asked.device)
        heads = [
            Edit(Site(subject.readout, b, "attn.z"), "scale", zero, torch.full((1, 1), SEQ - 1, device=asked.device), (h,))
            for b in every
            for h in range(0, subject.spec().n_heads, 4)
        ]
        return {
            "drop the last n": [Variant(p.blocks) for p in SWEEPS["drop_last"](n)],
            "swap neighbours": [Variant(p.blocks) for p in SWEEPS["swap_adjacent"](n)],
            "zero every fourth head at the answer": [Variant(every, (e,)) for e in heads],
        }

    def last_logits(subject: Subject, inputs: Inputs, variants: Sequence[Variant]) -> torch.Tensor:
        with subject.evaluating():
            states, _ = subject.sweep(inputs, variants, lambda h, _: h[:, -1], read_from=SEQ - 1)
            return subject.unembed(torch.stack(states)).float().cpu()

    print(f"{asked.device}, torch {torch.__version__}, one thread of the processor\n")
    print("| model | sweep | variants | float32, s | bfloat16, s | times | answers that stay | off by, logits |")
    print("|---|---|---|---|---|---|---|---|")
    for name in SHAPES if asked.wide else list(SHAPES)[:1]:
        model = model_of(name).eval().to(asked.device)
        full, half = wrap(model), wrap(model_of(name).eval().to(asked.device, torch.bfloat16))
        ids = torch.randint(1, SHAPES[name][2], (PROMPTS, SEQ), generator=torch.Generator().manual_seed(1))
        fields = {"input_ids": ids.to(asked.device), "attention_mask": torch.ones_like(ids).to(asked.device)}
        inputs = Inputs(fields, (SEQ,) * PROMPTS)
        for job, variants in jobs(full).items():
            a, b = (last_logits(s, inputs, variants) for s in (full, half))
            seconds: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(asked.rounds):
                for which, subject in ((True, full), (False, half)):
                    seconds[which].append(clocked(partial(last_logits, subject, inputs, variants)))
            off = (a - b).abs().max().item()
            first, second = a.topk(2, -1).values.unbind(-1)
            clear = (first - second) > 2 * off
            same = (a.argmax(-1) == b.argmax(-1))[clear]
            stay = f"{same.double().mean():.0%} of {len(same)}" if len(same) else f"none of {clear.numel()} is clear"
            x, y = (statistics.median(seconds[k]) for k in (True, False))
            print(f"| {name} | {job} | {len(variants)} | {x:.2f} | {y:.2f} | {x / y:.2f} | {stay} | {off:.3f} |", flush=True)
    if asked.compile:
        block = model_of("12 x 256").eval().to(asked.device).get_submodule("transformer.h.0")
        states = torch.randn(64, SEQ, 256, device=asked.device)
        with torch.no_grad():
            plain = min(clocked(lambda: block(states)) for _ in range(10))
            start = time.perf_counter()
            made = torch.compile(block)
            off = (made(states) - block(states)).abs().max().item()
            took = time.perf_counter() - start
            quick = min(clocked(lambda: made(states)) for _ in range(10))
        print(f"\nA block of width 256 at 2048 positions: {1e3 * plain:.1f} ms as it is, {1e3 * quick:.1f} ms compiled,")
        print(f"which takes {took:.0f} s; they differ by {off:.1g}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
