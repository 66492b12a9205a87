"""A head brings together what shares a label: in the space in which near means attended, the nearest keys of a query, those of
other sequences, have the query's label more often than with shuffled labels and than in models with random weights; and also
among the keys that do not share another label with the query, so that it is not that label, seen through this one.

The label is one that stands at every position: token, position, position before (the key one before the query), kind, role; of
images row, column, colour. Another label is passed over where this one determines it, as a token its kind. Other sequences' keys
are taken, so that it is not about what stood near by. See `qk_map`.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind, Nulls, mean_of, tenth_of_examples
from tools.findings.null_twins import null_twin
from tools.findings.phrases import capital, heads, on_task
from tools.methods.point_labels import point_labels
from tools.methods.query_keys import apart_from, captured, determines, joint, shared
from tools.methods.tool import ToolInputError
from tools.subjects import Subject

TWINS = 2  # models with random weights


def _check(s: Statement) -> None:
    if len(s.members) != 1 or s.members[0].part != "attn.pattern" or s.members[0].key or s.members[0].anchor:
        raise ToolInputError(
            f"aligns is about one head wherever it stands, as STACK.3.attn.pattern[2], not {s.components}"
        )


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    ctx, (c,) = bench.ctx, s.members
    spec = ctx.subject.spec(c.stack)
    if c.block is None or c.block >= len(spec.blocks) or c.units[0] >= spec.n_heads:
        raise ToolInputError(f"{c}: {spec.name} has {len(spec.blocks)} blocks of {spec.n_heads} heads")
    block, head, examples = c.block, c.units[0], list(bench.examples)

    def shares(subject: Subject) -> tuple[tuple[np.ndarray, np.ndarray], dict[str, tuple[np.ndarray, np.ndarray]]]:
        found = captured(subject, examples, c.stack, block, ctx.max_tokens)
        lengths = [x.keys.shape[1] for x in found]
        labels = point_labels(subject, examples, c.stack, lengths)
        if s.label not in labels:
            raise ToolInputError(f"label: positions have {', '.join(labels)}, not {s.label!r}")
        pairs = [(x.queries[head], x.keys[head]) for x in found]
        q, k = (np.concatenate([p[i] for p in pairs]) for i in (0, 1))
        order = np.random.default_rng([ctx.seed, len(q)]).permutation(len(q))
        space, mine = joint(pairs, causal=spec.causal), labels[s.label]
        others = {
            n: v for n, v in labels.items() if n != s.label and len(set(v.ravel())) > 1 and not determines(mine, v)
        }
        without = {n: apart_from(space, q, k, lengths, mine, v) for n, v in others.items()}
        return shared(space, q, k, lengths, mine, order), without

    (own, other), without = shares(ctx.subject)
    blind = mean_of([shares(null_twin(ctx.subject, seed=ctx.seed + i))[0][0] for i in range(TWINS)])
    where, unit = {"component": str(c)}, "share of nearest keys"

    def apart(base: np.ndarray) -> tuple[Quantity, ...]:
        return (Quantity("shares", unit, own - base, (-1.0, 1.0)),)

    least = bench.smallest
    return [
        bench.effect(Quantity("shares", unit, own, (0.0, 1.0)), least, **where),
        bench.beyond(apart(other), "shuffled labels", least, **where),
        bench.beyond(apart(blind), f"the mean of {TWINS} models with random weights", least, **where),
        *(
            bench.beyond((Quantity("shares", unit, a - b, (-1.0, 1.0)),), f"all keys of another {name}", 0.0, **where)
            for name, (a, b) in without.items()
        ),
    ]


def _sentence(s: Statement, _: Mapping[str, str] | None) -> str:
    return (
        f"{capital(on_task(s))}, {heads(s.members)} matches by {s.label}: in the space in which near means attended, {{effect}} of "
        "a query's nearest keys in other sequences share it{control}."
    )


KIND = Kind(
    "aligns", "a head's queries lie near keys of other sequences that share the label (token, position, kind, role ...)", _measure,
    _sentence, needs=("components", "label"), check=_check, capable=False, least=tenth_of_examples, unit="share of nearest keys",
    nulls=Nulls(
        {"shuffled_answers": "it is about queries and keys, whatever the answer"},
        apart="embeddings drawn at random can bring the same tokens together, without training",
    ),
)  # fmt: skip
