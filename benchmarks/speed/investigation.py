"""A whole investigation by the systematic planner: of a model as large as GPT-2, made from a seed, or of the demo.

`python -m benchmarks.speed.investigation [--subject demo] [--blocks 12] [--width 768] [--seed 0] [--threads N] [--dtype bfloat16]
[--memory-limit SIZE]`. The large model has random weights; its task is to say what it says, with prompts of six random words,
so that the intact model is always right and what decides an answer is to be found. Prints seconds of the wall by tool, and those
outside of tools, beside the processor's.
"""

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from tools.engine.threads import share_the_machine

EXAMPLES, WORDS, PROMPT = 640, 50257, 6
BY_TOOL = """
    SELECT tool, count(*), sum(wall_seconds) FROM results r JOIN experiments x ON x.id = r.experiment
    GROUP BY tool ORDER BY 3 DESC
"""


def main() -> int:
    """Make what is asked about, run the investigation, print where the time went."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.investigation", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--subject", help="a built-in model, asked where addition happens; default: the large model")
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of torch; default: as many as there are cores")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--memory-limit", default=None, help="as of agent.run")
    asked = parser.parse_args()
    share_the_machine()
    import torch

    if asked.threads:
        torch.set_num_threads(asked.threads)
    from agent import run
    from agent.loop import session  # what is imported is not timed

    del session
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        limit = [] if asked.memory_limit is None else ["--memory-limit", asked.memory_limit]
        where = [
            "--db",
            str(folder / "e.db"),
            "--out",
            str(folder),
            "--device",
            "cpu",
            "--dtype",
            asked.dtype,
            "--quiet",
            "--null-twins",
            "0",
            *limit,
        ]
        if asked.subject:
            about = ["--goal", "find where addition happens", "--subject", asked.subject]
        else:
            large(folder / "model", folder / "replies.jsonl", asked.blocks, asked.width, asked.seed)
            about = [
                "--goal",
                "find where replies happens",
                "--subject",
                str(folder / "model"),
                "--task",
                str(folder / "replies.jsonl"),
            ]
        on_wall, start = time.perf_counter(), time.process_time()
        status = run.main([*about, *where])
        whole, on_wall = time.process_time() - start, time.perf_counter() - on_wall
        with sqlite3.connect(folder / "e.db") as db:
            rows = db.execute(BY_TOOL).fetchall()
    threads = f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
    print(f"\n{on_wall:.1f} seconds on the wall with {threads}, {whole:.1f} of the processor\n")
    print("| tool | experiments | seconds |\n|---|---|---|")
    for tool, n, seconds in rows:
        print(f"| {tool} | {n} | {seconds:.1f} |")
    print(f"| everything else | | {on_wall - sum(r[2] for r in rows):.1f} |")
    return status


def large(folder: Path, task: Path, blocks: int, width: int, seed: int) -> None:
    """A GPT-2 with random weights, and what it answers to random prompts as its task."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from benchmarks.speed.peers import tokenizer_of

    torch.manual_seed(seed)
    config = GPT2Config(n_layer=blocks, n_embd=width, n_head=width // 64, vocab_size=WORDS, n_positions=64, initializer_range=0.05,
                        bos_token_id=0, eos_token_id=0)  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    model.save_pretrained(folder)
    tokenizer_of(WORDS).save_pretrained(folder)
    drawn = random.Random(seed)
    prompts = [[drawn.randrange(1, WORDS) for _ in range(PROMPT)] for _ in range(EXAMPLES)]
    answers: list[int] = []
    with torch.inference_mode():
        for at in range(0, EXAMPLES, 64):
            answers += model(torch.tensor(prompts[at : at + 64]), logits_to_keep=1).logits[:, -1].argmax(-1).tolist()
    lines = [
        {"prompt": " ".join(f"w{i}" for i in p), "answer": f" w{a}"} for p, a in zip(prompts, answers, strict=True) if a
    ]
    task.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
