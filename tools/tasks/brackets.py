"""Close the innermost open bracket: '([{}' -> ']'. Only the three closing brackets compete: opening another is legal too."""

import random
from collections.abc import Iterator

from tools.tasks.task import Example, Family, Options, Split, split_of

PAIRS = {"(": ")", "[": "]", "{": "}"}
CHOICES = tuple(PAIRS.values())


def sequence(rng: random.Random, complete: bool) -> tuple[str, list[int]]:
    """A bracket string and the indices of its closing brackets; if `complete`, all are closed at the end."""
    stack: list[str] = []
    text = ""
    closing: list[int] = []
    length = rng.randint(3, 14)
    while len(text) < length or (complete and stack):
        if stack and (len(text) >= length or len(stack) >= 5 or rng.random() < 0.45):
            closing.append(len(text))
            text += PAIRS[stack.pop()]
        else:
            stack.append(rng.choice("([{"))
            text += stack[-1]
    return text, closing


def open_brackets(text: str) -> list[int]:
    """Indices of the brackets that are still open, outermost first."""
    stack: list[int] = []
    for i, c in enumerate(text):
        if c in PAIRS:
            stack.append(i)
        else:
            stack.pop()
    return stack


def _draw(split: Split, rng: random.Random) -> Iterator[Example]:
    while True:
        text, _closing = sequence(rng, complete=False)
        still = open_brackets(text)
        if not still or split_of("brackets", text) != split:
            continue
        at = still[-1]
        new = rng.choice([c for c in PAIRS if c != text[at]])
        # A bracket that opened at `at` and is still open has no partner yet, so changing it keeps the text legal.
        twin = text[:at] + new + text[at + 1 :]
        if split_of("brackets", twin) not in (split, "train"):
            continue
        yield Example.of_text(
            text,
            PAIRS[text[at]],
            foil=PAIRS[new],
            twin=twin,
            candidates=CHOICES,
            metadata={"depth": len(still), "length": len(text), "distance": len(text) - at},
            group=text,
            labels={"innermost": text[at], "outermost": text[still[0]], "last": text[-1]},
            spans={"innermost_bracket": (at, at + 1), "outermost_bracket": (still[0], still[0] + 1)},
        )


LABELS = {
    "depth": "the number of brackets that are open",
    "length": "the number of brackets",
    "distance": "how many brackets ago the one to be closed was opened",
}
FAMILIES = (Family("brackets", "Close the innermost open bracket.", Options, lambda _: _draw, CHOICES, labels=LABELS),)
