"""What a model writes by itself under a program, held against the right answers: error rates as errors over words."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments_db.records import Measurement
from tools.methods.measuring import Where, measured, recoveries, shares
from tools.methods.tool import Context, ToolInputError
from tools.ports import PortError, port_of
from tools.statistics import Groups
from tools.tasks import Example

UNITS = {
    "exact": "share of examples",
    "right": "share of examples",
    "wer": "errors per word of the right answer",
    "cer": "errors per character of the right answer",
    "repeated": "share of the words said that were said before",
    "not_there": "share of the words said that the right answer does not have",
}


def written(ctx: Context, examples: Sequence[Example], program: Mapping[str, Sequence[int]]) -> list[str]:
    """What the model writes to each example under programs, by stack. ToolInputError where it has no words of its own."""
    try:
        return port_of(ctx.subject).write(ctx.subject, examples, ctx.max_tokens, program=dict(program))
    except PortError as error:
        raise ToolInputError(str(error)) from None


def written_measurements(
    ctx: Context, examples: Sequence[Example], said: Sequence[Sequence[str]], wheres: Sequence[Where]
) -> list[Measurement]:
    """The rates of each condition: counts over all examples, not means of ratios; examples that cannot be scored are left out.

    said: for each condition what was written to each example.
    """
    port, out = port_of(ctx.subject), list[Measurement]()
    for texts, where in zip(said, wheres, strict=True):
        judged = [port.judge(e, text) for e, text in zip(examples, texts, strict=True)]
        for name in dict.fromkeys(n for found in judged for n in found):
            there = [i for i, found in enumerate(judged) if name in found]
            counts, sizes = (np.array([judged[i][name][k] for i in there]) for k in (0, 1))
            groups = Groups.of([examples[i].group for i in there])
            whole = bool((sizes == 1).all()) and set(counts.tolist()) <= {0.0, 1.0}
            (estimate,) = shares(counts, groups) if whole else recoveries(counts, sizes, groups)
            out.append(measured(name, UNITS.get(name, ""), estimate, **where))
    return out
