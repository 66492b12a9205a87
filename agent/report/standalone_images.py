"""What is put into `standalone.py` for findings about regions of images."""

import base64
import zlib
from typing import Any

import torch

from agent.report.standalone import DATA, MORE, Model

# -- from here on the text is part of the script -----------------------------------------------------------------------


STEPS, ROUNDS, COMPLETE = 8, 2, 0.1  # of integrated gradients; how much of the difference their sum may miss
BLUR, MARGIN = 1 / 6, 1 / 16  # of an image's shorter side
TOGETHER = 32


def numbers(packed: str, *shape: int) -> torch.Tensor:
    """Bytes that are packed in the data."""
    return torch.frombuffer(bytearray(zlib.decompress(base64.b64decode(packed))), dtype=torch.uint8).reshape(shape)


def logits(model: Model, pixels: torch.Tensor) -> torch.Tensor:
    """Of the classes, for each image."""
    return torch.cat([model.net(pixel_values=p.to(model.net.dtype)).logits for p in pixels.split(TOGETHER)]).float()


def log_odds(rows: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Of each row's class against all the others together, in nats."""
    p = rows.double().log_softmax(-1)
    return p.gather(1, classes[:, None])[:, 0] - p.scatter(1, classes[:, None], -torch.inf).logsumexp(-1)


def blurred(pixels: torch.Tensor) -> torch.Tensor:
    """Images under a Gaussian blur, their borders going on outside."""
    spread = BLUR * min(pixels.shape[-2:])
    r = int(4 * spread + 0.5)
    kernel = torch.exp(-0.5 * (torch.arange(-r, r + 1, dtype=torch.float64) / spread) ** 2)
    kernel /= kernel.sum()
    x, ends = pixels.double(), torch.arange(-r, r)
    for axis in (-2, -1):
        n = x.shape[axis]
        at = torch.cat([ends[:r], torch.arange(n), n + torch.arange(r)]).clamp(0, n - 1)
        x = (x.index_select(axis, at).unfold(axis, 2 * r + 1, 1) * kernel).sum(-1)
    return x.to(pixels.dtype)


def attributed(
    model: Model, pixels: torch.Tensor, base: torch.Tensor, classes: torch.Tensor, steps: int
) -> torch.Tensor:
    """What each pixel adds to the log odds of an image's class on the straight way from its baseline: integrated gradients."""
    total = torch.zeros_like(pixels, dtype=torch.float64)
    for step in range(steps):
        x = (base + (pixels - base) * ((step + 0.5) / steps)).requires_grad_()
        total += torch.autograd.grad(log_odds(logits(model, x), classes).sum(), [x])[0].double()
    return ((pixels - base).double() * total / steps).sum(1)


def wider(mask: torch.Tensor, times: int) -> torch.Tensor:
    """A region with the pixels beside it, above and below, so many times."""
    for _ in range(times):
        new = mask.clone()
        new[1:] |= mask[:-1]
        new[:-1] |= mask[1:]
        new[:, 1:] |= mask[:, :-1]
        new[:, :-1] |= mask[:, 1:]
        mask = new
    return mask


def decided(model: Model, q: Any) -> list[float]:
    """Of each image whether the region with the most attribution a pixel lies on the role, and another answer is given without it.

    The regions are segments of the images at several scales, which stand in the data: they do not depend on the model.
    """
    del q
    height, width, channels = DATA["size"]
    images = torch.stack([numbers(e["image"], height, width, channels) for e in DATA["examples"]])
    mean, spread = (torch.tensor(DATA[k], dtype=torch.float64) for k in ("mean", "spread"))
    pixels = ((images.double() * DATA["factor"] - mean) / spread).permute(0, 3, 1, 2).float()
    base = blurred(pixels)
    with torch.no_grad():
        given = logits(model, pixels)
        said = given.argmax(-1)
        whole = log_odds(given, said) - log_odds(logits(model, base), said)
    maps, left, steps = torch.zeros(len(pixels), height, width, dtype=torch.float64), torch.arange(len(pixels)), STEPS
    for _ in range(ROUNDS):  # again, with more steps, where the sum of the attributions misses the whole
        maps[left] = attributed(model, pixels[left], base[left], said[left], steps) if len(left) else maps[left]
        left = ((maps.sum((1, 2)) - whole).abs() > COMPLETE * whole.abs().clamp(min=1)).nonzero()[:, 0]
        steps *= 4
    first, on = [], []
    for e, one in zip(DATA["examples"], maps, strict=True):
        scales = numbers(e["segments"], -1, height, width)
        regions = [scale == s for scale in scales for s in range(int(scale.max()) + 1)]
        first.append(max(regions, key=lambda r: float(one[r].sum() / r.sum())))
        on.append(bool((first[-1] & numbers(e["on"], height, width).bool()).sum() > first[-1].sum() / 2))
    margin = max(1, round(MARGIN * min(height, width)))
    out = torch.stack([wider(r, margin) for r in first])[:, None]
    with torch.no_grad():
        rests = logits(model, torch.where(out, base, pixels)).argmax(-1) != said
    return [float(a and b) for a, b in zip(on, rests.tolist(), strict=True)]


MORE.update({"decided": decided})
