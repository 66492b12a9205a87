"""A planner that goes on predicting until something passes, on findings of which none is true.

Each stream is a task of its own: a compiled model answers it rightly, and then some of the task's answers are made wrong at
random, so that it does the task exactly as much better than chance as what counts as the smallest effect, and no more. The planner
examines, predicts and confirms the same thing again and again, each time with another number of examples. Whatever it does, a
stream may end with a confirmed finding in one case of twenty at most.
"""

import random
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import binomtest

from benchmarks.claims.case import about
from benchmarks.claims.results import Results
from benchmarks.claims.stage import Calls, Script, Stage, World
from benchmarks.claims.worlds import Worlds
from experiments_db.records import TaskData

LEVEL = 0.05
SIZES = (64, 65, 66, 67)  # one round each: another number makes another statement
CANDIDATES = 4
EXAMPLES = 400
PROGRAM = "previous-0"


@dataclass(frozen=True)
class Streams:
    """How many streams there were, how many findings were settled, and in how many streams one was confirmed."""

    streams: int
    settled: int
    confirmed: int

    @property
    def holds(self) -> bool:
        """Whether the rate is at the promised level, as far as so many streams can tell."""
        return not self.streams or self._interval[0] <= LEVEL

    @property
    def _interval(self) -> tuple[float, float]:
        found = binomtest(self.confirmed, self.streams).proportion_ci(method="exact")
        return float(found.low), float(found.high)

    @property
    def text(self) -> str:
        """One sentence."""
        if not self.streams:
            return "No streams of nulls were played."
        low, high = self._interval
        return (
            f"Adaptive streams on true nulls: {self.confirmed} of {self.streams} ended with a confirmed finding "
            f"({100 * low:.1f}% to {100 * high:.1f}%), promised at most {100 * LEVEL:.0f}%; {self.settled} findings settled."
        )


def run(seed: int, folder: Path, streams: int, results: Results) -> Streams:
    """Play the streams, but those that were played before."""
    stage, worlds = Stage(folder / "nulls"), Worlds(folder)
    stage.folder.mkdir(exist_ok=True)
    settled = confirmed = 0

    def fates_of(number: int) -> list[str | None]:
        world = null_world(worlds.get(PROGRAM), random.Random(f"{seed}/null/{number}"), number)
        return [f.fate for f in stage.play(world, script(world)).record.findings()]

    for i in range(streams):
        fates, _ = results.get(f"null stream {i}, seed {seed}", lambda i=i: fates_of(i))
        settled += len(fates)
        confirmed += "confirmed" in fates
    return Streams(streams, settled, confirmed)


def null_world(world: World, rng: random.Random, number: int) -> World:
    """The world with a task of which it gets exactly the smallest part that counts, beyond chance, by chance alone."""
    chance = 1 / CANDIDATES
    right = chance + 0.1 * (1 - chance)
    letters = sorted({str(e["answer"]) for e in world.data[0].examples})
    rows: list[dict[str, object]] = []
    for e in world.data[0].examples[:]:
        others = [a for a in letters if a != e["answer"]]
        wrong = rng.sample(others, CANDIDATES - 1)
        answer = e["answer"] if rng.random() < right else wrong[0]
        rows.append(
            {**e, "answer": answer, "candidates": [e["answer"], *wrong], "foil": None, "twin": None, "twin_spans": {}}
        )
    data = TaskData(name="listed", description="Answers, some of them wrong.", examples=tuple(rows), origin="file")
    return World(f"null-{number}", world.subject, world.goal, world.task, (data,))


def script(world: World) -> Script:
    """Again and again the same, until the sizes are used up."""
    turns: list[Calls] = []
    for n in SIZES:
        turns += [
            [("examine", {**about(world.task, "capability"), "examples": n})],
            [("predict", {"experiment": "$E"})], [("confirm", {})],
        ]  # fmt: skip
    return tuple(turns)
