"""What a model writes by itself under a program or a change, held against right answers: error rates as errors over words."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from experiments_db.records import Measurement
from tools.engine.sites import Edit
from tools.methods.anchors import positions
from tools.methods.effects import Condition, edits_of
from tools.methods.measuring import Where, measured, recoveries, shares
from tools.methods.narrowing import SomeOnlyError
from tools.methods.scoring import encoded_all, microbatches
from tools.methods.tool import Context, ToolInputError
from tools.ports import PortError, port_of
from tools.statistics import Groups
from tools.subjects import Subject
from tools.tasks import Example

UNITS = {
    "exact": "share of examples",
    "right": "share of examples",
    "wer": "errors per word of the right answer",
    "cer": "errors per character of the right answer",
    "repeated": "share of the words said that were said before",
    "not_there": "share of the words said that the right answer does not have",
    "writes.own": "share of examples: the input's own answer, word for word",
    "writes.twin": "share of examples: the twin's answer, word for word",
    "writes.mixed": "share of examples: words of both answers",
    "words.own": "share of the words said that only the input's own answer has",
    "words.twin": "share of the words said that only the twin's answer has",
    "words.neither": "share of the words said that neither answer has",
}
MANY = 64  # a microbatch is written to at once: its changes are made for all of its rows


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
    port = port_of(ctx.subject)
    rows = [[port.judge(e, t) for e, t in zip(examples, texts, strict=True)] for texts in said]
    return rates(examples, rows, wheres)


def rates(
    examples: Sequence[Example], judged: Sequence[Sequence[Mapping[str, tuple[float, float]]]], wheres: Sequence[Where]
) -> list[Measurement]:
    """Counts over sizes of each condition, judged: for each condition (count, of how many) by name for each example."""
    out: list[Measurement] = []
    for row, where in zip(judged, wheres, strict=True):
        for name in dict.fromkeys(n for found in row for n in found):
            there = [i for i, found in enumerate(row) if name in found]
            counts, sizes = (np.array([row[i][name][k] for i in there]) for k in (0, 1))
            groups = Groups.of([examples[i].group for i in there])
            whole = bool((sizes == 1).all()) and set(counts.tolist()) <= {0.0, 1.0}
            (estimate,) = shares(counts, groups) if whole else recoveries(counts, sizes, groups)
            out.append(measured(name, UNITS.get(name, ""), estimate, **where))
    return out


def _begin_alike(subject: Subject, examples: Sequence[Example]) -> list[bool]:
    """Which examples begin their answers where most of them do."""
    before = [e.before for e in encoded_all(subject, examples)]
    return [n == Counter(before).most_common(1)[0][0] for n in before]


def written_under(ctx: Context, examples: Sequence[Example], conditions: Sequence[Condition]) -> list[list[str]]:
    """What the model writes to each example under each condition. ToolInputError where what is changed is not yet there.

    A change in the stack that is read out has to lie in what it is given before the answer.
    """
    subject = ctx.subject
    out = [[""] * len(examples) for _ in conditions]
    made = edits_of(ctx, examples, conditions)
    with subject.evaluating():
        for batch in microbatches(subject, examples, ctx.max_tokens):
            anchors = {(c.anchor or "all", c.stack) for k in conditions for s, _ in k.changes for c in s}
            for anchor, stack in anchors:
                at = positions(subject, batch, anchor, stack=stack)
                if stack == subject.readout and (at is None or bool((at > batch.last).any())):
                    raise ToolInputError(
                        f"written: {anchor} in {stack} is not there before the answer is written; name -1, say"
                    )
            if len({e.before for e in batch.encoded}) > 1:  # a port may write to the shorter ones first
                raise SomeOnlyError(
                    "written: these examples do not begin their answers at one position, as a class of them may (among)",
                    lambda some: _begin_alike(subject, some),
                )
            for texts, edits in zip(out, made(batch), strict=True):
                said = _said(ctx, batch.examples, edits)
                for index, text in zip(batch.indices, said, strict=True):
                    texts[index] = text
    return out


def _said(ctx: Context, examples: Sequence[Example], edits: Sequence[Edit]) -> list[str]:
    try:
        return port_of(ctx.subject).write(ctx.subject, examples, MANY * ctx.max_tokens, edits=edits)
    except PortError as error:
        raise ToolInputError(str(error)) from None


def whose_words(example: Example, said: str) -> dict[str, tuple[float, float]]:
    """Whether what was said is the answer, the foil (the twin's answer), or words of both; (count, of how many) each.

    writes.own, writes.twin: word for word. writes.mixed: some words that only the one has and some that only the other has.
    words.own, words.twin, words.neither: of the words said, those that only the one, only the other, or neither has.
    """
    words = said.split()
    own, twin = set(example.target.split()), set((example.foil or "").split())
    mine, theirs = (sum(w in a - b for w in words) for a, b in ((own, twin), (twin, own)))
    found = {
        "writes.own": (float(words == example.target.split()), 1.0),
        "writes.twin": (float(words == (example.foil or "").split()), 1.0),
        "writes.mixed": (float(mine > 0 and theirs > 0), 1.0),
    }
    if words:
        neither = sum(w not in own | twin for w in words)
        rates = {"words.own": mine, "words.twin": theirs, "words.neither": neither}
        found |= {name: (float(count), float(len(words))) for name, count in rates.items()}
    return found
