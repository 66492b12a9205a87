"""Numbers that a planner types, as digits and as words, in every text that it may write."""

import random
from collections.abc import Iterator

from benchmarks.claims.case import Case, accepted, one
from benchmarks.claims.flow import base, world_of
from benchmarks.claims.worlds import Worlds

TYPED = (
    "0.97", ".97", "97%", "97 %", "97 percent", "ninety-seven percent", "nine out of ten", "nine in ten of them",
    "two thirds", "three quarters", "half of them", "0,97", "1e-5", "n = 128", "1,000", "９７％", "٩٧", "½", "¾", "1/3",
    "tenfold", "10x", "fourfold", "a factor of three", "twice that", "a dozen", "a hundred", "p < .001",
    "-2.5 logits", "'0.97'", "`97%`", "“97 percent”", "0.97's worth", "it's 0.97 and it's so",
    "zero point nine seven", "point nine", "nought point nine", "one in twenty", "one in two", "one out of ten",
    "a fifth", "head 0.97", "heads 0.97", "block 97%", "about 1.0", "score:value=0.97", "E1 says 97", "97/100",
    "per cent: 97", "minus three", "sixty-four", "a score of nine", "②", "Ⅳ", "0x61", "2**3", "5e-1", "6σ", "+3",
    "1.5e3", "%", "seven tenths", "a third", "thrice", "decoder.0.97", "a 3rd", "the 64 examples", "three-fold",
    "hundredfold", "half of the heads", "a handful of sums", "vierzig Prozent", "cuarenta por ciento", "douze sur vingt",
    "la moitié", "сорок процентов", "九十七", "x²", "XCVII", "halved", "the tenth percentile",
)  # fmt: skip
TEMPLATES = ("Accuracy is {}.", "It falls to {} without it.", "We see {} here.", "Clearly {}, as expected.")
FIELDS = ("note", "hypothesis", "claim", "retract", "finish", "rephrase")


def typed(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """A quantity by hand, beside the same words with a reference."""
    order = rng.sample(TYPED, len(TYPED))
    for i in range(n):
        w = world_of(worlds, rng)
        before, *_ = base(w, rng)
        before = (*before, one(("confirm", {})))
        number = order[i % len(order)]
        template, field = rng.choice(TEMPLATES), FIELDS[i % len(FIELDS)]

        def call(said: str, field: str = field, template: str = template) -> tuple[str, dict[str, object]]:
            text = template.format(said)
            return {
                "note": ("note", {"text": text}),
                "hypothesis": ("hypothesis", {"statement": text}),
                "rephrase": ("hypothesis", {"handle": "H1", "statement": text}),
                "claim": ("claim", {"finding": "F1", "interpretation": text}),
                "retract": ("retract", {"finding": "F1", "reason": text}),
                "finish": ("finish", {"answer": "found", "words": text}),
            }[field]  # fmt: skip

        reference = "{{E1.accuracy[task=" + w.task + "]}}"
        if field == "rephrase":
            before = (one(("loss", {"tasks": [w.task]}), ("hypothesis", {"statement": "It copies."})),)
        tool, wrong = call(number)
        yield Case(
            "typed numbers", w.name, f"{field}: {template.format(number)}", (one((tool, wrong)),), (one(call(reference)),),
            accepted(tool), before,
        )  # fmt: skip


CLASSES = (typed,)
