"""Key-value recall: 'Mary has the ball. John has the ring. Mary has the' -> ' ball'.

The demo model is NOT taught this, so that "the model cannot do it" is a true finding about it.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from tools.tasks.spans import compose
from tools.tasks.task import Example, Family, Options, Split, split_of
from tools.tasks.words import NAMES, OBJECTS


class KeyValueOptions(Options):
    """How many pairs there are to tell apart."""

    pairs: Literal["any", "2", "3", "4", "5"] = Field(default="any", description="pairs in the prompt; any is 2 to 5")


def _draw(options: KeyValueOptions, split: Split, rng: random.Random) -> Iterator[Example]:
    while True:
        n = rng.randint(2, 5) if options.pairs == "any" else int(options.pairs)
        names, objects = rng.sample(NAMES, n), rng.sample(OBJECTS, n)
        if split_of("key_value", tuple(names), tuple(objects)) != split:
            continue
        at = rng.randrange(n)
        new = rng.choice([o for o in OBJECTS if o not in objects])
        changed = [new if i == at else o for i, o in enumerate(objects)]
        if split_of("key_value", tuple(names), tuple(changed)) not in (split, "train"):
            continue
        text, spans = _prompt(names, objects, at)
        yield Example.of_text(
            text,
            f" {objects[at]}",
            foil=f" {new}",
            twin=_prompt(names, changed, at)[0],
            candidates=tuple(f" {o}" for o in objects),
            metadata={"pairs": n, "index": at, "name": names[at]},
            group=", ".join(f"{name} {thing}" for name, thing in zip(names, objects, strict=True)),
            labels={"key": names[at], "value": objects[at]},
            spans=spans,
        )


def _prompt(names: Sequence[str], objects: Sequence[str], at: int) -> tuple[str, dict[str, tuple[int, int]]]:
    parts: list[str | tuple[str, str]] = []
    for i, (name, thing) in enumerate(zip(names, objects, strict=True)):
        parts += [("key", name) if i == at else name, " has the ", ("value", thing) if i == at else thing, ". "]
    return compose([*parts, ("key_again", names[at]), " has the"])


FAMILIES = (
    Family(
        "key_value",
        "Recall which of several people has which object.",
        KeyValueOptions,
        lambda o: lambda s, r: _draw(o, s, r),
        labels={"pairs": "the number of people", "index": "the place, from 0 on, of the person who is asked about"},
    ),
)
