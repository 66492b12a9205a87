"""What a result keeps of the images that it is about, as one picture: each image beside its maps.

A result shows images by an array `shown:images`, (image, row, column, channel) from 0 to 255, and `shown:maps`, (map, image,
row, column), whose axes name the maps and say what the model made of each image.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from agent.report.scatter import scatter_of, scatter_words
from agent.report.shaded import shaded_of, shaded_words
from experiments_db.records import Array, Result

IMAGES, MAPS = "shown:images", "shown:maps"
CELL, GAP, LEFT, TOP = 112, 8, 112, 44
INK, PAPER = (31, 41, 55), (255, 255, 255)
OUTLINE = "the region ranked first"  # drawn on the image itself
MOST = 400  # images and maps of one picture
Pixels = NDArray[np.uint8]


def picture_of(result: Result) -> bytes | None:
    """The picture as PNG, of images, points in the plane or shaded tokens; None where the result keeps none that can be read."""
    if (points := scatter_of(result) or shaded_of(result)) is not None:
        return points
    arrays = {a.name: a for a in result.arrays}
    if IMAGES not in arrays or MAPS not in arrays or not _sound(arrays[IMAGES], arrays[MAPS]):
        return None
    images, maps = (_values(arrays[name]) for name in (IMAGES, MAPS))
    kinds, captions = (a.labels for a in arrays[MAPS].axes[:2])
    wide = LEFT + (1 + len(kinds)) * (CELL + GAP)
    made = Image.new("RGB", (wide, TOP + len(captions) * (CELL + GAP)), PAPER)
    pen, font = ImageDraw.Draw(made), ImageFont.load_default(12)
    for column, name in enumerate(("image", *kinds)):
        pen.multiline_text((LEFT + column * (CELL + GAP), 4), _folded(name), fill=INK, font=font, spacing=2)
    for row, caption in enumerate(captions):
        top = TOP + row * (CELL + GAP)
        pen.multiline_text((4, top + CELL // 2 - 8), _folded(caption), fill=INK, font=font)
        image = images[row].clip(0, 255).astype(np.uint8)
        cells = [image, *(_drawn(k, m[row], image) for k, m in zip(kinds, maps, strict=True))]
        for column, cell in enumerate(cells):
            made.paste(_enlarged(cell), (LEFT + column * (CELL + GAP), top))
    out = io.BytesIO()
    made.save(out, "PNG")
    return out.getvalue()


def words_of(result: Result) -> str:
    """What the picture shows, for those who do not see it."""
    maps = next((a for a in result.arrays if a.name == MAPS), None)
    if maps is None:
        return shaded_words(result) or scatter_words(result)
    return f"{len(maps.axes[1].labels)} images, each beside {', '.join(maps.axes[0].labels)}"


def _sound(images: Array, maps: Array) -> bool:
    """Whether the two belong together: a record from elsewhere may hold anything."""
    if (len(images.shape), len(maps.shape), len(maps.axes)) != (4, 4, 4) or images.shape[3] not in (1, 3):
        return False
    if maps.shape != tuple(len(a.labels) for a in maps.axes) or maps.shape[1:] != images.shape[:3]:
        return False
    whole = (images.dtype, maps.dtype) == ("int32", "float32") and 0 < maps.shape[0] * maps.shape[1] <= MOST
    return whole and min(maps.shape) > 0 and all(len(a.data) == 4 * int(np.prod(a.shape)) for a in (images, maps))


def _values(a: Array) -> NDArray[np.float64]:
    found = np.frombuffer(a.data, {"int32": "<i4", "float32": "<f4"}[a.dtype]).reshape(a.shape).astype(np.float64)
    return np.nan_to_num(found)


def _folded(text: str) -> str:
    lines, line = list[str](), ""
    for word in text.split():
        if line and len(line) + len(word) > 16:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


def _drawn(kind: str, values: NDArray[np.float64], image: Pixels) -> Pixels:
    """Signed values from blue over white to red, others from white to black; a region as a frame on the image."""
    if kind == OUTLINE:
        inside = values > 0.5
        edge = inside & ~(
            np.roll(inside, 1, 0) & np.roll(inside, -1, 0) & np.roll(inside, 1, 1) & np.roll(inside, -1, 1)
        )
        faded = np.where(inside[..., None], image, 255 - (255 - image.astype(float)) * 0.35)
        return np.where(edge[..., None], np.array([220, 38, 38]), np.broadcast_to(faded, (*faded.shape[:2], 3))).astype(
            np.uint8
        )
    top = float(np.quantile(np.abs(values), 0.99)) or float(np.abs(values).max()) or 1.0
    share = (values / top).clip(-1, 1)
    if (values < 0).any():
        red, blue = np.array([185, 28, 28]), np.array([29, 78, 216])
        colour = np.where(share[..., None] > 0, red, blue)
    else:
        colour = np.zeros((*values.shape, 3)) + np.array([17, 24, 39])
    return (255 - (255 - colour) * np.abs(share)[..., None]).astype(np.uint8)


def _enlarged(cell: Pixels) -> Image.Image:
    shown = Image.fromarray(cell[..., 0] if cell.shape[-1] == 1 else cell).convert("RGB")
    scale = CELL / max(shown.size)
    size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
    return shown.resize(size, Image.Resampling.NEAREST)
