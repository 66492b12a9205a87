"""Findings about translators, speech, images and classifiers as files: without a line of this program they measure the same."""

import json
import re

import pytest
from ports_made import random_case, words
from test_scripts import confirmed, run_alone

from agent.report import __main__ as report
from tools.ports import port_of
from tools.tasks import Example

RUNS = {"t": "translator", "f": "translator-front", "i": "shapes", "s": "speech"}
CLASSIFIERS = {"b": "bert_classifier", "g": "gpt2_classifier"}  # each with a task of its own
TASKS = {"t": "translation:twin=language", "f": "translation:twin=language", "i": "shape", "s": "transcription", **CLASSIFIERS}
OTHERS = [  # (run, statement); with another block or head in it a script of the same finding has to disagree
    ("t", {"kind": "capability"}),
    ("t", {"kind": "necessary", "components": ["encoder.0.attn.z[1]", "encoder.0.resid_post@verb"], "interventions": ["zero", "mean"], "objective": "nll"}),
    ("t", {"kind": "carries", "components": ["decoder.0.resid_post@answer"]}),
    ("t", {"kind": "necessary", "components": ["decoder.1.cross.z[0]@answer"], "interventions": ["mean"], "objective": "nll"}),
    ("t", {"kind": "attends", "components": ["decoder.0.cross.pattern[0]@answer<-encoder:verb"]}),
    ("f", {"kind": "necessary", "components": ["decoder.0.block@answer"], "interventions": ["zero"], "objective": "nll"}),
    ("i", {"kind": "necessary", "components": ["encoder.0.mlp.out"], "interventions": ["resample(donor)", "mean"], "objective": "margin"}),
    ("i", {"kind": "carries", "components": ["encoder.3.resid_post@0"]}),
    ("i", {"kind": "attends", "components": ["encoder.1.attn.pattern[0]@0<-object"]}),
    ("s", {"kind": "capability"}),
    ("s", {"kind": "not_needed", "components": ["encoder.0.mlp.out@word1"], "interventions": ["mean"], "objective": "nll"}),
    ("s", {"kind": "disagree", "components": ["decoder.1.cross.out@answer"], "interventions": ["zero", "mean"], "label": "zero"}),
    ("s", {"kind": "attends", "components": ["decoder.1.cross.pattern[1]@answer<-encoder:word1"]}),
    ("b", {"kind": "necessary", "components": ["encoder.0.mlp.out@second"], "interventions": ["mean", "zero"], "objective": "margin"}),
    ("b", {"kind": "attends", "components": ["encoder.1.attn.pattern[2]@0<-second"]}),
    ("g", {"kind": "suppresses", "components": ["decoder.1.attn.z[1]"], "interventions": ["zero"], "objective": "nll"}),
    ("g", {"kind": "capability"}),
]  # fmt: skip
AWAY = {"capability": (r'"targets":\[\d', '"targets":[9'), "carries": ('"part":"resid_post"', '"part":"mlp.out"')}  # else another block


def classifiers(folder, model_named):
    """Folders of two random classifiers of text, whose task is what they say; of large weights, so that a change is seen."""
    for name in CLASSIFIERS.values():
        case = random_case(name, model_named)
        for p in case.subject.model.parameters():
            p.data *= 4 if p.ndim > 1 else 1
        case.subject.model.save_pretrained(folder / name)
        case.subject.tokenizer.save_pretrained(folder / name)
        rows = [{"prompt": words(*range(10 + i, 14 + i + i % 3)), "split": ("explore", "confirm")[i % 2]} for i in range(40)]
        said = port_of(case.subject).write(case.subject, [Example({"text": r["prompt"]}, "LABEL_0") for r in rows])
        made = [
            {**r, "answer": a, "foil": "LABEL_8" if a != "LABEL_8" else "LABEL_9", "spans": {"second": [4, 7]}}
            for r, a in zip(rows, said, strict=True)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in made))
    return {run: str(folder / name) for run, name in CLASSIFIERS.items()}


@pytest.fixture(scope="module")
def said(tmp_path_factory, model_named):
    """What each script prints, and what it prints with another block or another right answer in it."""
    folder = tmp_path_factory.mktemp("modalities")
    runs = RUNS | classifiers(folder, model_named)
    store = confirmed(folder, runs, [(run, {"task": TASKS[run], "examples": 16, **asked}) for run, asked in OTHERS], *folder.glob("*.jsonl"))
    files, others = [], []
    for i, (run, asked) in enumerate(OTHERS, 1):
        assert report.main([run, "--db", str(store.path), "--out", str(folder), "--script", f"F{i}"]) == 0
        files.append(folder / run / f"F{i}.py")
        others.append(files[-1].with_name(f"F{i}_other.py"))
        here, there = AWAY.get(asked["kind"], (r'"block":\d', '"block":2'))
        text, n = re.subn(here, there, files[-1].read_text())
        assert n
        others[-1].write_text(text)
    found = run_alone([*files, *others])
    return store, found[: len(files)], found[len(files) :], folder


@pytest.mark.parametrize("index", range(len(OTHERS)), ids=[f"{r}-{a['kind']}-{i}" for i, (r, a) in enumerate(OTHERS)])
def test_a_script_measures_what_is_on_record(said, index):
    store, right, other, _ = said
    run, handle = OTHERS[index][0], f"F{index + 1}"
    f = next(f for f in store.findings(run) if f.handle == handle)
    rows = [m for m in store.measurements(store.experiment(run, f.experiment).result_id) if m.name == "effect"]
    numbers = re.findall(r": (-?[\d.]+) here, (-?[\d.]+) on record, n=(\d+): agrees", right[index])
    assert len(numbers) == len(rows) > 0, right[index]
    assert right[index].rstrip().endswith("rc 0")
    for (here, there, n), m in zip(numbers, rows, strict=True):
        assert abs(float(there) - m.value) < 1e-6
        assert abs(float(here) - m.value) <= (1 / m.n + 1e-6 if m.unit == "share of examples" else 1e-3 * max(1, abs(m.value)))
        assert int(n) == m.n
    assert "DIFFERS" in other[index], (right[index], other[index])
    assert other[index].rstrip().endswith("rc 1")
