"""A confirmed finding as a file: without a line of this program it measures the same."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent.report import __main__ as report
from agent.report.script import FAMILIES, QUESTIONS, TEMPLATE, filled, quoted, set_apart, stacks_of
from experiments_db.store import Store
from tools.findings.kind import kinds
from tools.sandbox import Limits, Sandbox, unavailable

CURATED = Path(__file__).parent.parent / "transcripts" / "curated" / "experiments.db"
ADDITION = "20261122-023421-find-where-addition-happens"
OWN = "20261122-024426-can-the-model-do-addition-without-what-t"
AGREEMENT = "20261122-023645-how-does-the-demo-model-choose-between-i"
WRITTEN = [  # necessary, jointly, carries, sends, attends, readable, on twins of a task's own, and own
    (ADDITION, "F2"), (ADDITION, "F6"), (ADDITION, "F8"), (ADDITION, "F10"), (ADDITION, "F12"), (ADDITION, "F13"), (AGREEMENT, "F1"),
    (AGREEMENT, "F2"), (OWN, "F2"),
]  # fmt: skip
ALONE = """
import contextlib, importlib.abc, io, json, runpy, sys

class Refused(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("agent", "tools", "experiments_db", "benchmarks"):
            raise ImportError(f"{name} is not to be had")

sys.meta_path.insert(0, Refused())
import torch
torch.set_num_threads(1)
for file in sys.argv[1:]:
    said = io.StringIO()
    sys.argv = [file, "--run-code"]
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_path(file, run_name="__main__")
        except SystemExit as end:
            print("rc", end.code)
    print(json.dumps({"file": file, "said": said.getvalue()}))
"""


def run_alone(files):
    """What each file prints, all in one plain interpreter that has none of our packages."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, *map(str, files)], capture_output=True, text=True, check=True, cwd="/",
        env={"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return [json.loads(line)["said"] for line in done.stdout.splitlines() if line.startswith('{"file"')]


def written(out, run, finding, *more):
    return report.main([run, "--db", str(CURATED), "--out", str(out), "--script", finding, *more])


def recorded(run, finding):
    store = Store(CURATED, create=False)
    f = next(f for f in store.findings(run) if f.handle == finding)
    rows = store.measurements(store.experiment(run, f.experiment).result_id)
    return [m for m in rows if m.name == "effect"]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What each script prints, all in one plain interpreter that has none of our packages; one of them was tampered with."""
    out = tmp_path_factory.mktemp("scripts")
    files = []
    for run, finding in WRITTEN:
        assert written(out, run, finding) == 0
        files.append(out / run / f"{finding}.py")
    text = files[0].read_text()
    other = out / "other.py"
    other.write_text(text.replace('"block":0', '"block":5'))
    return run_alone([*files, other])


@pytest.mark.parametrize("index", range(len(WRITTEN)), ids=[f"{r[-20:]}-{f}" for r, f in WRITTEN])
def test_a_script_measures_what_is_on_record(said, index):
    run, finding = WRITTEN[index]
    rows, text = recorded(run, finding), said[index]
    assert "weights same" in text
    assert text.rstrip().endswith("rc 0")
    numbers = re.findall(r": (-?[\d.]+) here, (-?[\d.]+) on record, n=(\d+): agrees", text)
    assert len(numbers) == len(rows)
    for (here, there, n), m in zip(numbers, rows, strict=True):
        one = 1 / m.n if m.unit == "share of examples" else 1e-4
        assert abs(float(there) - m.value) < 1e-6
        assert abs(float(here) - m.value) <= one + 1e-6
        assert int(n) == m.n


def test_a_script_can_disagree(said):
    """Made of the same finding with another block in it, it says so."""
    assert "DIFFERS" in said[-1]
    assert said[-1].rstrip().endswith("rc 1")


@pytest.mark.parametrize("name", [
    "gpt2", "qwen3", "mistral", "gpt_neox_parallel", "gpt_neox_sequential", "opt", "opt_350m_kind", "bert", "m2m100", "marian", "whisper", "vit",
    "bert_classifier", "gpt2_classifier",
])  # fmt: skip
def test_a_script_reaches_the_places_of_every_family(name, subject_named, model_named, tmp_path, monkeypatch):
    """Each part, changed by plain hooks at two positions, brings the logits that the program's edit brings, and so do blocks in
    another order.
    """
    import torch
    from ports_made import RANDOM, random_case

    from agent.report import standalone
    from agent.report.script_data import row
    from tools.engine.sites import HEADED, Edit, Site
    from tools.methods.scoring import batch_of

    subject, ids = subject_named(name), [5, 7, 9, 11]
    if "next_token" not in subject.capabilities and name in RANDOM:
        subject, (e, *_) = (case := random_case(name, model_named)).subject, case.examples
        inputs, ids = batch_of(subject, [e]).inputs, row(subject, e, [])["ids"]
    else:
        inputs = subject.inputs([ids])
    subject.model.save_pretrained(tmp_path)
    data = {"dtype": "float32", "loader": FAMILIES[subject.family.name], "stacks": stacks_of(subject)}
    monkeypatch.setattr(standalone, "DATA", data)
    model = standalone.Model(str(tmp_path))
    set_apart([ids], model.arrays)
    with torch.no_grad():
        intact = subject.run(inputs).logits[0]
    reads = {"every": slice(None), "first": slice(1), "last": slice(-1, None)}[subject.family.read]
    parts = (*model.where, *standalone.INNER, "resid_mid")
    for stack, part in ((k, part) for k, spec in subject.stacks.items() for part in parts if part in spec.kinds):
        place = {"stack": stack, "block": 1, "part": part, "units": [1] if part in HEADED else [], "anchor": "all"}
        width = len(model.channels(place, model.run(ids, read=[place])[1][0].shape[-1]))
        new = 3 * torch.randn(2, width, generator=torch.Generator().manual_seed(len(part)))
        mine = model.run(ids, [(place, [0, 1], new)])[0]
        edit = Edit(Site(stack, 1, part), "set", new[None], torch.tensor([[0, 1]]), tuple(place["units"]) or None)
        with torch.no_grad():
            theirs = subject.run(inputs, edits=[edit]).logits[0]
        assert torch.allclose(mine, theirs[reads], atol=1e-4), (stack, part)
        assert not torch.allclose(theirs[reads], intact[reads], atol=1e-4), (stack, part)
    for stack in subject.stacks:
        with torch.no_grad():
            theirs = subject.run(inputs, {stack: (2, 0, 0)}).logits[0]
        assert torch.allclose(model.program(ids, [2, 0, 0], stack), theirs[reads], atol=1e-4), stack
        assert not torch.allclose(theirs[reads], intact[reads], atol=1e-4), stack
        assert torch.allclose(model.run(ids)[0], intact[reads], atol=1e-4)


@pytest.mark.parametrize(
    ("run", "finding", "says"),
    [
        (ADDITION, "F99", "there is no finding 'F99'; there are F1"), (AGREEMENT, "F6", "F6 is absent"), (AGREEMENT, "F7", "F7 is inconclusive"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_script_is_refused(run, finding, says, tmp_path, capsys):
    assert written(tmp_path, run, finding) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.py"))


def test_another_model_is_refused(tmp_path, capsys):
    assert written(tmp_path, ADDITION, "F1", "--subject", "masked") == 2
    assert "is not the model of" in capsys.readouterr().err


def test_the_template_is_filled_with_data_alone():
    data = {"a": 'quote " and \\ and \n', "b": ["", "x"]}
    text = filled(TEMPLATE.read_text(), data)
    space = {"json": json}
    line = next(p for p in text.split("\n\n") if p.startswith("DATA"))
    exec(line.replace("DATA: Any", "DATA"), space)
    assert space["DATA"] == data
    imports = re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)
    assert not {"agent", "tools", "experiments_db"} & set(imports)
    assert {"capability", "necessary", "jointly_necessary", "not_needed", "sufficient", "carries", "attends", "readable"} <= set(QUESTIONS)


FEATURES = "def features(subject, batch, components):\n    return batch.states(components[0])\n"
EDITS = """
def edits(subject, batch, components):
    'It has "quotes" in it.'
    way = batch.fitting.states("decoder.0.attn.z[1]@operand1.last").mean(0)
    return [
        {"component": "decoder.3.attn.out@answer", "op": "scale", "value": 0.5},
        {"component": "decoder.0.attn.z[1]@operand1.last", "op": "project_out", "value": way},
        {"component": "decoder.0.mlp.out@answer", "op": "add", "value": batch.states("decoder.0.mlp.out@answer") * -0.9},
        {"component": "decoder.1.attn.z[0,2]@-2", "op": "zero"},
    ]
"""
TRUE = ("4.attn.z[0]", "4.attn.z[4]", "2.attn.z[0]", "2.attn.z[3]", "2.attn.z[5]", "1.attn.z[3]")  # where the candid model holds it
OTHERS = [  # kinds that the curated runs have not confirmed: (statement, what its effects are about)
    ({"kind": "carries_nothing", "components": ["decoder.5.mlp.out@answer"]}, 1),
    ({"kind": "suppresses", "components": ["decoder.5.mlp.out@answer"], "objective": "margin", "interventions": ["zero"]}, 1),
    ({"kind": "differs", "components": ["decoder.0.attn.z[0]@answer"], "other_task": "subtraction", "interventions": ["resample(donor)", "zero"]}, 2),
    ({"kind": "differs", "components": ["decoder.0.mlp.out@answer"], "among": "carry=1", "other_among": "carry=0", "interventions": ["mean"]}, 1),
    ({"kind": "disagree", "components": ["decoder.0.mlp.out@answer"], "interventions": ["resample(donor)", "zero"], "label": "resample(donor)"}, 1),
    ({"kind": "tolerates", "program": "skip 5", "objective": "nll"}, 1), ({"kind": "breaks", "program": "swap 0 1"}, 1),
    ({"kind": "tolerates", "program": "repeat 4"}, 1),
    ({"kind": "matches", "components": ["decoder.1.attn.pattern[0]", "decoder.3.attn.pattern[2]"], "label": "previous"}, 2),
    ({"kind": "matches", "components": ["decoder.2.attn.pattern[1]"], "label": "after same token"}, 1),
    ({"kind": "decodable", "task": "agreement", "components": ["decoder.1.resid_post@answer"], "label": "answer"}, 1),
    ({"kind": "steers", "task": "agreement", "components": ["decoder.4.resid_post@answer"], "label": "answer"}, 1),
    ({"kind": "steers", "components": ["decoder.2.mlp.out@answer"], "label": "carry", "interventions": ["add(label, 4)"]}, 1),
    ({"kind": "moves", "components": ["decoder.0.attn.pattern[0]@answer<-operand1"]}, 5),
    ({"kind": "similar", "task": "addition:shots=1", "other_task": "addition:shots=3", "components": ["decoder.5.resid_post@answer"], "examples": 32}, 1),
    ({"kind": "aligns", "components": ["decoder.0.attn.pattern[0]"], "label": "token"}, 1),
    ({"kind": "aligns", "task": "agreement", "components": ["decoder.2.attn.pattern[1]"], "label": "position before"}, 1),
    ({"kind": "used", "task": "othello", "components": ["decoder.4.resid_post@-1"], "label": "side.*"}, 1),
    ({"kind": "decodable", "task": "othello", "components": ["decoder.3.resid_post@-1"], "label": "side.*"}, 1),
    ({"kind": "computes", "components": ["decoder.0.mlp.out@answer"], "label": "operand1, operand2"}, 5),
    ({"kind": "mixed", "components": ["decoder.0.mlp.act[7]"], "other_task": "copying"}, 1),
    ({"kind": "mixed", "task": "agreement", "components": ["decoder.3.attn.z[2]"], "other_task": "copying", "label": "subject_number=plural"}, 1),
    ({"kind": "one_concept", "components": ["decoder.3.resid_post"], "other_task": "copying"}, 1),
    ({"kind": "one_concept", "task": "trees", "components": ["encoder.2.mlp.act[37]"], "other_task": "gap_agreement"}, 1),
    ({"kind": "quiet", "task": "subtraction", "components": ["decoder.2.mlp.act[37]"], "other_task": "addition"}, 1),
    ({"kind": "capability", "task": "othello"}, 1),  # of several right answers, as many as there are moves
    ({"kind": "necessary", "task": "othello", "components": ["decoder.0.mlp.out@-1"], "interventions": ["mean"], "objective": "nll"}, 1),
    ({"kind": "necessary", "task": "gap_agreement", "components": ["encoder.0.mlp.out@answer"], "interventions": ["mean", "zero"]}, 2),
    ({"kind": "carries", "task": "gap_agreement", "components": ["encoder.0.resid_post@controller"]}, 1),
    ({"kind": "attends", "task": "gap_agreement", "components": ["encoder.0.attn.pattern[0]@answer<-controller"]}, 1),
    ({"kind": "encodes_tree", "task": "trees", "components": ["encoder.0.resid_post"]}, 1),
    ({"kind": "decides", "task": "shape:decoys=wrong", "label": "object"}, 1),
    ({"kind": "elicits", "task": "candid", "components": [f"decoder.{h}@answer" for h in TRUE], "interventions": ["add(truth, 4)"]}, 1),
    ({"kind": "reads_better", "task": "othello", "components": ["decoder.3.resid_post@-1"], "label": "side.*, colour.*"}, 1),
]  # fmt: skip
if not unavailable():
    OTHERS += [
        ({"kind": "own", "code": FEATURES, "components": ["decoder.0.mlp.out@answer"], "label": "carry"}, 1),
        ({"kind": "own", "code": EDITS}, 1),
    ]
NUMBERS = 9  # from here on the first of each kind is also written with another number on record


ELSEWHERE = {  # kinds that are also measured elsewhere in the model, where the number on record is not to be had
    "mixed": ('"block":0', '"block":2'), "one_concept": ('"block":3', '"block":0'), "quiet": ('"units":[37]', '"units":[36]'),
    "reads_better": ('"block":3', '"block":0'), "encodes_tree": ('"block":0', '"block":3'), "decides": ('/shapes"', '/shapes/decoy"'),
    "elicits": ('"block":', '"block":0,"was":'), "own": ("components[0]", '"decoder.5.mlp.out@operand1"'),
}  # fmt: skip
RUNS = {"r": "demo", "o": "othello", "m": "masked", "s": "shapes", "c": "candid"}
TASKS = {"othello": "o", "trees": "m", "gap_agreement": "m", "shape:decoys=wrong": "s", "candid": "c"}


def run_of(asked):
    return TASKS.get(asked.get("task"), "r")


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """(store, run, folder) of findings of those kinds, each measured on confirm examples and put down as confirmed, true or not."""
    folder = tmp_path_factory.mktemp("others")
    return confirmed(folder, RUNS, [(run_of(asked), asked) for asked, _ in OTHERS]), folder


def confirmed(folder, runs, statements, *files):
    """A store with a run for each subject and findings F1, F2 ..., one for each (run, statement), and F98 that no script does."""
    from agent.loop.executor import ToolRunner
    from agent.loop.record import RunRecord, RunTasks
    from experiments_db.findings import Finding
    from experiments_db.records import Result, Run, TaskData
    from tools.findings.sealing import arguments_of, statement_of
    from tools.methods.offline import Nothing, OfflineTasks
    from tools.methods.own import address
    from tools.methods.tool import Context, discover
    from tools.subjects import load_subject
    from tools.tasks import read_jsonl

    box = None if unavailable() else Sandbox(Limits(seconds=30.0))
    store, runners = Store(folder / "e.db"), {}
    for run, name in runs.items():
        subject = load_subject(name)
        settings = {"seed": 0, "dtype": "float32", "fingerprint": subject.fingerprint, "device": "cpu"}
        store.put_run(Run(name=run, goal="g", subject=name, planner="p", settings=settings))
        for file in files:
            store.put_entry(run, 1, TaskData(name=file.stem, description="", examples=tuple(read_jsonl(file)), origin="file"))
        runners[run] = ToolRunner(subject, RunRecord(store, run), RunTasks(store, run), 0, sandbox=box)
    for i, (run, asked) in enumerate(statements, 1):
        runner = runners[run]
        if asked["kind"] == "own":  # its code is on record
            asked = dict(asked)
            code, tool = asked.pop("code"), discover()["experiment"]
            x = runner.experiment(tool, tool.parse({"task": asked.get("task", "addition"), "code": code, "label": asked.get("label", "")}))
            store.put_result(x, Result(status="ok", text="", wall_seconds=0.0))
            asked["program"] = address(code)
        about = Context(runner.subject, OfflineTasks(files), Nothing())
        statement = statement_of(about, {"task": "addition", "examples": 24, **asked})
        tool = discover()["examine"]
        args = tool.parse(arguments_of(statement))
        made = runner.execute(tool, args, split="confirm")
        assert made.status == "ok", made.text
        x = runner.experiment(tool, args, "confirm")
        handle = store.link_experiment(run, x.id, store.put_result(x, made), cached=False, seq=1)
        f = Finding(handle=f"F{i}", statement=statement, seen=handle, experiment=handle, smallest=0.1, probability=0.5, power=0.5, fate="confirmed")
        store.put_entry(run, 1, f)
        never = {"kind": "decodable", "components": f"{runner.subject.readout}.0.attn.pattern[0]", "label": "answer"}
        store.put_entry(run, 1, f.model_copy(update={"handle": "F98", "statement": statement.model_copy(update=never)}))
    if box is not None:
        box.close()
    return store


def test_other_kinds_measure_what_is_on_record_too_and_another_number_is_told(others):
    store, folder = others
    files = []
    for i, (asked, _) in enumerate(OTHERS, 1):
        run = run_of(asked)
        assert report.main([run, "--db", str(store.path), "--out", str(folder), "--script", f"F{i}"]) == 0
        files.append(folder / run / f"F{i}.py")
    program = files[5].read_text()
    assert '"order":[0,1,2,3,4]' in program
    wrong = folder / "wrong.py"
    wrong.write_text(program.replace('"order":[0,1,2,3,4]', '"order":[5,4,3,2]'))
    first = {asked["kind"]: i for i, (asked, _) in reversed([*enumerate(OTHERS, 1)]) if i >= NUMBERS}
    changed_number = [i for kind, i in first.items() if kind not in ELSEWHERE]
    others = [folder / f"number{i}.py" for i in changed_number]
    for i, other in zip(changed_number, others, strict=True):
        text, changed = re.subn(r'"recorded":(-?[\d.e-]+)', lambda m: f'"recorded":{float(m[1]) + 0.3}', files[i - 1].read_text())
        assert changed
        other.write_text(text)
    for kind, (here, there) in ((k, v) for k, v in ELSEWHERE.items() if k in first):
        text = files[first[kind] - 1].read_text()
        assert here in text
        others.append(folder / f"{kind}_elsewhere.py")
        others[-1].write_text(text.replace(here, there))
    every = run_alone([*files, wrong, *others])
    said, tampered = every[: len(OTHERS)], every[len(OTHERS) :]
    assert len(tampered) == 1 + len(others)
    for i, ((asked, effects), text) in enumerate(zip(OTHERS, said, strict=True), 1):
        run = run_of(asked)
        f = next(f for f in store.findings(run) if f.handle == f"F{i}")
        rows = [m for m in store.measurements(store.experiment(run, f.experiment).result_id) if m.name == "effect"]
        numbers = re.findall(r": (-?[\d.]+) here, (-?[\d.]+) on record, n=\d+: agrees \(apart by at most", text)
        assert len(numbers) == effects >= len(rows), (asked, text)
        assert len(rows) == effects or asked["kind"] == "computes"  # whose other numbers are no effects
        for (here, _), m in zip(numbers, rows, strict=asked["kind"] != "computes"):
            one = {"share of examples": 1 / m.n + 1e-6, "share of images": 1 / m.n + 1e-6, "Spearman over pairs of words": 0.01}
            assert abs(float(here) - m.value) <= one.get(m.unit, 1e-3 * max(1, abs(m.value)))
    probed = said[[asked["kind"] for asked, _ in OTHERS].index("decodable")]
    assert float(re.findall(r"shuffled: ([\d.]+) \(not on record", probed)[0]) < 0.7 < float(re.findall(r": ([\d.]+) here", probed)[0])
    for text in tampered:
        assert "DIFFERS" in text
        assert ": agrees" not in text
        assert text.rstrip().endswith("rc 1")


def test_what_a_script_cannot_do_is_refused_with_the_reason(others, tmp_path, capsys, monkeypatch):
    store, folder = others
    asked = ["m", "--db", str(store.path), "--out", str(tmp_path), "--script", "F98"]
    assert report.main(asked) == 2
    assert "encoder.0.attn.pattern[0] cannot be written as a script: parts of it are resid_pre, resid_mid" in capsys.readouterr().err
    monkeypatch.delitem(FAMILIES, "bert")
    assert report.main(asked) == 2
    assert "is of the family bert; scripts are written for gpt2, llama, gpt_neox, opt" in capsys.readouterr().err
    assert set(QUESTIONS) == set(kinds())
    for i, (asked, _) in enumerate(OTHERS, 1):
        if asked["kind"] == "own":
            assert f"CODE = r'''{asked['code']}'''" in (folder / "r" / f"F{i}.py").read_text()


def test_code_of_a_planner_is_run_with_leave_alone_and_refused_where_it_needs_more_than_a_script_has():
    from agent.report import script_data, standalone_own
    from tools.methods.tool import ToolInputError

    with pytest.raises(SystemExit):
        standalone_own.returned(None)
    script_data.check_alone("def edits(s, b, c):\n    return s.model")
    for code, says in (
        ("import tools.engine.sites\ndef edits(s, b, c):\n    pass", "imports tools.engine.sites, which a script does without"),
        ("def values(model, b, c):\n    return model.run(b.inputs)", "uses model.run, which runs this program's engine"),
    ):
        with pytest.raises(ToolInputError, match=says):
            script_data.check_alone(code)


def test_code_stands_in_a_script_as_it_was_written():
    for code in (FEATURES, EDITS, "x = '''a'''\n", 'x = """a"""\n', "x = '''a''' + \"\"\"b\"\"\"\n", "x = 'a\\\\'"):
        assert eval(quoted(code)) == code
    assert FEATURES in quoted(FEATURES)
