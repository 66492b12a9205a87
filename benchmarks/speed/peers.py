"""The libraries compared with, where they are installed; what is missing is said and left out."""

import importlib
import importlib.metadata
import os
import tempfile
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PEERS = {"TransformerLens": "transformer_lens", "nnsight": "nnsight", "nnterp": "nnterp", "tuned-lens": "tuned_lens"}

END = "<|endoftext|>"


def found() -> tuple[dict[str, Any], list[str]]:
    """Those that can be imported, by name, and a line about each: its version, or why it is left out."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("WANDB_MODE", "disabled")
    modules: dict[str, Any] = {}
    transformers.utils.logging.disable_progress_bar()
    lines: list[str] = []
    for name, module in PEERS.items():
        try:
            version = importlib.metadata.version(module.replace("_", "-"))
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"{name} is not installed and left out")
            continue
        try:
            modules[name] = importlib.import_module(module)
            lines.append(f"{name} {version}")
        except ImportError as error:
            lines.append(f"{name} {version} is left out: it cannot be imported ({error})")
    if "tuned-lens" in modules:  # it asks for a class that TransformerLens 4 no longer has
        importlib.import_module("tuned_lens.model_surgery")._transformer_lens_available = False
    return modules, lines


def bridge_of(model: Any) -> Any:
    """A model in memory as TransformerLens' bridge, its weights as they are."""
    from transformer_lens.model_bridge.sources.transformers.source import boot

    model.config.architectures = [type(model).__name__]
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer_of(model.config.vocab_size).save_pretrained(folder)
        return boot(str(Path(folder)), hf_model=model)


def tokenizer_of(size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of as many words: the bridge wants one."""
    words = {END: 0, **{f"w{i}": i for i in range(1, size)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=END))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), END)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
