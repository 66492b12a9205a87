"""The type checker of the tests: what a call is given and gives is checked, of every function but those inside of others.

jaxtyping's hook wraps every function in a look at its arguments' shapes, which takes longer than most calls. Here only those are
wrapped whose types hold arrays; all others are checked by beartype alone.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, get_args

import beartype
import jaxtyping

wrapped = jaxtyping.jaxtyped


def outermost(thing: Any) -> Any:
    """A function checked by beartype, where it is made once: one that another makes at each call would be compiled each time."""
    return thing if "<locals>" in thing.__qualname__ else beartype.beartype(thing)


def holds_arrays(kind: Any) -> bool:
    """Whether a type, or one inside of it, states a shape. One that is text may: jaxtyping reads it, and passes what it cannot."""
    if isinstance(kind, str):
        return True
    if inspect.isclass(kind) and issubclass(kind, jaxtyping.AbstractArray):
        return True
    return any(map(holds_arrays, kind if isinstance(kind, list) else get_args(kind)))


def where_shapes(thing: Any = None, *, typechecker: Callable[[Any], Any]) -> Any:
    """As `jaxtyping.jaxtyped`, for functions and dataclasses whose types hold arrays; others are checked by the type checker."""
    if thing is None:
        return functools.partial(where_shapes, typechecker=typechecker)
    if inspect.isclass(thing):
        own = thing.__dict__.get("__init__")
        if own is not None and dataclasses.is_dataclass(thing):
            thing.__init__ = where_shapes(own, typechecker=typechecker)
        return thing
    if not inspect.isfunction(thing) or any(map(holds_arrays, thing.__annotations__.values())):
        return wrapped(thing, typechecker=typechecker)
    return typechecker(thing)


def checking_shapes_where_stated() -> None:
    """Let the hook's decorator be that of this module."""
    jaxtyping.jaxtyped = where_shapes
