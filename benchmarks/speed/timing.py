"""One job done in several ways: that they agree, how long each takes in interleaved rounds, and the least that it can take."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

OURS, LENS, NNSIGHT, HOOKS = "here", "TransformerLens", "nnsight", "transformers"
AGREE = 1e-3
BATCHES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Job:
    """What is computed, and by whom.

    ways: by name, each gives the same numbers in the same order. floors: how many times slower a peer should be at least.
    least: seconds that the work takes that no way can do without, given a clock. cap: how many times slower a loop would be
    that runs every variant by itself, as well batched as here; 0 where that is not a question.
    agree: how far the ways may differ. rounds: of this job at most.
    """

    name: str
    variants: int
    ways: dict[str, Callable[[], Tensor]]
    least: Callable[[], float]
    floors: dict[str, float] = field(default_factory=dict[str, float])
    bound: float = 1.15
    cap: float = 0.0
    agree: float = AGREE
    rounds: int = 7


@dataclass(frozen=True)
class Timed:
    """Seconds of each way by round, and of the least, by round."""

    job: Job
    seconds: dict[str, list[float]]
    least: list[float]

    def ratio(self, way: str) -> tuple[float, float, float]:
        """(median, lowest, highest) over the rounds of how many times slower than here a way is."""
        found = [a / b for a, b in zip(self.seconds[way], self.seconds[OURS], strict=True)]
        return statistics.median(found), min(found), max(found)

    @property
    def over_least(self) -> float:
        """How many times the least that the job needs is what it takes here: the median over the rounds."""
        return statistics.median(a / b for a, b in zip(self.seconds[OURS], self.least, strict=True))


def timed(job: Job, rounds: int) -> Timed:
    """Check that all ways agree, which also warms them up, then time them in turn. Seconds are of the processor."""
    truth = job.ways[OURS]()
    for name, way in job.ways.items():
        off = (way() - truth).abs().max().item()
        if not off <= job.agree:
            raise AssertionError(f"{job.name}: {name} and {OURS} disagree by {off:.2g}")
    seconds: dict[str, list[float]] = {name: [] for name in job.ways}
    least: list[float] = []
    for _ in range(min(rounds, job.rounds)):
        for name, way in job.ways.items():
            seconds[name].append(clocked(way))
        least.append(job.least())
    return Timed(job, seconds, least)


def clocked(way: Callable[[], object]) -> float:
    """Processor seconds of one call: other programs on the machine count less than they do on the wall."""
    start = time.process_time()
    way()
    return time.process_time() - start


def block_seconds(block: nn.Module, width: int, seq: int, most: int) -> float:
    """Seconds that one position of one prompt takes in one block, at the batch, of up to `most`, at which that is least."""
    best = float("inf")
    for batch in (b for b in BATCHES if b <= most):
        h = torch.randn(batch, seq, width)
        block(h)
        found = statistics.median(clocked(lambda h=h: block(h)) for _ in range(max(3, 32 // batch)))
        best = min(best, found / (batch * seq))
    return best
