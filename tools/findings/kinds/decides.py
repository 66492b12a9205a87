"""What the answer to an image rests on: the region with the most attribution lies on a role, and without it another is given.

Of each image the region that is ranked first by integrated gradients (XRAI, Kapishnikov et al. 2019) is blurred; where it
lies on the pixels of the role and the answer is then another one, the role has decided. The share of such images has to exceed
that of images decided elsewhere, that of the same with the region moved to a random place, and that in models with random
weights. It is about the answer that the model gives, right or wrong.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind, Nulls, mean_of, tenth_of_examples
from tools.findings.null_twins import null_twin
from tools.findings.phrases import capital, on_task
from tools.methods.regions import Mask, candidates, lies_on, moved, ranked
from tools.methods.saliency import baseline, changed, integrated, seen
from tools.methods.tool import ToolInputError
from tools.subjects import Subject
from tools.tasks.spans import anchor_words

TWINS = 2  # models with random weights
STEPS, ROUNDS = 8, 2


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    ctx = bench.ctx
    known = sorted({role for e in bench.examples for role in e.spans})
    if any(s.label not in e.spans for e in bench.examples):
        raise ToolInputError(
            f"label: not every image of {s.task}{f' among {s.among}' if s.among else ''} has {s.label!r}; roles are "
            f"{', '.join(known) or 'none'}"
        )
    given = seen(ctx.subject, bench.examples, ctx.max_tokens)
    regions = [candidates(raw) for raw in given.raw]
    on = np.array([r[s.label] for r in given.roles])

    def decided(subject: Subject) -> tuple[list[Mask], np.ndarray]:
        """The region ranked first, and whether each answer rests on it."""
        mine = seen(subject, bench.examples, ctx.max_tokens)
        base = baseline(mine.pixels, subject, "blur", ctx.seed)
        maps = integrated(subject, mine.pixels, base, mine.said, STEPS, mine.most, ROUNDS).maps
        first = [ranked(m, r).first for m, r in zip(maps, regions, strict=True)]
        return first, changed(subject, mine, first)

    first, rests = decided(ctx.subject)
    there, other = _lies(first, on), moved(first, ctx.seed)
    own, elsewhere = (rests & there).astype(float), (rests & ~there).astype(float)
    anywhere = (changed(ctx.subject, given, other) & _lies(other, on)).astype(float)
    blind: list[np.ndarray] = []
    for i in range(TWINS):
        regions_there, needed = decided(null_twin(ctx.subject, seed=ctx.seed + i))
        blind.append((needed & _lies(regions_there, on)).astype(float))

    def apart(base: np.ndarray) -> tuple[Quantity, ...]:
        return (Quantity("decided", "share of images", own - base, (-1.0, 1.0)),)

    least = bench.smallest
    return [
        bench.effect(Quantity("decided", "share of images", own, (0.0, 1.0)), least),
        bench.beyond(apart(elsewhere), "regions that lie elsewhere", least),
        bench.beyond(apart(anywhere), "regions of the same size and form at random places", least),
        bench.beyond(apart(mean_of(blind)), f"the mean of {TWINS} models with random weights", least),
    ]


def _lies(first: Sequence[Mask], on: np.ndarray) -> np.ndarray:
    return np.array([lies_on(f, m) for f, m in zip(first, on, strict=True)])


def _sentence(s: Statement, _: Mapping[str, str] | None) -> str:
    return (
        f"{capital(on_task(s))}, {anchor_words(s.label)} decides the answer: in {{effect}} of images the region with the most "
        "attribution lies on it, and the answer is another one where that region is blurred{control}."
    )


KIND = Kind(
    "decides", "what decides an image's class: the region ranked first lies on the role (label) and without it another is given",
    _measure, _sentence, needs=("label",), capable=False, least=tenth_of_examples, unit="share of images",
    nulls=Nulls({"shuffled_answers": "it is about the answer that the model gives, not about the right one"}),
)  # fmt: skip
