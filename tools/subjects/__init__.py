"""Models to study: families found in this folder, and `load_subject` to get one from a name or a folder.

What needs torch is imported when it is first asked for, so that the list of the built-in models comes at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tools.subjects._loading import DEMO, built_in, families, fingerprint, load_subject, locate, wrap
    from tools.subjects._runs import CapabilityError, Inputs, SubjectError, Trace
    from tools.subjects.family import Family
    from tools.subjects.subject import Subject

__all__ = [
    "DEMO",
    "CapabilityError",
    "Family",
    "Inputs",
    "Subject",
    "SubjectError",
    "Trace",
    "built_in",
    "families",
    "fingerprint",
    "load_subject",
    "locate",
    "wrap",
]
_FROM = {
    "CapabilityError": "_runs",
    "Inputs": "_runs",
    "SubjectError": "_runs",
    "Trace": "_runs",
    "Family": "family",
    "Subject": "subject",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_FROM.get(name, '_loading')}"), name)
