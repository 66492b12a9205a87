"""Behaviours to study: families found in this folder, `get_task` to get one from a spec, the user's own files."""

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache

from tools.tasks.example import Counterfactual, Example, Given, Signal, TaskError, label_families, shown
from tools.tasks.task import (
    SPLITS,
    Family,
    Options,
    Sample,
    Split,
    Task,
    chance_level,
    chance_of,
    split_of,
)
from tools.tasks.user import from_records, read_jsonl, record_of, to_records

__all__ = [
    "SPLITS",
    "Counterfactual",
    "Example",
    "Family",
    "Given",
    "Options",
    "Sample",
    "Signal",
    "Split",
    "Task",
    "TaskError",
    "chance_level",
    "chance_of",
    "families",
    "fitting",
    "from_records",
    "get_task",
    "label_families",
    "read_jsonl",
    "record_of",
    "shown",
    "split_of",
    "to_records",
]


@cache
def _families(folders: tuple[str, ...]) -> tuple[Family, ...]:
    names = sorted(m.name for m in pkgutil.iter_modules(folders))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return tuple(family for m in modules for family in getattr(m, "FAMILIES", ()))


def families() -> dict[str, Family]:
    """Every task family by name."""
    return {f.name: f for f in _families(tuple(__path__))}


def fitting(reads: Sequence[str], subject: str = "") -> dict[str, Family]:
    """The task families whose examples have all the inputs that a port reads; those in words of a built-in model's own only
    for that one, and first.
    """
    fit = {name: f for name, f in families().items() if set(reads) <= set(f.reads)}
    own = {name: f for name, f in fit.items() if f.private and f.subject == subject}
    return {**own, **{name: f for name, f in fit.items() if not f.private}}


def get_task(spec: str, own: Mapping[str, Callable[[], Task]] | None = None) -> Task:
    """A task from a spec: `addition`, `addition:digits=2x1,format=compact`. TaskError says what there is.

    own: the user's tasks by name, which come first; `mine:class=a` is those of its examples whose label `class` is `a`.
    """
    own = own or {}
    if spec.strip() in own:
        return own[spec.strip()]()
    name, _, rest = spec.strip().partition(":")
    if name in own:
        return own[name]().among(rest, spec.strip())
    if name not in families():
        near = difflib.get_close_matches(name, [*own, *families()], 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise TaskError(f"there is no task {name!r}{hint}; tasks are {', '.join([*own, *families()])}")
    return _built_in(spec.strip())


@lru_cache(maxsize=64)
def _built_in(spec: str) -> Task:
    """A task of ours: one object for each spec, which keeps what was drawn from it."""
    name, _, rest = spec.partition(":")
    given: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in rest.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            raise TaskError(
                f"task {name}: write options as option=value, not {part!r}, for example addition:digits=2x2"
            )
        given[key.strip()] = value.strip()
    return families()[name].task(given)
