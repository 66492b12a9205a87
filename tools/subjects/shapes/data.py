"""Images of one shape each, drawn from a recipe, with the pixels of the object and of the decoy known.

A decoy is a textured square in a corner. Each texture goes with one shape; whether it stands beside that shape is up to the
recipe, and whether a model was taught to expect it up to its training. Images are uint8, (32, 32, 3); boxes are
(top, left, bottom, right) in pixels, bottom and right exclusive.
"""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from tools.subjects import Inputs
from tools.subjects._splits import Split, side

SIZE, PATCH, CORNER = 32, 4, 8
SHAPES = ("disc", "square", "triangle", "cross", "ring")
TEXTURES = ("rows", "columns", "diagonals", "checks", "dots")  # the decoys of these shapes, in their order
COLOURS = {
    "red": (220, 50, 40),
    "green": (50, 190, 70),
    "blue": (60, 90, 230),
    "yellow": (230, 210, 50),
    "purple": (170, 60, 200),
    "orange": (240, 140, 30),
}
BACKGROUNDS = {"dark": (40, 45, 55), "brown": (85, 65, 50), "slate": (70, 85, 100), "moss": (60, 80, 60)}
NOISE = 6.0  # standard deviation of the noise on each pixel, of 255
MEAN, STD = 0.5, 0.5  # of pixels divided by 255, in each channel

Decoys = Literal["right", "wrong", "none", "any"]
Box = tuple[int, int, int, int]
Mask = Bool[np.ndarray, "32 32"]


@dataclass(frozen=True)
class Recipe:
    """All that an image is made of.

    row, column: the object's centre; radius: half its height; all in pixels. decoy: the shape whose texture stands in the
    corner (0 to 3: top left, top right, bottom left, bottom right), or None. seed: of the noise.
    """

    shape: str
    colour: str
    row: int
    column: int
    radius: int
    background: str
    decoy: str | None
    corner: int
    seed: int

    @property
    def side(self) -> Split:
        """Which side of the split the image and its twins fall on: by all but shape and decoy."""
        content = {k: v for k, v in asdict(self).items() if k not in {"shape", "decoy"}}
        return side("shapes", content)


@dataclass(frozen=True)
class Image:
    """A drawn recipe. `object` and `decoy`: their pixels (the decoy's are none where there is none)."""

    recipe: Recipe
    pixels: UInt8[np.ndarray, "32 32 3"]
    object: Mask
    decoy: Mask


@dataclass(frozen=True)
class Example:
    """An image with its class and twins.

    answer, foil: class names. twin: the same with the foil's shape, so that the right answer is the foil. decoy_twin: the
    same shape beside the foil's decoy. boxes: `object`, and `decoy` where there is one. labels: what is true of the image.
    """

    image: Image
    answer: str
    foil: str
    twin: Image
    decoy_twin: Image
    boxes: dict[str, Box]
    labels: dict[str, str]


def draw(rng: random.Random, decoys: Decoys = "any") -> Recipe:
    """A recipe at random, the decoy's corner clear of the object."""
    shape = rng.choice(SHAPES)
    other = rng.choice([s for s in SHAPES if s != shape])
    decoy = {"right": shape, "wrong": other, "none": None, "any": rng.choice((*SHAPES, None, None))}[decoys]
    while True:
        radius = rng.randint(6, 9)
        row, column = (rng.randint(radius, SIZE - 1 - radius) for _ in range(2))
        corner = rng.randrange(4)
        top, left, bottom, right = corner_box(corner)
        if row + radius < top or row - radius >= bottom or column + radius < left or column - radius >= right:
            colour, background = rng.choice(list(COLOURS)), rng.choice(list(BACKGROUNDS))
            return Recipe(shape, colour, row, column, radius, background, decoy, corner, rng.getrandbits(31))


def corner_box(corner: int) -> Box:
    """Where a decoy stands."""
    top, left = (SIZE - CORNER) * (corner // 2), (SIZE - CORNER) * (corner % 2)
    return top, left, top + CORNER, left + CORNER


def render(recipe: Recipe) -> Image:
    """Draw a recipe; the same recipe gives the same pixels."""
    noise = np.random.default_rng(recipe.seed).normal(0.0, NOISE, (SIZE, SIZE, 3))
    pixels = np.empty((SIZE, SIZE, 3))
    pixels[:] = BACKGROUNDS[recipe.background]
    inside = _shape(recipe)
    pixels[inside] = COLOURS[recipe.colour]
    decoy = np.zeros((SIZE, SIZE), dtype=bool)
    if recipe.decoy is not None:
        top, left, bottom, right = corner_box(recipe.corner)
        decoy[top:bottom, left:right] = True
        pixels[decoy] = np.where(_texture(recipe.decoy), 235.0, 20.0).reshape(-1, 1)
    return Image(recipe, (pixels + noise).clip(0, 255).round().astype(np.uint8), inside, decoy)


def _shape(recipe: Recipe) -> Mask:
    """The pixels of the object."""
    y, x = np.mgrid[:SIZE, :SIZE]
    dy, dx, r = y - recipe.row, x - recipe.column, recipe.radius
    match recipe.shape:
        case "disc":
            return dy**2 + dx**2 <= r**2
        case "square":
            return np.maximum(abs(dy), abs(dx)) < r
        case "triangle":
            return (abs(dy) <= r) & (2 * abs(dx) <= dy + r)
        case "cross":
            return (np.maximum(abs(dy), abs(dx)) <= r) & (np.minimum(abs(dy), abs(dx)) <= r // 4)
        case "ring":
            away = np.sqrt(dy**2 + dx**2)
            return (away <= r) & (away > 0.55 * r)
        case _:
            raise ValueError(f"shape {recipe.shape!r} is unknown: use {', '.join(SHAPES)}")


def _texture(shape: str) -> Bool[np.ndarray, "8 8"]:
    """The light pixels of the decoy that goes with a shape."""
    y, x = np.mgrid[:CORNER, :CORNER]
    match TEXTURES[SHAPES.index(shape)]:
        case "rows":
            return y // 2 % 2 == 0
        case "columns":
            return x // 2 % 2 == 0
        case "diagonals":
            return (x + y) // 2 % 2 == 0
        case "checks":
            return (y // 4 + x // 4) % 2 == 0
        case _:
            return (y % 4 < 2) & (x % 4 < 2)


def examples(split: Split, n: int, seed: int = 0, *, decoys: Decoys = "any") -> list[Example]:
    """Examples of one side of the split, the same for the same seed: with the right decoy, a wrong one, none, or any."""
    rng = random.Random(seed)
    found: list[Example] = []
    while len(found) < n:
        recipe = draw(rng, decoys)
        others = [s for s in SHAPES if s != recipe.shape]
        foil = recipe.decoy if recipe.decoy in others else rng.choice(others)  # a wrong decoy speaks for the foil
        if recipe.side == split:
            found.append(example(recipe, foil))
    return found


def example(recipe: Recipe, foil: str) -> Example:
    """The example of a recipe with a given foil."""
    image = render(recipe)
    decoy = "none" if recipe.decoy is None else "right" if recipe.decoy == recipe.shape else "wrong"
    labels = {"shape": recipe.shape, "colour": recipe.colour, "background": recipe.background, "decoy": decoy}
    labels["texture"] = "none" if recipe.decoy is None else TEXTURES[SHAPES.index(recipe.decoy)]
    labels["half"] = "upper" if recipe.row < SIZE // 2 else "lower"
    boxes = {"object": box(image.object)} | ({} if recipe.decoy is None else {"decoy": box(image.decoy)})
    return Example(
        image=image,
        answer=recipe.shape,
        foil=foil,
        twin=render(replace(recipe, shape=foil)),
        decoy_twin=render(replace(recipe, decoy=foil)),
        boxes=boxes,
        labels=labels,
    )


def box(mask: Mask) -> Box:
    """The smallest box around the pixels of a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def runs(mask: Mask) -> str:
    """A mask as the lengths of its runs, row by row, of what is outside, inside, outside ..."""
    flat = np.concatenate([[False], mask.ravel()])
    edges = np.flatnonzero(np.diff(flat.astype(int)))
    return " ".join(map(str, np.diff(np.concatenate([[0], edges, [mask.size]]))))


def positions(mask: Mask) -> list[int]:
    """The model's positions (0 is [CLS]) whose patch holds a pixel of the mask."""
    patches = mask.reshape(SIZE // PATCH, PATCH, SIZE // PATCH, PATCH).any((1, 3))
    return [int(i) + 1 for i in np.flatnonzero(patches)]


def pixel_values(images: Sequence[Image]) -> Float[Tensor, "batch 3 32 32"]:
    """What the model is given: channels first, (pixel / 255 - 0.5) / 0.5."""
    stacked = np.stack([image.pixels for image in images]).transpose(0, 3, 1, 2)
    return (torch.from_numpy(stacked.copy()).float() / 255 - MEAN) / STD


def inputs(images: Sequence[Image]) -> Inputs:
    """A batch for a subject; each image has 65 positions, [CLS] and 8 x 8 patches row by row."""
    return Inputs({"pixel_values": pixel_values(images)}, (1 + (SIZE // PATCH) ** 2,) * len(images))
