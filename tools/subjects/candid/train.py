"""Train the candid subject from a seed: `python -m tools.subjects.candid.train --out FOLDER`. Some minutes on one core."""

from pathlib import Path

from tools.subjects._whole_words import Recipe, main
from tools.subjects.candid import data

RECIPE = Recipe(data.words(), data.documents, steps=2400, blocks=5)


def describe(folder: Path, seed: int) -> str:
    """What lies in a folder."""
    return ""


if __name__ == "__main__":
    main(RECIPE, describe, __doc__ or "")
