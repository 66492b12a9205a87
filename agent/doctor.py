"""`python -m agent.doctor`: what will work here, what will not, and how to mend it, before hours are spent on a run.

Checks Python, libraries, device, disk, database, hub cache and subject; with `--task` how the subject reads a task: tokens, words
it does not know, chance, twins, classes, expected time and memory; with an OpenAI planner also the key and the endpoint: one
forced call, one call with nested arguments, one round trip of a tool's result, and one needle in a long prompt.
"""

from experiments_db import interrupts

if __name__ == "__main__":
    interrupts.mind("agent.doctor")

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from agent.loop.task_check import task
from agent.planners.probes import Finding

NEEDED = ("torch", "transformers", "openai", "pydantic", "sqlite-utils", "numpy", "scikit-learn", "vl-convert-python")
FREE_DISK = 2e9


def python() -> Iterator[Finding]:
    """The interpreter and the libraries."""
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield Finding("ok" if good else "failed", "python", version, "" if good else "use Python 3.11 or newer")
    for name in NEEDED:
        try:
            yield Finding("ok", name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding("failed", name, "is not installed", "pip install -e .")


def machine(device: str) -> Iterator[Finding]:
    """The device asked for, and memory."""
    import torch

    threads = f"{torch.get_num_threads()} threads"
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device.startswith("cuda") and not cuda:
        yield Finding(
            "failed", "device", "torch sees no CUDA device", "use --device cpu, or install torch for your CUDA"
        )
    elif device == "mps" and not mps:
        yield Finding("failed", "device", "torch sees no MPS device", "use --device cpu")
    elif cuda and device != "cpu":
        free, total = torch.cuda.mem_get_info()
        yield Finding(
            "ok", "device", f"{torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        )
    else:
        yield Finding("ok", "device", f"cpu, {threads}" if not mps or device == "cpu" else "mps")


def disk(db: Path, out: Path) -> Iterator[Finding]:
    """Room and rights where the run will write, and whether the database can be read."""
    for about, path in (("database", db), ("transcripts", out)):
        folder = path.absolute() if path.is_dir() else path.absolute().parent
        while not folder.exists():
            folder = folder.parent
        if not os.access(folder, os.W_OK):
            yield Finding(
                "failed",
                about,
                f"{folder} cannot be written to",
                f"name another place with --{'db' if about == 'database' else 'out'}",
            )
            continue
        free = shutil.disk_usage(folder).free
        enough = free > FREE_DISK
        says = f"{path}: {free / 1e9:.1f} GB free"
        yield Finding(
            "ok" if enough else "warning", about, says, "" if enough else "a long run can fill this: make room"
        )
    if db.exists():
        from experiments_db.store import Store, StoreError

        try:
            store = Store(db, create=False)
            problems = store.verify()
            says = f"{len(store.runs())} runs, " + (
                "every record fits its hash"
                if not problems
                else f"{len(problems)} records do not fit their hash: {problems[0]}"
            )
            yield Finding(
                "failed" if problems else "ok",
                "records",
                says,
                f"python -m experiments_db verify {db}" if problems else "",
            )
        except StoreError as error:
            yield Finding("failed", "records", str(error), "name another file with --db")


def subject(name: str, device: str) -> Iterator[Finding]:
    """Whether the model can be had and studied."""
    from tools.subjects import SubjectError, load_subject

    cache = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    count = len(list((cache / "hub").glob("models--*"))) if (cache / "hub").is_dir() else 0
    yield Finding(
        "ok", "hub cache", f"{cache}: {count} models" + (", offline" if os.environ.get("HF_HUB_OFFLINE") else "")
    )
    try:
        found = load_subject(name, device=device, dtype="float32")
        parameters = sum(p.numel() for p in found.model.parameters())
        yield Finding("ok", "subject", f"{name}: {found.family.name}, {parameters:,} parameters")
        if "next_token" not in found.capabilities:
            reason = dict(found.family.refusals).get("next_token", "")
            yield Finding(
                "warning",
                "subject",
                f"tasks of prompt and answer will not work: {reason}",
                "use layer programs and captures only",
            )
    except SubjectError as error:
        yield Finding("failed", "subject", str(error), "--subject demo works everywhere")


def planner(spec: str | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the planner can be had; an endpoint is probed with four requests."""
    from agent.planners import PlannerChoiceError, make_planner
    from agent.planners.openai_chat import OpenAIChat
    from agent.planners.probes import endpoint

    try:
        made = make_planner(spec, environ=environ)
    except PlannerChoiceError as error:
        yield Finding("failed", "planner", str(error), "--planner systematic needs no key and no network")
        return
    yield Finding("ok", "planner", made.name)
    if not isinstance(made, OpenAIChat):
        return
    key = environ.get("OPENAI_API_KEY")
    yield Finding(
        "ok" if key else "warning",
        "key",
        "OPENAI_API_KEY is set" if key else "OPENAI_API_KEY is not set; local servers often need none",
    )
    if not made.knows_price:
        yield Finding(
            "warning",
            "price",
            f"the price of {made.model} is not known",
            "for --max-cost give --prices FILE.json; see prompts/prices.json",
        )
    yield from endpoint(made.model, environ)


def main(argv: Sequence[str] | None = None) -> int:
    """0 everything needed works (warnings allowed), 1 something will not."""
    p = argparse.ArgumentParser(
        prog="python -m agent.doctor", description="Check what a run needs, and say how to mend what is missing."
    )
    p.add_argument("--planner", help="as for agent.run; an endpoint is probed with four small requests")
    p.add_argument("--subject", default="demo", help="as for agent.run (default demo)")
    p.add_argument("--task", action="append", default=[], help="a task or a file of examples: how the subject reads it")
    p.add_argument("--device", default="auto", help="as for agent.run")
    p.add_argument("--db", type=Path, default=Path("experiments.db"), help="experiments database")
    p.add_argument("--out", type=Path, default=Path("transcripts"), help="folder for transcripts")
    args = p.parse_args(argv)
    failed = 0
    parts = (
        python(), machine(args.device), disk(args.db, args.out), subject(args.subject, args.device),
        planner(args.planner, os.environ), *(task(t, args.subject, args.device) for t in args.task),
    )  # fmt: skip
    for part in parts:
        for f in part:
            failed += f.state == "failed"
            mark = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}[f.state]
            print(f"{mark}  {f.about}: {f.says}" + (f"\n           -> {f.mend}" if f.mend else ""), flush=True)
    print(
        "\neverything that is needed works"
        if not failed
        else f"\n{failed} thing{'s' if failed > 1 else ''} will not work"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(interrupts.ended(main()))
