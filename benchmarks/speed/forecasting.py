"""Estimated and measured time and memory of typical calls on the demo, and of this benchmark's sweeps on a model of its size.

Seconds are of the processor on both sides, the pace measured by the same clock. Memory is what the process holds at its peak beyond
what it held before, as Linux counts it; freed memory is given back before each call.
"""

import ctypes
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed.deciding import own_answers
from tools.engine.programs import SWEEPS
from tools.methods.effects import Condition, score_under
from tools.methods.forecasting import Forecast, Work, forecast, measure
from tools.methods.layout import select_components
from tools.methods.measuring import load_examples
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, discover
from tools.subjects import load_subject

NAME, PROMPTS = "forecast", 16
HEAD = "| call | estimated, s | measured, s | ratio | estimated, MB | measured, MB | ratio |\n|---|---|---|---|---|---|---|"
BOTH = ["attn.out@answer", "mlp.out@answer"]
CALLS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("loss of two tasks", "loss", {"tasks": ["addition", "agreement"], "examples": 128}),
    ("ablate attention and MLPs, zero", "ablate", {"components": BOTH, "intervention": "zero", "examples": 72}),
    ("ablate heads, resampled", "ablate", {"components": ["attn.z[*]@answer"], "intervention": "resample(donor)", "examples": 128}),
    ("ablate everywhere, mean", "ablate", {"components": ["attn.out", "mlp.out"], "intervention": "mean", "examples": 128}),
    ("decide heads and MLPs", "ablate", {"components": ["attn.z[*]@answer", "mlp.out@answer"], "intervention": "zero",
                                        "examples": 192, "mode": "decide"}),
    ("patch each position", "patch", {"components": ["resid_pre@each"], "examples": 64}),
    ("skip ranges of blocks", "layer_program", {"tasks": ["addition"], "sweep": "skip_ranges", "examples": 64}),
    ("examine necessary", "examine", {"kind": "necessary", "components": ["decoder.0.mlp.out@answer"]}),
    ("examine not_needed", "examine", {"kind": "not_needed", "components": ["decoder.2-4.mlp.out@answer"]}),
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """What was said of a call and what it took: seconds, and bytes at the peak beyond those held before."""

    name: str
    said: Forecast
    seconds: float
    bytes: float

    @property
    def line(self) -> str:
        """A row of the table."""
        says, took = self.said.bytes / 1e6, self.bytes / 1e6
        return (
            f"| {self.name} | {self.said.seconds:.2f} | {self.seconds:.2f} | {self.said.seconds / self.seconds:.2f} | {says:.0f} | "
            f"{took:.0f} | {says / took:.2f} |"
        )


def compared() -> Iterator[Compared]:
    """Each call, forecast and run once."""
    ctx = Context(load_subject("demo", device="cpu"), OfflineTasks([]), Nothing())
    pace = measure(ctx.subject, load_examples(ctx, "addition", 8)[1], time.process_time)
    for title, name, given in CALLS:
        tool = discover()[name]
        args = tool.parse(given if "tasks" in given else {"task": "addition", **given})
        assert tool.work is not None
        said = forecast(ctx, tool.work(args, ctx), pace)
        yield _run(f"demo: {title}", said, lambda tool=tool, args=args: tool.run(args, ctx))
    _, subject, task = own_answers(PROMPTS)
    ctx, examples = Context(subject, OfflineTasks([]), Nothing()), task.examples("explore", PROMPTS)
    pace = measure(subject, examples, time.process_time)
    for title, conditions in _sweeps(ctx, len(subject.spec().blocks), examples):
        said = forecast(ctx, [Work(task, examples, conditions)], pace)
        yield _run(f"sweep: {title}", said, lambda made=conditions: score_under(ctx, task, examples, made))


def _sweeps(ctx: Context, blocks: int, examples: Sequence[Any]) -> Iterator[tuple[str, list[Condition]]]:
    name = ctx.subject.spec().name
    for title, sweep in (
        ("drop the last n, all n", "drop_last"), ("skip every contiguous range", "skip_ranges"),
        ("swap neighbours", "swap_adjacent"), ("repeat each block", "repeat_each"),
    ):  # fmt: skip
        yield title, [Condition(programs=((name, p.blocks),)) for p in SWEEPS[sweep](blocks)]
    every = [f"resid_pre@{-1 - i}" for i in range(0, max(len(e.shown.split()) for e in examples), 4)]
    for title, texts in (
        ("patch blocks x positions, every fourth", every),
        ("ablate every head and MLP", ["attn.z[*]", "mlp.out"]),
    ):
        yield title, [Condition.of(c, "zero") for c in select_components(ctx.subject, texts)]


def _run(name: str, said: Forecast, way: Callable[[], object]) -> Compared:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before, start = _held("VmRSS"), time.process_time()
    way()
    return Compared(name, said, time.process_time() - start, max(1.0, _held("VmHWM") - before))


def _held(what: str) -> float:
    """Bytes, by the name that Linux gives them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * int(next(line.split()[1] for line in lines if line.startswith(f"{what}:")))
