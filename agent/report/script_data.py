"""What scripts of some kinds are given beside the examples that are scored: sequences, labels, examples to fit on, another task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tools.findings.kind import Bench
from tools.findings.kinds.computes import inputs_of
from tools.findings.kinds.decodable import fitted_and_tried
from tools.findings.kinds.matches import sequences
from tools.findings.kinds.similar import other_of
from tools.methods.anchors import positions
from tools.methods.features import labels_named, labels_of
from tools.methods.parallel import parallel
from tools.methods.point_labels import point_labels
from tools.methods.scoring import batch_of
from tools.methods.tool import ToolInputError
from tools.ports import port_of
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


def supposed(bench: Bench) -> dict[str, Any]:
    """For probes along which states are moved: examples to fit on, and others asked as if a label were other."""
    subject, anchors = bench.ctx.subject, [bench.statement.members[0].anchor or "-1"]
    both, n = fitted_and_tried(bench)
    names = labels_named(both[:n], bench.statement.label)
    rows: list[Row] = []
    for e in bench.examples:
        asked = e.supposing(e.counterfactuals[0])
        (encoded,) = batch_of(subject, [asked]).encoded
        if len(encoded.targets) != 1:
            raise ToolInputError("a script of kind used is written for answers of one token")
        label, value = next((k, v) for k, v in e.counterfactuals[0].labels.items() if k in names)
        rows.append(
            row(subject, asked, anchors) | {
                "group": e.group, "scored": list(encoded.scored), "supposed": [names.index(label), str(value)],
                "accepted": list(port_of(subject).accepted(subject, asked)),
            }
        )  # fmt: skip
    return {"examples": rows, "seen": _fitted(bench, both[:n], names, anchors)}


def in_both(bench: Bench) -> dict[str, Any]:
    """The problems that two tasks have in common, in the wording of each, and who may stand in for whom."""
    s, subject = bench.statement, bench.ctx.subject
    assert s.set is not None
    found = parallel(subject, [(bench.task, bench.examples), other_of(s, bench.ctx)])
    anchors = [s.set.one.anchor or "all"]
    first, second = ([row(subject, e, anchors) | {"group": e.group} for e in rows] for rows in found.examples)
    cells = found.cells((0, 1), s.set.one.stack)
    return {"examples": [r | {"cell": list(c)} for r, c in zip(first, cells, strict=True)], "second": second}


def by_position(bench: Bench) -> dict[str, Any]:
    """Every position's label, as a query's and as a key's."""
    s, subject = bench.statement, bench.ctx.subject
    rows = [row(subject, e, []) | {"group": e.group} for e in bench.examples]
    found = point_labels(subject, bench.examples, s.members[0].stack, [len(r["ids"]) for r in rows])[s.label].tolist()
    start = 0
    for r in rows:
        here = [v if isinstance(v, list) else [v, v] for v in found[start : start + len(r["ids"])]]
        r["mine"], r["theirs"] = ([v[side] for v in here] for side in (0, 1))
        start += len(here)
    return {"examples": rows}


def _labelled(bench: Bench, seen: Sequence[Example], names: Sequence[str]) -> dict[str, Any]:
    if {e.group for e in seen} & set(bench.groups):
        raise ToolInputError("a script fits probes on other problems than those that it tries them on")
    anchors = sorted({c.anchor or "all" for c in bench.statement.members})
    return {"seen": _fitted(bench, seen, names, anchors), "labels": _values(bench.examples, names)}


def _fitted(bench: Bench, seen: Sequence[Example], names: Sequence[str], anchors: Sequence[str]) -> list[Row]:
    values = _values(seen, names)
    return [row(bench.ctx.subject, e, anchors) | {"labels": v} for e, v in zip(seen, values, strict=True)]


def _values(examples: Sequence[Example], names: Sequence[str]) -> list[list[str]]:
    return [[str(v) for v in values] for values in zip(*(labels_of(examples, n) for n in names), strict=True)]


BESIDE: Mapping[str, Callable[[Bench], dict[str, Any]]] = {
    "matches": said_twice, "decodable": probed, "computes": probed, "steers": steered, "similar": in_both,
    "aligns": by_position, "used": supposed,
}  # fmt: skip
