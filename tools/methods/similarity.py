"""How alike two sets of representations of the same things are, on plain arrays: linear CKA, and retrieval of partners."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from tools.statistics import Estimate, Groups

FOLDS = 32  # parts of the jackknife, at most
TIE = 1e-6  # of a cosine: float32 states that are equal differ by less
LEAST = 4  # pairs that an unbiased CKA needs


def gram(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
    """Inner products of the rows about their mean."""
    made = np.asarray(x, dtype=np.float64)
    made = made - made.mean(0)
    return made @ made.T


def _u_centred(k: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Without its diagonal and with rows and columns that sum to 0 (Szekely and Rizzo 2014)."""
    n, made = len(k), k.copy()
    np.fill_diagonal(made, 0.0)
    rows = made.sum(0)
    made += rows.sum() / ((n - 1) * (n - 2)) - (rows[:, None] + rows[None]) / (n - 2)
    np.fill_diagonal(made, 0.0)
    return made


def cka(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n e"]) -> float:
    """Linear CKA of two representations of the same n things, unbiased: 1 for the same, 0 on average where they share nothing.

    Kornblith et al. 2019 with the unbiased estimate of HSIC (Song et al. 2012): the biased one grows with channels over
    examples, so that random states look alike. It does not change with rotation, shift or one scale of either. NaN where
    all rows of one are the same; ValueError below 4 pairs.
    """
    if len(x) < LEAST or len(x) != len(y):
        raise ValueError(f"CKA needs {LEAST} or more pairs, not {len(x)} and {len(y)}")
    return cka_of(gram(x), gram(y))


def cka_of(k: Float[np.ndarray, "n n"], m: Float[np.ndarray, "n n"]) -> float:
    """The same from `gram`."""
    a, b = _u_centred(k), _u_centred(m)
    own = float((a * a).sum()) * float((b * b).sum())
    flat = TIE**2 * len(k) * (float(np.abs(k).max(initial=0.0)) * float(np.abs(m).max(initial=0.0))) ** 2
    return float((a * b).sum()) / own**0.5 if own > max(flat, 1e-30) else float("nan")


def jackknifed(
    statistics: Callable[[Bool[np.ndarray, " n"]], Float[np.ndarray, " k"]], groups: Groups
) -> list[Estimate]:
    """Statistics of the kept examples, each with a 95% interval by the jackknife over groups, at most 32 parts of them.

    Efron and Stein 1981; Student's t. For smooth statistics; nothing is said where there are fewer than 5 groups.
    """
    from scipy import stats

    values = statistics(np.ones(groups.n, dtype=bool))
    parts = np.array_split(np.random.default_rng(0).permutation(groups.count), min(FOLDS, groups.count))
    kept = [~np.isin(groups.codes, part) for part in parts]
    if len(parts) < 5 or min(int(k.sum()) for k in kept) < LEAST:
        reach = np.full(values.shape, np.inf)
    else:
        left, g = np.stack([statistics(k) for k in kept]), len(parts)
        error = np.sqrt((g - 1) / g * ((left - left.mean(0)) ** 2).sum(0))
        reach = float(stats.t.ppf(0.975, g - 1)) * np.where(np.isfinite(error), error, np.inf)
    n, count = groups.n, groups.count
    return [
        Estimate(float(v), float(v - r), float(v + r), n, count, method="jackknife")
        for v, r in zip(values, reach, strict=True)
    ]


@dataclass(frozen=True)
class Retrieved:
    """Retrieval of partners, one value a pair that has at least one negative.

    forth, back: 1 where the partner is the nearest candidate, from the first to the second and the other way; of k candidates
    that are equally near, 1 / k. chance: 1 / candidates. pairs: which pairs these are.
    """

    forth: Float[np.ndarray, " k"]
    back: Float[np.ndarray, " k"]
    chance: Float[np.ndarray, " k"]
    pairs: np.ndarray

    @property
    def both(self) -> Float[np.ndarray, " k"]:
        """The mean of the two directions."""
        return (self.forth + self.back) / 2


def same_cell(cells: Sequence[object]) -> Bool[np.ndarray, "n n"]:
    """Which pairs may stand as candidates for which: those of the same cell (of the same lengths)."""
    of = {c: i for i, c in enumerate(dict.fromkeys(cells))}
    codes = np.array([of[c] for c in cells])
    return codes[:, None] == codes[None]


def retrieve(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n e"], candidates: Bool[np.ndarray, "n n"]
) -> Retrieved:
    """Retrieval@1 by cosine, each set centred at its own mean: is row i of y the nearest to row i of x among its candidates?

    Centring takes out what all of one set share, such as a language (Libovicky et al. 2020). Rows of equal width.
    """
    a, b = (_unit(np.asarray(v, dtype=np.float64)) for v in (x, y))
    cosine = a @ b.T
    there = candidates.sum(1) > 1
    forth, back = (_first(c, candidates)[there] for c in (cosine, cosine.T))
    return Retrieved(forth, back, 1.0 / candidates.sum(1)[there], np.flatnonzero(there))


def _unit(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    made = x - x.mean(0)
    size = np.linalg.norm(made, axis=1, keepdims=True)
    return np.where(size > TIE * (1.0 + np.abs(x).max(initial=0.0)), made / np.maximum(size, 1e-12), 0.0)


def _first(cosine: Float[np.ndarray, "n n"], candidates: Bool[np.ndarray, "n n"]) -> Float[np.ndarray, " n"]:
    own = np.diag(cosine)[:, None]
    nearer = ((cosine > own + TIE) & candidates).sum(1)
    level = ((np.abs(cosine - own) <= TIE) & candidates).sum(1)
    return np.where(nearer == 0, 1.0 / np.maximum(level, 1), 0.0)


def shuffled_within(cells: Sequence[object], seed: int) -> np.ndarray:
    """A pairing that is wrong wherever it can be: each row gets another one of its cell, by one random cycle a cell, (n,)."""
    rng, order = np.random.default_rng(seed), np.arange(len(cells))
    of: dict[object, list[int]] = {}
    for i, c in enumerate(cells):
        of.setdefault(c, []).append(i)
    for members in of.values():
        cycle = rng.permutation(members)
        order[cycle] = np.roll(cycle, 1)
    return order
