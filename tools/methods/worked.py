"""One example of a task in the model's own tokens: what a reader sees before any number."""

import base64
from typing import Any

from tools.methods.anchors import span_positions
from tools.methods.completing import completions
from tools.methods.fitness import check_fit
from tools.methods.tool import ToolInputError
from tools.ports import Shown, port_of
from tools.subjects import Subject, SubjectError
from tools.tasks import Example, Task

LOOKED_AT = 8


def worked_example(subject: Subject, task: Task, seed: int) -> dict[str, Any]:
    """The first of eight explore examples that the model, and its twin too, answers right; else the first of them.

    Plain data: input and twin as lists of tokens, the right answer of each, and what the model says (None where it cannot
    write); anchors: name of a role -> its places among the input's tokens; `chosen` says how it was chosen. ToolInputError
    where the model cannot read the task.
    """
    examples = task.examples("explore", LOOKED_AT, seed)
    check_fit(subject, task, examples)
    said, twins = _said(subject, examples), _said(subject, [_twin(e) for e in examples])
    right = [s is not None and e.is_right(s) for s, e in zip(said, examples, strict=True)]
    both = [
        r and (e.twin is None or t == (e.foil or "").strip()) for r, e, t in zip(right, examples, twins, strict=True)
    ]
    at = both.index(True) if any(both) else right.index(True) if any(right) else 0
    example = examples[at]
    has_twin, port = example.twin is not None, port_of(subject)
    return {
        "task": task.name,
        "chosen": "an explore example that the model answers right" if right[at] else "the first explore example",
        "tokens": port.labels(subject, example),
        "answer": example.answer,
        "said": said[at],
        "twin": port.labels(subject, example, twin=True) if has_twin else None,
        "twin_answer": example.foil if has_twin else None,
        "twin_said": twins[at] if has_twin else None,
        "anchors": _anchors(subject, example),
        "answers_at": list(port.answers_at(port.encode(subject, example))),
        "shown": _shown(port.show(subject, example)),
        "twin_shown": _shown(port.show(subject, example, twin=True)) if has_twin else None,
    }


def _shown(shown: Shown | None) -> dict[str, str] | None:
    """What a person sees and hears, as text."""
    if shown is None:
        return None
    media = {"picture": shown.picture, "sound": shown.sound}
    return {"words": shown.words, **{k: base64.b64encode(v).decode() for k, v in media.items() if v}}


def _twin(e: Example) -> Example:
    return e.as_twin(e.foil or e.target) if e.twin is not None else e


def _said(subject: Subject, examples: list[Example]) -> list[str | None]:
    try:
        return [*completions(subject, examples)]
    except SubjectError:  # a model that cannot write
        return [None] * len(examples)


def _anchors(subject: Subject, example: Example) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for role in example.spans:
        try:
            found[role] = span_positions(subject, example, role)
        except ToolInputError:
            continue
    return found
