"""A model folder that somebody sent: refused in one line, nothing run, nothing outside touched, memory bounded."""

import json
import os
import resource
import shutil
import struct
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tools.subjects import DEMO, SubjectError, load_subject

WEIGHTS, CONFIG = "model.safetensors", "config.json"


@pytest.fixture
def folder(tmp_path):
    """A copy of the demo model, to be spoilt."""
    made = tmp_path / "model"
    shutil.copytree(DEMO, made, ignore=shutil.ignore_patterns("*.py", "__pycache__", "*.md"))
    return made


def refusal(folder):
    with pytest.raises(SubjectError) as caught:
        load_subject(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def configured(folder, **changes):
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def headed(folder, header, body=b""):
    """Weights that are a header and a few bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + body)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def test_the_untouched_copy_loads(folder):
    assert load_subject(str(folder)).family.name == "gpt2"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(bad, folder):
    weights = load_file(folder / WEIGHTS)
    key = next(k for k in sorted(weights) if "mlp.c_fc.weight" in k)
    weights[key].view(-1)[3] = bad
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    assert "mlp.c_fc.weight holds NaN or infinite numbers" in refusal(folder)


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ({"w": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4 * 10**18]}}, b"1234"),
        ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b""),
        ({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"1234"),
        ({"w": {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 0]}}, b""),
        ({"w": {"dtype": "Q99", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
        ({"w": 1}, b""),
        (b"[" * 100_000, b""),
        (b"\xff\xfe{}", b""),
    ],
)
def test_a_header_that_lies_is_refused(header, body, folder):
    before = peak()
    headed(folder, header, body)
    assert f"{folder} cannot be loaded as a transformers model" in refusal(folder)
    assert peak() - before < 300


def test_a_header_that_says_it_is_huge_is_refused(folder):
    for length in (2**62, 2**63 + 5, 200 * 2**20):
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", length) + b"{}")
        assert "cannot be loaded" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"n_layer": 10**6}, "n_layer 1000000"),
        ({"n_layer": 10**18}, "n_layer"),
        ({"n_embd": 10**9}, "n_embd 1000000000"),
        ({"vocab_size": 10**12}, "vocab_size"),
        ({"n_positions": 10**11}, "n_positions"),
        ({"n_layer": "many"}, "cannot be loaded"),
        ({"n_head": 0}, "cannot be loaded"),
        ({"n_head": -3}, "cannot be loaded"),
    ],
)
def test_a_configuration_of_sizes_that_cannot_be_is_refused_before_they_are_made(changes, says, folder):
    before = peak()
    configured(folder, **changes)
    assert says in refusal(folder)
    assert peak() - before < 500


@pytest.mark.parametrize("text", ["[" * 200_000, "1" * 5000, "[]", "3", '"x"', "", "\x00", '{"architectures": '])
def test_a_configuration_that_is_no_object_is_refused(text, folder):
    (folder / CONFIG).write_text(text)
    assert "config.json is not valid JSON" in refusal(folder)


def test_a_missing_shard_is_refused(folder):
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(weights)
    half = {n: weights[n] for n in names[: len(names) // 2]}
    save_file(half, folder / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
    where = {n: f"model-0000{1 if n in half else 2}-of-00002.safetensors" for n in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    assert "has no model-00002-of-00002.safetensors" in refusal(folder)


@pytest.mark.parametrize("outside", ["../outside.safetensors", "/etc/hostname", "pickle.bin", "sub/other.safetensors"])
def test_an_index_that_leads_out_of_the_folder_is_not_followed_to_weights(outside, folder):
    shutil.copy(folder / WEIGHTS, folder.parent / "outside.safetensors")
    names = sorted(load_file(folder / WEIGHTS))
    (folder / WEIGHTS).rename(folder / "other.safetensors")
    canary = folder.parent / "canary"
    torch.save(type("Evil", (), {"__reduce__": lambda _: (os.system, (f"touch {canary}",))})(), folder / "pickle.bin")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, outside)}))
    assert "leads out of the folder" in refusal(folder)
    assert not canary.exists()


CODE = """
from pathlib import Path
Path({canary!r}).write_text("run")
from transformers import GPT2LMHeadModel, GPT2Config, GPT2TokenizerFast
class M(GPT2LMHeadModel): pass
class C(GPT2Config): pass
class T(GPT2TokenizerFast): pass
"""


def test_code_that_comes_with_a_model_is_not_run(folder, tmp_path):
    canary = tmp_path / "canary"
    for name in ("modeling_m.py", "configuration_m.py", "tokenization_m.py"):
        (folder / name).write_text(CODE.format(canary=str(canary)))
    configured(folder, auto_map={"AutoConfig": "configuration_m.C", "AutoModelForCausalLM": "modeling_m.M", "AutoTokenizer": "tokenization_m.T"})
    path = folder / "tokenizer_config.json"
    told = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(told | {"auto_map": {"AutoTokenizer": ["tokenization_m.T", "tokenization_m.T"]}}))
    with suppress(SubjectError):
        load_subject(str(folder))
    assert not canary.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "training_args.bin"])
def test_a_pickle_beside_the_weights_is_not_read(name, folder, tmp_path):
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {canary}",)

    torch.save(Evil(), folder / name)
    load_subject(str(folder))
    (folder / WEIGHTS).unlink()
    assert "convert it" in refusal(folder)
    assert not canary.exists()


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, "tokenizer.json"])
def test_what_is_no_file_is_refused_and_not_waited_for(name, folder):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert "is no file" in refusal(folder)
    (folder / name).unlink()
    (folder / name).symlink_to(folder / name)
    assert "is no file" in refusal(folder)


def test_a_link_to_a_file_elsewhere_is_read_as_what_it_should_be_and_never_shown(folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("canary-4711")
    for name in (CONFIG, "tokenizer.json", WEIGHTS):
        kept = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / name).symlink_to(secret)
        assert "canary-4711" not in refusal(folder)
        (folder / name).unlink()
        (folder / name).write_bytes(kept)
    assert secret.read_text() == "canary-4711"


@settings(max_examples=25)
@given(data=st.data())
def test_whatever_is_changed_in_a_folder_it_loads_or_is_refused_in_one_line(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("f") / "model"
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__", "*.md"))
    name = data.draw(st.sampled_from([CONFIG, "tokenizer.json", "tokenizer_config.json", WEIGHTS]))
    path = folder / name
    content = bytearray(path.read_bytes() if path.exists() else b"{}")
    bounds = st.integers(0, min(len(content), 4096) - 1)
    match data.draw(st.sampled_from(["cut", "flip", "insert", "value"])):
        case "cut":
            content = content[: data.draw(bounds)]
        case "flip":
            content[data.draw(bounds)] ^= 1 << data.draw(st.integers(0, 7))
        case "insert":
            at = data.draw(bounds)
            content[at:at] = data.draw(st.binary(min_size=1, max_size=40))
        case _ if name == CONFIG:
            told = json.loads(content)
            key = data.draw(st.sampled_from(sorted(told)))
            told[key] = data.draw(st.sampled_from([None, -1, 0, 10**30, 0.5, "", [], {}, "x" * 10_000, [[[]]]]))
            content = json.dumps(told).encode()
        case _:
            pass
    path.write_bytes(content)
    said = ""
    try:
        load_subject(str(folder))
    except SubjectError as error:
        said = str(error)
    finally:
        shutil.rmtree(folder)
    assert "\n" not in said
