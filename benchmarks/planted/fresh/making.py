"""From a fresh case to a folder: the model as a GPT-2, its examples as a user's task, and what is true of it."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.planted.fresh.checks import accepted, checks
from benchmarks.planted.fresh.net import Net
from benchmarks.planted.fresh.recipes import FreshCase
from benchmarks.planted.fresh.tasks import Seeded
from benchmarks.planted.fresh.train import rounded, train

ATTEMPTS = 8
PER_SPLIT, MORE = 200, 400


def make(case: FreshCase, folder: Path) -> dict[str, Any]:
    """Train until a network is accepted, and write it; what is there already is kept. RuntimeError after too many attempts.

    Given back, and kept in made.json: attempts so far, CPU seconds of all of them, what `checks` found.
    """
    file = folder / "made.json"
    drawn = fingerprint(case)
    kept: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    if kept.get("drawn", drawn) != drawn:
        raise RuntimeError(f"{folder} holds another case of this name, drawn by other code: remove it")
    kept = {"attempts": 0, "seconds": 0.0} | kept
    if kept.get("done"):
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    while kept["attempts"] < ATTEMPTS:
        started, seed = time.process_time(), case.seed + 1000 * kept["attempts"]
        net, found, good = _attempt(case, seed)
        kept = {
            "attempts": kept["attempts"] + 1, "seconds": round(kept["seconds"] + time.process_time() - started, 1),
            "drawn": drawn, "done": good, "checks": {k: round(v, 3) for k, v in found.items()},
        }  # fmt: skip
        if good:
            save(net, case.asked.words, folder / "model")
            write_examples(case.asked, folder, case.seed)
        file.write_text(json.dumps(kept, indent=1) + "\n")
        if good:
            return kept
    raise RuntimeError(f"{case.name}: none of {ATTEMPTS} networks was accepted")


def fingerprint(case: FreshCase) -> str:
    """What tells a case from another one of its name: shape, places, words and layout."""
    r, t = case.recipe, case.asked
    told = repr((r.shape, r.parts, r.backup, t.name, t.words, t.layout, t.ranges, case.seed))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _attempt(case: FreshCase, seed: int) -> tuple[Net, dict[str, float], bool]:
    if case.kind == "random":
        torch.manual_seed(seed)
        return rounded(Net(case.recipe.shape)), {}, True
    net = train(case.recipe, seed)
    found = checks(net, case.recipe)
    return net, found, found["intact"] >= 0.98 if case.kind == "cannot" else accepted(found)


@torch.no_grad()
def save(net: Net, words: tuple[str, ...], folder: Path) -> None:
    """As a GPT-2 folder in float16 with a tokenizer of one token a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    s = net.shape
    config = GPT2Config(
        vocab_size=s.vocabulary, n_positions=s.positions, n_embd=s.width, n_layer=s.blocks, n_head=s.heads,
        activation_function="gelu_new", resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    body: Any = model.transformer
    body.wte.weight.copy_(net.wte.weight)
    body.wpe.weight.copy_(net.wpe.weight)
    body.ln_f.load_state_dict(net.ln_f.state_dict())
    for theirs, ours in zip(body.h, net.blocks, strict=True):
        theirs.ln_1.load_state_dict(ours.ln_1.state_dict())
        theirs.ln_2.load_state_dict(ours.ln_2.state_dict())
        for a, b in (
            (theirs.attn.c_attn, ours.qkv), (theirs.attn.c_proj, ours.out), (theirs.mlp.c_fc, ours.up),
            (theirs.mlp.c_proj, ours.down),
        ):  # fmt: skip
            a.weight.copy_(b.weight.T)
            a.bias.copy_(b.bias)
    model.half().save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=words[-1]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def write_examples(task: Seeded, folder: Path, seed: int) -> None:
    """task.jsonl: up to 200 problems a split, all of them where there are fewer. more.jsonl: others, to judge by."""
    lines = [json.dumps(r) for r in _records(task, 2 * PER_SPLIT, torch.Generator().manual_seed(seed))]
    (folder / "task.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    more = [json.dumps(r) for r in _records(task, MORE, torch.Generator().manual_seed(seed + 1))]
    (folder / "more.jsonl").write_text("\n".join(more) + "\n", encoding="utf-8")


def _records(task: Seeded, n: int, generator: torch.Generator) -> Iterator[dict[str, Any]]:
    seen: set[tuple[int, ...]] = set()
    for _ in range(20 * n):
        operands = task.operands(1, generator)[0]
        key = tuple(operands.tolist())
        if key in seen:
            continue
        seen.add(key)
        state = generator.get_state()
        prompt, answer = _shown(task, operands, generator)
        other, _ = task.changed(operands, generator)
        after = generator.get_state()
        generator.set_state(state)  # the same fillers stand in the twin
        twin, foil = _shown(task, other, generator)
        generator.set_state(after)
        starts = [sum(len(w) + 1 for w in prompt[:i]) for i in range(len(prompt))]
        twins = [sum(len(w) + 1 for w in twin[:i]) for i in range(len(twin))]
        at = {r: task.positions(r)[0] for r in task.roles}
        yield {
            "prompt": " ".join(prompt), "answer": " " + " ".join(answer), "twin": " ".join(twin), "foil": " " + " ".join(foil),
            "split": "explore" if len(seen) % 2 else "confirm", "group": " ".join(map(str, key)),
            "labels": dict(zip(task.roles, key, strict=True)),
            "spans": {r: [starts[i], starts[i] + len(prompt[i])] for r, i in at.items()},
            "twin_spans": {r: [twins[i], twins[i] + len(twin[i])] for r, i in at.items()},
        }  # fmt: skip
        if len(seen) == n:
            return


def _shown(task: Seeded, operands: torch.Tensor, generator: torch.Generator) -> tuple[list[str], list[str]]:
    ids, answers = task.ids(operands[None], generator)
    return [task.words[i] for i in ids[0, : len(task.layout)]], [task.words[i] for i in answers[0]]
