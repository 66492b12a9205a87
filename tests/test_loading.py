"""Loading a subject from a folder: the same model, the same fingerprint, and errors of one line that say what to do."""

import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.testing import assert_close

from tools.subjects import Inputs, Subject, SubjectError, fingerprint, load_subject, wrap

WORDS = ["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(3, 61))]


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory, model_named: Any) -> Callable[[str], Path]:
    """A folder with a random model of a kind and a tokenizer of 61 words, which puts <s> in front of each text."""
    made: dict[str, Path] = {}
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])

    def get(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            model_named(name).save_pretrained(made[name])
            hf.PreTrainedTokenizerFast(
                tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
            ).save_pretrained(made[name])
        return made[name]

    return get


@pytest.fixture
def folder(folder_of: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the Llama folder, to be broken."""
    return Path(shutil.copytree(folder_of("llama"), tmp_path / "llama"))


def change_config(folder: Path, **changes: Any) -> None:
    """Rewrite some entries of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Rewrite the weights."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def refusal(name: object, **options: str) -> str:
    """The message with which loading is refused, which is always one line."""
    with pytest.raises(SubjectError) as caught:
        load_subject(str(name), **options)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def test_a_test_cannot_reach_the_network() -> None:
    with pytest.raises(PermissionError, match="without a network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(PermissionError, match="without a network"):
        socket.getaddrinfo("example.org", 80)
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


# -- what is loaded is what was saved ---------------------------------------------------------------------------------


def test_a_loaded_subject_computes_what_the_saved_model_computes(
    subject: Subject, folder_of: Callable[[str], Path], batch: Any, rows: list[list[int]]
) -> None:
    if "processor" in subject.family.needs:
        with pytest.raises(SubjectError, match="has no preprocessor_config.json"):
            load_subject(str(folder_of(subject.name)))
        (folder_of(subject.name) / "preprocessor_config.json").write_text("{}")
    loaded = load_subject(str(folder_of(subject.name)))
    assert type(loaded.model) is type(subject.model)
    assert (loaded.family, loaded.readout) == (subject.family, subject.readout)
    with torch.inference_mode():
        assert_close(
            loaded.run(batch(loaded, rows)).logits, subject.run(batch(subject, rows)).logits, atol=1e-5, rtol=0
        )


def test_text_becomes_tokens_and_tokens_become_text(folder: Path) -> None:
    subject = load_subject(str(folder))
    assert subject.tokens("w5 w6") == [1, 5, 6]
    assert subject.tokens("w5 w6", special=False) == [5, 6]
    assert subject.text([1, 5, 6]) == "<s> w5 w6"
    assert [subject.token_label(i) for i in (1, 60)] == ["<s>", "w60"]


def test_an_end_of_text_token_that_a_tokenizer_adds_is_taken_off_a_prompt(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["post_processor"]["single"].append({"SpecialToken": {"id": "</s>", "type_id": 0}})
    content["post_processor"]["special_tokens"]["</s>"] = {"id": "</s>", "ids": [2], "tokens": ["</s>"]}
    path.write_text(json.dumps(content))
    subject = load_subject(str(folder))
    assert subject.tokenizer("w5 w6")["input_ids"] == [1, 5, 6, 2]
    assert subject.tokens("w5 w6") == [1, 5, 6]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_have_the_type_that_is_asked_for(folder: Path, dtype: str) -> None:
    assert load_subject(str(folder), dtype=dtype).dtype == getattr(torch, dtype)


def test_loading_leaves_the_verbosity_of_transformers_as_it_was(folder: Path) -> None:
    before = hf.utils.logging.get_verbosity()
    load_subject(str(folder))
    refusal(folder / "none")
    assert hf.utils.logging.get_verbosity() == before


# -- fingerprints -----------------------------------------------------------------------------------------------------


def test_a_fingerprint_is_the_same_at_each_load_in_each_place_and_in_each_type(folder: Path, tmp_path: Path) -> None:
    first = load_subject(str(folder)).fingerprint
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    change_config(moved, transformers_version="4.0", _name_or_path="/somewhere", torch_dtype="bfloat16")
    assert {load_subject(str(f), dtype=t).fingerprint for f in (folder, moved) for t in ("float32", "bfloat16")} == {
        first
    }


def test_one_changed_weight_changes_the_fingerprint(folder: Path) -> None:
    before = fingerprint(folder)[0]
    change_weights(folder, lambda w: w["model.norm.weight"][0].add_(1e-6))
    assert fingerprint(folder)[0] != before


def test_a_changed_setting_of_the_model_or_the_tokenizer_changes_the_fingerprint(folder: Path) -> None:
    seen = {fingerprint(folder)[0]}
    change_config(folder, rms_norm_eps=0.01)
    seen.add(fingerprint(folder)[0])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = folder / name
        path.write_text(path.read_text().replace("</s>", "<s>"))
        seen.add(fingerprint(folder)[0])
    assert len(seen) == 4


def test_models_in_memory_have_fingerprints_that_one_weight_changes(model_named: Any) -> None:
    model = model_named("gpt2")
    before = wrap(model).fingerprint
    assert wrap(model_named("gpt2")).fingerprint == before
    with torch.no_grad():
        model.transformer.ln_f.bias[3] += 1e-6
    assert wrap(model).fingerprint != before
    assert wrap(model_named("opt")).fingerprint != before


# -- what cannot be loaded --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["no-such-model", "nobody/no-such-model", "not a name", "a/b/c"])
def test_an_unknown_name_fails_at_once_and_says_what_can_be_had(name: str) -> None:
    start = time.monotonic()
    message = refusal(name)
    assert time.monotonic() - start < 5
    assert name in message
    assert "'demo'" in message
    assert "folder" in message


def test_a_path_that_is_no_folder_is_refused(folder: Path) -> None:
    for path in (folder / "config.json", folder / "none"):
        assert f"{path} is not a folder: give a folder with config.json and *.safetensors" in refusal(path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    assert "has no config.json: give a transformers model folder" in refusal(tmp_path)


def test_a_folder_of_pickles_is_refused_with_how_to_convert_it(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    assert "has no *.safetensors weights" in refusal(folder)
    torch.save(weights, folder / "pytorch_model.bin")
    message = refusal(folder)
    assert "pytorch_model.bin, a pickle" in message
    assert "save_pretrained(folder, safe_serialization=True)" in message


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ["NoSuchForCausalLM"], "model_type": "no_such"},
        {"architectures": ["LlamaForSequenceClassification"]},
        {"architectures": None},
    ],
)
def test_a_class_of_model_that_is_not_supported_is_refused_with_those_that_are(
    folder: Path, changes: dict[str, Any]
) -> None:
    change_config(folder, **changes)
    message = refusal(folder)
    assert (changes["architectures"] or ["unstated class"])[0] in message
    assert "GPT2LMHeadModel" in message
    assert "WhisperForConditionalGeneration" in message


def test_unknown_types_and_devices_are_refused_with_the_known_ones(folder: Path) -> None:
    assert "use float32, bfloat16, float16" in refusal(folder, dtype="float8")
    for device in ("gpu", "meta", "xla", "cuda:x"):
        assert "use cpu, cuda, cuda:1, mps or auto" in refusal(folder, device=device)
    if not torch.cuda.is_available():
        assert "no CUDA device" in refusal(folder, device="cuda")


def test_a_configuration_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"architectures": ')
    assert "config.json is not valid JSON" in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"no weights at all", None])
def test_corrupt_weights_are_refused(folder: Path, content: bytes | None) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    assert f"{folder} cannot be loaded as a transformers model: " in refusal(folder)


def test_weights_that_transformers_would_make_up_at_random_are_refused(folder: Path) -> None:
    change_config(folder, num_hidden_layers=5)
    assert "model.layers.4." in refusal(folder)
    change_config(folder, num_hidden_layers=4, vocab_size=70)
    assert "is missing or of another shape" in refusal(folder)
    change_config(folder, vocab_size=61)
    load_subject(str(folder))
    change_weights(folder, lambda w: w.pop("model.layers.2.mlp.up_proj.weight"))
    assert "model.layers.2.mlp.up_proj.weight is missing" in refusal(folder)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_a_folder_without_a_tokenizer_is_refused_with_the_files_that_would_do(
    folder_of: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(folder_of(name), tmp_path / name))
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer: add one of tokenizer.json" in refusal(folder)


def test_a_marian_folder_is_the_model_with_its_final_bias_and_with_what_it_never_writes(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folder_of("marian"), tmp_path / "marian"))
    subject = load_subject(str(folder))
    plain = hf.MarianMTModel.from_pretrained(folder)
    assert plain.final_logits_bias.abs().min() > 0
    ids, said = torch.tensor([[5, 6, 7, 2]]), torch.tensor([[2, 9, 10]])
    fields = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": said}
    with torch.inference_mode():
        assert_close(subject.run(Inputs(fields, (3,))).logits, plain(**fields).logits, atol=1e-5, rtol=0)
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(settings | {"bad_words_ids": [[0]]}))
    assert load_subject(str(folder)).fingerprint != subject.fingerprint
