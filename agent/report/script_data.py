"""What scripts of some kinds are given beside the examples that are scored: sequences, labels, examples to fit on, another task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tools.findings.kind import Bench
from tools.findings.kinds.computes import inputs_of
from tools.findings.kinds.decodable import fitted_and_tried
from tools.findings.kinds.matches import sequences
from tools.methods.anchors import positions
from tools.methods.features import labels_named, labels_of
from tools.methods.scoring import batch_of
from tools.methods.tool import ToolInputError
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


def probed(bench: Bench) -> dict[str, Any]:
    """For a probe: examples to fit on with their labels, and the labels of those that it is tried on."""
    s = bench.statement
    if s.kind == "computes":
        return _labelled(bench, bench.seen, [*inputs_of(s), "answer"])
    if not s.label.endswith(".*"):
        return _labelled(bench, bench.seen, [s.label])
    both, n = fitted_and_tried(bench)
    return _labelled(bench, both[:n], labels_named(both, s.label))


def steered(bench: Bench) -> dict[str, Any]:
    """For class means: examples with their labels, and of those that are pushed the label and the foil."""
    made = _labelled(bench, bench.seen, [bench.statement.label])
    foils = [(e.foil or "").strip() for e in bench.examples]
    return made | {"labels": [[*v, foil] for v, foil in zip(made["labels"], foils, strict=True)]}


def _labelled(bench: Bench, seen: Sequence[Example], names: Sequence[str]) -> dict[str, Any]:
    if {e.group for e in seen} & set(bench.groups):
        raise ToolInputError("a script fits probes on other problems than those that it tries them on")
    fitted, tried = (
        [[str(v) for v in row] for row in zip(*(labels_of(rows, n) for n in names), strict=True)]
        for rows in (seen, bench.examples)
    )
    anchors = sorted({c.anchor or "all" for c in bench.statement.members})
    rows = [row(bench.ctx.subject, e, anchors) | {"labels": v} for e, v in zip(seen, fitted, strict=True)]
    return {"seen": rows, "labels": tried}


BESIDE: Mapping[str, Callable[[Bench], dict[str, Any]]] = {
    "matches": said_twice, "decodable": probed, "computes": probed, "steers": steered,
}  # fmt: skip
