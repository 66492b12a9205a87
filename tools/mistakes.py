"""What the model answers where the right answer is not what it says: counted over a task's examples, with some shown.

Greedy completions are read up to the end of their first line, and as far as the answer has words. Counted are: right;
right_form (it looks like the answer: digits where it has digits, letters where it has letters); from_prompt (it stands in the
prompt); from_line (it is the answer of an earlier line, a worked example); off_by_one (a number one above or below the
answer); commonest (the answer that is given most). Use it where a task cannot be done: whether the form is there, and what
takes the answer's place, says what the model does instead.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from experiments_db.records import Measurement, Outcome
from tools.methods.arguments import AMONG, EXAMPLES
from tools.methods.measuring import groups_of, load_examples, measured, shares, where_of
from tools.methods.scoring import encode
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.subjects import SubjectError
from tools.tasks import Example

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
    """Complete every prompt and count what is said."""
    task, examples = load_examples(ctx, args.task, args.examples, args.among)
    said = _completions(ctx, examples)
    most, _ = Counter(said).most_common(1)[0]
    counted = {
        "right": [s == e.answer.strip() for s, e in zip(said, examples, strict=True)],
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
    lines = [f"what is answered to {task.name} ({ctx.split}, n={len(examples)})"]
    lines += [f"  {m.name}: {m.value:.2f}{f' ({most!r})' if m.name == 'commonest' else ''}" for m in measurements]
    shown = list(zip(examples, said, counted["right"], strict=True))
    lines += [f"  {e.prompt[-40:]!r} -> {s!r}, right is {e.answer.strip()!r}" for e, s, ok in shown if not ok][
        : SHOWN + 1
    ]
    return Outcome(text="\n".join(lines), measurements=tuple(measurements))


def _completions(ctx: Context, examples: Sequence[Example]) -> list[str]:
    """What is said to each prompt: the first line, as many words as the answer has."""
    subject = ctx.subject
    longest = max(len(encode(subject, e.prompt, e.answer)[1]) for e in examples) + 1
    rows = [subject.tokens(e.prompt) for e in examples]
    step = max(1, ctx.max_tokens // (max(map(len, rows)) + longest))
    new: list[list[int]] = []
    try:
        for at in range(0, len(rows), step):
            new += subject.generate(rows[at : at + step], longest)
    except SubjectError as error:
        raise ToolInputError(str(error)) from None
    texts = [subject.completion(row, more) for row, more in zip(rows, new, strict=True)]
    return [said_in(text, e.answer) for text, e in zip(texts, examples, strict=True)]


def said_in(completion: str, answer: str) -> str:
    """The part of a completion that stands for the answer; '' where nothing is said."""
    lines = completion.strip().splitlines()
    return " ".join(lines[0].split()[: max(1, len(answer.split()))]) if lines else ""


def form(text: str) -> str:
    """What a text looks like: runs of digits and of letters, and whatever else stands there."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", text))


def words(prompt: str) -> set[str]:
    """The words of a prompt, with and without the punctuation at their ends."""
    found = prompt.split()
    return {*found, *(w.strip(".,;:!?\"'()[]{}") for w in found)}


def line_answers(prompt: str) -> set[str]:
    """How the lines before the last one end."""
    return {re.split(r"[\s=:]+", line.strip())[-1] for line in prompt.splitlines()[:-1] if line.strip()}


def off_by_one(said: str, answer: str) -> bool:
    """Whether both are whole numbers and one apart."""
    number = re.compile(r"-?\d{1,18}")
    return bool(number.fullmatch(said) and number.fullmatch(answer)) and abs(int(said) - int(answer)) == 1
