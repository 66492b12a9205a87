"""What a model answered to each example of an experiment, before and under one condition, for its page and the report."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments_db.records import ANSWERS, ANSWERS_KEPT, SAID, Array, Experiment, Measurement, Result

Context = dict[str, Any]
SHOWN = 200  # examples of one table
UNREADABLE = "The answers on record cannot be read."
SEALED = "These are confirm examples: they are shown once the run has ended, since a planner must not see them."
BEFORE = "Recorded before the answers to single examples were kept; replaying the experiment shows the same numbers."


def examples(
    x: Experiment, result: Result, status: str, under: int | None = None, most: int | None = None
) -> Context | None:
    """What was said to each example of an experiment on a task: None where it has no task, a line where it cannot be shown.

    under: the condition, counted over all samples from 1; None is the one that breaks the most.
    """
    if not x.tasks or result.status != "ok":
        return None
    said = {a.name.removeprefix(SAID): a for a in result.arrays if a.name.startswith(SAID)}
    found = [(a.name.removeprefix(ANSWERS), a) for a in result.arrays if a.name.startswith(ANSWERS)]
    if not found:
        return {"instead": BEFORE if result.provenance and _scores(result) else "", "conditions": [], "rows": []}
    confirm = x.args.get("split") == "confirm"
    if confirm and status == "running":
        return {"instead": SEALED, "conditions": [], "rows": []}
    samples = [_Sample(name, a, said[name]) for name, a in found if name in said and _sound(a, said[name])]
    if not samples:
        return {"instead": UNREADABLE, "conditions": [], "rows": []}
    listed = [(s, c) for s in samples for c in s.conditions]
    conditions = [
        {"number": i, "name": s.labels[c], "sample": s.name if len(samples) > 1 else "", **s.counted(c)}
        for i, (s, c) in enumerate(listed, 1)
    ]
    if under is None or not 1 <= under <= len(listed):
        under = 1 + max(range(len(listed)), key=lambda i: conditions[i]["broken"]) if listed else 0
    most = most or SHOWN
    rows = listed[under - 1][0].rows(listed[under - 1][1]) if listed else samples[0].rows(None)
    return {
        "instead": "", "conditions": conditions, "under": conditions[under - 1] if under else None, "rows": rows[:most],
        "hidden": max(0, len(rows) - most), "confirm": confirm, "full": any(s.full for s in samples),
    }  # fmt: skip


def _sound(answers: Array, said: Array) -> bool:
    """Whether two arrays are what was written as answers: a record from elsewhere may hold anything."""
    if answers.dtype != "int32" or len(answers.shape) != 3 or len(answers.axes) != 3 or len(said.axes) != 1:
        return False
    if answers.shape != tuple(len(a.labels) for a in answers.axes) or answers.shape[0] < 2 or answers.shape[1] != 2:
        return False
    texts = np.frombuffer(answers.data, dtype="<i4").reshape(answers.shape)[:, 0]
    return bool(texts.size) and bool(texts.min() >= 0) and bool(texts.max() < len(said.axes[0].labels))


def _scores(result: Result) -> bool:
    return any(m.name in ("accuracy", "effect", "recovered") for m in result.measurements)


def condition_of(m: Measurement) -> str:
    """The condition that a measurement is about, by the name under which the answers were kept."""
    match m.intervention, m.component, m.program, m.variant:
        case str() as how, str() as place, _, _:
            return f"{how} of {place}"
        case None, str() as place, _, "logit lens":
            return f"logit lens at {place}"
        case None, None, str() as program, _:
            return f"program {program}"
        case _:
            return ""


class _Sample:
    """The answers to one sample of a task."""

    def __init__(self, name: str, answers: Array, said: Array) -> None:
        self.name = name
        self.labels, self.prompts = answers.axes[0].labels, answers.axes[2].labels
        self.texts = said.axes[0].labels
        self.table = np.frombuffer(answers.data, dtype="<i4").reshape(answers.shape)
        self.right = self.table[:, 1].astype(bool)

    @property
    def conditions(self) -> Sequence[int]:
        """Rows of the table in which something was done to the model."""
        return range(2, len(self.table))

    @property
    def full(self) -> bool:
        """Whether there was room for no more conditions, so that some may be missing."""
        return len(self.conditions) >= max(1, ANSWERS_KEPT // max(1, len(self.prompts)))

    def counted(self, c: int) -> Context:
        """How many examples it breaks, and mends."""
        return {
            "broken": int((self.right[1] & ~self.right[c]).sum()), "mended": int((~self.right[1] & self.right[c]).sum()),
            "n": len(self.prompts),
        }  # fmt: skip

    def rows(self, c: int | None) -> list[Context]:
        """One for each example, those that it breaks first, then those that it mends."""
        made: list[Context] = []
        for i, prompt in enumerate(self.prompts):
            before, after = bool(self.right[1, i]), bool(self.right[c, i]) if c is not None else None
            came = "broke" if before and after is False else "mended" if after and not before else ""
            texts = [self.texts[self.table[r, 0, i]] for r in (0, 1, *(() if c is None else (c,)))]
            made.append({
                "number": i + 1, "prompt": prompt, "answer": texts[0], "before": texts[1], "right": before,
                "after": texts[2] if c is not None else None, "still": after, "came": came,
            })  # fmt: skip
        return sorted(made, key=lambda r: ("broke", "mended", "").index(r["came"]))
