"""A model whose blocks are given to devices computes what the same model computes on one; what cannot work is refused."""

import importlib.util
import json
import sys

import pytest
import torch
from scripts import call, write

from agent import replay
from agent.run import main
from experiments_db.store import Store
from tools.engine.executor import Variant
from tools.engine.sites import Edit, Site
from tools.subjects import SubjectError, _devices, load_subject, wrap

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed: pip install 'locus-agent[accelerate]'"
)
EACH = {"transformer.wte": "cpu", "transformer.wpe": "cpu", "transformer.h": "cpu", "transformer.ln_f": "cpu", "lm_head": "cpu"}


@pytest.fixture(scope="module")
def plain():
    return load_subject("demo")


def everything(subject):
    """Logits under a program and edits, activations inside of blocks, a sweep, and what is generated."""
    inputs = subject.inputs([[3, 4, 5, 6, 7], [7, 6, 5, 4]])
    h = torch.randn(1, 1, subject.spec().width, generator=torch.Generator().manual_seed(0))
    kinds = ("resid_pre", "attn.q", "attn.pattern", "attn.z", "resid_mid", "mlp.out", "resid_post")
    sites = [Site("decoder", b, kind) for b in (0, 2) for kind in kinds]
    edits = [
        Edit(Site("decoder", 1, "attn.out"), "add", h),
        Edit(Site("decoder", 2, "attn.k"), "scale", torch.zeros(()), units=(1,)),
        Edit(Site("decoder", 3, "resid_mid"), "set", h, positions=torch.tensor([[1], [2]])),
    ]
    with torch.inference_mode():
        found = subject.run(inputs, program=[0, 2, 1, 3], edits=edits, capture=sites)
        swept, _ = subject.sweep(
            inputs, [Variant((0, 1, 3)), Variant((3, 1, 0)), Variant((0, 1, 2), tuple(edits[:2]))], lambda state, _: state
        )
    made = subject.generate([[3, 4, 5]], 4, edits=edits[:1])
    return [found.logits, *(found.captured[s] for s in sites), *swept, torch.tensor(made)]


@pytest.mark.parametrize("device_map", ["auto", {"": "cpu"}, EACH], ids=["auto", "whole", "parts"])
def test_a_model_with_a_map_is_the_same_model(plain, device_map):
    if device_map == "auto" and torch.cuda.is_available():
        pytest.skip("auto would take the GPU, whose sums are others")
    mapped = load_subject("demo", device_map=device_map)
    assert mapped.fingerprint == plain.fingerprint
    assert torch.equal(mapped.run(mapped.inputs([[3, 4, 5]])).logits, plain.run(plain.inputs([[3, 4, 5]])).logits)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "opt"])
def test_blocks_that_are_carried_to_a_device_compute_what_they_did(kind, model_named, monkeypatch):
    """Every second block behind accelerate's hook, as a block on another device is; here that device is this one."""
    from accelerate.hooks import AlignDevicesHook

    expected = everything(wrap(model_named(kind)))
    carried, calls = wrap(model_named(kind)), []
    before = AlignDevicesHook.pre_forward
    monkeypatch.setattr(AlignDevicesHook, "pre_forward", lambda self, *a, **k: (calls.append(self), before(self, *a, **k))[1])
    hooked = carried.spec().blocks[1::2]
    for block in hooked:
        _devices.carry(block, torch.device("cpu"))
    found = everything(carried)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert {id(c) for c in calls} == {id(b._hf_hook) for b in hooked}


def test_what_is_no_block_comes_to_the_first_block_and_a_block_elsewhere_is_carried(model_named):
    """`meta` stands in for a second device: nothing can be computed there, but where things lie can be seen."""
    model = model_named("gpt2")
    model.transformer.wte.to("meta")
    with pytest.raises(SubjectError, match="held by no device: it does not fit"):
        _devices.settle(model, [model.transformer.h], "auto")
    model = model_named("gpt2")
    model.transformer.h[2].to("meta")
    with pytest.raises(SubjectError, match="block 2 has weights that no device holds: it does not fit"):
        _devices.settle(model, [model.transformer.h], "auto")
    model.transformer.h[2].mlp.to_empty(device="cpu")
    with pytest.raises(SubjectError, match="block 2 has weights that no device"):
        _devices.settle(model, [model.transformer.h], "auto")


@pytest.mark.parametrize(
    ("device_map", "says"),
    [
        ("balanced", "use auto"),
        ({}, "is empty"),
        ({"": "cpu", "lm_head": "cpu"}, "has to stand alone"),
        ({"": "disk"}, "cannot be computed with"),
        ({"": "gpu"}, "there is no such device"),
        ({"": "cuda:99"}, "there is no such device here"),
        ({"": 99}, "there is no such device here"),
        ({"": True}, "a device is a text"),
        ({"transformer.wte": "cpu"}, "gives no device to transformer.wpe.weight"),
        ({**EACH, "transformer.heads": "cpu"}, "the model has no 'transformer.heads'; it has transformer, lm_head"),
    ],
    ids=str,
)
def test_a_map_that_cannot_work_is_refused(device_map, says):
    with pytest.raises(SubjectError, match=says) as error:
        load_subject("demo", device_map=device_map)
    assert "\n" not in str(error.value)


def test_without_accelerate_the_package_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(SubjectError, match=r"pip install 'locus-agent\[accelerate\]'"):
        load_subject("demo", device_map="auto")
    assert load_subject("demo").device.type == "cpu"


def test_the_command_line_refuses_what_cannot_be(tmp_path, capsys):
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "text.json").write_text("{")
    for words, says in (
        (["--device-map", "auto", "--device", "cpu"], "leave out --device"),
        (["--device-map", str(tmp_path / "none.json")], "there is no such file"),
        (["--device-map", str(tmp_path / "list.json")], "write an object"),
        (["--device-map", str(tmp_path / "text.json")], "cannot be read"),
    ):
        assert main(["--goal", "find where addition happens", "--db", str(tmp_path / "e.db"), *words]) == 2
        assert says in capsys.readouterr().err
    assert not (tmp_path / "e.db").exists()


def test_a_run_with_a_map_is_on_record_with_it_and_replays(tmp_path, capsys):
    (tmp_path / "map.json").write_text(json.dumps(EACH))
    script = write(tmp_path / "s.jsonl", [{"text": "", "calls": [call("loss", tasks=["addition"], examples=16)]}])
    db = tmp_path / "e.db"
    words = ["--goal", "can the demo do addition?", "--planner", f"scripted:{script}", "--quiet", "--null-twins", "0"]
    assert main([*words, "--db", str(db), "--out", str(tmp_path), "--device-map", str(tmp_path / "map.json")]) == 0
    store = Store(db)
    assert store.run(store.runs()[0]).settings["device_map"] == EACH
    assert replay.main(["latest", "--db", str(db)]) == 0
    assert "DIFFERENT" not in capsys.readouterr().out
