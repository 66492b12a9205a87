"""Whether points fall into several clusters, and into which."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.statistics.estimate import Array

MOST = 4
STARTS = 4


@dataclass(frozen=True)
class Clusters:
    """labels: (n,) the cluster of each point, the largest cluster first. centres: (k, d). silhouette: their mean silhouette
    (Rousseeuw 1987), 0 for one cluster.
    """

    labels: NDArray[np.int64]
    centres: Array
    silhouette: float

    def nearest(self, x: Array) -> NDArray[np.int64]:
        """The cluster whose centre is nearest to each of other points, (m, d) -> (m,)."""
        return np.argmin(((x[:, None] - self.centres) ** 2).sum(-1), axis=1)


def clusters(x: Array, least: int, most: int = MOST, seed: int = 0) -> Clusters:
    """K-means with the number of clusters, from 2 on, whose mean silhouette is largest; (n, d).

    One cluster where no partition has `least` points in each of its clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    best = Clusters(np.zeros(len(x), dtype=np.int64), x.mean(0, keepdims=True), 0.0)
    for k in range(2, 1 + min(most, len(np.unique(x, axis=0)), len(x) - 1)):
        found = KMeans(k, n_init=STARTS, random_state=seed)  # pyright: ignore[reportArgumentType] (a number is meant)
        placed = np.asarray(found.fit_predict(x), dtype=np.int64)
        sizes = np.bincount(placed, minlength=k)
        if sizes.min() < least:
            continue
        width = float(silhouette_score(x, placed))
        if width > best.silhouette:
            order = np.argsort(-sizes, kind="stable")
            best = Clusters(
                np.argsort(order)[placed], np.asarray(found.cluster_centers_, dtype=np.float64)[order], width
            )
    return best


def shuffled_silhouettes(x: Array, least: int, draws: int, most: int = MOST, seed: int = 0) -> Array:
    """Silhouettes of the same clustering, (draws,), when each column is shuffled by itself: what each says alone is kept,
    what they say together is gone.
    """
    rng = np.random.default_rng(seed)
    return np.array([clusters(rng.permuted(x, axis=0), least, most, seed).silhouette for _ in range(draws)])
