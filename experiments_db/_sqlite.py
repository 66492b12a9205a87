"""sqlite-utils without pandas, which it imports where that is installed and nothing here uses: most of the time of its import."""

import sys
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def _left_out(name: str) -> Generator[None]:
    """Let an import of a module fail for the time of the context, unless it is there already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # what Python itself takes for "cannot be imported"
    try:
        yield
    finally:
        del sys.modules[name]


with _left_out("pandas"):
    import sqlite_utils

__all__ = ["sqlite_utils"]
