"""The main path: one command, a true conclusion, a report that can be checked and replayed."""

import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agent import replay, run
from agent.report import __main__ as report
from experiments_db.store import Store
from tools.subjects import DEMO
from tools.tasks import get_task


@pytest.fixture(scope="module")
def investigated(tmp_path_factory):
    """Two finished runs in one folder: addition (which the demo can do) and key-value recall (which it cannot)."""
    folder = tmp_path_factory.mktemp("runs")
    for goal in ("find where addition happens", "find where key-value recall happens"):
        argv = ["--goal", goal, "--db", str(folder / "e.db"), "--out", str(folder / "t"), "--device", "cpu", "--quiet"]
        assert run.main(argv) == 0
    store = Store(folder / "e.db", create=False)
    addition, recall = store.runs()
    return store, folder / "t", addition, recall


def resampled_accuracy(attention: list[int], mlp: list[int], heads: list[tuple[int, int]] = ()) -> float:
    """Accuracy on unseen additions with outputs at the last token taken from other examples: plain torch, own code."""
    model = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    examples = get_task("addition").examples("confirm", 96, seed=5)
    rows = [tokenizer(e.prompt)["input_ids"] for e in examples]
    answers = torch.tensor([tokenizer(e.answer)["input_ids"][0] for e in examples])
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for i, r in enumerate(rows):
        ids[i, : len(r)] = torch.tensor(r)
    last, every = torch.tensor([len(r) - 1 for r in rows]), torch.arange(len(rows))
    other = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    width = model.config.n_embd // model.config.n_head

    def shuffle(_module, _args, out):
        h = (out[0] if isinstance(out, tuple) else out).clone()
        h[every, last] = h[every, last][other]
        return (h, *out[1:]) if isinstance(out, tuple) else h

    def shuffle_head(head):
        def hook(_module, args):
            z, part = args[0].clone(), slice(head * width, (head + 1) * width)
            z[every, last, part] = z[every, last, part][other]
            return (z, *args[1:])

        return hook

    for i, block in enumerate(model.transformer.h):
        if i in attention:
            block.attn.register_forward_hook(shuffle)
        if i in mlp:
            block.mlp.register_forward_hook(shuffle)
        for b, head in heads:
            if b == i:
                block.attn.c_proj.register_forward_pre_hook(shuffle_head(head))
    with torch.inference_mode():
        logits = model(ids, attention_mask=torch.ones_like(ids)).logits[every, last]
    return float((logits.argmax(-1) == answers).float().mean())


def test_what_was_found_about_addition_is_true_of_the_model(investigated):
    store, _, addition, _ = investigated
    standing = [f.statement for f in store.findings(addition) if f.stands]
    needed = [c for s in standing if s.kind == "necessary" for c in s.members if c.anchor == "answer"]
    assert needed, "nothing was localised"
    for c in needed:
        removed = {"attn.out": ([c.block], [], []), "mlp.out": ([], [c.block], [])}
        how = removed.get(c.part, ([], [], [(c.block, c.units[0])] if c.units else []))
        assert resampled_accuracy(*how) < 0.6, f"{c} is said to be necessary, but resampling it leaves the task intact"
    spared = [c for s in standing if s.kind == "not_needed" for c in s.members]
    attention = [c.block for c in spared if c.part == "attn.out"]
    mlps = [c.block for c in spared if c.part == "mlp.out"]
    assert attention, "nothing was found to be spared"
    assert resampled_accuracy(attention, mlps) > 0.9, "something that is needed is said not to be"


def test_findings_were_stated_before_they_were_settled_each_once_on_unseen_examples(investigated):
    store, _, addition, _ = investigated
    experiments = {e.handle: e for e in store.experiments(addition)}
    for f in store.findings(addition):
        seen, settled = experiments[f.seen], experiments[f.experiment]
        assert "split" not in seen.experiment.args
        assert settled.experiment.args["split"] == "confirm"
        assert seen.seq < settled.seq
        assert [e.handle for e in experiments.values() if e.experiment.id == settled.experiment.id] == [f.experiment]


def test_key_value_recall_is_reported_as_something_the_model_cannot_do(investigated):
    store, out, _, recall = investigated
    text = (out / recall / "report.md").read_text()
    assert "**The model cannot do it.**" in text
    assert [f.statement.kind for f in store.findings(recall) if f.stands] == ["cannot"]


def test_the_report_has_its_figures_its_timeline_and_no_unresolved_reference(investigated):
    store, out, addition, _ = investigated
    folder = out / addition
    text = (folder / "report.md").read_text()
    figures = re.findall(r"\((figures/[^)]+)\)", text)
    assert len(figures) > 10
    assert all((folder / f).stat().st_size > 1000 for f in figures)
    assert "{{" not in text
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert events[0]["kind"] == "start"
    assert events[-1] == {**events[-1], "kind": "end", "status": "finished", "reason": "found"}
    assert store.verify() == []


def test_the_file_is_derived_again_from_the_database_and_one_changed_digit_is_noticed(investigated, capsys):
    store, out, addition, _ = investigated
    argv = [addition, "--db", str(store.path), "--check"]
    assert report.main(argv) == 0
    file = out / addition / "report.md"
    text = file.read_text()
    try:
        file.write_text(text.replace("n=128", "n=129", 1))
        assert report.main(argv) == 1
    finally:
        file.write_text(text)
    assert "differs" in capsys.readouterr().out


def test_replay_gives_every_number_again_and_notices_one_that_was_changed(investigated, tmp_path, capsys):
    store, _, addition, _ = investigated
    assert replay.main([addition, "--db", str(store.path), "--sample", "5"]) == 0
    copy = tmp_path / "copy.db"
    with sqlite3.connect(store.path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
        handle = next(e for e in store.experiments(addition) if e.experiment.tool == "lens")
        target.execute(
            "UPDATE measurements SET value = value + 0.001 WHERE result = ? AND name = 'nll'", (handle.result_id,)
        )
    capsys.readouterr()
    assert replay.main([addition, "--db", str(copy), "--experiment", handle.handle]) == 1
    assert "DIFFERENT" in capsys.readouterr().out
    assert Store(copy).verify() != []


def test_the_same_question_again_finds_what_was_explored_in_the_database_and_confirms_on_other_examples(investigated):
    store, out, _, recall = investigated
    argv = ["--goal", "find where key-value recall happens", "--db", str(store.path), "--out", str(out), "--quiet"]
    assert run.main([*argv, "--device", "cpu"]) == 0
    again = store.runs()[-1]
    explored = [e for e in store.experiments(again) if "split" not in e.experiment.args]
    assert explored
    assert all(e.cached for e in explored)
    first, second = ([e for e in store.experiments(r) if "split" in e.experiment.args] for r in (recall, again))
    assert not {e.experiment.id for e in first} & {e.experiment.id for e in second}


def test_help_answers_without_loading_anything_heavy():
    code = (
        "import sys\nfrom agent import run\ntry: run.main(['--help'])\nexcept SystemExit as e: assert e.code == 0\n"
        "print(sorted({'torch', 'transformers', 'openai', 'pydantic', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent
    )
    assert "--max-experiments" in done.stdout
    assert done.stdout.strip().endswith("[]")
