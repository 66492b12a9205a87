"""Images: pixels that a vision transformer reads as patches, and the class that they show."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from tools.ports.classes import Classes
from tools.ports.port import Encoded, PortError, Shown
from tools.subjects import Inputs, Subject
from tools.tasks import Example, Signal
from tools.tasks.spans import Spans

LARGE = 192  # pixels of the longer side of a picture for a person


class Images(Classes):
    """Input: `image`, (height, width, 3) as uint8. Spans are boxes in pixels: left, top, right, bottom."""

    name = "image"
    reads = ("image",)

    def given(self, subject: Subject, example: Example) -> tuple[tuple[Any, ...], int, Any]:
        """The pixels, scaled and normalised as the model's processor says; position 0 is the one that classifies."""
        image = example.inputs.get("image")
        channels = int(subject.model.config.num_channels)
        if not isinstance(image, Signal) or image.data.ndim != 3 or image.data.dtype != np.uint8:
            raise PortError(
                f"{example.shown!r} has no image: {subject.name} looks at (height, width, channels) of uint8"
            )
        if image.data.shape[2] != channels:
            raise PortError(
                f"{example.shown!r} has {image.data.shape[2]} channels: {subject.name} looks at {channels} channels"
            )
        rows, columns = grid(subject)
        pixels = prepared(subject, image)
        return (image.sha,), 1 + rows * columns, pixels

    def batch(self, subject: Subject, read: Sequence[Any]) -> dict[str, Tensor]:
        """(batch, channels, height, width)."""
        return {"pixel_values": torch.stack(list(read)).to(subject.device, subject.dtype)}

    def noise(self, subject: Subject, n: int, length: int, generator: torch.Generator) -> list[Encoded]:
        """Pixels of random noise."""
        config, (rows, columns) = subject.model.config, grid(subject)
        height, width = _pair(config.image_size)
        out: list[Encoded] = []
        for _ in range(n):
            drawn = torch.randn(config.num_channels, height, width, generator=generator)
            positions = 1 + rows * columns
            out.append(self.encoded(subject, (str(float(drawn[0, 0, 0])),), positions, drawn, 0, None))
        return out

    def span(self, subject: Subject, example: Example, role: str, stack: str, *, twin: bool = False) -> list[int]:
        """The patches that the box touches."""
        given, spans = (example.twin_inputs or {}, example.twin_spans) if twin else (example.inputs, example.spans)
        if not spans:  # a side without spans has the other's, and with them the other's size
            given, spans = (example.inputs, example.spans) if twin else (example.twin_inputs or {}, example.twin_spans)
        if role not in spans or len(spans[role]) != 4:
            known = ", ".join(["answer", *spans])
            raise PortError(f"anchor {role!r}: {example.shown!r} has no such box; its anchors are {known}, and -1, -2")
        image = given["image"]
        assert isinstance(image, Signal)
        (rows, columns), (height, width) = grid(subject), image.data.shape[:2]
        left, top, right, bottom = spans[role]
        if left >= width or top >= height:
            raise PortError(
                f"anchor {role!r}: {list(spans[role])} lies outside of an image of {width} x {height} pixels"
            )

        def touched(low: int, high: int, parts: int, size: int) -> range:
            return range(low * parts // size, min(parts, -(-high * parts // size)))

        across = touched(left, right, columns, width)
        return [1 + r * columns + c for r in touched(top, bottom, rows, height) for c in across]

    def show(self, subject: Subject, example: Example, *, twin: bool = False) -> Shown | None:
        """The picture, enlarged, with its boxes."""
        given, spans = (
            (example.twin_inputs or {}, example.twin_spans or example.spans)
            if twin
            else (example.inputs, example.spans)
        )
        image = given.get("image")
        return None if not isinstance(image, Signal) else Shown(image.name, _png(image.data, spans))

    def labels(self, subject: Subject, example: Example, *, stack: str | None = None, twin: bool = False) -> list[str]:
        """The class token, and the patches by row and column."""
        rows, columns = grid(subject)
        return ["class", *(f"{r},{c}" for r in range(rows) for c in range(columns))]


def _png(pixels: Any, boxes: Spans) -> bytes:
    """An image of at least so many pixels a side, with a frame around each box."""
    times = max(1, LARGE // max(pixels.shape[:2]))
    made = Image.fromarray(pixels).resize((pixels.shape[1] * times, pixels.shape[0] * times), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(made)
    for left, top, right, bottom in (b for b in boxes.values() if len(b) == 4):
        pen.rectangle((left * times, top * times, right * times - 1, bottom * times - 1), outline=(255, 255, 255))
    out = io.BytesIO()
    made.save(out, "PNG")
    return out.getvalue()


def grid(subject: Subject) -> tuple[int, int]:
    """Rows and columns of patches."""
    config = subject.model.config
    (height, width), (tall, wide) = _pair(config.image_size), _pair(config.patch_size)
    return height // tall, width // wide


def prepared(subject: Subject, image: Signal) -> Tensor:
    """(channels, height, width) in float32: resized to the model's size, scaled to 0 ... 1, normalised by channel."""
    return _normalised(subject, resized(subject, image))


def resized(subject: Subject, image: Signal) -> NDArray[np.uint8]:
    """The image in the model's size, (height, width, channels)."""
    height, width = _pair(subject.model.config.image_size)
    pixels, settings = image.data, subject.processor
    if settings.get("do_center_crop"):
        raise PortError(
            f"{subject.name}: its processor crops images, which boxes cannot follow: set do_center_crop to false and "
            "give cropped images"
        )
    if pixels.shape[:2] != (height, width):
        resample = Image.Resampling(settings.get("resample", Image.Resampling.BILINEAR))
        pixels = np.asarray(Image.fromarray(pixels).resize((width, height), resample))
    return pixels


def masks(subject: Subject, example: Example) -> dict[str, NDArray[np.bool_]]:
    """The pixels of each role in the model's size, (height, width): those that its label `pixels` names, else its whole box.

    `pixels` gives the lengths of runs, row by row, of what is outside, inside, outside ... PortError where they do not fill
    the image.
    """
    image, size = example.inputs["image"], _pair(subject.model.config.image_size)
    assert isinstance(image, Signal)
    out: dict[str, NDArray[np.bool_]] = {}
    for role, box in example.spans.items():
        mask = np.zeros(image.data.shape[:2], dtype=bool)
        runs = example.span_labels.get(role, {}).get("pixels")
        if runs is not None:
            lengths = [int(n) for n in str(runs).split()]
            if sum(lengths) != mask.size:
                raise PortError(
                    f"{role}: runs of {sum(lengths)} pixels do not fill {example.shown!r}, {mask.size} pixels"
                )
            inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
            mask = inside.reshape(mask.shape)
        elif len(box) == 4:
            left, top, right, bottom = box
            mask[top:bottom, left:right] = True
        if mask.shape != size:
            height, width = size
            mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
        out[role] = mask
    return out


def _normalised(subject: Subject, pixels: NDArray[Any]) -> Tensor:
    """(channels, height, width) in float32: scaled and normalised as the processor says."""
    settings, values = subject.processor, pixels.astype(np.float64)
    if settings.get("do_rescale", True):
        values = values * float(settings.get("rescale_factor", 1 / 255))
    if settings.get("do_normalize", True):
        mean, spread = (np.asarray(settings.get(k, [0.5] * pixels.shape[-1])) for k in ("image_mean", "image_std"))
        values = (values - mean) / spread
    return torch.from_numpy(values.transpose(2, 0, 1).copy()).float()


def from_bytes(subject: Subject, image: NDArray[Any]) -> Tensor:
    """(channels, height, width) as the model is given it, of (height, width, channels) from 0 to 255 in the model's size."""
    return _normalised(subject, image)


def to_bytes(subject: Subject, pixels: Tensor) -> NDArray[np.uint8]:
    """The other way round: (height, width, channels) from 0 to 255, rounded."""
    zero, one = (_normalised(subject, np.full((1, 1, len(pixels)), v)) for v in (0.0, 1.0))
    values = ((pixels - zero) / (one - zero)).permute(1, 2, 0).double().numpy()
    return values.round().clip(0, 255).astype(np.uint8)


def class_logits(subject: Subject, pixels: Tensor) -> Tensor:
    """(batch, classes) of prepared images, with gradients where they are asked for."""
    rows, columns = grid(subject)
    given = {"pixel_values": pixels.to(subject.device, subject.dtype)}
    logits = subject.run(Inputs(given, (1 + rows * columns,) * len(pixels))).logits
    return logits[:, PORT.read_at(subject, 1 + rows * columns)]


def _pair(size: Any) -> tuple[int, int]:
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


PORT = Images()
