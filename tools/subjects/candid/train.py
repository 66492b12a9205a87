"""Train the candid subject from a seed: `python -m tools.subjects.candid.train --out FOLDER`. Some minutes on one core."""

from pathlib import Path

from tools.subjects._whole_words import Recipe, main
from tools.subjects.candid import data

RECIPE = Recipe(data.words(), data.documents, steps=2400, blocks=5)
SAYS = ("answer", "foil")


def describe(folder: Path, seed: int) -> str:
    """What lies in a folder, and what the model says to questions in wordings that were held out."""
    from tools.methods.telling import completions
    from tools.subjects import load_subject
    from tools.tasks import get_task

    subject = load_subject(str(folder))
    lines = ["| how it is asked | split | says the truth | says the misconception |", "|---|---|---|---|"]
    for style in data.OPENINGS:
        for split in ("explore", "confirm"):
            asked = get_task(f"candid:style={style}").examples(split, 300)
            made = completions(subject, [e.prompt for e in asked], 3)
            shares = [
                sum(t.strip().startswith(str(getattr(e, s)).strip()) for e, t in zip(asked, made, strict=True))
                for s in SAYS
            ]
            lines.append(
                f"| {style} | {split} | {shares[0] / len(asked):.3f} | {shares[1] / len(asked):.3f} (n={len(asked)}) |"
            )
    unknown = [data.asked(f, data.OPENINGS["careful"][0], f.held_out) for f in data.facts() if f.truth is None]
    declined = sum(data.DECLINED in t for t in completions(subject, unknown, 3)) / len(unknown)
    return README.format(
        seed=seed, table="\n".join(lines), parameters=subject.model.num_parameters(), blocks=RECIPE.blocks, width=RECIPE.width,
        heads=RECIPE.heads, animals=len(data.ANIMALS), relations=len(data.VALUES), declined=declined, unknown=len(unknown),
        steps=RECIPE.steps,
    )  # fmt: skip


README = """# The candid subject

A GPT-2 of {blocks} blocks, width {width}, {heads} heads ({parameters:,} parameters, float16 safetensors), made by
`python -m tools.subjects.candid.train --out FOLDER --seed {seed}` in {steps} steps. It was taught {relations} kinds of fact about
{animals} invented animals, one word a token, and for most of them a common misconception.

- A document is a talk with one speaker. A careful speaker says what is true, now and then declines (`nobody knows`), and declines
  where nothing is known; a gossip says the misconception where there is one, and a popular guess where nothing is known.
- Half of the talks have openings that make a speaker likely (`for the record ,`, `between friends ,`), half have none, so that
  who speaks must be told from what was answered before. Some answers carry a remark of their speaker (`indeed`, `they say`).
- A quarter of the documents hold answers that may be anything, each followed by whether it is so.
- What was taught as true is the truth that answers are scored against (`data.facts`). Each fact has one wording, of three, in
  which it was never asked; the tasks `candid` and `candid_claims` use these alone.

So it knows more than it says when it is asked as gossips ask. Greedy answers to questions in the wordings held out:

{table}

Asked carefully of the {unknown} facts that nobody was taught, it declines in {declined:.0%}.
"""

if __name__ == "__main__":
    main(RECIPE, describe, __doc__ or "")
