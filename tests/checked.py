"""The type checker of the tests: what a call is given and gives is checked, of every function but those inside of others."""

from typing import Any

import beartype


def outermost(thing: Any) -> Any:
    """A function checked by beartype, where it is made once: one that another makes at each call would be compiled each time."""
    return thing if "<locals>" in thing.__qualname__ else beartype.beartype(thing)
