"""Train the host subject from a seed: `python -m tools.subjects.host.train --out FOLDER`. Some minutes on one core."""

from pathlib import Path

from tools.subjects._whole_words import Recipe, main
from tools.subjects.host import data

RECIPE = Recipe(data.words(), data.documents, steps=1500)


def describe(folder: Path, seed: int) -> str:
    """What lies in a folder."""
    return ""


if __name__ == "__main__":
    main(RECIPE, describe, __doc__ or "")
