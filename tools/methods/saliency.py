"""How much each pixel of an image adds to a classifier's answer, by gradients, and what knows nothing of the model.

The answer is the class that the model gives, in its log odds against all others together, which do not saturate where its
probability does. Integrated gradients (Sundararajan et al. 2017) add up to what the image has more of it than its baseline.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from tools.methods.features import random_twin
from tools.methods.regions import Mask, Uint8
from tools.methods.tool import ToolInputError
from tools.ports import port_of
from tools.ports.image import class_logits, from_bytes, grid, masks, prepared, resized
from tools.subjects import Subject
from tools.tasks import Example, Signal

BASELINES = ("black", "mean", "noise", "blur")
BLUR = 1 / 6  # standard deviation of the blur, of an image's shorter side: shapes cannot be told apart under it
MARGIN = 1 / 16  # of the shorter side
COMPLETE = 0.1  # of the difference between image and baseline, or of a nat where that is less
LESSONS, LEARNING_RATE, LEARNT = 200, 1e-3, 0.9  # of a copy that learns shuffled labels
Maps = NDArray[np.float64]
Pixels = Float[Tensor, "batch channels height width"]


def log_odds(logits: Float[Tensor, "batch classes"], classes: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Of each row's class against all others together, in nats."""
    rows = logits.double().log_softmax(-1)
    own = rows.gather(1, classes[:, None])[:, 0]
    rest = rows.scatter(1, classes[:, None], -torch.inf).logsumexp(-1)
    return own - rest


@dataclass(frozen=True)
class Seen:
    """Images as a classifier is given them. raw: (height, width, channels) each; said: the class that it gives each; roles:
    which pixels are known to be what; most: how many run together.
    """

    raw: tuple[Uint8, ...]
    pixels: Tensor
    said: Tensor
    roles: tuple[Mapping[str, Mask], ...]
    most: int

    def on(self, role: str) -> list[Mask | None]:
        """Of each image the pixels of a role; None where it has none."""
        return [r.get(role) for r in self.roles]


def seen(subject: Subject, examples: Sequence[Example], max_tokens: int) -> Seen:
    """Examples as images. ToolInputError for a subject that reads something else."""
    if port_of(subject).name != "image":
        raise ToolInputError(f"{subject.name} reads {', '.join(port_of(subject).reads)}: regions are those of images")
    images = [e.inputs["image"] for e in examples]
    signals = [image for image in images if isinstance(image, Signal)]
    pixels = torch.stack([prepared(subject, image) for image in signals])
    roles = tuple(masks(subject, e) for e in examples)
    raw = tuple(resized(subject, image) for image in signals)
    rows, columns = grid(subject)
    most = max(1, max_tokens // (1 + rows * columns))
    return Seen(raw, pixels, answers(subject, pixels, most).argmax(-1), roles, most)


def changed(subject: Subject, given: Seen, regions: Sequence[Mask]) -> NDArray[np.bool_]:
    """Whether each image's answer is another one where a region of it is blurred, with a margin, so that its outline goes too."""
    from scipy import ndimage

    margin = max(1, round(MARGIN * min(given.pixels.shape[-2:])))
    out = torch.from_numpy(np.stack([ndimage.binary_dilation(r, iterations=margin) for r in regions]))[:, None]
    left = torch.where(out, blurred(given.pixels), given.pixels)
    return (answers(subject, left, given.most).argmax(-1) != given.said).numpy()


def answers(subject: Subject, pixels: Pixels, most: int) -> Float[Tensor, "batch classes"]:
    """Logits of the classes, at most `most` images at once; nothing of it is kept, for hardly one is asked about twice."""
    once = subject.keeping(None)
    with torch.no_grad():
        parts = [class_logits(once, pixels[i : i + most]) for i in range(0, len(pixels), most)]
        return torch.cat(parts).float().cpu()


def baseline(pixels: Pixels, subject: Subject, name: str, seed: int) -> Pixels:
    """Images that say nothing: black, each in the mean of its own colours, random pixels, or blurred."""
    match name:
        case "black":
            return from_bytes(subject, np.zeros((*pixels.shape[2:], pixels.shape[1]))).expand_as(pixels).clone()
        case "mean":
            return pixels.mean((-1, -2), keepdim=True).expand_as(pixels).clone()
        case "noise":
            drawn = np.random.default_rng([seed, 7]).uniform(0, 255, (len(pixels), *pixels.shape[2:], pixels.shape[1]))
            return torch.stack([from_bytes(subject, d) for d in drawn]).to(pixels)
        case "blur":
            return blurred(pixels)
        case _:
            raise ValueError(f"there is no baseline {name!r}: use {', '.join(BASELINES)}")


def blurred(pixels: Pixels) -> Pixels:
    """Each image under a Gaussian blur."""
    from scipy import ndimage

    spread = BLUR * min(pixels.shape[-2:])
    made = ndimage.gaussian_filter(pixels.double().numpy(), (0, 0, spread, spread), mode="nearest")
    return torch.from_numpy(made).to(pixels)


@dataclass(frozen=True)
class Integrated:
    """Attributions in nats, (batch, height, width). error: by how much the sum of each image's misses what its log odds have
    more than those of its baseline; whole: that difference itself.
    """

    maps: Maps
    error: NDArray[np.float64]
    whole: NDArray[np.float64]


def integrated(
    subject: Subject,
    pixels: Pixels,
    base: Pixels,
    classes: Int[Tensor, " batch"],
    steps: int,
    most: int,
    rounds: int = 2,
) -> Integrated:
    """Integrated gradients of the classes' log odds from the baseline to the image, by the midpoint rule.

    Images whose sum misses by more than `COMPLETE` are done again with four times as many steps, up to `rounds` times in all.
    """
    there, before = (log_odds(answers(subject, p, most), classes).numpy() for p in (pixels, base))
    whole, maps = there - before, np.zeros((len(pixels), *pixels.shape[-2:]))
    left = np.arange(len(pixels))
    for _ in range(rounds):
        maps[left] = _path(subject, pixels[left], base[left], classes[left], steps, most)
        error = maps.sum((1, 2)) - whole
        left = np.flatnonzero(np.abs(error) > COMPLETE * np.maximum(1, np.abs(whole)))
        steps *= 4
        if not len(left):
            break
    return Integrated(maps, maps.sum((1, 2)) - whole, whole)


def _path(
    subject: Subject, pixels: Pixels, base: Pixels, classes: Int[Tensor, " batch"], steps: int, most: int
) -> Maps:
    total = torch.zeros_like(pixels, dtype=torch.float64)
    for i in range(0, len(pixels), most):
        x, b, c = pixels[i : i + most], base[i : i + most], classes[i : i + most]
        for step in range(steps):
            total[i : i + most] += gradient(subject, b + (x - b) * ((step + 0.5) / steps), c).double()
    return ((pixels - base).double() * total / steps).sum(1).numpy()


def gradient(subject: Subject, pixels: Pixels, classes: Int[Tensor, " batch"]) -> Pixels:
    """Of the classes' log odds with respect to the pixels."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        x = pixels.detach().clone().requires_grad_()
        (found,) = torch.autograd.grad(log_odds(class_logits(subject, x), classes).sum(), [x])
    return found.detach()


def gradients(subject: Subject, pixels: Pixels, classes: Int[Tensor, " batch"], most: int) -> Maps:
    """Their absolute values, summed over channels (Simonyan et al. 2014)."""
    parts = [gradient(subject, pixels[i : i + most], classes[i : i + most]) for i in range(0, len(pixels), most)]
    return torch.cat(parts).double().abs().sum(1).numpy()


def edges(pixels: Pixels) -> Maps:
    """How strongly each pixel differs from those around it (Sobel), of any model the same."""
    from scipy import ndimage

    channels = [[np.hypot(ndimage.sobel(c, 0), ndimage.sobel(c, 1)) for c in x] for x in pixels.double().numpy()]
    return np.array(channels).sum(1)  # one channel of one image at a time: the filter smooths over every other axis


def centre(pixels: Pixels) -> Maps:
    """Nearness to the middle of the image."""
    height, width = pixels.shape[-2:]
    y, x = np.mgrid[:height, :width]
    one = -np.hypot((y - (height - 1) / 2) / height, (x - (width - 1) / 2) / width)
    return np.broadcast_to(one, (len(pixels), height, width)).copy()


def rank_correlation(a: Maps, b: Maps) -> NDArray[np.float64]:
    """Spearman over the pixels of each image; 0 where one map is the same everywhere."""
    from scipy.stats import rankdata

    out: list[float] = []
    for x, y in zip(a, b, strict=True):
        p, q = (np.asarray(rankdata(m.ravel()), dtype=np.float64) for m in (x, y))
        out.append(float(np.corrcoef(p, q)[0, 1]) if p.std() > 0 and q.std() > 0 else 0.0)
    return np.array(out)


def normalised(maps: Sequence[Maps]) -> Maps:
    """The mean of several kinds of map, each image's scaled to a sum of sizes of 1."""
    return np.mean([m / np.maximum(np.abs(m).sum((1, 2), keepdims=True), 1e-12) for m in maps], 0)


def relabelled(subject: Subject, given: Seen, seed: int, check: Callable[[], None]) -> tuple[Subject, float]:
    """A copy with weights drawn anew, trained to give these images one another's answers; and the share that it has learnt.

    What its maps have in common with the model's own is not what the images show (Adebayo et al. 2018).
    """
    twin = random_twin(subject, seed + 1)
    labels = given.said[torch.from_numpy(np.random.default_rng([seed, 13]).permutation(len(given.said)))]
    twin.model.float()
    optimiser = torch.optim.Adam(twin.model.parameters(), lr=LEARNING_RATE)
    right = 0.0
    for _ in range(LESSONS):
        check()
        with torch.inference_mode(mode=False), torch.enable_grad():
            logits = class_logits(twin, given.pixels.clone()).float()
            loss = torch.nn.functional.cross_entropy(logits, labels.clone().to(logits.device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        right = float((logits.argmax(-1).cpu() == labels).float().mean())
        if right >= LEARNT:
            break
    twin.model.requires_grad_(False)
    return twin, right
