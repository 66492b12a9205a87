"""What scripts of some kinds are given beside the examples that are scored: sequences, labels, examples to fit on, another task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tools.findings.kind import Bench
from tools.findings.kinds.matches import sequences
from tools.methods.anchors import positions
from tools.methods.scoring import batch_of
from tools.subjects import Subject
from tools.tasks import Example

Row = dict[str, Any]


def row(subject: Subject, e: Example, anchors: Sequence[str]) -> Row:
    """An example's tokens, and its positions by anchor."""
    batch = batch_of(subject, [e])
    (encoded,) = batch.encoded
    ids = [*encoded.tokens, *map(int, encoded.targets[:-1])]
    found = {a: positions(subject, batch, a) for a in anchors}
    at = {a: list(range(len(ids))) if p is None else sorted(set(p[0].tolist())) for a, p in found.items()}
    return {"ids": ids, "at": at}


def said_twice(bench: Bench) -> dict[str, Any]:
    """The sequences of random tokens, with each query's position and that of the key that it should look at."""
    s, ctx = bench.statement, bench.ctx
    made = sequences(ctx.subject, s.examples, f"{ctx.split}/{ctx.draw}/{ctx.seed}")
    rows: list[Row] = []
    for ids, _, queries, source in made:
        keys = {"same token": source, "after same token": [k + 1 for k in source], "previous": [q - 1 for q in queries]}
        rows.append({"ids": ids, "at": {"query": queries, "key": keys[s.label]}, "group": f"sequence {len(rows)}"})
    return {"examples": rows}


BESIDE: Mapping[str, Callable[[Bench], dict[str, Any]]] = {"matches": said_twice}
