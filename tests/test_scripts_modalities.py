"""Findings about translators, speech, images and classifiers as files: without a line of this program they measure the same."""

import json
import re

import pytest
from ports_made import random_case, words
from test_scripts import confirmed, run_alone

from agent.report import __main__ as report
from tools.ports import port_of
from tools.sandbox import unavailable
from tools.tasks import Example, get_task

RUNS = {"t": "translator", "f": "translator-front", "i": "shapes", "s": "speech", "m": "masked"}
CLASSIFIERS = {"b": "bert_classifier", "g": "gpt2_classifier"}  # each with a task of its own
TASKS = {"t": "translation:twin=language", "f": "translation:twin=language", "i": "shape", "s": "transcription", "m": "gap_agreement", **CLASSIFIERS}
FEATURES = "def features(subject, batch, components):\n    return batch.states(components[0])\n"
EDITS = """
def edits(subject, batch, components):
    return [
        {"component": "encoder.1.mlp.out@answer", "op": "add", "value": batch.states("encoder.1.mlp.out@answer") * -0.9},
        {"component": "encoder.2.attn.z[0]@controller", "op": "zero"},
    ]
"""
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
MEANING, KEL, MUN = "translation:twin=meaning", "translation:source=kel,target=tiv", "translation:source=mun,target=tiv"
MORE = [  # of kinds that states, labels and programs are needed for; a script of the same finding is also made to disagree
    ("t", {"kind": "tolerates", "program": "encoder: skip 1", "objective": "nll"}),
    ("t", {"kind": "breaks", "program": "skip 0"}),
    ("t", {"kind": "readable", "components": ["decoder.1.resid_post@answer"]}),
    ("t", {"kind": "sends", "task": MEANING, "path": "decoder.2.cross.out@answer -> decoder.logits@answer"}),
    ("t", {"kind": "decodable", "components": ["encoder.2.resid_post@-1"], "label": "tense"}),
    ("t", {"kind": "steers", "task": MEANING, "components": ["decoder.1.resid_post@answer"], "label": "tense", "interventions": ["add(label, 40)"]}),
    ("t", {"kind": "moves", "components": ["decoder.1.attn.pattern[1]@answer<-0"], "interventions": ["zero"], "objective": "nll"}),
    ("t", {"kind": "computes", "components": ["decoder.1.mlp.out@-1"], "label": "number, tense", "interventions": ["zero"]}),
    ("t", {"kind": "similar", "task": KEL, "other_task": MUN, "components": ["encoder.2.attn.z[1]"], "examples": 40}),
    ("t", {"kind": "aligns", "components": ["decoder.1.attn.pattern[2]"], "label": "token"}),
    ("t", {"kind": "mixed", "task": KEL, "other_task": MUN, "components": ["encoder.1.mlp.act[7]"]}),
    ("t", {"kind": "quiet", "task": KEL, "other_task": MUN, "components": ["encoder.2.mlp.act[3]"]}),
    ("t", {"kind": "one_concept", "task": KEL, "other_task": MUN, "components": ["encoder.1.attn.z[1]"], "label": "tense=past"}),
    ("t", {"kind": "reads_better", "components": ["encoder.1.resid_post@subject"], "label": "number, tense"}),
    ("i", {"kind": "breaks", "program": "skip 1", "objective": "margin"}),
    ("i", {"kind": "readable", "components": ["encoder.2.resid_post@answer"]}),
    ("i", {"kind": "decodable", "components": ["encoder.2.resid_post@object"], "label": "shape"}),
    ("i", {"kind": "steers", "components": ["encoder.2.resid_post@0"], "label": "answer"}),
    ("i", {"kind": "computes", "components": ["encoder.2.mlp.out@answer"], "label": "shape"}),
    ("i", {"kind": "aligns", "components": ["encoder.1.attn.pattern[2]"], "label": "row"}),
    ("i", {"kind": "one_concept", "task": "shape:decoys=right", "other_task": "shape:decoys=none", "components": ["encoder.0.mlp.act[9]"]}),
    ("s", {"kind": "tolerates", "program": "encoder: skip 1", "objective": "nll"}),
    ("s", {"kind": "readable", "components": ["decoder.2.resid_post@answer"]}),
    ("s", {"kind": "decodable", "components": ["encoder.4.resid_post@word1"], "label": "kind"}),
    ("s", {"kind": "aligns", "components": ["encoder.1.attn.pattern[2]"], "label": "position"}),
    ("m", {"kind": "tolerates", "program": "skip 1", "objective": "margin"}),
    ("m", {"kind": "readable", "components": ["encoder.2.resid_post@answer"]}),
    ("m", {"kind": "computes", "components": ["encoder.3.mlp.out@answer"], "label": "number"}),
    ("m", {"kind": "moves", "components": ["encoder.0.attn.pattern[1]@answer<-controller"]}),
    ("m", {"kind": "aligns", "components": ["encoder.2.attn.pattern[0]"], "label": "token"}),
    ("m", {"kind": "matches", "components": ["encoder.0.attn.pattern[1]"], "label": "same token"}),
    ("b", {"kind": "used", "components": ["encoder.0.resid_post@second.first"], "label": "half"}),
    ("g", {"kind": "elicits", "components": ["decoder.2.attn.z[1]@answer"], "interventions": ["add(truth, 40)"]}),
    ("g", {"kind": "matches", "components": ["decoder.1.attn.pattern[0]"], "label": "previous"}),
]  # fmt: skip
if not unavailable():
    MORE += [
        ("i", {"kind": "own", "code": FEATURES, "components": ["encoder.2.resid_post@object"], "label": "shape"}),
        ("m", {"kind": "own", "code": EDITS, "objective": "margin"}),
    ]
EVERY = OTHERS + MORE
AWAY = {"capability": (r'"targets":\[\d', '"targets":[9'), "carries": ('"part":"resid_post"', '"part":"mlp.out"')}  # else another block


def classifiers(folder, model_named):
    """Folders of two random classifiers of text, whose task is what they say; of large weights, so that a change is seen."""
    for name in CLASSIFIERS.values():
        case = random_case(name, model_named)
        for p in case.subject.model.parameters():
            p.data *= 4 if p.ndim > 1 else 1
        case.subject.model.config.id2label = {i: f"w{40 + i}" for i in range(11)}
        case.subject.model.save_pretrained(folder / name)
        case.subject.tokenizer.save_pretrained(folder / name)
        rows = [{"prompt": words(*range(10 + i, 14 + i + i % 3)), "split": ("explore", "confirm")[i % 2]} for i in range(40)]
        said = port_of(case.subject).write(case.subject, [Example({"text": r["prompt"]}, "w40") for r in rows])
        made = [
            {
                **r, "answer": f" {a}", "foil": " w48" if a != "w48" else " w49", "spans": {"second": [4, 7]},
                "labels": {"half": "ab"[i % 4 > 1]}, "counterfactuals": [{"labels": {"half": "ba"[i % 4 > 1]}, "answers": [f" w{40 + i % 5}"]}],
            }
            for i, (r, a) in enumerate(zip(rows, said, strict=True))
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in made))
    return {run: str(folder / name) for run, name in CLASSIFIERS.items()}


def tampered(text):
    """The script with other blocks, the first left out or the next one in place of each, or with labels of other examples to fit on,
    or with wrong statements for right ones, or another value supposed.
    """
    start = text.index('json.loads(r"""') + len('json.loads(r"""')
    end = text.index('""")', start)
    data = json.loads(text[start:end])
    fitted = data.get("seen")

    def change(x):
        if isinstance(x, list):
            for v in x:
                change(v)
        elif isinstance(x, dict):
            if "order" in x:
                x["order"] = x["order"][1:]
            elif isinstance(x.get("block"), int):
                x["block"] = (x["block"] + 1) % 3
            for v in x.values():
                change(v)

    if data["kind"] == "own" and "values" not in data:
        return text.replace("encoder.1.mlp.out", "encoder.3.mlp.out")
    if "values" in data:
        data["values"] = data["values"][1:] + data["values"][:1]
    elif "supposed" in data["examples"][0]:
        for e in data["examples"]:
            e["supposed"][1] = "ab"["ba".index(e["supposed"][1])]
    elif fitted and "right" in fitted[0]:
        for e in fitted:
            e["right"] = not e["right"]
    elif fitted and "labels" in fitted[0]:
        labels = [e["labels"] for e in fitted]
        for e, other in zip(fitted, labels[1:] + labels[:1], strict=True):
            e["labels"] = other
    else:
        change(data["questions"])
    return text[:start] + json.dumps(data) + text[end:]


@pytest.fixture(scope="module")
def said(tmp_path_factory, model_named):
    """What each script prints, and what it prints with another block or another right answer in it."""
    folder = tmp_path_factory.mktemp("modalities")
    runs = RUNS | classifiers(folder, model_named)
    store = confirmed(folder, runs, [(run, {"task": TASKS[run], "examples": 16, **asked}) for run, asked in EVERY], *folder.glob("*.jsonl"))
    files, others = [], []
    for i, (run, asked) in enumerate(EVERY, 1):
        assert report.main([run, "--db", str(store.path), "--out", str(folder), "--script", f"F{i}"]) == 0
        files.append(folder / run / f"F{i}.py")
        others.append(files[-1].with_name(f"F{i}_other.py"))
        if i > len(OTHERS):
            others[-1].write_text(tampered(files[-1].read_text()))
            continue
        here, there = AWAY.get(asked["kind"], (r'"block":\d', '"block":2'))
        text, n = re.subn(here, there, files[-1].read_text())
        assert n
        others[-1].write_text(text)
    found = run_alone([*files, *others])
    return store, found[: len(files)], found[len(files) :], folder


@pytest.mark.parametrize("index", range(len(EVERY)), ids=[f"{r}-{a['kind']}-{i}" for i, (r, a) in enumerate(EVERY)])
def test_a_script_measures_what_is_on_record(said, index):
    store, right, other, _ = said
    (run, asked), handle = EVERY[index], f"F{index + 1}"
    f = next(f for f in store.findings(run) if f.handle == handle)
    rows = [m for m in store.measurements(store.experiment(run, f.experiment).result_id) if m.name == "effect"]
    numbers = re.findall(r": (-?[\d.]+) here, (-?[\d.]+) on record, n=(\d+): agrees", right[index])
    assert len(numbers) >= len(rows) > 0, right[index]
    assert len(numbers) == len(rows) or asked["kind"] == "computes"  # whose other numbers are no effects
    assert right[index].rstrip().endswith("rc 0")
    for (here, there, n), m in zip(numbers, rows, strict=asked["kind"] != "computes"):
        assert abs(float(there) - m.value) < 1e-6
        assert abs(float(here) - m.value) <= (1 / m.n + 1e-6 if m.unit == "share of examples" else 1e-3 * max(1, abs(m.value)))
        assert int(n) == m.n
    assert "DIFFERS" in other[index], (right[index], other[index])
    assert other[index].rstrip().endswith("rc 1")


WAYS = [  # (model, path, how the first node is changed): within a stack and across, into queries, keys, values and what is written
    ("marian", "encoder.3.mlp.out -> decoder.3.cross.v[1] -> decoder.logits@answer", "zero"),
    ("m2m100", "encoder.0.attn.out -> encoder.2.attn.v -> decoder.1.cross.k[0] -> decoder.2.cross.out@answer", "zero"),
    ("m2m100", "decoder.0.cross.out@answer -> decoder.2.cross.q@answer -> decoder.logits@answer", "zero"),
    ("whisper", "encoder.2.mlp.out@second -> decoder.1.cross.z@answer -> decoder.3.mlp.act@answer", "zero"),
    ("vit", "encoder.0.mlp.out@second -> encoder.2.attn.k@second -> encoder.logits@answer", "resample(twin)"),
    ("bert", "encoder.1.attn.out -> encoder.2.mlp.out -> encoder.3.attn.v", "zero"),
    ("gpt2", "decoder.0.mlp.out@second -> decoder.1.attn.v@second -> decoder.logits@answer", "resample(twin)"),
    ("llama", "decoder.0.attn.out -> decoder.1.attn.q -> decoder.2.attn.k[2,3]", "zero"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "path", "how"), WAYS)
def test_what_arrives_along_a_path_is_what_arrives_in_the_program(name, path, how, model_named, monkeypatch, tmp_path):
    """In models of large random weights, where everything has an effect."""
    from agent.report import script, standalone, standalone_paths
    from experiments_db.findings import Statement
    from experiments_db.places import Intervention
    from experiments_db.records import Measurement
    from tools.findings.kind import Bench
    from tools.methods.offline import Nothing, OfflineTasks
    from tools.methods.paths import Sending, score_along
    from tools.methods.tool import Context

    case = random_case(name, model_named)
    for p in case.subject.model.parameters():
        p.data *= 4 if p.ndim > 1 and p.requires_grad else 1  # positions that are computed are not saved
    case.subject.model.save_pretrained(tmp_path)
    ctx = Context(case.subject, OfflineTasks([]), Nothing())
    s = Statement(kind="sends", task="t", path=path, interventions=(how,))
    bench = Bench(ctx, s, get_task("addition"), case.examples[:3])
    m = Measurement(name="effect", unit="nats per answer", value=0.0, n=3, component=str(s.route), intervention=how)
    (q,) = script.QUESTIONS["sends"](s, case.subject, [m])
    data = {
        "dtype": "float32", "loader": script.FAMILIES[case.subject.family.name], "objective": "nll",
        "stacks": script.stacks_of(case.subject), "examples": script.examples_of(bench, [q]),
    }  # fmt: skip
    for module in (standalone, standalone_paths):
        monkeypatch.setattr(module, "DATA", data)
    model = standalone.Model(str(tmp_path))
    script.set_apart(data, model.arrays)
    before, after = score_along(ctx, bench.task, bench.examples, [Sending(s.route, Intervention.parse(how))])
    fell = standalone_paths.sent(model, {**q, "flips": False})
    assert fell == pytest.approx(after.nll - before.nll, abs=1e-4, rel=1e-3)
    assert max(map(abs, fell)) > 1e-3
    monkeypatch.setattr(standalone_paths, "between", lambda *_: False)
    assert standalone_paths.sent(model, {**q, "flips": False}) != pytest.approx(fell, abs=1e-4, rel=1e-3)


PLACES = {  # the stack that is read out, the one that reads, a role, a label, a task and another one
    "translator": ("decoder", "encoder", "verb", "tense", KEL, MUN),
    "speech": ("decoder", "encoder", "word1", "kind", "transcription", "transcription:kind=digits"),
    "shapes": ("encoder", "encoder", "object", "half", "shape:decoys=right", "shape:decoys=none"),
    "masked": ("encoder", "encoder", "controller", "number", "gap_agreement", "trees"),
}
NEVER = {  # what the examination says of a kind, whatever the task
    **{(s, "decides"): "regions are those of images" for s in ("translator", "speech", "masked")},
    **{(s, "elicits"): "a statement is a prompt with its answer or its foil" for s in PLACES},
    **{(s, "matches"): "matches has a model of one stack read random tokens" for s in ("translator", "speech", "shapes")},
    **{(s, "own"): "own experiments run models of one stack" for s in ("translator", "speech")},
}  # fmt: skip
NO_TASK = {  # kinds that take examples of which the tasks that come with a subject have none
    **{(s, "used"): "supposes nothing: it has no counterfactual" for s in PLACES},
    **{(s, "encodes_tree"): "has no tree" for s in ("translator", "speech", "shapes")},
    ("speech", "similar"): "there is nothing to compare", ("masked", "similar"): "and at least 16 are needed",
}  # fmt: skip


def examined(name, kind):
    """The arguments of an examination of each kind: somewhere, of something."""
    out, read, role, label, task, other = PLACES[name]
    mlp, state, head = f"{out}.1.mlp.out@answer", f"{read}.1.resid_post@{role}", f"{read}.1.attn.pattern[1]"
    return {"kind": kind, "task": task, "examples": 16, "objective": "margin" if name == "masked" else "nll"} | {
        "capability": {}, "cannot": {}, "necessary": {"components": [mlp], "interventions": ["zero"]},
        "jointly_necessary": {"components": [mlp, f"{out}.0.mlp.out@answer"], "interventions": ["mean"]},
        "not_needed": {"components": [mlp], "interventions": ["mean"]},
        "sufficient": {"components": [mlp], "universe": [mlp, f"{out}.0.mlp.out@answer"], "interventions": ["zero"]},
        "carries": {"components": [mlp]}, "carries_nothing": {"components": [mlp]},
        "suppresses": {"components": [mlp], "interventions": ["zero"]},
        "differs": {"components": [mlp], "other_task": other, "interventions": ["zero"]},
        "disagree": {"components": [mlp], "interventions": ["zero", "mean"], "label": "zero"},
        "attends": {"components": [f"{head}@{role}<-0"]}, "moves": {"components": [f"{head}@0<-{role}"], "interventions": ["zero"]},
        "sends": {"path": f"{mlp} -> {out}.logits@answer", "objective": "accuracy"},
        "readable": {"components": [f"{out}.1.resid_post@answer"]}, "tolerates": {"program": f"{read}: skip 1"}, "breaks": {"program": "skip 0"},
        "matches": {"components": [head], "label": "same token"}, "decodable": {"components": [state], "label": label},
        "steers": {"components": [state], "label": label}, "similar": {"components": [state], "other_task": other, "examples": 40},
        "computes": {"components": [f"{read}.1.mlp.out@{role}"], "label": label, "interventions": ["zero"]},
        "aligns": {"components": [head], "label": "position"}, "used": {"components": [f"{read}.1.resid_post@-1"], "label": label},
        "reads_better": {"components": [state], "label": f"{label}, answer"}, "elicits": {"components": [f"{out}.0.attn.z[0]@answer"]},
        "encodes_tree": {"components": [f"{read}.1.resid_post"], "task": other}, "decides": {"label": role}, "own": {"program": "code:0"},
        **{k: {"components": [f"{read}.1.mlp.act[7]"], "other_task": other} for k in ("mixed", "one_concept", "quiet")},
    }[kind]  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_of_every_kind_that_can_be_asked_of_a_subject_there_is_a_script(name):
    """What its examination refuses is never confirmed; all else is written down and is Python."""
    from agent.report import script
    from tools.findings import examining
    from tools.findings.kind import kinds
    from tools.findings.sealing import statement_of
    from tools.methods.offline import Nothing, OfflineTasks
    from tools.methods.own import rows_of
    from tools.methods.tool import Context, ToolInputError
    from tools.subjects import load_subject

    subject = load_subject(name)
    ctx = Context(subject, OfflineTasks([]), Nothing(), split="confirm")
    refused = {kind: says for (of, kind), says in (NEVER | NO_TASK).items() if of == name}
    for kind in kinds():
        asked = examined(name, kind)
        if kind == "own":  # which needs a sandbox: see above
            if kind in refused:
                with pytest.raises(ToolInputError, match=refused[kind]):
                    rows_of(subject, ctx.tasks.get(asked["task"]).examples("confirm", 4, 0))
            continue
        s = statement_of(ctx, asked)
        if kind in refused:
            with pytest.raises(ToolInputError, match=refused[kind]):
                examining.examine(s, ctx)
            continue
        data = script.content(s, ctx, examining.examine(s, ctx).measurements)
        assert len(data["questions"]) > 0
        script.set_apart(data, {})
        compile(script.filled(script.template_for(kind), data), kind, "exec")
