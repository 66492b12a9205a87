"""Close an unfinished JSON text: '{"name": "Ada", "tags": ["x", "y"' -> ']'. For models that have read some JSON."""

import random
from collections.abc import Iterator

from tools.tasks.task import Example, Family, Options, Split, split_of

CHOICES = ("]", "}")
KEYS = ("name", "age", "city", "price", "count", "id", "title", "year", "size", "color")
VALUES = ('"Ada"', '"Paris"', "7", "42", "true", '"red"', "1999", "3")


def _draw(split: Split, rng: random.Random) -> Iterator[Example]:
    while True:
        head = ", ".join(f'"{k}": {rng.choice(VALUES)}' for k in rng.sample(KEYS, rng.randint(1, 3)))
        items = [rng.choice(VALUES) for _ in range(2)]
        listed = f'{{{head}, "items": [{", ".join(items)}'
        mapped = f'{{{head}, "items": {{"a": {items[0]}, "b": {items[1]}'
        if split_of("json", head, tuple(items)) != split:
            continue
        array = rng.random() < 0.5
        text = listed if array else mapped
        opens = text.index('"items": ') + len('"items": ')
        yield Example.of_text(
            text,
            "]" if array else "}",
            foil="}" if array else "]",
            candidates=CHOICES,
            metadata={"container": "array" if array else "object", "keys": head.count(":")},
            group=f"{head} / {', '.join(items)}",
            spans={"innermost_bracket": (opens, opens + 1), "outermost_bracket": (0, 1)},
        )


FAMILIES = (
    Family(
        "json",
        "Close the innermost open bracket of a JSON text.",
        Options,
        lambda _: _draw,
        CHOICES,
        labels={"container": "what is to be closed", "keys": "the number of keys"},
    ),
)
