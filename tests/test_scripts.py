"""A confirmed finding as a file: without a line of this program it measures the same."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent.report import __main__ as report
from agent.report.script import QUESTIONS, TEMPLATE, WITHOUT, filled
from experiments_db.store import Store
from tools.findings.kind import kinds

CURATED = Path(__file__).parent.parent / "transcripts" / "curated" / "experiments.db"
ADDITION = "20261122-023421-find-where-addition-happens"
OWN = "20261122-024426-can-the-model-do-addition-without-what-t"
AGREEMENT = "20261122-023645-how-does-the-demo-model-choose-between-i"
WRITTEN = [  # necessary, jointly, carries, sends, attends, readable, and on twins of a task's own
    (ADDITION, "F2"), (ADDITION, "F6"), (ADDITION, "F8"), (ADDITION, "F10"), (ADDITION, "F12"), (ADDITION, "F13"), (AGREEMENT, "F1"),
    (AGREEMENT, "F2"),
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
    sys.argv = [file]
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_path(file, run_name="__main__")
        except SystemExit as end:
            print("rc", end.code)
    print(json.dumps({"file": file, "said": said.getvalue()}))
"""


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
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, *map(str, [*files, other])], capture_output=True, text=True, check=True, cwd="/",
        env={"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"file"')]
    return [line["said"] for line in found]


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


@pytest.mark.parametrize("name", ["gpt2", "qwen3", "mistral", "gpt_neox_parallel", "gpt_neox_sequential", "opt", "opt_350m_kind"])
def test_a_script_reaches_the_places_of_every_family(name, subject_named, tmp_path, monkeypatch):
    """Each part, removed by plain hooks at two positions, brings the logits that the program's edit brings."""
    import torch

    from agent.report import standalone
    from tools.engine.sites import Edit, Site

    subject = subject_named(name)
    subject.model.save_pretrained(tmp_path)
    paths = subject.family.stacks[0]
    modules = {
        "blocks": f"{paths.body}.{paths.blocks}", "after": [f"{paths.body}.{n}" for n in paths.after_blocks],
        "attention_out": paths.o_proj, "mlp_out": paths.down_proj,
    }  # fmt: skip
    data = {"dtype": "float32", "modules": modules, "heads": subject.spec().n_heads}
    monkeypatch.setattr(standalone, "DATA", data)
    model, ids = standalone.Model(str(tmp_path)), [5, 7, 9, 11]
    inputs = subject.inputs([ids])
    for part in (*model.where, "attn.v"):
        place = {"block": 1, "part": part, "units": [1] if part in ("attn.v", "attn.z") else [], "anchor": "all"}
        width = model.run(ids, read=[place])[1][0].shape[-1]
        gone = torch.zeros(2, len(model.channels(place, width)))
        mine = model.run(ids, [(place, [1, 3], gone)])[0]
        edit = Edit(Site("decoder", 1, part), "set", torch.zeros(()), torch.tensor([[1, 3]]), tuple(place["units"]) or None)
        with torch.no_grad():
            theirs = subject.run(inputs, edits=[edit]).logits[0]
        assert torch.allclose(mine, theirs, atol=1e-4), part
    intact = model.run(ids, output_hidden_states=True)[2]
    assert torch.allclose(model.read_out(intact.hidden_states[1][0]), subject.unembed(intact.hidden_states[1][0]), atol=1e-4)


@pytest.mark.parametrize(
    ("run", "finding", "says"),
    [
        (ADDITION, "F99", "there is no finding 'F99'; there are F1"), (OWN, "F2", "of kind own; scripts are written for"),
        (AGREEMENT, "F6", "F6 is absent"), (AGREEMENT, "F7", "F7 is inconclusive"),
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
]  # fmt: skip
NUMBERS = 9  # from here on the first of each kind is also written with another number on record


RUNS = {"r": "demo", "o": "othello"}


def run_of(asked):
    return "o" if asked.get("task") == "othello" else "r"


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """(store, run, folder) of findings of those kinds, each measured on confirm examples and put down as confirmed, true or not."""
    from agent.loop.executor import ToolRunner
    from agent.loop.record import RunRecord, RunTasks
    from experiments_db.findings import Finding
    from experiments_db.records import Run
    from tools.findings.sealing import arguments_of, statement_of
    from tools.methods.offline import Nothing, OfflineTasks
    from tools.methods.tool import Context, discover
    from tools.subjects import load_subject

    folder = tmp_path_factory.mktemp("others")
    store, runners = Store(folder / "e.db"), {}
    for run, name in RUNS.items():
        subject = load_subject(name)
        settings = {"seed": 0, "dtype": "float32", "fingerprint": subject.fingerprint, "device": "cpu"}
        store.put_run(Run(name=run, goal="g", subject=name, planner="p", settings=settings))
        runners[run] = ToolRunner(subject, RunRecord(store, run), RunTasks(store, run), 0)
    for i, (asked, _) in enumerate(OTHERS, 1):
        runner = runners[run_of(asked)]
        about = Context(runner.subject, OfflineTasks([]), Nothing())
        statement = statement_of(about, {"task": "addition", "examples": 24, **asked})
        tool = discover()["examine"]
        args = tool.parse(arguments_of(statement))
        made = runner.execute(tool, args, split="confirm")
        assert made.status == "ok", made.text
        x = runner.experiment(tool, args, "confirm")
        handle = store.link_experiment(run_of(asked), x.id, store.put_result(x, made), cached=False, seq=1)
        f = Finding(handle=f"F{i}", statement=statement, seen=handle, experiment=handle, smallest=0.1, probability=0.5, power=0.5, fate="confirmed")
        store.put_entry(run_of(asked), 1, f)
        if run_of(asked) == "o":
            several = f.model_copy(update={"handle": "F98", "statement": statement.model_copy(update={"kind": "capability"})})
    store.put_entry("o", 1, several)
    own = Finding(handle="F99", statement=statement.model_copy(update={"kind": "elicits"}), seen=handle, experiment=handle, smallest=0.1,
                  probability=0.5, power=0.5, fate="confirmed")  # fmt: skip
    store.put_entry("r", 1, own)
    return store, folder


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
    others = [folder / f"number{i}.py" for i in first.values()]
    for i, other in zip(first.values(), others, strict=True):
        text, changed = re.subn(r'"recorded":(-?[\d.e-]+)', lambda m: f'"recorded":{float(m[1]) + 0.3}', files[i - 1].read_text())
        assert changed
        other.write_text(text)
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, *map(str, [*files, wrong, *others])], capture_output=True, text=True, check=True, cwd="/",
        env={"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    every = [json.loads(line)["said"] for line in done.stdout.splitlines() if line.startswith('{"file"')]
    said, tampered = every[: len(OTHERS)], every[len(OTHERS) :]
    assert len(tampered) == 1 + len(others)
    for i, ((asked, effects), text) in enumerate(zip(OTHERS, said, strict=True), 1):
        run = run_of(asked)
        f = next(f for f in store.findings(run) if f.handle == f"F{i}")
        rows = [m for m in store.measurements(store.experiment(run, f.experiment).result_id) if m.name == "effect"]
        numbers = re.findall(r": (-?[\d.]+) here, (-?[\d.]+) on record, n=\d+: agrees", text)
        assert len(numbers) == effects >= len(rows), (asked, text)
        assert len(rows) == effects or asked["kind"] == "computes"  # whose other numbers are no effects
        for (here, _), m in zip(numbers, rows, strict=asked["kind"] != "computes"):
            assert abs(float(here) - m.value) <= (1 / m.n + 1e-6 if m.unit == "share of examples" else 1e-3 * max(1, abs(m.value)))
    probed = said[[asked["kind"] for asked, _ in OTHERS].index("decodable")]
    assert float(re.findall(r"shuffled: ([\d.]+) \(not on record", probed)[0]) < 0.7 < float(re.findall(r": ([\d.]+) here", probed)[0])
    for text in tampered:
        assert "DIFFERS" in text
        assert ": agrees" not in text
        assert text.rstrip().endswith("rc 1")


def test_a_kind_without_a_script_is_refused_with_the_reason_and_those_that_have_one(others, tmp_path, capsys):
    store, _ = others
    assert report.main(["r", "--db", str(store.path), "--out", str(tmp_path), "--script", "F99"]) == 2
    said = capsys.readouterr().err
    assert "scripts are written for capability, cannot, necessary" in said
    assert "none for elicits: what it measures is fitted on other examples first" in said
    assert report.main(["o", "--db", str(store.path), "--out", str(tmp_path), "--script", "F98"]) == 2
    assert "othello accept several answers each; scripts of kind capability score one" in capsys.readouterr().err
    assert not set(WITHOUT) & set(QUESTIONS)
    assert set(WITHOUT) | set(QUESTIONS) == set(kinds())
