"""`python -m tools.subjects`: list the built-in models, or build some or all again from their training scripts."""

import argparse
import difflib
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOME = Path(__file__).parent
VARIANTS = {
    "translator-front": ("--front",)
}  # models that need a call of their own; other variants are made with the first


@dataclass(frozen=True)
class Shipped:
    """A built-in model. reads: the port's name of what it is given. command: the module that makes it, and its options."""

    name: str
    folder: Path
    reads: str
    parameters: int
    bytes: int
    command: tuple[str, ...]
    made_with: str | None


NO_PARAMETERS = ("__metadata__", "final_logits_bias")  # Marian's bias on its logits is a buffer
READS = {
    "GPT2LMHeadModel": "text", "BertForMaskedLM": "masked text", "M2M100ForConditionalGeneration": "a source text",
    "MarianMTModel": "a source text", "WhisperForConditionalGeneration": "recordings", "ViTForImageClassification": "images",
}  # fmt: skip


def shipped() -> dict[str, Shipped]:
    """The built-in models by name, from their files alone: no model is loaded."""
    folders = sorted(p.parent for p in (*HOME.glob("*/config.json"), *HOME.glob("*/*/config.json")))
    found = [_read(folder) for folder in folders]
    return {s.name: s for s in found}


def _read(folder: Path) -> Shipped:
    parts = folder.relative_to(HOME).parts
    group, name = parts[0], "-".join(parts)
    architectures: list[str] = json.loads((folder / "config.json").read_text())["architectures"]
    reads = READS.get(architectures[0], architectures[0])
    with (folder / "model.safetensors").open("rb") as file:  # eight bytes with the length of a JSON header, then that
        header: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    parameters = sum(math.prod(t["shape"]) for key, t in header.items() if key not in NO_PARAMETERS)
    made_with = group if len(parts) > 1 and name not in VARIANTS else None
    size = sum(p.stat().st_size for p in folder.iterdir() if p.is_file())
    command = (f"tools.subjects.{group}.train", *VARIANTS.get(name, ()))
    return Shipped(name, folder, reads, parameters, size, command, made_with)


def main(argv: Sequence[str] | None = None) -> int:
    """0 an answer was printed or the models were built, 1 a script failed, 2 bad input."""
    p = argparse.ArgumentParser(prog="python -m tools.subjects", description=(__doc__ or "").split(": ", 1)[-1])
    p.add_argument(
        "--build", metavar="NAMES", help="train these again from their seeds: names with commas between, or all"
    )
    p.add_argument("--out", type=Path, metavar="FOLDER", help="where to write what is built: FOLDER/NAME")
    p.add_argument("--steps", type=int, metavar="N", help="so many steps of training, to try a script out")
    args = p.parse_args(argv)
    known = shipped()
    if args.build is None:
        _list(known)
        return 0
    names = [*known] if args.build == "all" else [n.strip() for n in args.build.split(",")]
    unknown = next((n for n in names if n not in known), None)
    if unknown is not None:
        near = difflib.get_close_matches(unknown, known, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        print(f"tools.subjects: there is no model {unknown!r}{hint}; build {', '.join(known)}, or all", file=sys.stderr)
        return 2
    if args.out is None:
        print("tools.subjects: --build needs --out FOLDER, where to write what is built", file=sys.stderr)
        return 2
    steps = () if args.steps is None else ("--steps", str(args.steps))
    for command in dict.fromkeys((*build_command(known[n], args.out), *steps) for n in names):
        print(" ".join(("python", *command)), flush=True)
        if code := subprocess.run([sys.executable, *command], check=False).returncode:  # noqa: S603  # our own scripts
            print(f"tools.subjects: {command[1]} ended with status {code}", file=sys.stderr)
            return 1
    return 0


def build_command(model: Shipped, out: Path) -> tuple[str, ...]:
    """The training script's call: a model that is made with another one is made by the other's, in its folder."""
    module, *options = model.command
    where = out / (model.made_with or model.name)
    return ("-m", module, "--out", str(where), *options)


def _list(known: dict[str, Shipped]) -> None:
    width = max(map(len, known))
    print(f"{'model':{width}}  reads          parameters  megabytes  made by")
    for s in known.values():
        made = "python " + " ".join(("-m", s.command[0], "--out", "FOLDER", *s.command[1:]))
        made += f" (FOLDER/{s.folder.name})" if s.made_with else ""
        print(f"{s.name:{width}}  {s.reads:13}  {s.parameters:10,}  {s.bytes / 1e6:9.1f}  {made}")


if __name__ == "__main__":
    sys.exit(main())
