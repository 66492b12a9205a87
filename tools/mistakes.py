"""What the model answers where the right answer is not what it says: counted over a task's examples, with some shown.

Greedy completions are read up to the end of their first line, and as far as the answer has words. Counted are: right;
right_form (it looks like the answer: digits where it has digits, letters where it has letters); from_prompt (it stands in the
text); from_line (it is the answer of an earlier line, a worked example); off_by_one (a number one above or below the
answer); commonest (the answer that is given most). Use it where a task cannot be done: whether the form is there, and what
takes the answer's place, says what the model does instead.
"""

import re
from collections import Counter
from typing import Literal

import numpy as np
from pydantic import Field

from experiments_db.records import Measurement, Outcome
from tools.methods.arguments import AMONG, EXAMPLES
from tools.methods.completing import completions
from tools.methods.measuring import groups_of, load_examples, measured, shares, where_of
from tools.methods.saying import examples_of
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.subjects import SubjectError

KIND: Literal["experiment"] = "experiment"
EXAMPLE = {"task": "subtraction:digits=3x3", "examples": 32}
SHOWN = 6
UNIT = "share of examples"


class Args(ToolArgs):
    """Arguments of mistakes."""

    task: str = Field(description="a task spec; see list_tasks")
    among: str = AMONG
    examples: int = EXAMPLES


def run(args: Args, ctx: Context) -> Outcome:
    """Complete every example and count what is said."""
    task, examples = load_examples(ctx, args.task, args.examples, args.among)
    try:
        said = completions(ctx.subject, examples, ctx.max_tokens)
    except SubjectError as error:
        raise ToolInputError(str(error)) from None
    most, _ = Counter(said).most_common(1)[0]
    counted = {
        "right": [e.is_right(s) for s, e in zip(said, examples, strict=True)],
        "right_form": [form(s) == form(e.answer.strip()) for s, e in zip(said, examples, strict=True)],
        "from_prompt": [bool(s) and s in words(e.prompt) for s, e in zip(said, examples, strict=True)],
        "from_line": [bool(s) and s in line_answers(e.prompt) for s, e in zip(said, examples, strict=True)],
        "off_by_one": [off_by_one(s, e.answer.strip()) for s, e in zip(said, examples, strict=True)],
        "commonest": [s == most for s in said],
    }
    where, groups = where_of(ctx, task, args.among), groups_of(examples)
    measurements: list[Measurement] = []
    for name, rows in counted.items():
        (estimate,) = shares(np.array(rows), groups)
        measurements.append(measured(name, UNIT, estimate, **where, token=most if name == "commonest" else None))
    lines = [f"what is answered to {examples_of(task, args.among)} ({ctx.split}, n={len(examples)})"]
    lines += [f"  {m.name}: {m.value:.2f}{f' ({most!r})' if m.name == 'commonest' else ''}" for m in measurements]
    shown = list(zip(examples, said, counted["right"], strict=True))
    lines += [f"  {e.prompt[-40:]!r} -> {s!r}, right is {e.answer.strip()!r}" for e, s, ok in shown if not ok][
        : SHOWN + 1
    ]
    return Outcome(text="\n".join(lines), measurements=tuple(measurements))


def form(text: str) -> str:
    """What a text looks like: runs of digits and of letters, and whatever else stands there."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", text))


def words(text: str) -> set[str]:
    """The words of a text, with and without the punctuation at their ends."""
    found = text.split()
    return {*found, *(w.strip(".,;:!?\"'()[]{}") for w in found)}


def line_answers(text: str) -> set[str]:
    """How the lines before the last one end."""
    return {re.split(r"[\s=:]+", line.strip())[-1] for line in text.splitlines()[:-1] if line.strip()}


def off_by_one(said: str, answer: str) -> bool:
    """Whether both are whole numbers and one apart."""
    number = re.compile(r"-?\d{1,18}")
    return bool(number.fullmatch(said) and number.fullmatch(answer)) and abs(int(said) - int(answer)) == 1
