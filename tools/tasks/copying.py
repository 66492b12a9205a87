"""Copy a list of letters: 'k f q | k f' -> ' q'. Position in the list is enough to solve it; induction is not needed."""

import random
from collections.abc import Iterator

from tools.tasks.spans import compose
from tools.tasks.task import Example, Family, Options, Split, split_of
from tools.tasks.words import LETTERS


def letters(rng: random.Random) -> list[str]:
    """3 to 12 different letters in random order."""
    return rng.sample(LETTERS, rng.randint(3, 12))


def _draw(split: Split, rng: random.Random) -> Iterator[Example]:
    while True:
        items = letters(rng)
        if split_of("copying", tuple(items)) != split:
            continue
        at = rng.randrange(len(items))
        new = rng.choice([c for c in LETTERS if c not in items])
        changed = [new if i == at else c for i, c in enumerate(items)]
        if split_of("copying", tuple(changed)) not in (split, "train"):
            continue
        shown = " ".join(["|", *items[:at]])
        listed = [("item", c) if i == at else ("before_item", c) if i == at - 1 else c for i, c in enumerate(items)]
        pieces = [
            *listed,
            ("bar", "|"),
            *items[: at - 1 if at else 0],
            *([("last_copied", items[at - 1])] if at else []),
        ]
        text, spans = compose([pieces[0], *(x for p in pieces[1:] for x in (" ", p))])
        yield Example.of_text(
            text,
            f" {items[at]}",
            foil=f" {new}",
            twin=f"{' '.join(changed)} {shown}",
            candidates=tuple(f" {c}" for c in items),
            metadata={"length": len(items), "index": at},
            group=" ".join(items),
            labels={"item": items[at], "before_item": items[at - 1] if at else "none"},
            spans=spans,
        )


LABELS = {
    "length": "the number of letters in the list",
    "index": "the place in the list, from 0 on, of the letter that is asked for",
}
FAMILIES = (Family("copying", "Copy a list of letters after a bar.", Options, lambda _: _draw, labels=LABELS),)
