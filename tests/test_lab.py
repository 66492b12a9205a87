"""The notebook: tools from Python, with and without a record."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from agent.lab import Lab, LabError, ToolName
from agent.replay import main as replay
from experiments_db.store import Store
from tools.methods.tool import discover

ROOT = Path(__file__).parent.parent
ABLATE = {"task": "addition", "components": ["decoder.0.mlp.out@answer", "decoder.5.mlp.out@answer"], "intervention": "zero", "examples": 16}


@pytest.fixture(scope="module")
def lab():
    return Lab("demo")


def test_importing_it_does_not_import_torch():
    code = "import sys, agent.lab; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_the_names_that_an_editor_completes_are_the_tools():
    assert sorted(get_args(ToolName)) == sorted(discover())


def test_a_call_without_a_record_gives_rows_with_interval_n_and_control(lab):
    found = lab.run("ablate", **ABLATE)
    rows = [r for r in found.rows if r["quantity"] == "accuracy" and r["component"] == "decoder.0.mlp.out@answer"]
    assert rows[0]["low"] <= rows[0]["value"] <= rows[0]["high"]
    assert rows[0]["n"] == 16
    assert rows[0]["control"]
    assert found.handle is None
    with pytest.raises(LabError, match="nothing that a figure would show"):
        found.plot()  # two numbers are read sooner
    drawn = lab.run("ablate", **{**ABLATE, "components": ["decoder.0-2.mlp.out@answer"]}).plot()
    assert drawn.svg == drawn._repr_svg_()
    assert "2.mlp.out" in drawn.svg
    assert "<pre>" in found._repr_html_()


def test_a_frame_has_a_row_for_each_measurement(lab):
    pytest.importorskip("pandas")
    found = lab.run("loss", tasks=["addition"], examples=16)
    frame = found.frame()
    assert len(frame) == len(found.measurements)
    assert set(frame["quantity"]) == {m.name for m in found.measurements}


@pytest.mark.parametrize(
    ("tool", "args", "why"),
    [
        ("ablat", {}, "there is no tool 'ablat'"), ("ablate", {**ABLATE, "components": ["decoder.99.mlp.out"]}, "99"),
        ("loss", {"tasks": ["nothing"]}, "nothing"), ("note", {"text": "x"}, "record"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_with_the_reason(lab, tool, args, why):
    with pytest.raises(LabError, match=why):
        lab.run(tool, **args)


def test_the_documented_example_runs_to_the_letter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "notebook.md").read_text(), re.DOTALL)
    exec(compile(code, "notebook.md", "exec"), {})
    store = Store(tmp_path / "notes.db", create=False)
    (name,) = store.runs()
    (finding,) = store.findings(name)
    assert finding.fate == "confirmed"


def test_what_cannot_be_loaded_is_refused(tmp_path):
    with pytest.raises(LabError, match="no file"):
        Lab("demo", tasks=[tmp_path / "none.jsonl"])
    with pytest.raises(LabError):
        Lab(str(tmp_path))


def test_a_recorded_call_is_an_experiment_of_a_person_and_replays_equal(tmp_path, capsys):
    own = tmp_path / "mine.jsonl"
    lines = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(10) for b in range(10) if a + b < 10]
    own.write_text("\n".join(map(json.dumps, lines)))
    lab = Lab("demo", tasks=[own])
    assert "mine" in lab.tasks
    db = tmp_path / "notes.db"
    with lab.record(db, goal="what does it do by hand?", out=tmp_path / "out") as name:
        for _ in range(6):
            with pytest.raises(LabError, match="no task"):
                lab.run("loss", tasks=["nothing"])
        first = lab.run("loss", tasks=["mine"], examples=16)
        again = lab.run("loss", tasks=["mine"], examples=16)
        assert first.handle == again.handle == "E1"
        assert first.measurements == again.measurements
        assert lab.run("note", text="It was measured.").handle == "N1"
        with pytest.raises(LabError, match="being recorded"), lab.record(db):
            pass
    store = Store(db, create=False)
    run = store.run(name)
    assert (run.planner, run.status, run.goal) == ("person", "stopped", "what does it do by hand?")
    assert len(store.experiments(name)) == 1
    assert (tmp_path / "out" / name / "report.md").is_file()
    assert replay([name, "--db", str(db)]) == 0
    capsys.readouterr()


def test_an_answer_that_a_person_states_ends_the_run(tmp_path):
    lab = Lab("demo")
    with lab.record(tmp_path / "n.db", goal="can it add?", out=tmp_path / "out") as name:
        lab.run("loss", tasks=["addition"], examples=16)
        lab.run("finish", answer="unclear", words="I only looked.")
        with pytest.raises(LabError, match="ended"):
            lab.run("loss", tasks=["addition"], examples=16)
    assert Store(tmp_path / "n.db", create=False).run(name).status == "finished"
