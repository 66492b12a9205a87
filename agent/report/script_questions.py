"""What a script of each kind measures: one question for each effect on record, with places, edits and labels as data."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments_db.findings import Statement
from experiments_db.places import PARTS as PARTS_OF
from experiments_db.places import Component, ComponentSet
from experiments_db.records import Measurement
from tools.engine.programs import parse
from tools.findings.kinds.computes import inputs_of, stream
from tools.methods.effects import SUBLAYERS
from tools.methods.paths import TWIN
from tools.methods.rewriting import onward
from tools.subjects import Subject

STATES, CORPORA, TREES, IMAGES, OWN, PATHS = (
    Path(__file__).with_name(f"standalone_{name}.py")
    for name in ("states", "corpora", "trees", "images", "own", "paths")
)
MEANT = {"mixed": "lost", "one_concept": "carried", "quiet": "spread"}  # which quantity of two corpora
PARTS = (
    "resid_pre", "resid_mid", "resid_post", "attn.q", "attn.k", "attn.v", "attn.z", "attn.out", "cross.q", "cross.k", "cross.v",
    "cross.z", "cross.out", "mlp.act", "mlp.out", "block",
)  # fmt: skip
SOURCES = {"zero": "zero", "mean": "mean", "resample(donor)": "donor", "resample(twin)": "twin"}
PART = re.compile(r"(?:never right, of the probe for (.+)|the probe for (the answer)) before it$")
Question = dict[str, Any]
Asks = Callable[[Statement, Subject, Sequence[Measurement]], list[Question]]


class ScriptError(ValueError):
    """No script can be written for this finding; the message says for which one can."""


def is_part(m: Measurement) -> bool:
    """Whether it is a part of a composite that is no effect of its own."""
    return m.name == "beyond_control.accuracy" and PART.search(str(m.variant)) is not None


def _above_chance(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    del s, subject
    return [_question(rows[0], measure="above chance")]


def _falls(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    """Each effect is the fall of the objective under the change that its row names; of a sufficient set, of all the others."""
    out: list[Question] = []
    for m in rows:
        changed = ComponentSet.parse(str(m.component)).singles()
        if s.kind == "sufficient":
            kept = set(s.members)
            changed = tuple(c for c in s.among_what if c not in kept)
        out.append(_question(m, measure="fall", edits=_edits(subject, changed, m)))
    return out


def _flips(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    return [_question(m, measure="flips", edits=_edits(subject, s.members, m)) for m in rows]


def _sends(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    assert s.route is not None
    out: list[Question] = []
    for m in rows:
        path = [_place(subject, c) for c in s.route.nodes]
        edits = _edits(subject, s.route.nodes[:1], m)
        out.append(_question(m, measure="sent", flips=m.done == TWIN, path=path, edits=edits))
    return out


def _attends(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    out: list[Question] = []
    for c, m in zip(s.members, rows, strict=True):
        (head,) = c.units
        where = {"block": c.block, "head": head, "query": anchor_of(subject, c), "key": c.key}
        if len(subject.stacks) > 1:
            across = c.part == "cross.pattern"
            where |= {"of": "cross_attentions" if across else f"{c.stack}_attentions"}
            where["key"] = in_stack(
                subject, c.key_stack or (subject.spec(c.stack).attends_to if across else "") or c.stack, c.key
            )
        out.append(_question(m, measure="attention", **where))
    return out


def _matches(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    """Each query at its own key."""
    return [q | {"query": "query", "key": "key", "paired": True} for q in _attends(s, subject, rows)]


def _reads(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    """States by how many blocks have run; the last row is about the one before, where less than half must be read."""
    del s, subject
    out: list[Question] = []
    for m in rows:
        c = Component.parse(str(m.component))
        assert c.block is not None
        after = c.block + (c.part == "resid_post")
        out.append(_question(m, measure="read", order=list(range(after)), sign=-1 if m is rows[-1] else 1))
    return out


def _rises(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    del s
    return [
        _question(m, measure="rise", edits=_edits(subject, ComponentSet.parse(str(m.component)).singles(), m))
        for m in rows
    ]


def _differs(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    """The fall on the first examples less that on the second."""
    return [_question(m, measure="fall", minus="second", edits=_edits(subject, s.members, m)) for m in rows]


def _disagree(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    """How much lower the objective is under the intervention that the label names than under the other."""
    (other,) = (str(h) for h in s.done if str(h) != s.label)
    less = [m.model_copy(update={"intervention": other}) for m in rows]
    return [
        _question(m, measure="between", edits=_edits(subject, s.members, m), less=_edits(subject, s.members, o))
        for m, o in zip(rows, less, strict=True)
    ]


def _program(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    stack, text = subject.program_of(s.program)
    _, program = parse(text, len(subject.spec(stack).blocks))
    return [_question(m, measure="program", stack=stack, order=list(program.blocks)) for m in rows]


def _decodable(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    assert s.set is not None
    return [_question(m, measure="probe", place=_place(subject, s.set.one), labels=None) for m in rows]


def _steers(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    assert s.set is not None
    asked = {"place": _place(subject, s.set.one), "dose": s.done[0].dose, "answer": s.label == "answer"}
    return [_question(m, measure="steer", **asked) for m in rows]


def _similar(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    assert s.set is not None
    return [_question(m, measure="near", place=_place(subject, s.set.one)) for m in rows]


def _aligns(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    (c,) = s.members
    asked = {"stack": c.stack, "block": c.block, "head": c.units[0], "causal": subject.spec(c.stack).causal}
    return [_question(m, measure="align", **asked) for m in rows]


def _used(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    """The state and each later one, in turn."""
    places = [_place(subject, c) for c in onward(len(subject.spec(s.members[0].stack).blocks), s.members[0])]
    return [_question(m, measure="turn", places=places) for m in rows]


def _moves(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    """Where the heads look, then what is lost without what they read there, and without what they write."""
    looks = [m for m in rows if "attn.pattern" in str(m.component)]
    return [*_attends(s, subject, looks), *_falls(s, subject, [m for m in rows if m not in looks])]


def _computes(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    """What is lost without it, how well each input is read before it, how much better the answer after it."""
    before, after = (_place(subject, c) for c in stream(subject, s.members[0]))
    inputs = inputs_of(s)
    out = _falls(s, subject, [m for m in rows if m.name == "effect"])
    for m in rows:
        if m.name != "effect" and (found := PART.search(str(m.variant))) is not None:
            answer = found[2] is not None
            asked = {"place": after, "before": before} if answer else {"place": before}
            which = len(inputs) if answer else inputs.index(found[1])
            out.append(_question(m, measure="probe", labels=[which], **asked) | {"what": f"{m.component} {m.variant}"})
    return out


def _meant(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    """A unit's own channel, or the place whose states are read along a direction."""
    (c,) = s.members
    single = len(c.units) == 1 and PARTS_OF[c.part].unit != "head"
    asked = {"place": _place(subject, c), "single": single, "label": s.label, "of": MEANT[s.kind]}
    asked |= {"last": in_stack(subject, c.stack, "-1")}
    allowed = {"allowed": 1e-2 * rows[0].value} if s.kind == "quiet" else {}
    return [_question(m, measure="on both", **asked, **allowed) for m in rows]


def _reads_better(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    return [q | {"against": None} for q in _decodable(s, subject, rows)]


def _elicits(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    places = [_place(subject, c) for c in s.members]
    return [_question(m, measure="elicit", places=places, dose=s.done[0].dose) for m in rows]


def _tree(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    return [_question(m, measure="tree", place=_place(subject, s.members[0]), allowed=0.01) for m in rows]


def _decided(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    del s, subject
    return [_question(m, measure="decided") for m in rows]


def _own(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    del subject
    return [_question(m, measure="own probe" if s.label else "own edits") for m in rows]


def _question(m: Measurement, **asks: Any) -> Question:
    """What is asked, beside what is on record."""
    words = " ".join(filter(None, (m.component, m.intervention))) or "the effect"
    share = m.unit.startswith(("share of examples", "share of queries", "share of images"))
    return {"what": words, "recorded": m.value, "low": m.low, "high": m.high, "share": share, **asks}


def _edits(subject: Subject, components: Sequence[Component], m: Measurement) -> list[dict[str, Any]]:
    how = SOURCES.get(str(m.intervention))
    if how is None:
        raise ScriptError(f"{m.intervention} cannot be written as a script; {', '.join(SOURCES)} can")
    whole = [
        c.but(part=p) for c in components if c.part == "block" for p in SUBLAYERS if p in subject.spec(c.stack).kinds
    ]
    return [{"place": _place(subject, c), "how": how} for c in (*(c for c in components if c.part != "block"), *whole)]


def _place(subject: Subject, c: Component) -> dict[str, Any]:
    if c.part == "logits":
        last = len(subject.spec().blocks) - 1
        return {"block": last, "part": "resid_post", "units": [], "anchor": anchor_of(subject, c)}
    if c.part not in PARTS or c.block is None or c.feature:
        raise ScriptError(f"{c} cannot be written as a script: parts of it are {', '.join(PARTS)}")
    where = {"block": c.block, "part": c.part, "units": list(c.units), "anchor": anchor_of(subject, c)}
    return where if c.stack == subject.readout else {"stack": c.stack, **where}


def anchor_of(subject: Subject, c: Component) -> str:
    """Where its positions are, with the stack in which they lie where that is not the one that is read out: `encoder:verb`."""
    stack = subject.spec(c.stack)
    across = c.part in ("cross.k", "cross.v") and stack.attends_to
    return in_stack(subject, across or c.stack, c.anchor or "all")


def in_stack(subject: Subject, stack: str, anchor: str) -> str:
    """An anchor in a stack, named where it is not the one that is read out."""
    return anchor if stack == subject.readout else f"{stack}:{anchor}"


QUESTIONS: Mapping[str, Asks] = {
    "capability": _above_chance, "cannot": _above_chance, "necessary": _falls, "jointly_necessary": _falls, "not_needed": _falls,
    "sufficient": _falls, "carries": _flips, "sends": _sends, "attends": _attends, "readable": _reads,
    "carries_nothing": _flips, "suppresses": _rises, "differs": _differs, "disagree": _disagree,
    "tolerates": _program, "breaks": _program, "matches": _matches, "decodable": _decodable, "steers": _steers, "moves": _moves,
    "computes": _computes, "similar": _similar, "aligns": _aligns, "used": _used,
    "mixed": _meant, "one_concept": _meant, "quiet": _meant, "reads_better": _reads_better,
    "elicits": _elicits, "encodes_tree": _tree, "decides": _decided, "own": _own,
}  # fmt: skip
APPENDED = {
    **dict.fromkeys(("decodable", "steers", "computes", "similar", "aligns", "used", "reads_better", "elicits"), (STATES,)),
    **dict.fromkeys(MEANT, (CORPORA,)), "encodes_tree": (STATES, TREES), "decides": (IMAGES,), "own": (STATES, OWN),
    "sends": (PATHS,),
}  # fmt: skip
