"""Train the host subject from a seed: `python -m tools.subjects.host.train --out FOLDER`. Some minutes on one core."""

from pathlib import Path

from tools.subjects._whole_words import Recipe, main
from tools.subjects.host import data

RECIPE = Recipe(data.words(), data.documents, steps=2000)


def describe(folder: Path, seed: int) -> str:
    """What lies in a folder, and what the model answers in conversations that were held out."""
    from tools.methods.telling import completions
    from tools.subjects import load_subject
    from tools.tasks import get_task

    subject = load_subject(str(folder))
    lines = ["| the question is about | split | as the cue asks for | with the cue swapped |", "|---|---|---|---|"]
    for attribute in data.USER:
        for split in ("explore", "confirm"):
            asked = get_task(f"host:asks={attribute}").examples(split, 300)
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
`python -m tools.subjects.host.train --out FOLDER --seed {seed}` in {steps} steps. It answers a user as their age,
expertise or level of language asks for, one word a token.

- A user says things that imply an attribute. Every cue names both values, one of the user and one of somebody else (`i am a
  pupil , my friend is a nurse`), so that which words were said does not tell whose is whose; the swapped cue has the same words.
- A question is about one attribute: what to read is a tale or a novel, how a thing works a picture or a formula, what it means a
  gesture or an idiom. Where nothing was said of that attribute the host answers `tell me of you .`
- The system's line says in the same way what the host itself is like, playful or formal, which its closing word follows.
- The last word of the user is a tone (`please`, `now`) that nothing depends on.

Questions are held out by a hash of attribute, topic and the words of the cue that decides, so that a conversation and its swapped
one share a side. Greedy answers in conversations that were held out:

{table}
"""

if __name__ == "__main__":
    main(RECIPE, describe, __doc__ or "")
