"""A confirmed finding as a Python file that measures it again with torch and transformers alone.

The file is `standalone.py` with data in it: rows of tokens, positions, donors and twins, the modules' names, the numbers on record.
What a model is given that is no tokens, the features of a sound or an image's pixels, lies in a safetensors file beside it.
"""

import ast
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from agent.loop.executor import asked_of
from agent.loop.record import RunRecord, RunTasks
from agent.report.script_data import BESIDE, row, scored
from agent.report.script_questions import APPENDED, QUESTIONS, Question, ScriptError, is_part
from agent.report.text import inert
from experiments_db.findings import Finding, Statement
from experiments_db.records import Measurement
from experiments_db.store import Store
from tools.findings.examining import bench_for
from tools.findings.kind import Bench
from tools.findings.kinds.differs import compared
from tools.methods.effects import donors_for
from tools.methods.scoring import batch_of, closed_tokens
from tools.methods.tool import Context, ToolInputError
from tools.ports import PortError, port_of
from tools.subjects import Subject, SubjectError, built_in, load_subject, locate

TEMPLATE = Path(__file__).with_name("standalone.py")
FAMILIES = {
    **dict.fromkeys(("gpt2", "llama", "gpt_neox", "opt"), "AutoModelForCausalLM"), "bert": "AutoModelForMaskedLM",
    **dict.fromkeys(("m2m100", "marian"), "AutoModelForSeq2SeqLM"), "whisper": "AutoModelForSpeechSeq2Seq",
    **dict.fromkeys(("bert_classifier", "gpt2_classifier"), "AutoModelForSequenceClassification"),
    "vit": "AutoModelForImageClassification",
}  # fmt: skip


def write_script(store: Store, run: str, handle: str, folder: Path, subject: str | None = None) -> Path:
    """Write FOLDER/HANDLE.py, and HANDLE.safetensors for a model that reads no tokens.

    subject: where the model is, if it has moved. ScriptError where that cannot be done.
    """
    record = RunRecord(store, run)
    finding = _confirmed(record, handle)
    kind = finding.statement.kind
    if kind not in QUESTIONS:
        raise ScriptError(f"{handle} is of kind {kind}; scripts are written for {', '.join(QUESTIONS)}")
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
    except (PortError, SubjectError, ToolInputError) as error:
        raise ScriptError(str(error)) from None
    place = locate(named)
    data |= {"run": run, "model": str(place.resolve()) if named in built_in() or Path(named).is_dir() else named}
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{handle}.py"
    code = data.pop("code", "")
    arrays: dict[str, Tensor] = {}
    set_apart(data, arrays)
    data["arrays"] = f"{handle}.safetensors" if arrays else ""
    if arrays:
        file.with_suffix(".safetensors").write_bytes(save(arrays))
    file.write_text(filled(template_for(kind), data).replace('CODE = ""', f"CODE = {quoted(code)}"), encoding="utf-8")
    return file


def template_for(kind: str) -> str:
    """The script without data: of some kinds with what measures them, and what that imports, put in before it runs."""
    text, start, first = TEMPLATE.read_text(encoding="utf-8"), "def main() -> int:", "import hashlib\n"
    for file in APPENDED.get(kind, ()):
        head, _, more = file.read_text(encoding="utf-8").partition("# -- from here on")
        assert text.count(start) == text.count(first) == 1
        assert more
        imports = re.findall(r"^(?:import|from) (?!agent).*\n", head, re.MULTILINE)
        text = text.replace(first, "".join(line for line in imports if line not in text) + first)
        text = text.replace(start, f"{more.partition(chr(10))[2].strip()}\n\n\n{start}")
    return text


def filled(template: str, data: Mapping[str, Any]) -> str:
    """The template with data in it: JSON, which never has three quotes in a row, in a raw string."""
    empty = 'json.loads(r"""{}""")'
    assert template.count(empty) == 1
    text = json.dumps(data, separators=(",", ":"))
    lines = text.replace('},{"ids"', '},\n{"ids"').replace('"questions":', '\n"questions":')
    return template.replace(empty, f'json.loads(r"""{lines}""")')


def quoted(code: str) -> str:
    """Code as Python text, as it stands wherever it can."""
    for quotes in ("'''", '"""'):
        text = f"r{quotes}{code}{quotes}"
        try:
            if ast.literal_eval(text) == code:
                return text
        except (SyntaxError, ValueError):
            continue
    return repr(code)


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
    _, split, draw = asked_of(record.experiment(f.experiment))
    ctx = Context(subject, RunTasks(record.store, record.run), record, seed, split=split, draw=draw)
    return {"finding": f.handle, **content(f.statement, ctx, record.measurements_of(f.experiment))}


def content(s: Statement, ctx: Context, measured: Sequence[Measurement]) -> dict[str, Any]:
    """What stands in the file of a statement that has been measured: questions, examples and where the model's parts are."""
    subject, bench = ctx.subject, bench_for(s, ctx)
    rows = [m for m in measured if m.name == "effect" or is_part(m)]
    questions = QUESTIONS[s.kind](s, subject, rows)
    beside = BESIDE[s.kind](bench) if s.kind in BESIDE else {}
    examples = beside.pop("examples", None) or examples_of(bench, questions)
    for e, more in zip(examples, beside.pop("each", []), strict=False):
        e |= more
    for q in (q for q in questions if q["measure"] == "probe" and q["labels"] is None):
        every = list(range(len(beside["seen"][0]["labels"])))
        cut = beside.get("first", len(every))
        q |= {"labels": every[:cut]} | ({"against": every[cut:]} if "against" in q else {})
    return {
        "kind": s.kind, "seed": ctx.seed, "sentence": inert(f"measured: {s.as_json()}"),
        "dtype": str(subject.dtype)[6:], "loader": FAMILIES[subject.family.name],
        "weights": subject.parts.get("weights", ""), "objective": s.objective,
        "chance": bench.chance if bench.examples else 0.0,
        "stacks": stacks_of(subject), "questions": questions, "examples": examples,
        "second": examples_of(compared(s, bench), questions) if s.kind == "differs" else [], **beside,
    }  # fmt: skip


def stacks_of(subject: Subject) -> dict[str, dict[str, Any]]:
    """Where each stack's modules are, and how many heads its blocks have; the last is the one that is read out."""
    return {
        p.name: {
            "blocks": f"{p.body}.{p.blocks}", "heads": subject.spec(p.name).n_heads, "attention_out": p.o_proj,
            "mlp_out": p.down_proj, **({"cross_out": p.cross_o_proj} if p.cross_o_proj else {}),
        }
        for p in subject.family.stacks
    }  # fmt: skip


def set_apart(data: Any, arrays: dict[str, Tensor]) -> None:
    """Take the tensors out of the data, each once, and leave their names: the hash of what is in them."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        if isinstance(value, Tensor):
            held = value.cpu().contiguous()
            data[key] = hashlib.sha256(held.view(torch.uint8).numpy().tobytes()).hexdigest()[:16]
            arrays[data[key]] = held
        elif isinstance(value, dict | list):
            set_apart(value, arrays)


def examples_of(bench: Bench, questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Every example's tokens, positions, targets and, where they are needed, its donor and its twin."""
    ctx, examples = bench.ctx, bench.examples
    edits = [d for q in questions for d in (*q.get("edits", []), *q.get("less", []))]
    nodes = [*(d["place"] for d in edits), *(p for q in questions for p in q.get("path", []))]
    nodes += [p for q in questions for p in ([q["place"]] if "place" in q else q.get("places", []))]
    anchors = sorted({*(p["anchor"] for p in nodes), *(q[k] for q in questions for k in ("query", "key") if k in q)})
    named = {d["how"] for d in edits}
    resampled = {d["place"]["anchor"].rpartition(":")[2] for d in edits if d["how"] == "donor"}
    chosen = donors_for(ctx, examples, sorted(resampled))
    closed = closed_tokens(ctx.subject, examples, bench.task.choices)
    out: list[dict[str, Any]] = []
    for i, e in enumerate(examples):
        others = {"donor": examples[chosen[i]], "twin": e.as_twin(e.target) if "twin" in named else e}
        encoded = batch_of(ctx.subject, [e]).encoded[0]
        out.append({
            **row(ctx.subject, e, anchors), "group": e.group, "targets": list(encoded.targets),
            "scored": scored(ctx.subject, encoded),
            "foil": encoded.foil,
            "choices": None if closed is None else closed[i].tolist(),
            "accepted": list(port_of(ctx.subject).accepted(ctx.subject, e)) if e.accepted else [],
            "others": {k: row(ctx.subject, o, anchors) for k, o in others.items() if k in named},
        })  # fmt: skip
    return out
