"""What scripts of some kinds are given beside the examples that are scored: sequences, labels, examples to fit on, another task."""

import ast
import base64
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.report.script_questions import anchor_of, in_stack
from tools.findings.kind import Bench
from tools.findings.kinds.computes import inputs_of
from tools.findings.kinds.decodable import fitted_and_tried
from tools.findings.kinds.encodes_tree import FITTED
from tools.findings.kinds.matches import sequences
from tools.findings.kinds.similar import other_of
from tools.methods.anchors import positions, span_positions
from tools.methods.features import labels_named, labels_of
from tools.methods.own import code_of, labels_for, listed, rows_of
from tools.methods.parallel import parallel
from tools.methods.point_labels import point_labels
from tools.methods.regions import SCALES, segments
from tools.methods.scoring import batch_of
from tools.methods.tool import ToolInputError
from tools.methods.trees import Tree, with_trees
from tools.methods.truth import FOLDS, statements
from tools.ports import Encoded, port_of
from tools.ports.image import masks, resized
from tools.sandbox import Rows, function_of
from tools.subjects import Subject
from tools.tasks import Example, Signal
from tools.tasks.task import unit_hash

Row = dict[str, Any]


def row(subject: Subject, e: Example, anchors: Sequence[str]) -> Row:
    """An example's tokens, and its positions by anchor (`encoder:verb`: in another stack than the one that is read out).

    Of a model that reads more than one row of tokens: its inputs by name, tokens as lists and all others as tensors.
    """
    batch, at = batch_of(subject, [e]), dict[str, list[int]]()
    named = {k: v[0] if v.is_floating_point() else v[0].tolist() for k, v in batch.inputs.fields.items()}
    alone = set(named) <= {"input_ids", "attention_mask"}
    for a in anchors:
        stack, _, name = a.rpartition(":")
        p = positions(subject, batch, name, stack=stack or None)
        every = range(batch.inputs.of(stack or subject.readout)[0])
        at[a] = list(every) if p is None else sorted(set(p[0].tolist()))
    return {"ids": named["input_ids"] if alone else named, "at": at}


def scored(subject: Subject, encoded: Encoded) -> list[int]:
    """At which rows of the logits the answer is predicted: some models give one row alone."""
    return list(encoded.scored) if subject.family.read == "every" else [0]


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
    each = [{"labels": [*v["labels"], foil]} for v, foil in zip(made["each"], foils, strict=True)]
    return made | {"each": each}


def supposed(bench: Bench) -> dict[str, Any]:
    """For probes along which states are moved: examples to fit on, and others asked as if a label were other."""
    (c,) = bench.statement.members
    subject, anchors = bench.ctx.subject, [anchor_of(bench.ctx.subject, c.but(anchor=c.anchor or "-1"))]
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
                "group": e.group, "scored": scored(subject, encoded), "supposed": [names.index(label), str(value)],
                "accepted": list(port_of(subject).accepted(subject, asked)),
            }
        )  # fmt: skip
    return {"examples": rows, "seen": _fitted(bench, both[:n], names, anchors)}


def in_both(bench: Bench) -> dict[str, Any]:
    """The problems that two tasks have in common, in the wording of each, and who may stand in for whom."""
    s, subject = bench.statement, bench.ctx.subject
    assert s.set is not None
    found = parallel(subject, [(bench.task, bench.examples), other_of(s, bench.ctx)])
    anchors = [anchor_of(subject, s.set.one)]
    first, second = ([row(subject, e, anchors) | {"group": e.group} for e in rows] for rows in found.examples)
    cells = found.cells((0, 1), s.set.one.stack)
    return {"examples": [r | {"cell": list(c)} for r, c in zip(first, cells, strict=True)], "second": second}


def by_position(bench: Bench) -> dict[str, Any]:
    """Every position's label, as a query's and as a key's."""
    s, subject = bench.statement, bench.ctx.subject
    (c,) = s.members
    rows = [row(subject, e, []) | {"group": e.group} for e in bench.examples]
    lengths = [_positions(subject, e, c.stack) for e in bench.examples]
    found = point_labels(subject, bench.examples, c.stack, lengths)[s.label].tolist()
    start = 0
    for r, length in zip(rows, lengths, strict=True):
        here = [v if isinstance(v, list) else [v, v] for v in found[start : start + length]]
        r["mine"], r["theirs"] = ([v[side] for v in here] for side in (0, 1))
        start += len(here)
    return {"examples": rows}


def _positions(subject: Subject, e: Example, stack: str) -> int:
    """How many positions of a stack an example has."""
    (n,) = batch_of(subject, [e]).inputs.of(stack)
    return n


def compared(bench: Bench) -> dict[str, Any]:
    """For probes of two labels, or families: the examples with all of both, and how many are of the first."""
    both, n = fitted_and_tried(bench)
    first, second = (labels_named(both, name.strip()) for name in bench.statement.label.split(","))
    return _labelled(bench, both[:n], [*first, *second]) | {"first": len(first)}


def corpora(bench: Bench) -> dict[str, Any]:
    """The sequences of two tasks to fit on and those that are scored, with each position's token in words."""
    s, ctx = bench.statement, bench.ctx
    other = ctx.tasks.get(s.other_task)
    (c,) = s.members
    name, _, value = (part.strip() for part in s.label.partition("="))
    sides = {
        "examples seen": bench.task.examples("explore", s.examples, ctx.seed), "examples": bench.examples,
        "second seen": other.examples("explore", s.examples, ctx.seed),
        "second": other.examples(ctx.split, s.examples, ctx.seed, ctx.draw),
    }  # fmt: skip

    def one(e: Example) -> Row:
        said: list[Any] = list(port_of(ctx.subject).labels(ctx.subject, e, stack=c.stack))
        if port_of(ctx.subject).name == "image":
            there = point_labels(ctx.subject, [e], c.stack, [len(said)])
            patches = [(k, v) for k, v in there.items() if k not in ("position", "role")]
            said = [[f"{k} {v[i]}" for k, v in patches] for i in range(len(said))]
        has = str(labels_of([e], name)[0]) == value if name in e.values else None
        at = row(ctx.subject, e, [in_stack(ctx.subject, c.stack, "-1")])
        return at | {"group": e.group, "said": said, "has": has}

    return {k: [one(e) for e in examples] for k, examples in sides.items()}


def sentences(bench: Bench) -> dict[str, Any]:
    """Sentences to fit a map on and those that it is tried on, each with its words' positions and the words they depend on."""
    tried, held = with_trees(bench.examples)
    drawn = bench.task.examples("explore", FITTED + len(bench.examples), bench.ctx.seed)
    groups = {e.group for e in tried}
    fitted, train = with_trees([e for e in drawn if e.group not in groups][:FITTED])
    subject, (c,) = bench.ctx.subject, bench.statement.members

    def one(e: Example, tree: Tree) -> Row:
        words = [span_positions(subject, e, role, stack=c.stack) for role in tree.roles]
        return row(subject, e, []) | {"group": e.group, "words": words, "heads": tree.heads.tolist()}

    sides = {"seen": (fitted, train), "examples": (tried, held)}
    return {k: [one(e, t) for e, t in zip(*both, strict=True)] for k, both in sides.items()}


def shifted(bench: Bench) -> dict[str, Any]:
    """Questions with their right answer and with a wrong one; which part of the problems each is of, where the parts are needed."""
    seen, apart = bench.seen, not {e.group for e in bench.seen} & set(bench.groups)

    def fold(group: str) -> int:
        return int(unit_hash("fold", group) * FOLDS)

    said = statements(seen)
    known = [
        row(bench.ctx.subject, e, ["-1"]) | {"right": i < len(seen), "fold": 1 if apart else fold(e.group)}
        for i, e in enumerate(said)
    ]
    return {"seen": known, "each": [{"fold": 0 if apart else fold(g)} for g in bench.groups]}


def pictures(bench: Bench) -> dict[str, Any]:
    """Images in bytes, with their segments at every scale and the pixels of the role."""
    subject, role = bench.ctx.subject, bench.statement.label
    rows: list[Row] = []
    images = [image for e in bench.examples if isinstance(image := e.inputs["image"], Signal)]
    every = [resized(subject, image) for image in images]
    for e, raw in zip(bench.examples, every, strict=True):
        scales = np.stack([segments(raw, scale) for scale in SCALES])
        if scales.max() > 255:
            raise ToolInputError("a script of kind decides is written for images of at most 256 segments")
        packed = {"image": raw, "segments": scales, "on": masks(subject, e)[role]}
        rows.append({"group": e.group, **{k: _packed(v) for k, v in packed.items()}})
    given, shape = subject.processor, every[0].shape
    normal = given.get("do_normalize", True)
    return {
        "examples": rows, "size": list(shape),
        "factor": given.get("rescale_factor", 1 / 255) if given.get("do_rescale", True) else 1.0,
        "mean": given.get("image_mean", [0.5] * shape[2]) if normal else [0.0] * shape[2],
        "spread": given.get("image_std", [0.5] * shape[2]) if normal else [1.0] * shape[2],
    }  # fmt: skip


def written(bench: Bench) -> dict[str, Any]:
    """For a planner's own code: the code, what it is given, and of each example where an edit may be made."""
    s, ctx = bench.statement, bench.ctx
    code = code_of(ctx, s.program)
    check_alone(code)
    made = {"asked": bench.examples, "fitting": bench.seen}
    given: dict[str, Any] = {k: _without_answers(rows_of(ctx.subject, v)) for k, v in made.items()}
    each = [
        {"at": row(ctx.subject, e, sorted(given["asked"]["spans"]))["at"], "before": before}
        for e, before in zip(bench.examples, given["asked"]["before"], strict=True)
    ]
    if s.label:
        known, tried = (labels_for(ctx, bench.task, e, s.label).tolist() for e in (bench.seen, bench.examples))
        _check_apart(bench, bench.seen)
        given["values"], each = known, [m | {"labels": [v]} for m, v in zip(each, tried, strict=True)]
    return given | {"code": code, "components": listed(s.set), "function": function_of(code), "each": each}


def check_alone(code: str) -> None:
    """ToolInputError for code that takes more of this program than a script can rebuild."""
    tree = ast.parse(code)
    named = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function_of(code))
    subject = named.args.args[0].arg if named.args.args else ""
    for node in ast.walk(tree):
        modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        ours = next((m for m in modules if m.split(".")[0] in ("agent", "tools", "experiments_db")), None)
        if ours is not None:
            raise ToolInputError(f"the planner's code imports {ours}, which a script does without")
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == subject
            and node.attr != "model"
        ):
            raise ToolInputError(
                f"the planner's code uses {subject}.{node.attr}, which runs this program's engine; a script rebuilds "
                f"{subject}.model, batch.states and batch.positions alone"
            )


def _without_answers(rows: Rows) -> dict[str, Any]:
    fields = {k: v if v.is_floating_point() else v.tolist() for k, v in rows.inputs.fields.items()}
    spans = {k: v.tolist() for k, v in rows.spans.items()}
    return {"fields": fields, "lengths": list(rows.inputs.lengths), "spans": spans, "before": list(rows.before)}


def _packed(values: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(values.astype(np.uint8).tobytes(), 9)).decode()


def _labelled(bench: Bench, seen: Sequence[Example], names: Sequence[str]) -> dict[str, Any]:
    _check_apart(bench, seen)
    anchors = sorted({anchor_of(bench.ctx.subject, c) for c in bench.statement.members})
    each = [{"labels": v} for v in _values(bench.examples, names)]
    return {"seen": _fitted(bench, seen, names, anchors), "each": each}


def _check_apart(bench: Bench, seen: Sequence[Example]) -> None:
    if {e.group for e in seen} & set(bench.groups):
        raise ToolInputError("a script fits probes on other problems than those that it tries them on")


def _fitted(bench: Bench, seen: Sequence[Example], names: Sequence[str], anchors: Sequence[str]) -> list[Row]:
    values = _values(seen, names)
    return [row(bench.ctx.subject, e, anchors) | {"labels": v} for e, v in zip(seen, values, strict=True)]


def _values(examples: Sequence[Example], names: Sequence[str]) -> list[list[str]]:
    return [[str(v) for v in values] for values in zip(*(labels_of(examples, n) for n in names), strict=True)]


BESIDE: Mapping[str, Callable[[Bench], dict[str, Any]]] = {
    "matches": said_twice, "decodable": probed, "computes": probed, "steers": steered, "similar": in_both,
    "aligns": by_position, "used": supposed, "reads_better": compared, "mixed": corpora, "one_concept": corpora, "quiet": corpora,
    "encodes_tree": sentences, "elicits": shifted, "decides": pictures, "own": written,
}  # fmt: skip
