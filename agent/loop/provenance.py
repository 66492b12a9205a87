"""What computes: the code, the machine and the libraries, as an experiment and its result say."""

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

import tools
from experiments_db.records import Provenance
from tools.subjects import Subject

LIBRARIES = ("torch", "transformers", "numpy", "pydantic", "tokenizers")


@cache
def code_version() -> str:
    """Hash of the source of everything that computes: the tools package."""
    digest = hashlib.sha256()
    root = Path(tools.__file__).parent
    for path in sorted(root.rglob("*.py")):
        if "demo" not in path.relative_to(root).parts:
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def provenance(subject: Subject) -> Provenance:
    """Where and with what this process computes."""
    return Provenance(
        device=str(subject.device),
        threads=torch.get_num_threads(),
        versions=_versions(),
        platform=f"{platform.system()} {platform.machine()}",
        cpu=f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}",
        engine=subject.engine,
    )


@cache
def _versions() -> dict[str, str]:
    """Of Python and the libraries that compute."""
    return {"python": platform.python_version(), **{p: metadata.version(p) for p in LIBRARIES}}


@cache
def _processor() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
