"""A confirmed finding as a Python file that measures it again with torch and transformers alone.

The file is `standalone.py` with data in it: rows of tokens, positions, donors and twins, the modules' names, the numbers on record.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.loop.executor import asked_of
from agent.loop.record import RunRecord, RunTasks
from agent.report.script_data import BESIDE, row
from agent.report.text import inert
from experiments_db.findings import Finding, Statement
from experiments_db.places import Component, ComponentSet
from experiments_db.records import Measurement
from experiments_db.store import Store
from tools.engine.programs import parse
from tools.findings.examining import bench_for
from tools.findings.kind import Bench
from tools.findings.kinds.computes import inputs_of, stream
from tools.findings.kinds.differs import compared
from tools.methods.effects import SUBLAYERS, donors_for
from tools.methods.paths import TWIN
from tools.methods.rewriting import onward
from tools.methods.scoring import batch_of, closed_tokens
from tools.methods.tool import Context, ToolInputError
from tools.subjects import Subject, SubjectError, built_in, load_subject, locate

TEMPLATE = Path(__file__).with_name("standalone.py")
STATES = Path(__file__).with_name("standalone_states.py")
FAMILIES = ("gpt2", "llama", "gpt_neox", "opt")
PARTS = ("resid_pre", "resid_post", "attn.v", "attn.z", "attn.out", "mlp.act", "mlp.out", "block")
SOURCES = {"zero": "zero", "mean": "mean", "resample(donor)": "donor", "resample(twin)": "twin"}
PART = re.compile(r"(?:never right, of the probe for (.+)|the probe for (the answer)) before it$")
SCORED = ("above chance", "fall", "rise", "between", "read", "program")  # measures of what is answered, beside the foil
Question = dict[str, Any]
Asks = Callable[[Statement, Subject, Sequence[Measurement]], list[Question]]


class ScriptError(ValueError):
    """No script can be written for this finding; the message says for which one can."""


def write_script(store: Store, run: str, handle: str, folder: Path, subject: str | None = None) -> Path:
    """Write FOLDER/HANDLE.py. subject: where the model is, if it has moved. ScriptError where that cannot be done."""
    record = RunRecord(store, run)
    finding = _confirmed(record, handle)
    kind = finding.statement.kind
    if kind not in QUESTIONS:
        raise ScriptError(
            f"{handle} is of kind {kind}; scripts are written for {', '.join(QUESTIONS)}. There is none for {kind}: "
            f"{WITHOUT.get(kind, 'its measurement takes more than forward passes with hooks')}"
        )
    settings, named = store.run(run).settings, subject or store.run(run).subject
    try:
        model = load_subject(named, dtype=settings["dtype"])
        if model.fingerprint != settings["fingerprint"]:
            raise ScriptError(f"{named} is not the model of {run}: its weights or tokenizer have changed")
        if model.family.name not in FAMILIES:
            raise ScriptError(
                f"{named} is of the family {model.family.name}; scripts are written for {', '.join(FAMILIES)}"
            )
        data = _data(finding, record, model, settings["seed"])
    except (SubjectError, ToolInputError) as error:
        raise ScriptError(str(error)) from None
    place = locate(named)
    data |= {"run": run, "model": str(place.resolve()) if named in built_in() or Path(named).is_dir() else named}
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{handle}.py"
    file.write_text(filled(template_for(kind), data), encoding="utf-8")
    return file


def template_for(kind: str) -> str:
    """The script without data: of some kinds with what measures them put in before it runs."""
    text, start = TEMPLATE.read_text(encoding="utf-8"), "def main() -> int:"
    if kind not in APPENDED:
        return text
    _, _, more = APPENDED[kind].read_text(encoding="utf-8").partition("# -- from here on")
    assert text.count(start) == 1
    assert more
    return text.replace(start, f"{more.partition(chr(10))[2].strip()}\n\n\n{start}")


def filled(template: str, data: Mapping[str, Any]) -> str:
    """The template with data in it: JSON, which never has three quotes in a row, in a raw string."""
    empty = 'json.loads(r"""{}""")'
    assert template.count(empty) == 1
    text = json.dumps(data, separators=(",", ":"))
    lines = text.replace('},{"ids"', '},\n{"ids"').replace('"questions":', '\n"questions":')
    return template.replace(empty, f'json.loads(r"""{lines}""")')


def _confirmed(record: RunRecord, handle: str) -> Finding:
    found = {f.handle: f for f in record.findings()}
    if handle not in found:
        raise ScriptError(f"there is no finding {handle!r}; there are {', '.join(found) or 'none'}")
    if not found[handle].stands:
        raise ScriptError(
            f"{handle} is {found[handle].fate or 'open'}: scripts are written for confirmed findings that stand"
        )
    return found[handle]


def _data(f: Finding, record: RunRecord, subject: Subject, seed: int) -> dict[str, Any]:
    assert f.experiment is not None
    s = f.statement
    _, split, draw = asked_of(record.experiment(f.experiment))
    ctx = Context(subject, RunTasks(record.store, record.run), record, seed, split=split, draw=draw)
    bench = bench_for(s, ctx)
    rows = [m for m in record.measurements_of(f.experiment) if m.name == "effect" or _is_part(m)]
    questions = QUESTIONS[s.kind](s, subject, rows)
    if any(q["measure"] in SCORED for q in questions) and any(e.accepted for e in bench.examples):
        raise ScriptError(f"the examples of {s.task} accept several answers each; scripts of kind {s.kind} score one")
    spec, paths = subject.spec(), subject.family.stacks[0]
    beside = BESIDE[s.kind](bench) if s.kind in BESIDE else {}
    examples, labels = _examples(bench, questions), beside.pop("labels", None)
    for i, v in enumerate(labels or []):
        examples[i]["labels"] = v
    for q in (q for q in questions if q["measure"] == "probe" and q["labels"] is None):
        q["labels"] = list(range(len(beside["seen"][0]["labels"])))
    return {
        "finding": f.handle, "kind": s.kind, "sentence": inert(f"measured: {s.as_json()}"), "dtype": str(subject.dtype)[6:],
        "weights": subject.parts.get("weights", ""), "heads": spec.n_heads, "objective": s.objective,
        "chance": bench.chance if bench.examples else 0.0,
        "modules": {
            "blocks": f"{paths.body}.{paths.blocks}", "after": [f"{paths.body}.{n}" for n in paths.after_blocks],
            "attention_out": paths.o_proj, "mlp_out": paths.down_proj,
        },
        "questions": questions, "examples": examples,
        "second": _examples(compared(s, bench), questions) if s.kind == "differs" else [], **beside,
    }  # fmt: skip


def _is_part(m: Measurement) -> bool:
    """Whether it is a part of a composite that is no effect of its own."""
    return m.name == "beyond_control.accuracy" and PART.search(str(m.variant)) is not None


def _examples(bench: Bench, questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Every example's tokens, positions, targets and, where they are needed, its donor and its twin."""
    ctx, examples = bench.ctx, bench.examples
    edits = [d for q in questions for d in (*q.get("edits", []), *q.get("less", []))]
    nodes = [*(d["place"] for d in edits), *(p for q in questions for p in q.get("path", []))]
    nodes += [q["place"] for q in questions if "place" in q]
    anchors = sorted({*(p["anchor"] for p in nodes), *(q[k] for q in questions for k in ("query", "key") if k in q)})
    named = {d["how"] for d in edits}
    chosen = donors_for(ctx, examples, sorted({d["place"]["anchor"] for d in edits if d["how"] == "donor"}))
    closed = closed_tokens(ctx.subject, examples, bench.task.choices)
    out: list[dict[str, Any]] = []
    for i, e in enumerate(examples):
        others = {"donor": examples[chosen[i]], "twin": e.as_twin(e.target) if "twin" in named else e}
        encoded = batch_of(ctx.subject, [e]).encoded[0]
        made = {
            **row(ctx.subject, e, anchors), "group": e.group, "scored": list(encoded.scored), "targets": list(encoded.targets),
            "foil": encoded.foil,
            "choices": None if closed is None else closed[i].tolist(),
            "others": {k: row(ctx.subject, o, anchors) for k, o in others.items() if k in named},
        }  # fmt: skip
        out.append(made)
    return out


# -- what a kind asks --------------------------------------------------------------------------------------------------


def _above_chance(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    del subject
    if s.objective != "accuracy":
        raise ScriptError(f"a script of kind {s.kind} is written for accuracy, not for {s.objective}")
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
    if any(c.part == "attn.v" for c in s.route.nodes):
        raise ScriptError("a path through attn.v cannot be written as a script")
    out: list[Question] = []
    for m in rows:
        path = [_place(subject, c) for c in s.route.nodes]
        measure = "flips" if m.done == TWIN else "fall"
        out.append(_question(m, measure=measure, path=path, edits=_edits(subject, s.route.nodes[:1], m)))
    return out


def _attends(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    del subject
    out: list[Question] = []
    for c, m in zip(s.members, rows, strict=True):
        (head,) = c.units
        where = {"block": c.block, "head": head, "query": c.anchor or "all", "key": c.key}
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
        out.append(_question(m, measure="read", after=after, sign=-1 if m is rows[-1] else 1))
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
    return [_question(m, measure="program", order=list(program.blocks)) for m in rows]


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
    del subject
    (c,) = s.members
    return [_question(m, measure="align", block=c.block, head=c.units[0]) for m in rows]


def _used(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    """The state and each later one, in turn."""
    places = [_place(subject, c) for c in onward(len(subject.spec().blocks), s.members[0])]
    return [_question(m, measure="turn", places=places) for m in rows]


def _moves(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    """Where the heads look, then what is lost without what they read there, and without what they write."""
    looks = [m for m in rows if "attn.pattern" in str(m.component)]
    return [*_attends(s, subject, looks), *_falls(s, subject, [m for m in rows if m not in looks])]


def _computes(s: Statement, subject: Subject, rows: Sequence[Measurement]) -> list[Question]:
    """What is lost without it, how well each input is read before it, how much better the answer after it."""
    before, after = (_place(subject, c, read=True) for c in stream(subject, s.members[0]))
    inputs = inputs_of(s)
    out = _falls(s, subject, [m for m in rows if m.name == "effect"])
    for m in rows:
        if m.name != "effect" and (found := PART.search(str(m.variant))) is not None:
            answer = found[2] is not None
            asked = {"place": after, "before": before} if answer else {"place": before}
            which = len(inputs) if answer else inputs.index(found[1])
            out.append(_question(m, measure="probe", labels=[which], **asked) | {"what": f"{m.component} {m.variant}"})
    return out


def _question(m: Measurement, **asks: Any) -> Question:
    """What is asked, beside what is on record."""
    words = " ".join(filter(None, (m.component, m.intervention))) or "the effect"
    share = m.unit.startswith(("share of examples", "share of queries"))
    return {"what": words, "recorded": m.value, "share": share, **asks}


def _edits(subject: Subject, components: Sequence[Component], m: Measurement) -> list[dict[str, Any]]:
    how = SOURCES.get(str(m.intervention))
    if how is None:
        raise ScriptError(f"{m.intervention} cannot be written as a script; {', '.join(SOURCES)} can")
    parts = subject.spec().kinds
    whole = [c.but(part=p) for c in components if c.part == "block" for p in SUBLAYERS if p in parts]
    return [{"place": _place(subject, c), "how": how} for c in (*(c for c in components if c.part != "block"), *whole)]


def _place(subject: Subject, c: Component, *, read: bool = False) -> dict[str, Any]:
    if c.part == "logits":
        last = len(subject.spec().blocks) - 1
        return {"block": last, "part": "resid_post", "units": [], "anchor": c.anchor or "all"}
    if c.part not in (*PARTS, *(["resid_mid"] if read else [])) or c.block is None or c.feature:
        raise ScriptError(f"{c} cannot be written as a script: parts of it are {', '.join(PARTS)}")
    return {"block": c.block, "part": c.part, "units": list(c.units), "anchor": c.anchor or "all"}


QUESTIONS: Mapping[str, Asks] = {
    "capability": _above_chance, "cannot": _above_chance, "necessary": _falls, "jointly_necessary": _falls, "not_needed": _falls,
    "sufficient": _falls, "carries": _flips, "sends": _sends, "attends": _attends, "readable": _reads,
    "carries_nothing": _flips, "suppresses": _rises, "differs": _differs, "disagree": _disagree,
    "tolerates": _program, "breaks": _program, "matches": _matches, "decodable": _decodable, "steers": _steers, "moves": _moves,
    "computes": _computes, "similar": _similar, "aligns": _aligns, "used": _used,
}  # fmt: skip
APPENDED = dict.fromkeys(("decodable", "steers", "computes", "similar", "aligns", "used"), STATES)
FITTED = "what it measures is fitted on other examples first, which a script of forward passes does not do"
WITHOUT = {
    **dict.fromkeys(("elicits", "encodes_tree", "reads_better"), FITTED),
    **dict.fromkeys(
        ("mixed", "one_concept", "quiet"), "it is about what stands in corpora, and not about examples of a task"
    ),
    "own": "it is the planner's own code, which stands in the report and runs in a sandbox alone",
    "decides": "it is about images, and scripts are written for text",
}
