"""Families found in this folder, and a subject from a name, a folder or a model in memory."""

import hashlib
import importlib
import json
import math
import pkgutil
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

import tools.subjects
from experiments_db.reading import read_json
from tools.subjects._devices import DeviceMap, checked, settle
from tools.subjects._runs import SubjectError
from tools.subjects.family import Family
from tools.subjects.subject import Subject

DEMO = Path(__file__).parent / "demo"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WEIGHT_PATTERNS = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model"]
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")
PROCESSOR = "preprocessor_config.json"
TOKENIZER_SETTINGS = ("merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def families() -> tuple[Family, ...]:
    """Every model family: one for each public module of this folder."""
    return _families(tuple(tools.subjects.__path__))


@cache
def _families(folders: tuple[str, ...]) -> tuple[Family, ...]:
    names = sorted(m.name for m in pkgutil.iter_modules(folders) if not m.ispkg and not m.name.startswith("_"))
    modules = [importlib.import_module(f"tools.subjects.{name}") for name in names]
    return tuple(m.FAMILY for m in modules if hasattr(m, "FAMILY"))


def built_in() -> dict[str, Path]:
    """The models that ship with the program, by name: `translator-front` lies in translator/front."""
    home = Path(__file__).parent
    folders = [p.parent for p in (*home.glob("*/config.json"), *home.glob("*/*/config.json"))]
    return {"-".join(f.relative_to(home).parts): f for f in sorted(folders)}


def locate(name: str) -> Path:
    """The folder of a model: a built-in one such as `demo`, a folder, the local hub cache, or a download from the hub.

    Raises SubjectError with one line that says what can be had.
    """
    own = built_in()
    if name in own:
        return own[name]
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or name.startswith((".", "/", "~")):
        raise SubjectError(
            f"{name} is not a folder: give a folder with config.json and *.safetensors, or {_listed(own)}"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        cached = Path(snapshot_download(name, local_files_only=True, allow_patterns=WEIGHT_PATTERNS))
        if list(cached.glob("*.safetensors")):  # another program may have fetched the configuration only
            return cached
    except HFValidationError:
        raise SubjectError(
            f"{name!r} is no model name: use {_listed(own)}, a folder, or a hub name like gpt2"
        ) from None
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(name, allow_patterns=WEIGHT_PATTERNS, etag_timeout=5, max_workers=4))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, RuntimeError) as error:
        raise SubjectError(
            f"model {name!r} cannot be had: it is no folder, it is not in the local hub cache, and the hub did not "
            f"give it ({type(error).__name__}). Use {_listed(own)}, or a folder with config.json and *.safetensors"
        ) from None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{n}'" for n in names)


def load_subject(
    name: str = "demo", *, device: str = "cpu", dtype: str = "float32", device_map: DeviceMap | None = None
) -> Subject:
    """Load a model and its tokenizer.

    name: a built-in model such as `demo`, a folder, or a name on the hub. device: `cpu`, `cuda`, `cuda:1`, `mps` or `auto`.
    dtype: float32, bfloat16 or float16. device_map: in place of a device, for a model that is too large for one: `auto`, or modules
    and their devices, as transformers takes it; blocks lie where it says, everything else with the first. Only safetensors are
    read; code that comes with a model is never run. Raises SubjectError.
    """
    if dtype not in DTYPES:
        raise SubjectError(f"dtype {dtype!r} is unknown: use {', '.join(DTYPES)}")
    placed = None if device_map is None else checked(device_map)
    target = _device(device)
    folder = locate(name)
    architectures = _check_folder(folder)
    family = _family_of(architectures, name)
    _check_needs(folder, family)
    _check_shards(folder)
    _check_sizes(folder)
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    quiet = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, info = _model_class(family, architectures, AutoModelForCausalLM).from_pretrained(
            folder,
            use_safetensors=True,
            dtype=DTYPES[dtype],
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # transformers' own error names no tensor; _check_weights does
            **({} if placed is None else {"device_map": placed}),
        )
        tokenizer = (
            AutoTokenizer.from_pretrained(folder, trust_remote_code=False) if "tokenizer" in family.needs else None
        )
    except Exception as error:  # transformers raises many kinds for one fact: this folder cannot be read
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SubjectError(f"{folder} cannot be loaded as a transformers model: {first}") from error
    finally:
        logging.set_verbosity(quiet)
    _check_weights(folder, info, model)
    whole, parts = fingerprint(folder)
    settings = folder / PROCESSOR
    processor = json.loads(settings.read_text()) if settings.is_file() else {}
    if placed is None:
        model = model.to(target)
    else:
        settle(model, (stack.blocks for stack in family.build(model).values()), placed)
    return Subject(model, tokenizer, family, name=name, fingerprint=whole, parts=parts, processor=processor)


def wrap(
    model: Any, tokenizer: Any = None, name: str = "in-memory", processor: Mapping[str, Any] | None = None
) -> Subject:
    """A subject from a model in memory, for tests and for use as a library."""
    family = _family_of([type(model).__name__], name)
    digest = hashlib.sha256(json.dumps(_config_of(model.config.to_dict()), sort_keys=True, default=str).encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return Subject(model, tokenizer, family, name=name, fingerprint=digest.hexdigest(), processor=processor)


def fingerprint(folder: Path) -> tuple[str, dict[str, str]]:
    """SHA-256 over configuration, weights, tokenizer and processor: what makes this subject this subject; and each by itself."""
    kinds = ("config", "weights", "tokenizer", *(("processor",) if (folder / PROCESSOR).is_file() else ()))
    whole, parts = hashlib.sha256(), {kind: hashlib.sha256() for kind in kinds}
    config = _config_of(json.loads((folder / "config.json").read_text()))

    def take(kind: str, data: bytes) -> None:
        whole.update(data)
        parts[kind].update(data)

    take("config", json.dumps(config, sort_keys=True).encode())
    if told := _told(folder):
        take("config", json.dumps(told, sort_keys=True).encode())
    weights = [("weights", path) for path in sorted(folder.glob("*.safetensors"))]
    vocabulary = [("tokenizer", folder / n) for n in VOCABULARIES + TOKENIZER_SETTINGS]
    for kind, path in [*weights, *vocabulary, *((k, folder / PROCESSOR) for k in kinds if k == "processor")]:
        if path.is_file():
            take(kind, path.name.encode())
            with path.open("rb") as file:
                for chunk in iter(lambda: file.read(2**20), b""):
                    take(kind, chunk)
    return whole.hexdigest(), {kind: digest.hexdigest() for kind, digest in parts.items()}


def _told(folder: Path) -> dict[str, Any]:
    """Of the generation settings those that say what a decoder is given first, and what it never writes."""
    file = folder / "generation_config.json"
    settings: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return {
        k: settings[k]
        for k in ("lang_to_id", "task_to_id", "language", "task", "no_timestamps_token_id", "bad_words_ids")
        if settings.get(k)
    }


def _config_of(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without what says nothing about the function the model computes."""
    ignored = {"_name_or_path", "name_or_path", "transformers_version", "torch_dtype", "dtype"}
    return {k: v for k, v in config.items() if k not in ignored}


def _family_of(architectures: list[str], name: str) -> Family:
    for family in families():
        if set(family.architectures) & set(architectures):
            return family
    known = ", ".join(a for f in families() for a in f.architectures)
    raise SubjectError(f"{name} is a {', '.join(architectures) or 'model of unstated class'}; known classes: {known}")


def _model_class(family: Family, architectures: list[str], causal: Any) -> Any:
    """The transformers class: the causal auto class for decoders, the named class for the others."""
    if "next_token" in family.capabilities:
        return causal
    if family.model is not None:
        return family.model()
    import transformers

    return getattr(transformers, next(a for a in architectures if a in family.architectures))


def _check_folder(folder: Path) -> list[str]:
    """The model classes that the configuration names, once the folder has what loading needs."""
    for path in folder.iterdir():
        if path.suffix in (".safetensors", ".json", ".txt", ".model") and not path.is_file():
            raise SubjectError(
                f"{path} is no file (or a link that leads nowhere): give a folder with the files themselves"
            )
    if not (folder / "config.json").is_file():
        raise SubjectError(f"{folder} has no config.json: give a transformers model folder, or use 'demo'")
    if not list(folder.glob("*.safetensors")):
        pickles = [p.name for p in folder.iterdir() if p.suffix in {".bin", ".pt", ".pth", ".ckpt", ".pkl"}]
        if pickles:
            raise SubjectError(
                f"{folder} holds {pickles[0]}, a pickle, which can run code when it is read: convert it with "
                "model.save_pretrained(folder, safe_serialization=True) and give that folder"
            )
        raise SubjectError(f"{folder} has no *.safetensors weights")
    try:
        config = read_json((folder / "config.json").read_text())
        if not isinstance(config, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError) as error:
        raise SubjectError(f"{folder / 'config.json'} is not valid JSON: {error}") from None
    return list(config.get("architectures") or [])


def _check_needs(folder: Path, family: Family) -> None:
    """Refuse a folder without the tokenizer or the processor's settings that its family reads with."""
    if "tokenizer" in family.needs and not any((folder / n).is_file() for n in VOCABULARIES):
        # transformers makes an empty tokenizer for some families, without a word.
        raise SubjectError(f"{folder} has no tokenizer: add one of {', '.join(VOCABULARIES)}")
    if "processor" in family.needs and not (folder / PROCESSOR).is_file():
        raise SubjectError(
            f"{folder} has no {PROCESSOR}: {family.name} models read signals, which it says how to prepare"
        )


def _check_shards(folder: Path) -> None:
    """Refuse an index that names what is no safetensors file of the folder: transformers would read it, also as a pickle."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file() or not index.is_file():
        return
    try:
        named: set[Any] = set(read_json(index.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SubjectError(f"{index} is no index of weights: {type(error).__name__}: {error}") from None
    for name in sorted(map(str, named)):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise SubjectError(f"{index} leads out of the folder, or to what is no safetensors file: {name!r}")
        if not (folder / name).is_file():
            raise SubjectError(
                f"{folder} has no {name}, which its index names: give the folder with all of its weights"
            )


def _check_sizes(folder: Path) -> None:
    """Refuse a configuration that describes far more than the weights hold, before anything of that size is made.

    A block has at least one tensor, and no length in the configuration is longer than all numbers in the weights together.
    """
    from safetensors import SafetensorError, safe_open

    tensors, numbers = 0, 0
    for path in folder.glob("*.safetensors"):
        try:
            with safe_open(path, framework="pt") as file:
                shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118 (it is no mapping)
        except (SafetensorError, OSError) as error:
            first = str(error).strip().splitlines()[0]
            raise SubjectError(f"{folder} cannot be loaded as a transformers model: {path.name}: {first}") from None
        tensors, numbers = tensors + len(shapes), numbers + sum(math.prod(s) for s in shapes)
    for key, value in read_json((folder / "config.json").read_text()).items():
        if not isinstance(value, int) or key.endswith(("_id", "_ids")):
            continue
        most, what = (tensors, "tensors") if re.search("layer", key) else (max(numbers, 2**24), "numbers")
        if value > most and not key.startswith(("layer_norm", "layernorm")):
            raise SubjectError(
                f"{folder}: config.json says {key} {value}, and the weights have {most} {what}: give the config.json that was "
                "saved with these weights"
            )


def _check_weights(folder: Path, info: dict[str, Any], model: Any) -> None:
    """Refuse weights that are not numbers, and a model some of whose weights transformers made up, which it does with a warning."""
    wrong = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    if wrong:
        raise SubjectError(
            f"{folder}: the weights do not fill the model that config.json describes: {wrong[0]} is missing or of "
            f"another shape (tensors like this: {len(wrong)}); give the config.json that was saved with these weights"
        )
    odd = next(
        (key for key, value in model.named_parameters() if not torch.isfinite(value.sum(dtype=torch.float64))), None
    )
    if odd is not None:
        raise SubjectError(
            f"{folder}: {odd} holds NaN or infinite numbers: the weights are damaged, or overflow in this dtype"
        )


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError:
        target = torch.device("meta")
    if target.type not in {"cpu", "cuda", "mps"}:
        raise SubjectError(f"device {device!r} is unknown: use cpu, cuda, cuda:1, mps or auto")
    if target.type == "cuda" and not torch.cuda.is_available():
        raise SubjectError("no CUDA device is available here: use --device cpu")
    if target.type == "mps" and not torch.backends.mps.is_available():
        raise SubjectError("no MPS device is available here: use --device cpu")
    return target
