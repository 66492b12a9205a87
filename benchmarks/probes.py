"""Ridge probes of many labels at many places: one batched solve against scikit-learn one by one, rounds interleaved.

`python -m benchmarks.probes [--rounds N] [--rows N]`. States are random, of the sizes given; labels have three classes, as
squares of a board have. Both choose the penalty from the same ones by leave-one-out error; what they read of the held-out rows
is compared. Time is the process's own, so that other programs on the machine count little.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifierCV

from tools.methods.batched_probes import PENALTIES, Labels, fit

SIZES = ((6, 1, 128), (6, 36, 128), (24, 36, 16), (12, 8, 768))  # places, labels, channels
TRAIN = 0.7


def main() -> None:
    """Print a table: time of each way, median ratio, share of readings that are the same, and both accuracies."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.probes", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--rows", type=int, default=1000, help="examples, of which 70%% are fitted on; default: 1000")
    args = parser.parse_args()
    torch.set_num_threads(1)
    columns = "places labels channels scikit-learn,s here,s scikit-learn/here same_readings accuracy_there here".split()
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for places, labels, channels in SIZES:
        _compare(places, labels, channels, args.rows, args.rounds)


def _compare(places: int, labels: int, channels: int, rows: int, rounds: int) -> None:
    rng = np.random.default_rng([places, labels, channels])
    x = rng.normal(size=(places, rows, channels)).astype(np.float32)
    score = x[0] @ rng.normal(size=(channels, labels)) + channels**0.5 * rng.normal(size=(rows, labels))
    y = np.digitize(score, [-0.6 * channels**0.5, 0.6 * channels**0.5])
    known, cut = Labels.of({f"label.{k}": y[:, k].tolist() for k in range(labels)}), int(TRAIN * rows)
    states = torch.from_numpy(x)

    def here() -> NDArray[np.int64]:
        return fit(states[:, :cut], known.rows(slice(cut)), "ridge").read(states[:, cut:])

    def there() -> NDArray[np.int64]:
        out = np.zeros((places, rows - cut, labels), np.int64)
        for p in range(places):
            z = x[p].astype(np.float64)
            z = (z - z[:cut].mean(0)) / z[:cut].std(0)
            for k in range(labels):
                out[p, :, k] = RidgeClassifierCV(PENALTIES).fit(z[:cut], known.codes[:cut, k]).predict(z[cut:])
        return out

    mine, other = here(), there()
    times = [(_seconds(there), _seconds(here)) for _ in range(rounds)]
    ratio = statistics.median(a / b for a, b in times)
    a, b = (statistics.median(t) for t in zip(*times, strict=True))
    right = [float((r[0] == known.codes[cut:]).mean()) for r in (other, mine)]
    same = float((mine == other).mean())
    print(
        f"| {places} | {labels} | {channels} | {a:.3f} | {b:.3f} | {ratio:.1f} | {same:.4f} | {right[0]:.3f} | {right[1]:.3f} |",
        flush=True,
    )


def _seconds(f: Callable[[], object]) -> float:
    start = time.process_time()
    f()
    return time.process_time() - start


if __name__ == "__main__":
    main()
