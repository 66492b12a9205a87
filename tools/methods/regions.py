"""Regions of an image by segmentation, ranked by how much of an attribution lies in them, and how far each ranking informs.

Segments are those of Felzenszwalb and Huttenlocher 2004 at several scales; they are ranked as in XRAI (Kapishnikov et al.
2019), which adds, one after the other, the segment with the most attribution a pixel that is not yet covered. Performance
information curves (same paper) bring a blurred image back pixel by pixel in an order, and follow how soon the answer returns.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SCALES = (50.0, 100.0, 150.0, 250.0, 500.0, 1200.0)
SMOOTH = 0.8  # standard deviation in pixels
LEAST = 0.03  # of an image's pixels in a segment: smaller ones decide nothing by themselves
LEVELS = np.array([0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.13, 0.16, 0.2, 0.25, 0.34, 0.5, 0.75])
POINTS = 11  # of a curve
Mask = NDArray[np.bool_]
Uint8 = NDArray[np.uint8]


def segments(image: Uint8, scale: float) -> NDArray[np.int64]:
    """Which segment each pixel of (height, width, channels) belongs to, (height, width), numbered from 0.

    A larger scale makes larger segments; those of less than `LEAST` of the image join a neighbour.
    """
    from skimage.segmentation import felzenszwalb

    least = max(1, round(LEAST * image.shape[0] * image.shape[1]))
    return np.asarray(felzenszwalb(image, scale=scale, sigma=SMOOTH, min_size=least), dtype=np.int64)


def candidates(image: Uint8) -> list[Mask]:
    """The segments of all scales, each once."""
    found: dict[bytes, Mask] = {}
    for scale in SCALES:
        made = segments(image, scale)
        for s in range(int(made.max()) + 1):
            mask = made == s
            found.setdefault(mask.tobytes(), mask)
    return list(found.values())


@dataclass(frozen=True)
class Ranked:
    """order: the regions, the first one first, each without what came before it; value: of each pixel, higher first."""

    order: tuple[Mask, ...]
    value: NDArray[np.float64]

    @property
    def first(self) -> Mask:
        """The region ranked first."""
        return self.order[0]


def ranked(attribution: NDArray[np.float64], masks: Sequence[Mask]) -> Ranked:
    """Regions by the attribution that each adds a pixel, until all of the image is covered."""
    flat = np.stack([m.ravel() for m in masks]).astype(np.float64)
    values, left = attribution.ravel().astype(np.float64), np.ones(flat.shape[1])
    order: list[Mask] = []
    value = np.zeros(flat.shape[1])
    while left.any():
        area, total = flat @ left, flat @ (values * left)
        density = np.where(area > 0, total / np.maximum(area, 1), -np.inf)
        best = int(density.argmax())
        new = (flat[best] > 0) & (left > 0)
        order.append(new.reshape(attribution.shape))
        value[new] = len(order)
        left[new] = 0
    ranks = (len(order) - value) / max(1, len(order) - 1)
    return Ranked(tuple(order), ranks.reshape(attribution.shape))


def lies_on(region: Mask, target: Mask) -> bool:
    """Whether more than half of a region is part of what is looked for."""
    return bool((region & target).sum() > region.sum() / 2)


def moved(regions: Sequence[Mask], seed: int) -> list[Mask]:
    """Each region at another place of its image, drawn at random; what leaves at one side comes in at the other."""
    rng = np.random.default_rng([seed, len(regions)])
    return [np.roll(r, (int(rng.integers(r.shape[0])), int(rng.integers(r.shape[1]))), (0, 1)) for r in regions]


# -- performance information curves ---------------------------------------------------------------------------------------


def size_of(image: Uint8) -> int:
    """How many bytes an image takes without loss: what there is to see in it."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG", optimize=False, compress_level=9)
    return len(out.getvalue())


@dataclass(frozen=True)
class Steps:
    """An image on its way back from its blur: information, from 0 to 1, and the pixels kept so far, one for each level."""

    information: NDArray[np.float64]
    kept: tuple[Mask, ...]


def brought_back(image: Uint8, blur: Uint8, value: NDArray[np.float64]) -> Steps:
    """The pixels of the highest value first; information is by how much the file has grown from the blurred image's."""
    order = np.argsort(-value.ravel(), kind="stable")
    low, high = size_of(blur), size_of(image)
    kept: list[Mask] = []
    information: list[float] = []
    for share in LEVELS:
        mask = np.zeros(value.size, dtype=bool)
        mask[order[: round(share * value.size)]] = True
        mask = mask.reshape(value.shape)
        size = size_of(np.where(mask[..., None], image, blur))
        kept.append(mask)
        information.append((size - low) / max(1, high - low))
    return Steps(np.clip(np.maximum.accumulate(information), 0, 1), tuple(kept))


def curve(steps: Steps, given: NDArray[np.float64], intact: float, blur: float) -> NDArray[np.float64]:
    """What of an answer is back at `POINTS` levels of information, 0 where it is that of the blur, 1 that of the image.

    given: the quantity at each step. It counts as back once it has been.
    """
    whole = intact - blur
    back = np.clip((given - blur) / whole, 0, 1) if abs(whole) > 1e-9 else np.zeros_like(given)
    x, y = (
        np.concatenate([[0.0], steps.information, [1.0]]),
        np.concatenate([[0.0], np.maximum.accumulate(back), [1.0]]),
    )
    return np.interp(np.linspace(0, 1, POINTS), x, y)


def area(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Under curves over equally spaced points from 0 to 1."""
    return np.asarray(np.trapezoid(values, dx=1 / (values.shape[-1] - 1), axis=-1))
