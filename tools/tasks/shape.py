"""Say which shape an image shows, with or without a decoy in a corner."""

import random
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Literal

from pydantic import Field

from tools.tasks.example import Example, Signal
from tools.tasks.task import Draw, Family, Options, Split

CHOICES = ("disc", "square", "triangle", "cross", "ring")


class _Options(Options):
    decoys: Literal["any", "right", "wrong", "none"] = Field(
        default="any", description="the texture in a corner: the one that goes with the shape, another one, or none"
    )
    twin: Literal["shape", "decoy"] = Field(default="shape", description="how the twin differs")


def _make(options: _Options) -> Draw:
    def draw(split: Split, rng: random.Random) -> Iterator[Example]:
        from tools.subjects.shapes import data

        while True:
            recipe = data.draw(rng, options.decoys)
            others = [s for s in data.SHAPES if s != recipe.shape]
            foil = recipe.decoy if recipe.decoy in others else rng.choice(others)  # a wrong decoy speaks for the foil
            if recipe.side == split:
                yield _example(data.example(recipe, str(foil)), options)

    return draw


def _example(e: Any, options: _Options) -> Example:
    from tools.subjects.shapes import data

    twin = e.twin if options.twin == "shape" else e.decoy_twin
    content = {k: v for k, v in asdict(e.image.recipe).items() if k not in ("shape", "decoy")}
    return Example(
        {"image": Signal(e.image.pixels, _words(e.image.recipe))},
        e.answer,
        e.foil,
        {"image": Signal(twin.pixels, _words(twin.recipe))},
        group=repr(sorted(content.items())),
        labels=dict(e.labels),
        spans={name: (left, top, right, bottom) for name, (top, left, bottom, right) in e.boxes.items()},
        span_labels={name: {"pixels": data.runs(getattr(e.image, name))} for name in e.boxes},
    )


def _words(recipe: Any) -> str:
    decoy = f", {recipe.decoy}'s texture in a corner" if recipe.decoy else ""
    return f"{recipe.colour} {recipe.shape} on {recipe.background}{decoy}"


LABELS = {
    "decoy": "whether a texture in a corner speaks for the shape or another one",
    "half": "the half of the image in which the shape lies",
}
FAMILIES = (
    Family(
        "shape", "Say which shape an image shows.", _Options, _make, CHOICES, reads=("image",), subject="shapes", labels=LABELS
    ),
)  # fmt: skip
