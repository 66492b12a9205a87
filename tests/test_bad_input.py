"""Bad input gets one clear line that says what would be valid, exit status 2, and leaves nothing behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agent import run
from experiments_db.store import Store

ROOT = Path(__file__).parent.parent
GOOD = "find where addition happens"


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Runs agent.run with arguments that must be refused and returns the one line it printed."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)

    def run_refused(*argv):
        before = sorted(p.name for p in tmp_path.rglob("*"))
        places = [] if "--db" in argv else ["--db", str(tmp_path / "e.db")]
        places += [] if "--out" in argv else ["--out", str(tmp_path / "t")]
        assert run.main([*argv, *places, "--quiet"]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        left = [n for n in sorted(p.name for p in tmp_path.rglob("*")) if n not in before]
        assert left == []
        return printed.err

    return run_refused


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "--goal"),
        (["--goal", "   "], "--goal"),
        (["--goal", "make me a sandwich"], "--task FILE.jsonl"),
        (["--goal", "find where addition happens in gpt2"], "demo"),
        (["--goal", GOOD, "--subject", "no/such-model"], "demo"),
        (["--goal", GOOD, "--subject", "./nowhere"], "folder"),
        (["--goal", GOOD, "--planner", "oracle"], "systematic"),
        (["--goal", GOOD, "--planner", "openai:gpt-x"], "OPENAI_API_KEY"),
        (["--goal", GOOD, "--planner", "scripted:/nowhere.jsonl"], "cannot be read"),
        (["--goal", GOOD, "--max-experiments", "0"], "more than 0"),
        (["--goal", GOOD, "--max-minutes", "-1"], "more than 0"),
        (["--goal", GOOD, "--dtype", "int3"], "bfloat16"),
        (["--goal", GOOD, "--device", "abacus"], "cpu"),
        (["--goal", GOOD, "--task", "/nowhere.jsonl"], "no such file"),
    ],
)
def test_a_bad_argument_is_refused_in_one_line(argv, says, refused):
    assert says in refused(*argv)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("not json\n", "line 1"),
        ('{"prompt": "a"}\n', "answer"),
        ('{"prompt": "a", "answer": " b", "foo": 1}\n', "foo"),
        ('{"prompt": "a", "answer": " b"}\n', "split"),
        ("[1, 2]\n", "line 1"),
    ],
)
def test_a_bad_task_file_is_named_with_its_line(content, says, refused, tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text(content)
    line = refused("--goal", "what about mine", "--task", str(file))
    assert "mine.jsonl" in line
    assert says in line


def test_a_task_file_may_not_hide_a_built_in_task(refused, tmp_path):
    file = tmp_path / "addition.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"p{i}", "answer": " a"}) + "\n" for i in range(40)))
    assert "rename" in refused("--goal", GOOD, "--task", str(file))


def test_places_that_cannot_be_written_are_refused(refused, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot" in refused("--goal", GOOD, "--out", str(tmp_path / "file" / "t"))
    assert "cannot" in refused("--goal", GOOD, "--db", str(tmp_path / "file" / "e.db"))


def test_a_pickle_checkpoint_is_refused_with_the_way_to_convert_it(refused, tmp_path):
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}')
    torch.save({}, folder / "pytorch_model.bin")
    assert "safe_serialization" in refused("--goal", GOOD, "--subject", str(folder))


def test_a_users_own_task_file_is_investigated(tmp_path):
    file = tmp_path / "doubling.jsonl"
    rows = [{"prompt": f"{n} + {n} =", "answer": f" {2 * n}", "metadata": {"n": n}} for n in range(2, 90)]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    argv = ["--goal", "where is doubling done", "--task", str(file), "--db", str(tmp_path / "e.db")]
    assert run.main([*argv, "--out", str(tmp_path / "t"), "--quiet", "--device", "cpu"]) == 0
    store = Store(tmp_path / "e.db")
    name = store.runs()[-1]
    assert store.run(name).status == "finished"
    assert {m.task for m in store.measurements(store.experiments(name)[1].result_id)} == {"doubling"}
    assert store.task_data(name)[0].name == "doubling"


def test_what_can_be_seen_to_be_wrong_without_torch_is_said_without_it(tmp_path):
    (tmp_path / "bad.jsonl").write_text("no json\n")
    cases = [
        ("run", ["--resume", "latest"]), ("run", ["--goal", "make me a sandwich"]), ("run", ["--goal", GOOD, "--planner", "nobody"]),
        ("run", ["--goal", GOOD, "--task", "bad.jsonl"]), ("run", ["--goal", GOOD, "--memory-limit", "much"]),
        ("replay", ["latest"]), ("report.__main__", ["latest"]),
    ]  # fmt: skip
    code = (
        "import sys, json, importlib\nsaid = []\nfor name, argv in json.loads(sys.argv[1]):\n"
        "    try: said.append(importlib.import_module('agent.' + name).main(argv))\n    except SystemExit as e: said.append(e.code)\n"
        "print(said, sorted({'torch', 'transformers', 'pandas'} & set(sys.modules)))"
    )
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI_")} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(cases)], capture_output=True, text=True, check=True, cwd=tmp_path, env=environ
    )
    assert done.stdout == f"{[2] * len(cases)} []\n"
    assert not (tmp_path / "experiments.db").exists()
