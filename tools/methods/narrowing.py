"""Where only some of a task's examples have what a call names: the class of them (`among`) whose examples all have it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tools.methods.class_rules import largest_class
from tools.methods.measuring import load_examples
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.tasks import Example
from tools.tasks.conditions import known, parse

LOOKED_AT = 128  # explore examples
FEWEST = 8  # examples that a class needs of these

Fits = Callable[[Sequence[Example]], list[bool]]


class SomeOnlyError(ToolInputError):
    """Some examples lack what is named. fits: which of given ones have it."""

    def __init__(self, message: str, fits: Fits) -> None:
        super().__init__(message)
        self.fits = fits


def way_out(error: SomeOnlyError, args: ToolArgs, ctx: Context) -> str:
    """A class of the examples that all have it, as `; name a class that has it: among='shots>=2' ...`; '' where there is none, or
    the call names none.

    What is looked at are explore examples whatever the call was about, so that nothing of the others is told.
    """
    task, among = getattr(args, "task", None), getattr(args, "among", None)
    if task is None or among is None:
        return ""
    n, explore = int(getattr(args, "examples", LOOKED_AT)), replace(ctx, split="explore", draw=0)
    many = load_examples(explore, task, max(n, LOOKED_AT), among)[1]
    for examples in (many, load_examples(explore, task, n, among)[1]):  # what takes part may hang on how many there are
        members = np.array(error.fits(examples), dtype=np.bool_)
        rule = "" if members.all() else largest_class(examples, members)
        both = ",".join(filter(None, (among, rule)))
        size = sum(parse(rule)[0].holds(known(e)) for e in many) if rule else 0
        if size >= FEWEST and all(error.fits(load_examples(explore, task, n, both)[1])):
            return f"; name a class that has it: among={both!r} ({size} of {len(many)} examples to explore)"
    return ""
