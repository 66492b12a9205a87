"""Ports: what each modality's inputs are made of; one file of this folder a modality, discovered."""

import importlib
import pkgutil
from functools import cache

from tools.ports.objectives import ANSWERS, Objective, flipped
from tools.ports.port import (
    Asked,
    Batch,
    Encoded,
    Port,
    PortError,
    Shown,
    batch_of,
    differences,
    make_batch,
    replace_target,
)
from tools.ports.scores import Scores
from tools.subjects import Subject

__all__ = [
    "ANSWERS",
    "Asked",
    "Batch",
    "Encoded",
    "Objective",
    "Port",
    "PortError",
    "Scores",
    "Shown",
    "batch_of",
    "differences",
    "flipped",
    "make_batch",
    "objectives",
    "port_of",
    "ports",
    "replace_target",
]


def ports() -> dict[str, Port]:
    """Every port by name: one for each module of this folder that has a `PORT`."""
    return dict(_ports(tuple(__path__)))


@cache
def _ports(folders: tuple[str, ...]) -> tuple[tuple[str, Port], ...]:
    names = sorted(m.name for m in pkgutil.iter_modules(folders))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    found: list[Port] = [m.PORT for m in modules if hasattr(m, "PORT")]
    return tuple((p.name, p) for p in found)


def port_of(subject: Subject) -> Port:
    """The port that the subject's family names. PortError where there is none of that name."""
    known = _ports(tuple(__path__))
    found = next((p for name, p in known if name == subject.family.port), None)
    if found is None:
        names = ", ".join(name for name, _ in known)
        raise PortError(f"{subject.name}: its family names the port {subject.family.port!r}; there are {names}")
    return found


def objectives() -> dict[str, Objective]:
    """Every objective of any port, by name."""
    return {name: o for port in ports().values() for name, o in port.objectives.items()}
