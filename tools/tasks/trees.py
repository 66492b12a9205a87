"""Texts whose tree is known: every word is a span, and its labels say on which word it depends, and how.

Words of sentences depend as Universal Dependencies have it; a bracket on the innermost one that is open before it, what
closes on what opened it.
"""

import random
from collections.abc import Iterator
from typing import Any

from tools.tasks.brackets import CHOICES, PAIRS, open_brackets, sequence
from tools.tasks.task import Example, Family, Options, Split, split_of

SHORTEST = 5  # words: trees of fewer are nearly all alike


def _sentences(split: Split, rng: random.Random) -> Iterator[Example]:
    from tools.subjects._splits import side
    from tools.subjects.masked import data, grammar

    while True:
        made = grammar.draw(rng, None)
        if len(made.words) < SHORTEST or side(*made.content) != split:
            continue
        fit = list(data.masked(made))
        if fit:
            yield _masked(rng.choice(fit), made)


def _masked(e: Any, made: Any) -> Example:
    def place(text: str, i: int) -> tuple[int, int]:
        words = text.split(" ")
        start = sum(len(w) + 1 for w in words[:i])
        return start, start + len(words[i])

    n = len(made.words)
    spans, twin_spans = ({_role(i): place(text, i) for i in range(n)} for text in (e.text, e.twin))
    known = {_role(i): {"head": _role(w.head), "relation": w.relation} for i, w in enumerate(made.words)}
    return Example(
        {"masked": e.text},
        e.answer,
        e.foil,
        {"masked": e.twin},
        group=repr(made.content),
        labels={"construction": made.construction, "words": n},
        spans=spans,
        candidates=(e.answer, e.foil),
        choices=(e.answer, e.foil),
        twin_spans=twin_spans,
        span_labels=known,
    )


def _brackets(split: Split, rng: random.Random) -> Iterator[Example]:
    while True:
        text, _ = sequence(rng, complete=False)
        still = open_brackets(text)
        if len(text) < SHORTEST or not still or still[0] != 0 or split_of("brackets", text) != split:
            continue
        at = still[-1]
        new = rng.choice([c for c in PAIRS if c != text[at]])
        twin = text[:at] + new + text[at + 1 :]
        if split_of("brackets", twin) not in (split, "train"):
            continue
        yield Example.of_text(
            text,
            PAIRS[text[at]],
            foil=PAIRS[new],
            twin=twin,
            candidates=CHOICES,
            group=text,
            labels={"depth": len(still), "words": len(text)},
            spans={_role(i): (i, i + 1) for i in range(len(text))},
            span_labels={
                _role(i): {
                    "head": _role(head),
                    "relation": "root" if head < 0 else "inside" if c in PAIRS else "closes",
                }
                for i, (c, head) in enumerate(zip(text, _openers(text), strict=True))
            },
        )


def _openers(text: str) -> list[int]:
    """For each bracket the innermost one that is open before it, -1 for the first."""
    heads: list[int] = []
    stack = [-1]
    for i, c in enumerate(text):
        heads.append(stack.pop() if c not in PAIRS else stack[-1])
        if c in PAIRS:
            stack.append(i)
    return heads


def _role(i: int) -> str:
    """What the word of an index is called, counted from 1; nothing for -1."""
    return f"word{i + 1}" if i >= 0 else ""


FAMILIES = (
    Family(
        "trees",
        "Fill a gap in a sentence whose dependency tree is known.",
        Options,
        lambda _: _sentences,
        reads=("masked",),
        subject="masked",
        trees=True,
    ),
    Family(
        "bracket_trees",
        "Close the innermost of brackets that form a tree.",
        Options,
        lambda _: _brackets,
        CHOICES,
        trees=True,
    ),
)
