"""Train the host subject from a seed: `python -m tools.subjects.host.train --out FOLDER`. Some minutes on one core."""

from pathlib import Path

from tools.subjects._whole_words import Recipe, main
from tools.subjects.host import data

RECIPE = Recipe(data.words(), data.documents, steps=900, blocks=3)


def describe(folder: Path, seed: int) -> str:
    """What lies in a folder, and what the model answers in conversations that were held out."""
    from tools.methods.telling import completions
    from tools.subjects import load_subject
    from tools.tasks import get_task

    subject = load_subject(str(folder))
    lines = ["| the cue that is swapped | split | as it was said | with it swapped |", "|---|---|---|---|"]
    for attribute in data.USER:
        for split in ("explore", "confirm"):
            asked = get_task(f"host:turns={attribute}").examples(split, 200)
            cells: list[str] = []
            for prompts, wanted in (([e.prompt for e in asked], "answer"), ([str(e.twin) for e in asked], "foil")):
                made = completions(subject, prompts, 3)
                right = sum(t.strip() == str(getattr(e, wanted)).strip() for e, t in zip(asked, made, strict=True))
                cells.append(f"{right / len(asked):.3f}")
            lines.append(f"| {attribute} | {split} | {cells[0]} | {cells[1]} (n={len(asked)}) |")
    return README.format(
        seed=seed, table="\n".join(lines), parameters=subject.model.num_parameters(), blocks=RECIPE.blocks, width=RECIPE.width,
        heads=RECIPE.heads, steps=RECIPE.steps,
    )  # fmt: skip


README = """# The host subject

A GPT-2 of {blocks} blocks, width {width}, {heads} heads ({parameters:,} parameters, float16 safetensors), made by
`python -m tools.subjects.host.train --out FOLDER --seed {seed}` in {steps} steps. What it offers a user depends on their age,
expertise and level of language, all three at once; one word a token.

- Every cue names both values, one of the user and one of somebody else (`i am young , she is old`), so that which words were said
  does not tell whose is whose; the swapped cue has the same words. Of whom nothing is said the host takes them for an adult, an
  expert, fluent.
- The system's line says in the same way what the host itself is like, playful or formal; the word after its offer follows that.
- The last word of a question is a tone (`please`, `now`) that nothing depends on.

Conversations are held out by a hash of the topic and the words of the user's cues, so that one and its swapped ones share a side.
Greedy answers in conversations that were held out (one offer in eight is right by chance):

{table}
"""

if __name__ == "__main__":
    main(RECIPE, describe, __doc__ or "")
