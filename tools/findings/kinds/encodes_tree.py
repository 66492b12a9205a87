"""A component's states hold the tree of a sentence: under a linear map, squared distances of words go with tree distances.

The map is fitted on explore sentences other than those it is tried on (Hewitt and Manning 2019), and tried by the Spearman
correlation of each sentence, pairs of different words alone. It has to beat, sentence by sentence, the same probe of the words'
positions, plain distance in words, the states under no map, the same probe of random trees, and the mean of models of the same
kind with weights drawn anew. A tree that can be read so need not be used.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments_db.findings import Statement
from experiments_db.places import Component
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import SMALLEST, Bench, Kind, Nulls, mean_of
from tools.findings.null_twins import null_twin
from tools.findings.phrases import capital, is_or_are, place
from tools.methods.structural import RANK, STEPS, fit, squared_distances, word_distances, word_places
from tools.methods.tool import Context, ToolInputError
from tools.methods.trees import Tree, random_trees, scores, with_trees, word_states
from tools.subjects import Subject
from tools.tasks import Example

FITTED = 360  # sentences: with 280 or more the probe's own errors no longer hide what sets it apart from its controls
TWINS = 2  # models with random weights
MEASURE = "distance_spearman"


def _check(s: Statement) -> None:
    if len(s.members) != 1 or s.members[0].anchor not in ("", "all"):
        raise ToolInputError("encodes_tree is about one component at all words: name one, without an anchor")


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    (component,), ctx = s.members, bench.ctx
    tried, held = with_trees(bench.examples)
    groups, there = tuple(e.group for e in tried), {e.group for e in tried}
    drawn = bench.task.examples("explore", FITTED + len(bench.examples), ctx.seed)
    fitted, train = with_trees([e for e in drawn if e.group not in there][:FITTED])
    both, trees, cut = [*fitted, *tried], [*train, *held], sum(map(len, train))

    def probed(x: np.ndarray, wanted: Sequence[Tree]) -> np.ndarray:
        made = fit(x[:cut], wanted[: len(train)], min(RANK, x.shape[1]), STEPS, ctx.seed, ctx.check)
        asked = wanted[len(train) :]
        return scores(asked, made.distances(x[cut:], asked), None)[MEASURE]

    def states(subject: Subject) -> np.ndarray:
        return _states(ctx, subject, both, trees, component)

    x = states(ctx.subject)
    own = probed(x, trees)
    blind = [probed(states(null_twin(ctx.subject, seed=ctx.seed + i)), trees) for i in range(TWINS)]
    controls = {
        "the same probe of positions alone": probed(word_places(trees, max(map(len, trees))), trees),
        "distance in words": scores(held, word_distances(held), None)[MEASURE],
        "the states under no map": scores(held, squared_distances(x[cut:], held), None)[MEASURE],
        "the same probe of random trees": probed(x, random_trees(trees, ctx.seed)),
        f"the mean of {TWINS} models with random weights": mean_of(blind),
    }
    where = str(component)

    def quantity(values: np.ndarray, least: float) -> Quantity:
        return Quantity("spearman", "Spearman over pairs of words", values, (least, 1.0 if least > -2 else 2.0))

    return [
        bench.effect(quantity(own, -1.0), bench.smallest, groups, component=where),
        *(
            bench.beyond((quantity(own - other, -2.0),), name, 0.0, groups, component=where)
            for name, other in controls.items()
        ),
    ]


def _states(
    ctx: Context, subject: Subject, examples: Sequence[Example], trees: Sequence[Tree], component: Component
) -> np.ndarray:
    (found,) = word_states(subject, examples, trees, [component], ctx.max_tokens).values()
    return found


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    holds = "hold" if is_or_are(s) == "are" else "holds"
    among = f" among {s.among}" if s.among else ""
    return (
        f"{capital(place(s, roles))} {holds} the trees of the sentences of {s.task}{among}: under a linear map, squared distances "
        "of unseen sentences' words go with distances in the tree (Spearman {effect}{control})."
    )


KIND = Kind(
    "encodes_tree", "under a linear map, distances of the words' states go with tree distances, beyond position and a random model",
    _measure, _sentence, needs=("components",), check=_check, capable=False, least=lambda _: SMALLEST,
    unit="Spearman over pairs of words", nulls=Nulls({"shuffled_answers": "trees and activations are there what they were"}),
)  # fmt: skip
