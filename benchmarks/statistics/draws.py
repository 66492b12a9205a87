"""Named distributions: rows of independent samples (repeats, groups or examples), with what their estimate should be."""

from collections.abc import Callable

import numpy as np

Rng = np.random.Generator
Draw = Callable[[Rng, tuple[int, int]], np.ndarray]


def normal(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
    """Standard normal."""
    return rng.standard_normal(shape)


def lognormal(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
    """Exponential of a standard normal, of mean 0: skewness 6.2."""
    return np.exp(rng.standard_normal(shape)) - np.exp(0.5)


def mirrored(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
    """The negative of `lognormal`."""
    return -lognormal(rng, shape)


def outliers(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
    """Standard normal, but 5% with ten times its standard deviation."""
    return rng.standard_normal(shape) * np.where(rng.random(shape) < 0.05, 10.0, 1.0)


def one_sided(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
    """Standard normal, but 5% lie 10 higher; of mean 0."""
    return rng.standard_normal(shape) + np.where(rng.random(shape) < 0.05, 9.5, -0.5)


def one_sided_low(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
    """The negative of `one_sided`."""
    return -one_sided(rng, shape)


def sizes(groups: int) -> np.ndarray:
    """One to four examples a group, in turn."""
    return 1 + np.arange(groups) % 4


def labels(groups: int, clustered: bool) -> np.ndarray:
    """The group of each example: its own, or one of 1 to 4 examples."""
    return np.repeat(np.arange(groups), sizes(groups)) if clustered else np.arange(groups)


def within_groups(draw: Draw, share: float) -> Draw:
    """Values of examples whose groups, of 1 to 4, share `share` of the variance; of mean 0 (shape counts groups)."""

    def drawn(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
        code = labels(shape[1], clustered=True)
        own = draw(rng, (shape[0], len(code)))
        return np.sqrt(share) * draw(rng, shape)[:, code] + np.sqrt(1 - share) * own

    return drawn


def successes(rate: float, share: float | None = None) -> Draw:
    """0/1 values of a rate; with `share`, in groups of 1 to 4 that copy one value with that probability."""

    def drawn(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
        if share is None:
            return (rng.random(shape) < rate).astype(float)
        code = labels(shape[1], clustered=True)
        common, copied = rng.random(shape)[:, code], rng.random((shape[0], len(code))) < share
        return (np.where(copied, common, rng.random(copied.shape)) < rate).astype(float)

    return drawn


def signs(gained: float, lost: float, share: float | None = None) -> Draw:
    """1, -1 or 0: differences of paired 0/1 values, gained and lost at these rates; groups as in `successes`."""

    def drawn(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
        if share is None:
            u = rng.random(shape)
        else:
            code = labels(shape[1], clustered=True)
            common, copied = rng.random(shape)[:, code], rng.random((shape[0], len(code))) < share
            u = np.where(copied, common, rng.random(copied.shape))
        return np.where(u < gained, 1.0, np.where(u < gained + lost, -1.0, 0.0))

    return drawn
